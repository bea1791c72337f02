#!/usr/bin/env python3
"""What each kind of hostile peer costs a server for each byte that it sends, in instructions, system calls and memory.

    python3 benches/prices.py                builds, attacks, prints; fails where a price exceeds its bound in bounds.toml
    python3 benches/prices.py urgent header  only the kinds with one of these words in their name
    python3 benches/prices.py --write        also writes the table into SECURITY.md

Linux, with valgrind and strace installed. It attacks benches/measured/prices.rs, and over TLS
companions/tls/benches/measured/prices.rs, whose limits are the defaults; prices_peers.py and prices_tls_peers.py have the
peers. It has the server turn after each step of an attack: a peer that sends one byte at a time has each of its bytes
read by itself, which is the worst case, however slow the machine is. So the counts are the same on a busy machine.

Instructions (of user space, by callgrind) and system calls (by strace) are those of a single peer, which shares no poll
with others, divided by the bytes that it has sent; for a peer whose attack is to connect, by its connections. Memory is
what 64 peers at once have at their peak, divided by 64: resident memory of user space, over what it was after one of the kind
had been there and left. The microseconds are what the process was on a processor for, in the kernel and outside it, with
these 64 (16 of some kinds); they depend on the machine, and have no bound.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import itertools
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "real"))

import harness  # noqa: E402 (found by the line above)
import prices_peers  # noqa: E402
import prices_tls_peers  # noqa: E402
from harness import Trace, require  # noqa: E402
from prices_peers import READY  # noqa: E402
from report import machine, write_between_marks  # noqa: E402

LIMIT_S = 300
PEERS = 64
FEW_PEERS = 16
COUNTED, NEXT = "*::driven::counted", "*::driven::next"
# What is attacked, what is built for it, and by whom it is attacked.
PROGRAMS = [
    ("measured_prices", ["--features", "proxy"], prices_peers.KINDS),
    ("measured_tls_prices", ["--package", "switchboard-tls"], prices_tls_peers.KINDS),
]


COLUMNS = ("instructions", "system_calls", "memory_bytes", "descriptors")


# ------------------------------------------------------------------------------------------------------ measuring


class Server:
    """The attacked process, which turns when it is told to."""

    def __init__(self, argv):
        self.process = harness.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addresses = {}
        while line := self.process.stdout.readline().decode().strip():
            name, address = line.split()
            host, port = address.rsplit(":", 1)
            self.addresses[name] = (host, int(port))
        self.commands = 0
        self.command(b"t")  # Opens what it reads commands from.
        self.descriptors_at_start = self.descriptors()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        if not any(failure):
            self.process.stdin.close()
            code = self.process.wait(harness.WAIT_S)
            require(code == 0, f"it ended with {code}: {self.process.stderr.read()!r}")
        harness.end(self.process)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def command(self, name):
        self.commands += 1
        self.process.stdin.write(name)
        self.process.stdin.flush()
        require(self.process.stdout.readline() == b"\n", f"it has ended: {self.process.poll()}")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def status(self, field):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB", file.read(), re.M).group(1))

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def processor_us(self):
        with open(f"/proc/{self.process.pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1000


def attack(server, make_peer, count=1, during=contextlib.nullcontext):
    """Has so many peers attack, step by step. Returns how much they have done, and the descriptors of each at the peak."""
    done = most = 0
    with contextlib.ExitStack() as stack:
        peers = [make_peer(server, stack) for _ in range(count)]
        for peer in peers:
            require(next(peer) is READY, "it does not prepare itself")
        for _ in range(2):
            server.command(b"t")  # Accepts them.
        with during():
            while peers:
                steps = [(peer, next(peer, None)) for peer in peers]
                peers = [peer for peer, step in steps if step is not None]
                done += sum(step for _, step in steps if step)
                if peers:
                    server.command(b"c")
                most = max(most, server.descriptors() - server.descriptors_at_start)
    deadline = time.monotonic() + harness.WAIT_S
    while (left := server.descriptors() - server.descriptors_at_start) > 0:
        require(time.monotonic() < deadline, f"{make_peer.__name__}: {left} descriptors are left of peers that are gone")
        server.command(b"t")
    return done, most / count


def build(program, flags):
    command = ["cargo", "build", "--quiet", "--profile", "bench", *flags, "--example", program]
    subprocess.run(command, cwd=ROOT, check=True)
    return str(ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / program)


def instructions(binary, kinds):
    """Attacks a single process with one kind behind the other; callgrind writes a file behind each."""
    with tempfile.TemporaryDirectory(prefix="prices-") as folder:
        argv = ["valgrind", "--quiet", "--tool=callgrind", f"--toggle-collect={COUNTED}", f"--dump-after={NEXT}",
                f"--callgrind-out-file={folder}/out", binary]
        with Server(argv) as server:
            done = []
            for kind in kinds:
                done.append(attack(server, kind.attack)[0])
                server.command(b"n")
        for number, units in enumerate(done, 1):
            text = (pathlib.Path(folder) / f"out.{number}").read_text(encoding="utf-8", errors="replace")
            yield int(re.search(r"^(?:totals|summary): (\d+)", text, re.M).group(1)) / units


def system_calls(server, kind):
    """Without those that carry the commands: one read and one write for each."""
    traced = []

    @contextlib.contextmanager
    def during():
        with Trace(server.process.pid) as trace:
            before = server.commands
            yield
            commands = server.commands - before
        traced.append(sum(trace.counts().values()) - 2 * commands)

    done, _ = attack(server, kind.attack, during=during)
    return traced[0] / done


def memory(binary, kind):
    """Returns (bytes at the peak for each peer, descriptors, microseconds)."""
    spent_us = 0

    @contextlib.contextmanager
    def during():
        nonlocal spent_us
        before_us = server.processor_us()
        yield
        spent_us += server.processor_us() - before_us

    with Server([binary]) as server:
        attack(server, kind.attack)
        server.forget_peak()
        before = server.status("VmRSS")
        count = FEW_PEERS if kind.few else PEERS
        done, descriptors = attack(server, kind.attack, count, during)
        return (server.status("VmHWM") - before) / count, descriptors, spent_us / done


def prices(binary, kinds):
    """Yields (kind, its figures by column, microseconds)."""
    # Callgrind takes half of the time, and none of the others' figures.
    with concurrent.futures.ThreadPoolExecutor() as pool, Server([binary]) as server:
        counted = pool.submit(lambda: list(instructions(binary, kinds)))
        calls = [system_calls(server, each) for each in kinds]
        others = [memory(binary, each) for each in kinds]
        for kind, one, other, (bytes_, descriptors, us) in zip(kinds, counted.result(), calls, others):
            yield kind, dict(zip(COLUMNS, (one, other, bytes_, descriptors))), us


def shown(value):
    """Shows three digits, or one of a small figure."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    digits = 2 if value >= 0.1 else 0
    return f"{value:.{digits - math.floor(math.log10(value))}f}"


def write_table(rows):
    lines = ["| what the peer does | for each | instructions | system calls | µs | bytes of memory | descriptors |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for kind, figures, us in rows:
        cells = (kind.what, kind.unit, shown(figures["instructions"]), shown(figures["system_calls"]), shown(us),
                 shown(figures["memory_bytes"]), shown(figures["descriptors"]))
        lines.append("| " + " | ".join(cells) + " |")
    taken = f"Measured on {datetime.date.today()} by `python3 benches/prices.py`: {machine()}."
    write_between_marks(ROOT / "SECURITY.md", "prices", taken + "\n\n" + "\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    words = arguments.words or [""]
    programs = []
    for program, flags, kinds in PROGRAMS:
        if chosen := [kind for kind in kinds if any(word in kind.name for word in words)]:
            programs.append((build(program, flags), chosen))
    if not programs or arguments.write and arguments.words:
        sys.exit("no kind has such a name, or only some are to be written")
    harness.limit_time(LIMIT_S)
    with open(ROOT / "benches" / "bounds.toml", "rb") as file:
        bounds = tomllib.load(file)["prices"]
    known = {kind.name for _, _, kinds in PROGRAMS for kind in kinds}
    rows, over = [], [f"there is no peer of the kind {name}" for name in set(bounds) - known]
    for kind, figures, us in itertools.chain.from_iterable(itertools.starmap(prices, programs)):
        rows.append((kind, figures, us))
        print(f"{kind.what}: " + ", ".join(f"{shown(value)} {column}" for column, value in figures.items()) +
              f" ({shown(us)} µs) for each {kind.unit}", flush=True)
        bound = {**dict.fromkeys(COLUMNS, 0), **bounds.get(kind.name, {})}
        over += [f"{kind.name}: {value:.3f} {column}, {bound[column]} at most" for column, value in figures.items()
                 if value > bound[column]]
    for line in over:
        print(f"OVER ITS BOUND: {line}")
    if arguments.write:
        write_table(rows)
    sys.exit(bool(over))


if __name__ == "__main__":
    main()
