#!/usr/bin/env python3
"""Changes the core in many small ways, one at a time, and sees which changes some test notices.

    tests/mutants.py                  400 changes, chosen by a seed; about an hour
    tests/mutants.py --count 50 --seed 7
    tests/mutants.py --like TEXT ...  only those with one of these texts in their names
    tests/mutants.py --again FILE     only those that the results in FILE do not have as found
    tests/mutants.py --tests WORD ... only with tests that have one of these words in their names: whether new tests notice
                                      what was missed before. What they miss others may notice.
    tests/mutants.py --results FILE   where the results are written, as JSON, after each change
    tests/mutants.py --stand          only checks, at once, that the lines of tests/mutants/equivalent.txt are in the source,
                                      and, with cargo-mutants on PATH, that each change has a place for its switch

The changes are those that `cargo mutants --list` has for the core, which has to be on PATH (cargo install cargo-mutants).
A build for each would take days. So a copy of the tree gets all changes of the sample at once, each behind a switch that an
environment variable turns on, and is built once. `switchboard-mutants` (tests/mutants) says where the operands of an operator
are. A change that does not compile is taken out, and another one is taken in its place.

Each test then runs by itself, with no switch on, and records which switches it reaches. A change is tried with the tests
that reach it, the quickest first, until one fails. A test that fails is run once more, with the change and without it: one
that fails without it, or passes with it, does not count.

caught      a test failed
no end      a test did not end, within ten seconds and eight times what the same tests take without the change
missed      all tests that reach it pass
unreached   no test reaches it
equivalent  missed or unreached, and in tests/mutants/equivalent.txt, with the reason

What a switch cannot change is left out, and counted: values of constants, and `const fn`; code for other systems.
It exits with 1 if fewer than 95 % of the sample, without what is equivalent, are caught or do not end.
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "tests/mutants/equivalent.txt"
GOAL = 0.95
# The core: the layers below the conveniences, without the simulator and the script, which are tests' own.
CORE = ["address.rs", "connect/attempts.rs", "connect/mod.rs", "connection/", "datagram/", "escape.rs", "event_loop/", "filter/",
        "health/", "ids.rs", "limits.rs", "listener/", "protocol.rs", "rate/", "reason.rs", "sys/", "threads/", "time/"]
NOT_CORE = ["sys/sim/", "sys/script", "sys/memory.rs"]
# Compiled only into tests.
FOR_TESTS = ["src/event_loop/inspect.rs"]
BUILD = ["cargo", "test", "--no-run", "--message-format=json", "--all-features", "--package", "switchboard", "--lib", "--test", "it"]
# Bytes of memory for a test: some changes allocate without end.
MEMORY_MAX = 6 << 30
SWITCH = '''//! Switches for tests/mutants.py.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static ON: OnceLock<usize> = OnceLock::new();
static LOG: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
static REACHED: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];

#[deprecated]
pub(crate) fn on(mutant: usize) -> bool {
    if let Some(path) = LOG.get_or_init(|| std::env::var_os("MUTANTS_REACHED").map(Into::into)) {
        if !REACHED[mutant].swap(true, Ordering::Relaxed) {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
            file.write_all(format!("{mutant}\\n").as_bytes()).unwrap();
        }
    }
    mutant == *ON.get_or_init(|| std::env::var("MUTANT").map_or(usize::MAX, |on| on.parse().unwrap()))
}
'''


class Mutant:
    """A change: where in its file, as indices of characters, and what takes the place."""

    def __init__(self, number, listed, source):
        self.number, self.file, self.genre = number, listed["file"], listed["genre"]
        self.value = listed.get("replacement") or ""
        self.position = listed["span"]["start"]["line"], listed["span"]["start"]["column"]
        self.name = listed["name"]
        self.line = source.lines[self.position[0] - 1].strip()
        # Its name without the position, which other changes of the file move.
        self.key = (self.file, re.sub(r"^[^ ]*:\d+:\d+: ", "", self.name), self.line)
        self.is_in = True
        self.why_out = ""


class Source:
    """A file, and where the parts of its expressions are."""

    def __init__(self, text):
        self.text, self.lines, self.parts = text, text.split("\n"), {}
        self.begins = [0]
        for line in self.lines:
            self.begins.append(self.begins[-1] + len(line) + 1)

    def index(self, position):
        line, column = position
        return self.begins[line - 1] + column - 1

    def add_part(self, kind, words):
        indices = [None if word == "-" else word if ":" not in word else self.index(tuple(map(int, word.split(":"))))
                   for word in words]
        self.parts[kind, indices[0]] = indices[1:]

    def edit(self, mutant):
        """Where a change's switch is, as (begin, end, rank, kind, parts); None if the source has another shape."""
        begin = self.index(mutant.position)
        if mutant.genre == "FnValue":
            return begin, begin, 0, "value", ()
        if mutant.genre == "MatchArmGuard":
            guard = next((part for (kind, _), part in self.parts.items() if kind == "arm" and part[1] == begin), None)
            return guard and (begin, guard[2], 1, "guard", ())
        kind = {"BinaryOperator": "binary", "UnaryOperator": "unary", "MatchArm": "arm", "StructField": "field"}[mutant.genre]
        part = self.parts.get((kind, begin))
        if part is None:
            return None
        if kind == "binary":
            return part[0], part[3], 2, kind, (tuple(part[:2]), tuple(part[2:]))
        if kind == "unary":
            return begin, part[1], 2, kind, tuple(part)
        if kind == "arm":
            return part[0], part[2] or part[0], 1, kind, (part[1], part[2])
        name, value_begin, value_end, rest_begin, rest_end = part
        if rest_begin is None:
            return None
        value = (value_begin, value_end) if value_begin else (begin, begin + len(name))
        return begin, value[1], 1, kind, (name, value, (rest_begin, rest_end))


def on(mutant):
    return f"crate::mutants::on({mutant.number})"


class Rendered:
    """A file's text with the switches of its changes in it."""

    def __init__(self, source, mutants):
        self.source = source
        places = collections.defaultdict(list)
        for mutant in mutants:
            places[source.edit(mutant)].append(mutant)
        # The outer ones first.
        self.places = sorted(places.items(), key=lambda place: (place[0][0], -place[0][1], place[0][2]))
        self.text = self.render(0, len(source.text), self.places)

    def render(self, begin, end, places):
        out, at = [], begin
        for n, (place, mutants) in enumerate(places):
            if place[0] < at or place[1] > end or place[0] < begin:
                continue
            out.append(self.source.text[at:place[0]])
            out.append(self.switched(place, mutants, places[n + 1:]))
            at = place[1]
        return "".join(out) + self.source.text[at:end]

    def switched(self, place, mutants, inner):
        begin, end, _, kind, parts = place
        marks = ",".join(str(mutant.number) for mutant in mutants)
        before, after = f"/*({marks}*/", "/*)*/"

        def part(span):
            return self.render(*span, inner)

        if kind == "value":
            values = (f"if {on(mutant)} {{ /*({mutant.number}*/return {mutant.value};{after} }} " for mutant in mutants)
            return "".join(values)
        if kind == "guard":
            text = part((begin, end))
            for mutant in mutants:
                text = f"({on(mutant)} || ({text}))" if mutant.value == "true" else f"(!{on(mutant)} && ({text}))"
            return before + text + after
        if kind == "arm":
            guard = f" && ({part(parts)})" if parts[0] else ""
            return f" if {before}!{on(mutants[0])}{guard}{after}"
        head = ""
        if kind == "binary":
            texts = [f"({part(parts[0])}) {mutant.value} ({part(parts[1])})" for mutant in mutants]
            own = self.source.text[parts[0][1]:parts[1][0]]
            last = f"({part(parts[0])}){own}({part(parts[1])})"
        elif kind == "unary":
            texts, last = [part(parts)], self.source.text[begin:parts[0]] + part(parts)
        else:
            head, texts, last = f"{parts[0]}: ", [f"({part(parts[2])}).{parts[0]}"], part(parts[1])
        arms = (f"_ if {on(mutant)} => /*({mutant.number}*/{text}{after}, " for mutant, text in zip(mutants, texts))
        return f"{head}{before}(match () {{ {''.join(arms)}_ => {last} }}){after}"


def listed():
    """What `cargo mutants` lists for the core."""
    command = ["cargo", "mutants", "--list", "--json", "--all-features", "--package", "switchboard"]
    everything = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    return [each for each in everything if each["file"].startswith(tuple("src/" + name for name in CORE))
            and not each["file"].startswith(tuple("src/" + name for name in NOT_CORE))]


def sources(files):
    of = {file: Source((ROOT / file).read_text()) for file in files}
    command = ["cargo", "run", "--quiet", "--package", "switchboard-mutants", "--", *files]
    for line in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        kind, file, *words = line.split(" ")
        of[file].add_part(kind, words)
    return of


def blamed(path, span):
    """The changes that a compiler's message is about: those around its place, or none."""
    text = path.read_bytes()
    begin, end = span["byte_start"], span["byte_end"]
    named = re.findall(rb"crate::mutants::on\((\d+)\)", text[begin:end])
    if text[begin:end].startswith(b"crate::mutants::on(") and len(named) == 1:
        return [int(named[0])]
    open_marks = []
    for mark in re.finditer(rb"/\*(?:\(([\d,]+)|\))\*/", text[:begin]):
        if mark[1]:
            open_marks.append(mark[1])
        else:
            open_marks.pop()
    return [int(number) for number in open_marks[-1].split(b",")] if open_marks else []


def nearest(tree, message, mutants, code):
    """The changes that a message without one around it is about: those in its lines, or the arms of its `match`."""
    numbers = []
    for span in message["spans"]:
        path = tree / span["file_name"]
        begin, end = span["line_start"] - 1, span["line_end"] + (60 if code == "E0004" else 0)
        if span["is_primary"] and path.exists():
            near = re.findall(r"crate::mutants::on\((\d+)\)", "\n".join(path.read_text().split("\n")[begin:end]))
            numbers += [int(number) for number in near if code != "E0004" or mutants[int(number)].genre == "MatchArm"]
    return numbers


def spans(message):
    yield from message["spans"]
    for child in message["children"]:
        yield from child["spans"]


def build(tree, environment):
    """Builds the tests; returns (the binaries, the compiler's messages)."""
    done = subprocess.run(BUILD, cwd=tree, env=environment, capture_output=True, text=True)
    read = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    messages = [each["message"] for each in read if each["reason"] == "compiler-message"]
    binaries = [each["executable"] for each in read if each.get("executable") and each["target"]["name"] in ("switchboard", "it")]
    if done.returncode != 0 and not any(each["level"] == "error" for each in messages):
        sys.exit(done.stderr)
    return binaries if done.returncode == 0 else None, messages


def write(tree, of, mutants):
    by_file = collections.defaultdict(list)
    for mutant in mutants:
        if mutant.is_in:
            by_file[mutant.file].append(mutant)
    for file, source in of.items():
        text = Rendered(source, by_file[file]).text
        if (tree / file).read_text() != text:
            (tree / file).write_text(text)


def take_out(tree, mutants, messages):
    """Takes out what does not compile; returns whether that was anything."""
    any_out = False
    for message in messages:
        if message["level"] != "error":
            continue
        numbers = [number for span in spans(message) if (tree / span["file_name"]).exists()
                   for number in blamed(tree / span["file_name"], span)]
        code = (message["code"] or {}).get("code")
        for number in numbers or nearest(tree, message, mutants, code):
            if mutants[number].is_in:
                mutants[number].is_in, any_out = False, True
                mutants[number].why_out = "constant" if code in ("E0015", "E0658") else "does not compile"
    return any_out


def build_all(tree, environment, of, mutants):
    """Builds with all changes that compile; returns the binaries."""
    (tree / "src/mutants.rs").write_text(SWITCH.replace("COUNT", str(len(mutants))))
    root = tree / "src/lib.rs"
    root.write_text(root.read_text().replace("\nmod address;", "\nmod address;\nmod mutants;", 1))
    while True:
        write(tree, of, mutants)
        binaries, messages = build(tree, environment)
        if binaries:
            break
        if not take_out(tree, mutants, messages):
            sys.exit("".join(message["rendered"] for message in messages if message["level"] == "error")[-4000:])
        print(f"built; {sum(mutant.is_in for mutant in mutants)} are left", flush=True)
    # A switch that is compiled is reported as deprecated.
    compiled = {number for message in messages if (message["code"] or {}).get("code") == "deprecated"
                for span in message["spans"] for number in numbers_at(tree, span)}
    for mutant in mutants:
        if mutant.is_in and mutant.number not in compiled:
            mutant.is_in, mutant.why_out = False, "for other systems"
    # Another run with the same target folder would replace them.
    return [shutil.copy2(binary, tree) for binary in binaries]


def numbers_at(tree, span):
    text = (tree / span["file_name"]).read_bytes()
    return [int(found) for found in re.findall(rb"^on\((\d+)\)", text[span["byte_start"]:span["byte_start"] + 20])]


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_tests(tree, environment, binary, names, limit_s, threads=1):
    """Runs tests; returns (how it ended: "passed", "failed" or "no end"; the names that failed)."""
    command = [binary, "--exact", f"--test-threads={threads}", *names]
    with tempfile.TemporaryFile("w+", errors="replace") as printed:
        process = subprocess.Popen(command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=printed,
                                   stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=limit_memory)
        try:
            process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            return "no end", []
        finally:
            # Its children too, should a change leave some behind.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        printed.seek(0)
        failed = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. FAILED$", printed.read(), re.MULTILINE)
    return ("passed" if process.returncode == 0 else "failed"), failed


class Test:
    def __init__(self, binary, name):
        self.binary, self.name, self.took_s, self.passes, self.reached = binary, name, 0.0, False, set()


def run_clean(tree, environment, test):
    """Runs a test without any change, and records what it reaches."""
    log = tree / f"reached-{abs(hash((test.binary, test.name)))}"
    begin = time.monotonic()
    outcome, _ = run_tests(tree, {**environment, "MUTANTS_REACHED": str(log)}, test.binary, [test.name], 120)
    test.took_s, test.passes = time.monotonic() - begin, outcome == "passed"
    if log.exists():
        test.reached = set(map(int, log.read_text().split()))
        log.unlink()
    return test


def all_tests(tree, environment, binaries, options):
    found = []
    for binary in binaries:
        listing = subprocess.run([binary, "--list", "--format", "terse"], cwd=tree, capture_output=True, text=True, check=True)
        names = [line.removesuffix(": test") for line in listing.stdout.splitlines() if line.endswith(": test")]
        found += [Test(binary, name) for name in names if any(word in name for word in options.tests)]
    with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
        found = list(pool.map(lambda test: run_clean(tree, environment, test), found))
    print(f"{len(found)} tests, {sum(test.took_s for test in found):.0f} s one by one; not used, since they fail in the changed "
          f"tree: {', '.join(test.name for test in found if not test.passes) or 'none'}", flush=True)
    return [test for test in found if test.passes]


def batches(tests):
    """The tests, the quickest first, in growing groups, each of one binary."""
    tests = sorted(tests, key=lambda test: test.took_s)
    size, at = 10, 0
    while at < len(tests):
        group = tests[at:at + size]
        for binary in sorted({test.binary for test in group}):
            yield [test for test in group if test.binary == binary]
        at, size = at + size, size * 4


def judge(tree, environment, mutant, tests):
    """Tries a change with the tests that reach it; returns (the verdict, the test that tells)."""
    if not tests:
        return "unreached", ""
    switched = {**environment, "MUTANT": str(mutant.number)}
    for group in batches(tests):
        names, limit_s = [test.name for test in group], 10 + 8 * sum(test.took_s for test in group)
        outcome, failed = run_tests(tree, switched, group[0].binary, names, limit_s)
        if outcome == "no end":
            return "no end", f"one of {len(names)}: {names[0]}"
        if outcome == "failed" and not failed:
            return "caught", f"the process ended; one of {len(names)}: {names[0]}"
        for name in failed[:3]:
            again, _ = run_tests(tree, switched, group[0].binary, [name], limit_s)
            without, _ = run_tests(tree, environment, group[0].binary, [name], limit_s)
            if again != "passed" and without == "passed":
                return "caught", name
    return "missed", f"{len(tests)} tests reach it"


def equivalents():
    """The changes that change nothing, as {(file, what, line): reason}."""
    found = {}
    for block in EQUIVALENT.read_text().strip("\n").split("\n\n")[1:]:
        file, what, line, *reason = block.split("\n")
        found[file, what, line.strip()] = " ".join(reason)
    return found


def stand():
    out_of_date = [f"{file}: {line!r}" for file, _, line in equivalents()
                   if line not in map(str.strip, (ROOT / file).read_text().splitlines())]
    if shutil.which("cargo-mutants"):
        everything = listed()
        of = sources(sorted({each["file"] for each in everything}))
        out_of_date += [f"no switch fits: {each['name']}" for each in everything
                        if of[each["file"]].edit(Mutant(0, each, of[each["file"]])) is None]
        print(f"{len(everything)} changes of the core are listed")
    print("\n".join(out_of_date) or f"all {len(equivalents())} stand")
    sys.exit(len(out_of_date) > 0)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--like", nargs="+", default=[""])
    parser.add_argument("--again")
    parser.add_argument("--results", default=os.devnull)
    parser.add_argument("--tests", nargs="+", default=[""])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--stand", action="store_true")
    return parser.parse_args()


def sample(options):
    """The changes in an order that the seed decides; more than asked for, since some do not compile."""
    everything = [each for each in listed() if any(text in each["name"] for text in options.like)]
    everything.sort(key=lambda each: each["name"])
    random.Random(options.seed).shuffle(everything)
    everything = everything[:options.count * 2]
    of = sources(sorted({each["file"] for each in everything}))
    mutants = [Mutant(number, each, of[each["file"]]) for number, each in enumerate(everything)]
    for mutant, each in zip(mutants, everything):
        if is_for_tests(of[mutant.file], each):
            mutant.is_in, mutant.why_out = False, "in what only tests have"
        elif of[mutant.file].edit(mutant) is None:
            mutant.is_in, mutant.why_out = False, "not understood"
    return of, mutants


def is_for_tests(source, each):
    """Whether a function is compiled only into tests."""
    if each["file"] in FOR_TESTS:
        return True
    above = each["function"]["span"]["start"]["line"] - 2 if each["function"] else -1
    while above >= 0 and source.lines[above].strip().startswith(("#", "//")):
        if re.match(r"\s*#\[cfg\(.*\btest\b", source.lines[above]) and "not(test" not in source.lines[above]:
            return True
        above -= 1
    return False


def print_summary(options, mutants, verdicts):
    last = max((mutant.number for mutant in mutants if mutant.name in verdicts), default=-1)
    out = collections.Counter(mutant.why_out for mutant in mutants[:last + 1] if not mutant.is_in)
    counts = collections.Counter(verdict for verdict, _ in verdicts.values())
    told = counts["caught"] + counts["no end"]
    judged = sum(counts.values()) - counts["equivalent"]
    print(f"seed {options.seed}: {sum(counts.values())} changes: " + ", ".join(f"{count} {what}" for what, count in counts.most_common()))
    print("left out meanwhile: " + (", ".join(f"{count} {why}" for why, count in out.most_common()) or "none"))
    print(f"{told} of {judged} noticed: {100 * told / max(judged, 1):.1f} %")
    return judged > 0 and told >= GOAL * judged


def main():
    options = arguments()
    if options.stand:
        stand()
    before = json.loads(pathlib.Path(options.again).read_text()) if options.again else {}
    known = equivalents()
    of, mutants = sample(options)
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(scratch, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("target", ".git", "__pycache__"))
        environment = {"CARGO_TARGET_DIR": str(pathlib.Path(scratch, "target")), "CARGO_PROFILE_TEST_DEBUG": "0",
                       "CARGO_PROFILE_DEV_DEBUG": "0", **os.environ, "RUST_BACKTRACE": "0"}
        binaries = build_all(tree, environment, of, mutants)
        tests = all_tests(tree, environment, binaries, options)
        chosen = [mutant for mutant in mutants if mutant.is_in][:options.count]
        verdicts = {}

        def one(mutant):
            if before.get(mutant.name, [""])[0] in ("caught", "no end"):
                return mutant, tuple(before[mutant.name])
            verdict = judge(tree, environment, mutant, [test for test in tests if mutant.number in test.reached])
            if verdict[0] in ("missed", "unreached") and mutant.key in known:
                verdict = "equivalent", known[mutant.key]
            return mutant, verdict

        with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
            for mutant, verdict in pool.map(one, chosen):
                verdicts[mutant.name] = verdict
                pathlib.Path(options.results).write_text(json.dumps(verdicts, indent=1))
                print(f"{verdict[0]}: {mutant.name}: {verdict[1]}", flush=True)
    sys.exit(0 if print_summary(options, mutants, verdicts) else 1)


if __name__ == "__main__":
    main()
