#!/usr/bin/env python3
"""Compares our servers of HTTP and of Redis' protocol with others: what a request costs each of them.

    python3 benches/compare/requests.py                               all servers: some 6 minutes
    python3 benches/compare/requests.py hyper nginx --workloads 'http-*'
    python3 benches/compare/requests.py --write-readme                all, into README.md in this folder
    python3 benches/compare/requests.py --short                       checks that all of it works, not how fast

As in compare.py: all servers on one core, the load on the other, turns in random order and in reverse, CPU time of the
server within a round. Each byte of each answer is compared. The requests are GET of `/`, as `wrk` asks, and GET of a key
with 64 bytes, as `redis-benchmark` asks. The yardstick is a loop by hand on epoll that knows nothing but these. It needs
what lost.py needs.
"""

import argparse
import fnmatch
import json
import os
import pathlib
import random
import sys
import tempfile

import compare
import peers as table
import servers
import tables
from compare import Cores, Plan, Workload, harness, machine, write_between_marks
from harness import Failed
from peers import TARGET, Peer
from servers import Http, Resp

COMMAND = "python3 benches/compare/requests.py"
LIMIT_S, LONG_LIMIT_S = 600, 1_800
ROUNDS = 12
SHORT = ("epoll", "http_server", "resp_server")
# What each table is about, by the mode of its workloads.
SHOWN = {"http": "HTTP", "resp": "Redis' protocol"}
NOT_HERE = {"hyper with half_close": "hyper", "uvicorn": "an order of magnitude apart from the others"}


class Program:
    """A server as compare.py knows its peers."""

    def __init__(self, asked):
        self.asked = asked
        self.name = asked.name
        self.what = f"{asked.name} {asked.version()}".strip()
        self.mode = asked.dialect.name

    def can(self, mode, _transport):
        return mode == self.mode


class ByHand:
    """The yardstick."""

    name = table.YARDSTICK
    what = "a loop by hand on epoll"

    def can(self, *_):
        return True


def epoll(mode, folder):
    peer = Peer(table.YARDSTICK, "rust", [TARGET / "release" / "requests_epoll"], ByHand.what)
    return servers.PeerServer(peer, mode, "tcp", folder)


def all_programs():
    known = servers.all_servers()
    # Answers to requests that arrived together are sent together, as in all the others.
    known["hyper"] = servers.rust_http("hyper", "http_hyper", "pipeline-flush", "hyper")
    return {name: each for name, each in known.items() if each.dialect in (Http, Resp) and name not in NOT_HERE}


def workloads():
    for depth, label in ((1, "50 clients"), (16, "50 clients, 16 deep")):
        yield Workload(f"http-{depth}", f"GET /, {label}", "http", "--depth", depth, unit="request", mode="http")
    yield Workload("http-1000", "GET /, 1,000 clients", "http", "--clients", 1_000, unit="request", mode="http")
    for depth, label in ((1, "50 clients"), (16, "50 clients, 16 deep"), (100, "50 clients, 100 deep")):
        yield Workload(f"resp-{depth}", f"GET of 64 bytes, {label}", "resp", "--depth", depth, unit="request", mode="resp")


def start_all(chosen, wanted, cores, stack):
    """Starts all servers, each on the core with all its threads."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="requests-"))
    started = {}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.server})
    try:
        for mode in sorted({workload.mode for workload in wanted}):
            for each in chosen:
                if each.can(mode, "tcp"):
                    start = epoll(mode, folder) if each.name == table.YARDSTICK else each.asked.start(folder)
                    started[each.name, mode, "tcp"] = stack.enter_context(start)
    finally:
        os.sched_setaffinity(0, before)
    return started


def of_mode(found, mode):
    """Returns the part of the results that a table is about."""
    rows = [row for row in found["workloads"] if row["name"].startswith(mode)]
    names = {name for row in rows for name in row["peers"]}
    return {**found, "workloads": rows, "peers": {name: what for name, what in found["peers"].items() if name in names}}


def shown(found, plan):
    taken = (
        f"Measured on {found['date']} by `{COMMAND} --rounds {plan.rounds} --write-readme`: {found['machine']};"
        f" {plan.rounds} rounds, all started {plan.starts} times."
        f" {', '.join(what for name, what in found['peers'].items() if what not in (name, ByHand.what))}."
    )
    parts = [taken]
    for mode, what in SHOWN.items():
        part = of_mode(found, mode)
        if part["workloads"]:
            parts += [f"{what}, CPU time of the server:", tables.costs(part), f"{what}, as the clients see it:", tables.speeds(part)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def arguments_given(known):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=f"of {', '.join(known)}; all if none is given; always {table.YARDSTICK}")
    parser.add_argument("--workloads", nargs="+", metavar="PATTERN", default=["*"], help="by their names, as a shell matches files")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"{ROUNDS} if not given")
    parser.add_argument("--seed", type=int, metavar="N", help="of the order in a round; drawn and printed if not given")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also writes the results there")
    parser.add_argument("--write-readme", action="store_true")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.servers) - set(known)):
        parser.error(f"no such server: {', '.join(unknown)}")
    if arguments.write_readme and (arguments.servers or arguments.workloads != ["*"] or arguments.short):
        parser.error("the tables in the README have all servers and workloads, in full")
    arguments.pair = False
    arguments.rounds = arguments.rounds or (None if arguments.short else ROUNDS)
    arguments.servers = arguments.servers or (SHORT if arguments.short else list(known))
    return arguments


def main():
    table.build_python([])  # With Valkey in it.
    known = all_programs()
    arguments = arguments_given(known)
    harness.limit_time(LIMIT_S if arguments.short else LONG_LIMIT_S)
    cores, plan = Cores(), Plan(arguments)
    compare.idle_connections(True)  # Raises the limit on descriptors.
    wanted = [each for each in workloads() if any(fnmatch.fnmatchcase(each.name, pattern) for pattern in arguments.workloads)]
    asked = [known[name] for name in known if name in arguments.servers]
    table.run(["cargo", "build", "--quiet", "--release", "--locked", "--bin", "load", "--bin", "requests_epoll"])
    for each in asked:
        each.build()
    chosen = [ByHand(), *map(Program, asked)]
    wanted = [workload for workload in wanted if any(each.can(workload.mode, "tcp") for each in chosen[1:])]
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"{machine()}; seed {seed}; load average {os.getloadavg()[0]:.1f}", flush=True)
    found = compare.compare(chosen, wanted, cores, plan, seed, start_all)
    text = shown(found, plan)
    print(f"\n{text}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.write_readme:
        write_between_marks(compare.PAGE, "requests", text)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
