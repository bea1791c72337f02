#!/usr/bin/env python3
"""Makes the hot path cost more, one thing after the other, and sees `benches/measure.py --check` fail for just that.

    python3 tests/seeded_costs.py            each cost by itself, behind a check of the tree as it is; some minutes
    python3 tests/seeded_costs.py --short    all of them at once, in one build, without those of memory and rest
    python3 tests/seeded_costs.py --stand    only sees that the source of each is still there
    python3 tests/seeded_costs.py NAME ...   those whose names begin so, without that check

Works on a copy of the tree below the target folder, with a target folder of its own there, which is kept: cargo takes two
copies of a package in one folder for the same. A cost is what comes behind a piece of the source; it counts as found when the
check fails and names the bounds that are kept against it.
"""

import os
import re
import shutil
import subprocess
import sys

from seeded_bugs import ROOT, seed_bug

TREE = ROOT / "target" / "seeded-costs" / "tree"
TARGET = TREE.parent / "target"
QUICK = "src/event_loop/quick.rs"
CONNECTION = "src/connection/mod.rs"
A_MESSAGE = "self.parts.outbox.gathered.begin_input(id, GATHERED_BYTES_MAX - self.parts.outbox.share_bytes(id));"
A_CONNECTION = "flags.set(Flag::Careful, is_tight);"


def instructions(count):
    """Some more than so many."""
    return f"\n        for n in 0..{count}_u32 {{\n            std::hint::black_box(n);\n        }}"


# (what is added, the parts of measure.py that look, the bounds that are to be named, file, the source, what comes behind)
COSTS = [
    ("an allocation a message", ["instructions"], ["allocations_a_message"], QUICK, A_MESSAGE,
     "\n        drop(std::hint::black_box(Box::new(id)));"),
    ("thirty instructions a message", ["instructions"], ["instructions_a_message", "instructions_a_message_release"], QUICK,
     A_MESSAGE, instructions(30)),
    ("a system call a message", ["calls", "lines"], ["system_calls_a_message", "system_calls_a_batch_of_lines"], QUICK,
     A_MESSAGE, "\n        let _ = self.parts.slots.connection(id).and_then(|connection| connection.socket()?.local_addr().ok());"),
    ("twenty instructions a line", ["lines"], ["instructions_a_line"], "src/framing/lines.rs",
     "*search = if end < NEAR_BYTES { Search::Near } else { Search::Far };", instructions(20)),
    ("instructions a receiver", ["broadcast"], ["instructions_a_receiver"], "src/event_loop/broadcast.rs",
     "let was_queued = connection.has_output();", instructions(20)),
    ("sixty instructions a request over HTTP", ["requests"],
     ["instructions_a_request_http_server_1", "instructions_a_request_http_server_16"], "examples/http/request.rs",
     "let mut unread = Unread::new(data);", instructions(60)),
    ("sixty instructions a request of Redis'", ["requests"],
     ["instructions_a_request_resp_server_1", "instructions_a_request_resp_server_16"], "examples/resp_server.rs",
     "facts.commands += 1;", instructions(60)),
    ("an allocation a connection", ["connections"], ["allocations_a_connection"], CONNECTION, A_CONNECTION,
     "\n        drop(std::hint::black_box(Box::new(1)));"),
    ("instructions a connection", ["connections"], ["instructions_a_connection"], CONNECTION, A_CONNECTION,
     instructions(200)),
    ("a system call a connection", ["calls"], ["system_calls_a_connection"], CONNECTION, A_CONNECTION,
     "\n        let _ = socket.as_ref().map(Stream::local_addr);"),
    ("a larger record", ["memory"], ["bytes_a_connection", "bytes_a_connection_with_timeout"], CONNECTION,
     "pub(crate) bytes_sent: u64,\n", "    #[allow(dead_code)]\n    ballast: [u64; 8],\n"),
    ("a wake-up a second", ["rest"], ["polls_a_minute"], "src/event_loop/timers.rs", "let limit = max_wait.map(|wait| deadline_after(now, wait));",
     "\n        let limit = limit.or(Some(now + Duration::from_secs(1)));"),
]
# Where one piece of the source is not enough.
MORE = {"a larger record": [(CONNECTION, "bytes_sent: 0,\n", "            ballast: [0; 8],\n")]}
NOT_SHORT = {"memory", "rest"}


def edits(cost):
    what, _, _, file, source, addition = cost
    return [(file, source, source + addition)] + [(file, source, source + more) for file, source, more in MORE.get(what, [])]


def copied():
    """Every file is as new as the copy, or cargo would take what was built in an earlier one for up to date."""
    shutil.rmtree(TREE, ignore_errors=True)
    ignored = shutil.ignore_patterns("target", ".git", "__pycache__")
    shutil.copytree(ROOT, TREE, ignore=ignored, copy_function=shutil.copyfile)


def check(parts):
    """Has the copy measured; answers (the bounds that it is over, what was printed)."""
    command = [sys.executable, "benches/measure.py", "--check", *parts]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
    # Built before, since the time that measuring may take is limited.
    examples = [("bench", "measured_server")]
    examples += [("release", "measured_server")] if "instructions" in parts else []
    examples += [("release", "measured_programs")] if "requests" in parts else []
    for profile, example in examples:
        build = ["cargo", "build", "--quiet", "--profile", profile, "--example", example]
        subprocess.run(build, cwd=TREE, env=environment, check=True)
    result = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True)
    over = set(re.findall(r"^OVER ITS BOUND: (\w+):", result.stdout, re.M))
    if (result.returncode != 0) != bool(over):
        return None, result.stdout + result.stderr
    return over, result.stdout + result.stderr


def found(name, costs, parts, bounds):
    """Whether the check, with these costs in the copy, names all these bounds. Takes the costs out again."""
    before = {}
    for cost in costs:
        texts, out_of_date = seed_bug(TREE, edits(cost))
        if texts is None:
            print(f"FAILED: {cost[0]}: {out_of_date}", flush=True)
            return False
        before = {**texts, **before}
    over, output = check(parts)
    for path, text in before.items():
        path.write_text(text)
    good = over is not None and bounds <= over
    print(f"{'ok' if good else 'FAILED'}: {name}: over {', '.join(sorted(over or [])) or 'no bound'}", flush=True)
    lines = output.splitlines() if good else output[-3000:].splitlines()
    print("\n".join(f"    {line}" for line in lines if not good or line.startswith("OVER")), flush=True)
    return good


def of(costs, column):
    return list(dict.fromkeys(name for cost in costs for name in cost[column]))


def stand():
    gone = [f"{cost[0]}: {file}: {source!r}" for cost in COSTS for file, source, _ in edits(cost)
            if (ROOT / file).read_text().count(source) != 1]
    print("\n".join(gone) or f"all {len(COSTS)} stand")
    sys.exit(bool(gone))


def main():
    arguments = sys.argv[1:]
    if arguments == ["--stand"]:
        stand()
    copied()
    if arguments == ["--short"]:
        costs = [cost for cost in COSTS if not NOT_SHORT & set(cost[1])]
        sys.exit(not found("all at once", costs, of(costs, 1), set(of(costs, 2))))
    costs = [cost for cost in COSTS if not arguments or cost[0].startswith(tuple(arguments))]
    if not costs:
        sys.exit("no cost has such a name")
    if not arguments:
        over, output = check(of(costs, 1))
        if over is None or over:
            sys.exit(f"the tree as it is does not pass:\n{output[-3000:]}")
        print(f"ok: the tree as it is: {', '.join(of(costs, 1))} within their bounds", flush=True)
    results = [found(cost[0], [cost], cost[1], set(cost[2])) for cost in costs]
    print(f"{results.count(True)} found, {results.count(False)} not")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
