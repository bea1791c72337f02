#!/usr/bin/env python3
"""Measures alternative implementations of parts of the loop against the present one: the source of NOTES.md.

    python3 benches/variants.py              builds and measures all of them; long
    python3 benches/variants.py NAME ...     those whose names begin so
    python3 benches/variants.py --stand      only checks that the source text of each still exists

A variant replaces a piece of the source in a copy of the tree. Its server runs next to that of the tree as
it is; both do the same rounds in turns, in changing order, and the CPU time of the server is compared within a
round: on a shared machine no other comparison is valid. Medians of rounds; the quartiles show their spread. Counts of instructions
and of system calls are taken as benches/measure.py takes them. Linux, with valgrind and strace.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "real")]

import harness  # noqa: E402 (found by the line above)
import measure  # noqa: E402
from harness import Server, connect, receive, require  # noqa: E402
from measure import MESSAGE  # noqa: E402
from seeded_bugs import seed_bug  # noqa: E402

TREE = ROOT / "target" / "variants" / "tree"
TARGET = TREE.parent / "target"
LIMIT_S = 3600
ROUNDS = 21
LOOP = "src/event_loop/"
GATHERED, QUICK, SEND, OUTPUT = "src/connection/gathered.rs", LOOP + "quick.rs", LOOP + "send.rs", "src/connection/output.rs"
CONNECTION, STREAM = "src/connection/mod.rs", "src/sys/stream.rs"


# ------------------------------------------------------------------------------------------------- workloads


def exchange(clients, message, answer_bytes):
    for client in clients:
        client.sendall(message)
    for client in clients:
        require(len(receive(client, answer_bytes)) == answer_bytes, "no answer")


class Workload:
    """Rounds of one kind: `count` clients, each of which sends `message` and gets that many bytes, `times` a round."""

    def __init__(self, count=50, message=MESSAGE, answer_bytes=len(MESSAGE), times=20, flags=()):
        self.count, self.message, self.answer_bytes, self.times, self.flags = count, message, answer_bytes, times, flags

    def round(self, clients):
        for _ in range(self.times):
            exchange(clients, self.message, self.answer_bytes)


def pieces(count, size):
    return Workload(count=4, times=5, answer_bytes=count * size, flags=["--pieces", str(count), str(size)])


WORKLOADS = {
    "50 clients": Workload(),
    "50 clients, idle timeouts": Workload(flags=["--idle-timeout"]),
    "1,000 clients": Workload(count=1000, times=2),
    "8,000 clients": Workload(count=8000, times=1),
    "16 lines a read": Workload(message=16 * MESSAGE, answer_bytes=16 * len(MESSAGE), flags=["--lines"]),
    "to 100 members": Workload(count=100, answer_bytes=100 * len(MESSAGE), times=2, flags=["--fan-out"]),
    **{f"16 pieces of {size:,}": pieces(16, size) for size in (256, 1024, 4096, 16_384, 65_536)},
}


def cpu_ns(pid):
    with open(f"/proc/{pid}/schedstat", encoding="utf-8") as file:
        return int(file.read().split()[0])


def compare(binaries, workload):
    """Returns the CPU time of each server relative to the first, round by round."""
    with contextlib.ExitStack() as open_:
        servers = [open_.enter_context(Server([binary, *workload.flags])) for binary in binaries]
        crowds = [[open_.enter_context(connect(s.address)) for _ in range(workload.count)] for s in servers]
        for clients in crowds:
            workload.round(clients)  # The first round makes buffers grow.
        ratios, first_ns = [[] for _ in servers], []
        for n in range(ROUNDS):
            spent = {}
            for k in range(len(servers)):
                k = (k + n) % len(servers)
                before = cpu_ns(servers[k].pid)
                workload.round(crowds[k])
                spent[k] = cpu_ns(servers[k].pid) - before
            first_ns.append(spent[0] / (workload.times * workload.count))
            for k, of in enumerate(ratios):
                of.append(spent[k] / spent[0])
    return statistics.median(first_ns), [statistics.quantiles(of, n=4) for of in ratios[1:]]


# --------------------------------------------------------------------------------------------------- variants


def constant(file, before, after):
    return [(file, before, after)]


# How a connection's callback is called if its protocol's type is known.
CALL = "protocol.data_received(&mut Transport::new(core, id), data));\n        self.end_quickly"
LARGE = "pub(crate) const LARGE_BYTES: usize = 16 * 1024;"
TIMER = "connection.touch_idle(self.parts.time.now_ns());\n        }\n        if connection.is_flushed_later_or_readable"

# name: (the edits, the workloads, whether instructions are counted)
VARIANTS = {
    "own writes sent at the turn's end": ([
        (GATHERED, "if !self.is(id) || data.len()", "if true || data.len()"),
        (SEND, "if !self.outbox.gathered.is(id) {\n            self.mark", "{\n            self.mark"),
        (QUICK, "self.receive(id, buffer, received);\n        }\n        self.flush(id);", "self.receive(id, buffer, received);\n        }"),
    ], ["50 clients", "16 lines a read"], True),
    "others' writes sent at once": ([
        (SEND, "connection.queued_bytes() > GATHERED_BYTES_MAX &&", "connection.queued_bytes() > 0 &&"),
    ], ["to 100 members"], False),
    **{f"copied below {kib} KiB": (constant(OUTPUT, LARGE, LARGE.replace("16", str(kib))),
                                   [name for name in WORKLOADS if "pieces" in name], False) for kib in (1, 4, 64)},
    "large pieces sent at once": ([
        (SEND, "let joins = self.joins(id, piece.bytes().len());", "let joins = false;"),
    ], ["16 pieces of 16,384", "16 pieces of 65,536"], False),
    "large pieces one by one": (constant(OUTPUT, "pub(crate) const GATHER_MAX: usize = 64;", "pub(crate) const GATHER_MAX: usize = 1;"),
                                ["16 pieces of 16,384", "16 pieces of 65,536"], False),
    "dispatch by a known type": ([
        (QUICK, CALL, CALL.replace("protocol.data_received(&mut Transport::new(core, id), data)",
                                   "{ let _ = &mut protocol; Transport::new(core, id).write(data); data.len() }")),
    ], ["50 clients"], True),
    **{f"a record {extra} bytes larger": ([
        (CONNECTION, "pub(crate) bytes_sent: u64,\n", f"pub(crate) bytes_sent: u64,\n    #[allow(dead_code)]\n    ballast: [u64; {extra // 8}],\n"),
        (CONNECTION, "bytes_sent: 0,\n", f"bytes_sent: 0,\n            ballast: [0; {extra // 8}],\n"),
    ], ["50 clients", "8,000 clients"], extra == 48) for extra in (48, 368)},
    "a boxed record": ([
        (LOOP + "slots.rs", "    Connection(Connection),", "    Connection(Box<Connection>),"),
        (LOOP + "slots.rs", "tenant: Tenant::Connection(connection) };", "tenant: Tenant::Connection(Box::new(connection)) };"),
        (LOOP + "parts.rs", "insert_at(id, Tenant::Connection(connection))", "insert_at(id, Tenant::Connection(Box::new(connection)))"),
        (LOOP + "connect.rs", "Tenant::Connection(connection))?", "Tenant::Connection(Box::new(connection)))?"),
    ], ["50 clients", "8,000 clients"], True),
    **{f"{count:,} events a poll": (constant("src/sys/poller.rs", "const EVENTS_MAX: usize = 1024;", f"const EVENTS_MAX: usize = {count};"),
                                    ["50 clients", "1,000 clients"], False) for count in (16, 64, 256, 4096)},
    "idle timers set anew by each message": ([
        (QUICK, TIMER, "connection.touch_idle(self.parts.time.now_ns());\n            if let Some(key) = connection.idle.as_ref().and_then(|idle| idle.timer) {\n"
         "                self.parts.time.reset(key, self.parts.time.turn_began() + std::time::Duration::from_secs(3600));\n            }\n        }\n"
         "        let Some(connection) = self.parts.slots.connection_mut(id) else { return };\n        if connection.is_flushed_later_or_readable"),
    ], ["50 clients, idle timeouts"], True),
}


class Builds:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def server(self, name, edits):
        shutil.rmtree(TREE, ignore_errors=True)
        ignored = shutil.ignore_patterns("target", ".git", "__pycache__")
        # As new as the copy, or cargo would consider an earlier copy's build up to date.
        shutil.copytree(ROOT, TREE, ignore=ignored, copy_function=shutil.copyfile)
        texts, out_of_date = seed_bug(TREE, edits)
        require(texts is not None, f"{name}: {out_of_date}")
        command = ["cargo", "build", "--quiet", "--profile", "bench", "--example", "measured_server"]
        subprocess.run(command, cwd=TREE, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)})
        return str(shutil.copy(TARGET / "release" / "examples" / "measured_server", self.folder / name.replace(" ", "-")))


def report(name, binaries, workloads, counted):
    print(f"{name}:", flush=True)
    for workload in workloads:
        ns, [(low, median, high)] = compare(binaries, WORKLOADS[workload])
        print(f"    {workload}: {median:.3f} ({low:.3f} to {high:.3f}) of the CPU time, which is {ns:,.0f} ns a message", flush=True)
    if counted:
        flags = ["--idle-timeout"] if "idle" in name else []
        few, many = (measure.difference(binary, measure.messages, measure.READY, flags) for binary in binaries)
        print(f"    {many.instructions():.0f} instructions a message in place of {few.instructions():.0f}", flush=True)


def stand():
    gone = [f"{name}: {file}: {source!r}" for name, (edits, _, _) in VARIANTS.items() for file, source, _ in edits
            if (ROOT / file).read_text().count(source) != 1]
    print("\n".join(gone) or f"all {len(VARIANTS)} stand")
    sys.exit(bool(gone))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--stand", action="store_true")
    arguments = parser.parse_args()
    if arguments.stand:
        stand()
    harness.limit_time(LIMIT_S)
    measure.raise_descriptor_limit()
    print(measure.machine(), flush=True)
    chosen = {name: of for name, of in VARIANTS.items() if not arguments.names or name.startswith(tuple(arguments.names))}
    require(chosen, "no variant has such a name")
    with tempfile.TemporaryDirectory(prefix="variants-") as folder:
        builds = Builds(folder)
        as_it_is = builds.server("as it is", [])
        for name, (edits, workloads, counted) in chosen.items():
            report(name, [as_it_is, builds.server(name, edits)], workloads, counted)


if __name__ == "__main__":
    main()
