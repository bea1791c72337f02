#!/usr/bin/env python3
"""Compares relays in bulk: `Context::join` (the example `relay`), HAProxy, and loops by hand on epoll.

    python3 benches/compare/relay.py                            all relays, all workloads: some 5 minutes
    python3 benches/compare/relay.py switchboard --workloads 'both-*'
    python3 benches/compare/relay.py --write-readme             all, into the README of this folder
    python3 benches/compare/relay.py --short                    checks that all of it works, not how fast

As in compare.py: all relays on one core, the load on the other, turns in random order and in reverse, CPU time of the
relay within a round. The load is both sides of the relay, the clients and the server: messages of 64 KiB, as many under
way as the workload says, and every byte is verified. HAProxy (Debian's, in TCP mode, one thread) runs as it comes, with
buffers of 64 KiB as the others have, and with splicing in both directions; it is left out where it is missing.
"""

import argparse
import contextlib
import fnmatch
import json
import os
import pathlib
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import compare
import peers as table
import tables
from compare import ROOT, Cores, Plan, Session, Workload, harness, machine, one_round, require, write_between_marks
from harness import Failed, Server

LOAD = table.TARGET / "release" / "load_relay"
README = table.HERE / "README.md"
COMMAND = "python3 benches/compare/relay.py"
YARDSTICK, OURS = "epoll", tables.OURS
HAPROXY = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
RELAYS = {
    "epoll": "by hand on epoll",
    "epoll_splice": "the same, spliced",
    "switchboard": "this crate",
    "haproxy": "HAProxy",
    "haproxy_64k": "HAProxy, buffers of 64 KiB",
    "haproxy_splice": "HAProxy, spliced",
}
MESSAGE_BYTES = 64 * 1024
A_MIB = 2**20 // MESSAGE_BYTES
ROUNDS = 20
LIMIT_S, LONG_LIMIT_S = 600, 1_800
PAIRS_MAX = 200  # Of HAProxy, which reserves memory for them.


class RelayWorkload(Workload):
    """A workload whose load is on both sides of a relay."""

    load = LOAD

    def __init__(self, way, pairs, depth):
        what = "one way" if way == "one" else "both ways"
        plural = "connection" if pairs == 1 else "connections"
        super().__init__(f"{way}-{pairs}", f"{what}, {pairs} {plural}", way, "--pairs", pairs, "--depth", depth, unit="64 KiB")


def workloads():
    # 1 MiB under way on a single connection, as in the other bulk workloads; with many, as much as each needs.
    for way in ("one", "both"):
        yield RelayWorkload(way, 1, 16)
        yield RelayWorkload(way, 50, 4)


# --------------------------------------------------------------------------------------------------- relays


CONFIG = """
global
  nbthread 1
  maxconn {pairs}
  {more}
defaults
  mode tcp
  timeout connect 10s
  timeout client 10m
  timeout server 10m
listen relay
  bind fd@{listener}
  {options}
  server target {target}
"""
# Global settings, and those of the listener.
HAPROXIES = {
    "haproxy": ("", ""),
    "haproxy_64k": (f"tune.bufsize {MESSAGE_BYTES}", ""),
    "haproxy_splice": ("", "option splice-request\n  option splice-response"),
}


class HaProxy:
    """HAProxy in the foreground, on a listening socket that it inherits: clients may connect before it is up."""

    def __init__(self, name, target):
        more, options = HAPROXIES[name]
        self.folder = tempfile.TemporaryDirectory(prefix="relay-")
        folder = pathlib.Path(self.folder.name)
        self.log = folder / "log"
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener, open(self.log, "wb") as log:
            self.address = listener.getsockname()
            text = CONFIG.format(pairs=PAIRS_MAX, more=more, options=options, listener=listener.fileno(), target=target)
            (folder / "config").write_text(text)
            argv = [HAPROXY, "-db", "-f", str(folder / "config")]
            self.process = harness.start(argv, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        harness.end(self.process)
        self.folder.cleanup()

    def tail(self):
        return f"; HAProxy: {self.log.read_text(errors='replace')[-500:]}"


def start_relay(name, target):
    release = table.TARGET / "release"
    if name in HAPROXIES:
        return HaProxy(name, target)
    if name == "switchboard":
        return Server([str(example()), target, "127.0.0.1:0"])
    return Server([str(release / "relay_epoll"), target, "127.0.0.1:0", *(["--splice"] if name == "epoll_splice" else [])])


def example():
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / "relay"


class RelaySession(Session):
    """The load generator on both sides of a relay of its own, which is started once the server is there."""

    def __init__(self, workload, name, cores):
        self.what = f"{workload.name} on {name}"
        self.stack = contextlib.ExitStack()
        self.server = None
        argv = [str(workload.load), workload.kind, *workload.options, "--core", str(cores.load)]
        pipes = {stream: subprocess.PIPE for stream in ("stdin", "stdout", "stderr")}
        self.process = harness.start(argv, **pipes, text=True)
        target = self._answer()["target"]
        self.server = self.stack.enter_context(on_core(cores.server, lambda: start_relay(name, target)))
        self.process.stdin.write("%s:%d %d\n" % (*self.server.address, self.server.pid))
        self.process.stdin.flush()
        self._answer()

    def __exit__(self, *arguments):
        super().__exit__(*arguments)
        self.stack.close()


def on_core(core, make):
    """Runs `make`; the processes that it starts stay on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return make()
    finally:
        os.sched_setaffinity(0, before)


# ------------------------------------------------------------------------------------------------- measuring


def measure(workload, names, cores, plan, numbers, chance):
    """Runs the rounds with these numbers, and returns the turns by relay."""
    with contextlib.ExitStack() as stack:
        sessions = {name: stack.enter_context(RelaySession(workload, name, cores)) for name in names}
        if plan.passes:
            for session in sessions.values():
                session.turn(compare.WARM_UP_S)
        rounds = [one_round(sessions, plan.passes, plan, chance) for _ in numbers]
        for session in sessions.values():
            session.finish()
    return rounds


def measure_all(names, wanted, cores, plan, seed):
    chance = random.Random(seed)
    rounds, rows = {workload.name: [] for workload in wanted}, []
    for numbers in plan.numbers():
        for workload in wanted:
            rounds[workload.name] += measure(workload, names, cores, plan, numbers, chance)
            if len(rounds[workload.name]) == plan.rounds:
                rows.append(row_of(workload, rounds[workload.name], names))
                print(in_words(rows[-1]), flush=True)
    return {"relays": {name: RELAYS[name] for name in names}, "yardstick": YARDSTICK, "workloads": rows}


def row_of(workload, rounds, names):
    """Returns the figures by relay, and what ours needs relative to each other one, within a round."""
    row = tables.row(workload, rounds, YARDSTICK)
    for name in names:
        found = row["peers"][name]
        found["cpu_us_mib"] = A_MIB * found["cpu_us"]
        found["mib_per_s"] = found["messages_per_s"] / A_MIB
        if OURS in names:
            found["ours_cpu"] = tables.quartiles([tables.cpu_us(turns[OURS]) / tables.cpu_us(turns[name]) for turns in rounds])
            found["ours_speed"] = tables.quartiles([speed(turns[OURS]) / speed(turns[name]) for turns in rounds])
    return row


def speed(turns):
    return statistics.median(turn["messages"] / turn["seconds"] for turn in turns)


# ------------------------------------------------------------------------------------------------- in words


def in_words(row):
    lines = [f"{row['name']} ({row['label']}):"]
    for name, found in row["peers"].items():
        line = f"  {name:15} {found['cpu_us_mib']:>7.0f} µs a MiB {found['mib_per_s']:>7,.0f} MiB/s"
        if "ours_cpu" in found and name != OURS:
            line += f"   ours: CPU × {spread(found['ours_cpu'])}, MiB/s × {spread(found['ours_speed'])}"
        lines.append(line)
    return "\n".join(lines)


def spread(quartiles):
    low, middle, high = quartiles
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def shown(found, plan):
    """Returns a table: what a MiB costs each relay, how many each passes on in a second, and ours in relation to each."""
    names = list(found["relays"])
    others = [name for name in names if name != OURS]
    blocks = [
        ("CPU time, µs a MiB", names, lambda of: f"{of['cpu_us_mib']:,.0f}"),
        ("MiB a second", names, lambda of: f"{of['mib_per_s']:,.0f}"),
        ("CPU time of this crate, relative to it", others, lambda of: spread(of["ours_cpu"])),
        ("MiB a second of this crate, relative to it", others, lambda of: spread(of["ours_speed"])),
    ]
    rows = []
    for what, which, figure in blocks:
        for row in found["workloads"]:
            figures = (figure(row["peers"][name]) if name in which else tables.NOTHING for name in names)
            rows.append([f"{what}: {row['label']}", *figures])
    version = f", {haproxy_version()}" if set(names) & set(HAPROXIES) else ""
    taken = (f"Measured on {time.strftime('%Y-%m-%d')} by `{COMMAND} --rounds {plan.rounds} --write-readme`: {machine()}{version}; "
             f"{plan.rounds} rounds, all started {plan.starts} times.")
    head = ["", *(found["relays"][name] for name in names)]
    return f"{taken} Medians over rounds; ratios within a round, with quartiles.\n\n{tables.markdown(head, rows)}"


def haproxy_version():
    told = subprocess.run([HAPROXY, "-v"], capture_output=True, text=True, check=True).stdout
    return "HAProxy " + re.search(r"version (\d+(\.\d+)*)", told).group(1)


# ------------------------------------------------------------------------------------------------------ all


def arguments_given():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("relays", nargs="*", metavar="RELAY", help=f"of {', '.join(RELAYS)}; all if none is given; always {YARDSTICK}")
    parser.add_argument("--workloads", nargs="+", metavar="PATTERN", help="by their names, as a shell matches files")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"{ROUNDS} if not given")
    parser.add_argument("--seed", type=int, metavar="N", help="of the order in a round; drawn and printed if not given")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also writes the results there")
    parser.add_argument("--write-readme", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.relays:
        if name not in RELAYS:
            parser.error(f"no such relay: {name}")
    if arguments.write_readme and (arguments.relays or arguments.workloads or arguments.short):
        parser.error("the table in the README has all relays and workloads, in full")
    arguments.pair = False
    arguments.rounds = arguments.rounds or (None if arguments.short else ROUNDS)
    return arguments


def build(names):
    table.run(["cargo", "build", "--quiet", "--release", "--locked", "--bin", "relay_epoll", "--bin", "load_relay"])
    if OURS in names:
        subprocess.run(["cargo", "build", "--quiet", "--profile", "bench", "--example", "relay"], cwd=ROOT, check=True)


def main():
    arguments = arguments_given()
    harness.limit_time(LIMIT_S if arguments.short else LONG_LIMIT_S)
    cores, plan = Cores(), Plan(arguments)
    wanted = [w for w in workloads() if any(fnmatch.fnmatchcase(w.name, pattern) for pattern in arguments.workloads or ["*"])]
    require(wanted, "no such workload")
    names = [name for name in RELAYS if not arguments.relays or name in [*arguments.relays, YARDSTICK]]
    if not HAPROXY and set(names) & set(HAPROXIES):
        print("there is no HAProxy: left out", flush=True)
        names = [name for name in names if name not in HAPROXIES]
    build(names)
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"{machine()}; seed {seed}; load average {os.getloadavg()[0]:.1f}", flush=True)
    found = measure_all(names, wanted, cores, plan, seed)
    text = shown(found, plan) if OURS in names else ""
    print(f"\n{text}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.write_readme:
        write_between_marks(README, "relayed", text)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
