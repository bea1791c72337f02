#!/usr/bin/env python3
"""Whether anything costs more for each element when there are more: every parser and every list of the loop, by instructions.

    python3 benches/growth.py            builds, counts, prints; fails where something grows
    python3 benches/growth.py --like TEXT    prints only the subjects with this in their name

Linux, with valgrind installed. Each subject of benches/measured/growth/ is run with n, 4n and 16n elements; what an element
costs with 16n may be at most 1.5 times what it costs with n. That is what a heap may grow by: its depth is log2 of its
size, 8 with 256 elements and 12 with 4096. What is quadratic grows up to 16 times. Instructions, not time, so that it
holds on a busy machine too.
"""

import argparse
import collections
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
COUNTS = (256, 1024, 4096)
FACTOR_MAX = 1.5
PARTS = ("parsers", "lists")
SUBJECTS_MIN = 50  # Fewer were run than there are.
DESCRIPTORS = 8192
LIMIT_S = 200
COUNTED = "measured_growth::counted"


def build():
    command = ["cargo", "build", "--quiet", "--profile", "bench", "--features", "proxy", "--example", "measured_growth"]
    subprocess.run(command, cwd=ROOT, check=True)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / "measured_growth"


def begin(binary, part, folder):
    """Callgrind counts within the function, and writes a file whenever that ends."""
    argv = ["valgrind", "--quiet", "--tool=callgrind", f"--toggle-collect={COUNTED}", f"--dump-after={COUNTED}",
            f"--callgrind-out-file={folder}/{part}", str(binary), part, *map(str, COUNTS)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def totals(folder, part):
    """What each run took, in the order of the runs."""
    files = [path for path in pathlib.Path(folder).glob(f"{part}.*") if path.suffix[1:].isdigit()]
    for path in sorted(files, key=lambda path: int(path.suffix[1:])):
        yield int(re.search(r"^(?:totals|summary): (\d+)", path.read_text(errors="replace"), re.M).group(1))


def costs(process, folder, part):
    """Yields (subject, count, instructions)."""
    try:
        output, errors = process.communicate(timeout=LIMIT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        sys.exit(f"{part}: ended with {process.returncode}: {errors[-2000:]}")
    runs = [line.rsplit(": ", 1) for line in output.splitlines()]
    counted = list(totals(folder, part))
    if len(runs) != len(counted):
        sys.exit(f"{part}: {len(runs)} runs, but {len(counted)} were counted")
    for (subject, count), instructions in zip(runs, counted):
        yield subject, int(count), instructions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", default="")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    binary = build()
    found = collections.defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        processes = {part: begin(binary, part, folder) for part in PARTS}
        try:
            for part, process in processes.items():
                for subject, count, instructions in costs(process, folder, part):
                    found[subject].append(instructions / count)
        finally:
            for process in processes.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()
    grows = []
    for subject, each in found.items():
        factor = each[-1] / each[0]
        if arguments.like in subject:
            print(f"{factor:6.2f}  {subject}: {', '.join(f'{one:,.1f}' for one in each)} instructions an element", flush=True)
        if not 0 < factor <= FACTOR_MAX:
            grows.append(subject)
    for subject in grows:
        print(f"GROWS by more than {FACTOR_MAX}: {subject}")
    if len(found) < SUBJECTS_MIN:
        sys.exit(f"only {len(found)} subjects were run")
    print(f"{len(found)} subjects, with {', '.join(map(str, COUNTS))} elements")
    sys.exit(bool(grows))


if __name__ == "__main__":
    main()
