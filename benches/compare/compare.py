#!/usr/bin/env python3
"""Compares this crate with its peers: what the same load costs each server, as a table and a picture.

    python3 benches/compare/compare.py                                  all peers, all workloads: some 15 minutes
    python3 benches/compare/compare.py epoll tokio --workloads 'unix-*' fanout-100
    python3 benches/compare/compare.py --pair                           only this crate and the loop by hand, more rounds
    python3 benches/compare/compare.py --curves                         also how cost grows (curves.py)
    python3 benches/compare/compare.py --write-readme                   all of it, written into the pages
    python3 benches/compare/compare.py --short                          for CI: checks that all of it works, but for long builds, not how fast

Linux, two cores; README.md in this folder lists the packages that the peers need. All servers run at once, on one
core; the load generator has the other. A round measures all peers in random order, and then in reverse
order, each turn a fraction of a second, so a temporary slowdown of the machine cancels out of the ratios. Figures are the
server's CPU time a message. Ratios are to the handwritten loop on epoll, within a round; medians, with quartiles.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import fnmatch
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "tests" / "real")]

import harness  # noqa: E402 (found by the line above)
import peers as table  # noqa: E402
import tables  # noqa: E402
from check import PeerServer  # noqa: E402
from harness import Failed, require  # noqa: E402
from liar import LIES  # noqa: E402
from report import machine, write_between_marks  # noqa: E402
from servers import VERSIONS  # noqa: E402

LOAD = table.TARGET / "release" / "load"
RESULTS = HERE / "results.json"
LOST = HERE / "lost.json"  # The last results of lost.py, for the row in short.
FRONT, PAGE = ROOT / "README.md", HERE / "README.md"  # What is shown in short, and in full.
PICTURE = HERE.parent / "compared.svg"  # Its path in the package, for the README that shows it.

# Many short turns: a temporary slowdown of the machine affects them and their neighbours alike. Longer
# turns with the same total mostly spread more, as measured.
TURN_S, SHORT_TURN_S = 0.05, 0.05
PASSES = 3  # How often a round measures all peers in order and in reverse.
WARM_UP_S = 0.15
ROUNDS = 14
PAIR_ROUNDS = 40
STARTS = 4  # How often all servers are started within a run.
# A peer whose turns take many times longer than those of others is measured in every second, third, … round only.
SLOW = 4
ROUNDS_MIN = 3
LIMIT_S = 30  # The time that the load generator allows a server in addition to the turn.
LIARS, LIE_LIMIT_S = 10, 3
IDLE, SHORT_IDLE = 10_000, 1_000
SPARE_DESCRIPTORS = 200  # Descriptors that a server may need in addition to its connections.
BUILT_S, ALL_DONE_S, SHORT_DONE_S = 1_800, 3_600, 300


class Workload:
    """A load on a server, and the program that makes it. `unit` is what its figures are per."""

    load = LOAD

    def __init__(self, name, label, kind, *options, unit="message", mode="echo"):
        self.name = name
        self.label = label
        self.kind = kind
        self.options = [str(option) for option in options]
        self.unit = unit
        self.mode = mode
        self.transport = "unix" if name.startswith("unix-") else "tcp"


def streams(transport, shown):
    yield Workload(f"{transport}-echo-1", f"echo, 1 client, {shown}", "echo", "--clients", 1)
    yield Workload(f"{transport}-echo-50", f"echo, 50 clients, {shown}", "echo", "--clients", 50)
    yield Workload(f"{transport}-echo-1000", f"echo, 1,000 clients, {shown}", "echo", "--clients", 1_000)
    yield Workload(f"{transport}-pipelined", f"echo, 50 clients, 16 deep, {shown}", "pipelined")
    yield Workload(f"{transport}-bulk", f"bulk both ways, 4 clients, {shown}", "bulk", unit="64 KiB")
    yield Workload(f"{transport}-connect", f"connect, echo, close, {shown}", "connect", unit="connection")


def workloads(idle):
    yield from streams("tcp", "TCP")
    yield Workload("tcp-idle", f"echo, 50 clients beside {idle:,} idle, TCP", "idle", "--idle", idle)
    for members in (100, 1_000):
        label = f"fan-out, {members:,} members, TCP"
        yield Workload(f"fanout-{members}", label, "fanout", "--clients", members, unit="line delivered", mode="fanout")
    yield from streams("unix", "Unix")


# ------------------------------------------------------------------------------------------- servers and load


class Cores:
    """One core for the servers and another one for the load."""

    def __init__(self):
        allowed = sorted(os.sched_getaffinity(0))
        require(len(allowed) >= 2, "two cores are needed: one for the servers and one for the load")
        self.load, self.server = allowed[0], allowed[-1]


def start(peer, mode, transport, folder, cores):
    """A server, pinned to its core with all its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.server})
    try:
        return PeerServer(peer, mode, transport, folder)
    finally:
        os.sched_setaffinity(0, before)


class Session:
    """The load generator, connected to one server: each call of `turn` takes one turn."""

    def __init__(self, workload, name, server, cores, limit_s=LIMIT_S):
        self.what = f"{workload.name} on {name}"
        self.server = server
        address = server.address if isinstance(server.address, str) else "%s:%d" % server.address
        self.process = harness.start(
            [workload.load, workload.kind, address, *workload.options, "--turns", "--limit", str(limit_s)]
            + ["--core", str(cores.load), "--server", str(server.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        harness.end(self.process)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _answer(self):
        """Returns the next line. The load generator has a deadline for all its waits, so this has one too."""
        line = self.process.stdout.readline()
        return json.loads(line) if line else self._fail()

    def _fail(self):
        code = self.process.wait(harness.WAIT_S)
        raise Failed(f"{self.what}: exit status {code}: {self.process.stderr.read().strip()}{self.server.tail()}")

    def turn(self, seconds):
        try:
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self._fail()
        return self._answer()

    def finish(self):
        """Ends the connections; fails if the server does not."""
        self.process.stdin.close()
        if self.process.wait() != 0:
            self._fail()


def start_servers(chosen, wanted, cores, stack):
    """Starts all servers that the workloads need, by peer, mode and transport."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-"))
    servers = {}
    for mode, transport in sorted({(workload.mode, workload.transport) for workload in wanted}):
        for peer in chosen:
            if peer.can(mode, transport):
                server = start(peer, mode, transport, folder, cores)
                servers[peer.name, mode, transport] = stack.enter_context(server)
    return servers


# ------------------------------------------------------------------------------------------------- measuring


def measure(workload, chosen, servers, cores, plan, numbers, chance):
    """Runs the rounds with these numbers, and returns the turns of each round's peers."""
    with contextlib.ExitStack() as stack:
        sessions = {}
        for peer in chosen:
            if server := servers.get((peer.name, workload.mode, workload.transport)):
                sessions[peer.name] = stack.enter_context(Session(workload, peer.name, server, cores))
        took = {name: warm_up(session, plan) for name, session in sessions.items()}
        passes, every = share(took, plan)
        rounds = []
        for nth in numbers:
            due = {name: session for name, session in sessions.items() if nth % every[name] == 0}
            rounds.append(one_round(due, passes, plan, chance))
        for session in sessions.values():
            session.finish()
    return rounds


def warm_up(session, plan):
    """Returns how long a turn of this server takes: one round of a fan-out may be longer than a turn."""
    if not plan.passes:
        return plan.turn_s
    session.turn(WARM_UP_S)  # Thrown away: caches, buffers and allocators are cold.
    start = time.monotonic()
    session.turn(plan.turn_s)
    return time.monotonic() - start


def share(took, plan):
    """Returns how often a round is measured there and back, and in each n-th of which rounds a peer takes part."""
    usual = max(plan.turn_s, took[table.YARDSTICK])
    passes = max(min(plan.passes, 1), round(plan.passes * plan.turn_s / usual))
    least_often = max(1, plan.rounds // ROUNDS_MIN)
    every = {name: min(least_often, max(1, round(seconds / usual / SLOW))) for name, seconds in took.items()}
    return passes, every


def one_round(sessions, passes, plan, chance):
    """Returns the turns of each peer. Without passes there is no reverse order."""
    turns = {name: [] for name in sessions}
    for _ in range(max(1, passes)):
        order = chance.sample(list(sessions), len(sessions))
        for name in order + (order[::-1] if passes else []):
            turns[name].append(sessions[name].turn(plan.turn_s))
    return turns


class Plan:
    """How long the turns are, and how many there are."""

    def __init__(self, arguments):
        self.passes = 0 if arguments.short else PASSES
        self.turn_s = SHORT_TURN_S if arguments.short else TURN_S
        self.rounds = arguments.rounds or (1 if arguments.short else PAIR_ROUNDS if arguments.pair else ROUNDS)
        self.starts = min(STARTS, self.rounds)

    def numbers(self):
        """Returns the numbers of the rounds, in one range for each start of the servers."""
        bounds = [nth * self.rounds // self.starts for nth in range(self.starts + 1)]
        return [range(*pair) for pair in zip(bounds, bounds[1:])]


# ----------------------------------------------------------------------------------- whether lies are found


def check_that_lies_are_found(cores):
    """A server that lies must fail the comparison, whatever the lie, and the same server without a lie must not."""
    # By count, so that the lie happens before the end even on a busy machine.
    talks = ("--clients", 10, "--count", 3_000)
    plans = (
        Workload("tcp-echo", "", "echo", *talks),
        Workload("tcp-connect", "", "connect", "--count", 500),
        Workload("fanout", "", "fanout", *talks, mode="fanout"),
        Workload("http", "", "http", *talks, mode="http"),
    )
    # Concurrently, since servers that fall silent take a while.
    with concurrent.futures.ThreadPoolExecutor(LIARS) as pool:
        cases = [(lie, words, workload) for workload in plans for lie, words in LIES[workload.mode].items()]
        list(pool.map(lambda case: check_lie(*case, cores), cases))
        for workload in plans:
            said = what_is_said("none", workload, cores)
            require(said is None, f"an honest server was said to lie: {said}")
    print(f"{len(cases)} lying servers were found out", flush=True)


def check_lie(lie, words, workload, cores):
    said = what_is_said(lie, workload, cores)
    require(said, f"nobody has found that a server lies: {lie}, {workload.name}")
    require(any(word in said for word in words.split("|")), f"{lie}, {workload.name}: it is said that {said}")


def what_is_said(lie, workload, cores):
    """Returns what the load generator reports of a server that lies, or None."""
    liar = table.Peer(f"the liar ({lie})", "python", [sys.executable, HERE / "liar.py", lie], "lies")
    try:
        with start(liar, workload.mode, "tcp", None, cores) as server:
            with Session(workload, liar.name, server, cores, limit_s=LIE_LIMIT_S) as session:
                session.turn(LIE_LIMIT_S)
                session.finish()
    except Failed as failure:
        return str(failure)
    return None


# ------------------------------------------------------------------------------------------------------ all


def idle_connections(short):
    """Returns how many idle connections a process may have here, and reports if they are fewer than wanted."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    wanted = SHORT_IDLE if short else IDLE
    if wanted + SPARE_DESCRIPTORS <= most:
        return wanted
    print(f"descriptors are limited to {most:,}: {most - SPARE_DESCRIPTORS:,} idle connections, not {wanted:,}", flush=True)
    return most - SPARE_DESCRIPTORS


def chosen_workloads(patterns, idle):
    known = list(workloads(idle))
    for pattern in patterns or ():
        if not any(fnmatch.fnmatchcase(workload.name, pattern) for workload in known):
            sys.exit(f"no such workload: {pattern}; there are {', '.join(workload.name for workload in known)}")
    return [w for w in known if not patterns or any(fnmatch.fnmatchcase(w.name, pattern) for pattern in patterns)]


def compare(chosen, wanted, cores, plan, seed, start_all=start_servers):
    """Measures everything, prints each workload's figures after its last rounds, and returns all results."""
    chance = random.Random(seed)
    rounds, rows = {workload.name: [] for workload in wanted}, []
    for numbers in plan.numbers():
        with contextlib.ExitStack() as stack:
            servers = start_all(chosen, wanted, cores, stack)
            for workload in wanted:
                rounds[workload.name] += measure(workload, chosen, servers, cores, plan, numbers, chance)
                if len(rounds[workload.name]) == plan.rounds:
                    rows.append(tables.row(workload, rounds[workload.name], table.YARDSTICK))
                    print(tables.in_words(rows[-1]), flush=True)
    return {
        "date": str(datetime.date.today()),
        "machine": machine(),
        "rounds": plan.rounds,
        "starts": plan.starts,
        "turns_s": plan.turn_s * 2 * plan.passes,
        "seed": seed,
        "yardstick": table.YARDSTICK,
        "peers": {peer.name: peer.what for peer in chosen},
        "versions": {peer.name: VERSIONS[peer.name]() for peer in chosen if peer.name in VERSIONS},
        "workloads": rows,
    }


def curves(short):
    import curves as growth  # Imported here, since nothing else needs its dependencies.

    return {"date": str(datetime.date.today()), "machine": machine(), "curves": growth.measure(short)}


def arguments_given():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(table.PEERS)}; all if none is given; always {table.YARDSTICK}")
    parser.add_argument("--workloads", nargs="+", metavar="PATTERN", help="by their names, as a shell matches files")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"{ROUNDS} if not given, {PAIR_ROUNDS} for a pair")
    parser.add_argument("--seed", type=int, metavar="N", help="of the order in a round; drawn and printed if not given")
    parser.add_argument("--pair", action="store_true")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--curves", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also writes the results there, for picture.py")
    parser.add_argument("--write-readme", action="store_true")
    arguments = parser.parse_args()
    if arguments.pair:
        if arguments.peers:
            parser.error("--pair has its own peers")
        arguments.peers = ["switchboard", table.YARDSTICK]
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("at least one round")
    if arguments.write_readme and (arguments.peers or arguments.workloads or arguments.short):
        parser.error("the table in the README has all peers and workloads, in full")
    return arguments


def write_json(results, file):
    file.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written: {file}", flush=True)


def write_pages(results, front, page, file, picture):
    write_json(results, file)
    # In the environment with the drawing library, whether or not Python's peers are chosen.
    table.build_python([])
    table.run([table.PYTHON, HERE / "picture.py", file, picture])
    write_between_marks(page, "compared", tables.for_readme(results, os.path.relpath(picture, page.parent)))
    write_between_marks(front, "summary", tables.summary(results, os.path.relpath(picture, front.parent), json.loads(LOST.read_text())))


def check_that_it_can_be_shown(results):
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        names = ("README.md", "figures.md", "results.json", "results.svg")
        front, page, file, picture = (pathlib.Path(folder) / name for name in names)
        front.write_text(FRONT.read_text())
        page.write_text(PAGE.read_text())
        write_pages(results, front, page, file, picture)
        text = page.read_text()
        for row in results["compared"]["workloads"]:
            require(f"| {row['label']}" in text, f"no row for {row['label']} in the page")
        require("</svg>" in picture.read_text(), "no picture was drawn")


def main():
    arguments = arguments_given()
    harness.limit_time(BUILT_S)
    cores = Cores()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    # There is no ratio without the yardstick.
    chosen = table.chosen(arguments.peers and [*arguments.peers, table.YARDSTICK])
    if arguments.short and not arguments.peers:
        chosen = [peer for peer in chosen if not peer.is_long_to_build]
    wanted = chosen_workloads(arguments.workloads, idle_connections(arguments.short))
    table.build(chosen)
    table.run(["cargo", "build", "--quiet", "--release", "--locked", "--bin", "load"])
    harness.limit_time(SHORT_DONE_S if arguments.short else ALL_DONE_S)
    print(f"{machine()}; seed {seed}; load average {os.getloadavg()[0]:.1f}", flush=True)
    start = time.monotonic()
    if arguments.short:
        check_that_lies_are_found(cores)
    compared = compare(chosen, wanted, cores, Plan(arguments), seed)
    print(f"{time.monotonic() - start:.0f} s\n\n{tables.costs(compared)}\n{tables.speeds(compared)}", flush=True)
    results = {"compared": compared}
    if arguments.curves or arguments.write_readme:
        results["grown"] = curves(arguments.short)
    if arguments.json:
        write_json(results, arguments.json)
    if arguments.write_readme:
        write_pages(results, FRONT, PAGE, RESULTS, PICTURE)
    elif arguments.short:
        check_that_it_can_be_shown(results)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
