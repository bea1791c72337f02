#!/usr/bin/env python3
"""Measures how cost grows with their number, as curves: of idle connections, timers, earlier connections, loops.

    python3 benches/compare/curves.py               all of it: some six minutes, after building
    python3 benches/compare/curves.py --short       fewer of everything, to check that it works: well below a minute
    python3 benches/compare/curves.py idle timers   only those of: idle, timers, connections, loops
    python3 benches/compare/curves.py --json FILE   also writes them to a file

A curve is {"title", "x_label", "y_label", "series": [{"name", "xs", "ys"}]}: what `measure` returns a list of.

Linux, with valgrind. Everything compared runs at once and is measured in turns, in a different order each round; a point is the
median over the rounds, as a ratio to the curve's first point in the same round. So a machine that is slower
for a while raises all points of a round, and does not change the curve. Costs are the server's time on a core;
instructions are those of user space, counted by callgrind. Timers are timed by a bench of the crate, each
number of them separately: those figures are valid only on an idle machine.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import random
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Last in the path: both folders have a `peers`.
sys.path += [str(HERE.parent), str(ROOT / "tests" / "real")]

import harness  # noqa: E402 (found by the line above)
import measure as counted  # noqa: E402
from harness import Server, require  # noqa: E402
from measure import READY, TurnByTurn  # noqa: E402

LIMIT_S = 1_800  # Several times what it takes on an idle machine.
SEED = 1
SPARE_DESCRIPTORS = 64

IDLE = (0, 100, 1_000, 10_000)  # And as many as descriptors allow.
IDLE_SHORT = (0, 100, 1_000)
INSTRUCTION_ROUNDS = (5, 1_005)  # Many, since the order in which a crowd arrives changes the count by a few instructions each time.
EXCHANGES = 20  # Messages of each ready connection, in a turn of the measurement.
TIMERS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
TIMERS_SHORT = (10, 1_000)
BEFORE = (0, 10_000, 100_000, 1_000_000)
BEFORE_SHORT = (0, 1_000, 5_000)
BATCHES = 4  # Connections that are open at once, in a turn of the measurement.
ROUNDS, ROUNDS_SHORT = 101, 11


def curve(title, x_label, y_label, series):
    """`series` by name: a list of points."""
    named = [{"name": name, "xs": [x for x, _ in found], "ys": [y for _, y in found]} for name, found in series.items()]
    return {"title": title, "x_label": x_label, "y_label": y_label, "series": named}


# ----------------------------------------------------------------------------------- what a server costs, in turns


def cores():
    """Returns the clients' core and the server's: one each, if there are two."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextlib.contextmanager
def on_a_core_of_ours():
    """Runs this process, and those that it starts meanwhile, on the clients' core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores()[0]})
    try:
        yield max(before)
    finally:
        os.sched_setaffinity(0, before)


def spent_ns(pid):
    """Returns how long a single-threaded process was on a core, once it sleeps: before that, not all of it is counted."""
    deadline = time.monotonic() + harness.WAIT_S
    while True:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            if file.read().rpartition(")")[2].split()[0] == "S":
                break
        require(time.monotonic() < deadline, "the server does not come to rest")
    with open(f"/proc/{pid}/schedstat", encoding="utf-8") as file:
        return int(file.read().split()[0])


NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)  # Python has a name for it from 3.12 on.
SOURCES = itertools.cycle([f"127.1.{b}.{c}" for b in range(256) for c in range(1, 255)])


def connect(address):
    """Connects from many addresses in turn, so that there are enough ports, and no search through those in TIME_WAIT."""
    client = socket.socket()
    client.settimeout(harness.WAIT_S)
    client.setsockopt(socket.IPPROTO_IP, NO_PORT, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.bind((next(SOURCES), 0))
    client.connect(address)
    return client


def in_turns(costs, rounds, numbers):
    """Measures each one in every round, in a different order each time, and returns the results of all rounds but the first."""
    found = [[] for _ in costs]
    for nth in range(rounds + 1):
        for which in numbers.sample(range(len(costs)), len(costs)):
            cost = costs[which]()
            if nth > 0:
                found[which].append(cost)
    return found


def ratios(found):
    """Returns the median ratios to the first, with their quartiles."""
    for costs in found:
        of_rounds = [cost / first for cost, first in zip(costs, found[0])]
        low, middle, high = statistics.quantiles(of_rounds, n=4)
        yield middle, low, high


def print_costs(what, counts, found):
    for count, costs, (middle, low, high) in zip(counts, found, ratios(found)):
        cost_us = statistics.median(costs) / 1_000
        print(f"{count:,} {what}: {cost_us:.2f} us, {middle:.3f} of none ({low:.3f} to {high:.3f})", flush=True)


# ------------------------------------------------------------------------------------------------ idle connections


class Crowd:
    """A server with this many idle connections, and some active ones, all held by a separate process.

    That process runs this file again (see `hold_a_crowd`): one process does not have enough descriptors for all crowds.
    """

    def __init__(self, binary, count):
        argv = [sys.executable, __file__, "--hold-a-crowd", binary, str(count)]
        self.process = harness.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        harness.end(self.process)

    def _answer(self):
        line = self.process.stdout.readline()
        require(line, "whoever holds a crowd has ended")
        return float(line)

    def cost_ns(self):
        """Returns what a message costs now."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return self._answer()


def hold_a_crowd(binary, count):
    """Answers each line of input with the cost of a message."""
    clients_core, servers_core = cores()
    with on_a_core_of_ours(), contextlib.ExitStack() as sockets:
        server = sockets.enter_context(Server([binary, "--turn-by-turn", "--idle-timeout"], stdin=subprocess.PIPE))
        os.sched_setaffinity(server.pid, {servers_core})
        driver = TurnByTurn(server)
        crowd(driver, count, sockets)
        clients = ready(driver, sockets)
        print(0, flush=True)
        for _ in sys.stdin:
            exchanges(driver, clients, 2)  # Whatever ran in between has filled the caches.
            before = spent_ns(server.pid)
            exchanges(driver, clients, EXCHANGES)
            print((spent_ns(server.pid) - before) / (EXCHANGES * READY), flush=True)


def crowd(driver, count, sockets):
    """Opens this many connections, which get one echo each and are then idle."""
    for batch in range(0, count, READY):
        counted.exchange(driver, ready(driver, sockets, min(READY, count - batch)))


def ready(driver, sockets, count=READY):
    clients = []
    for _ in range(count):
        client = connect(driver.server.address)
        sockets.callback(harness.reset, client)
        clients.append(client)
    driver.turn()  # Accepts them.
    return clients


def exchanges(driver, clients, count):
    for _ in range(count):
        counted.exchange(driver, clients)


def instructions(binary, count):
    """Returns the user-space instructions for a message."""

    def workload(_):
        def messages(driver, rounds):
            with contextlib.ExitStack() as sockets:
                crowd(driver, count, sockets)
                exchanges(driver, ready(driver, sockets), rounds)

        return messages

    return counted.difference(binary, workload, READY, ["--idle-timeout"], INSTRUCTION_ROUNDS).instructions()


def idle_counts(short):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    room = most - SPARE_DESCRIPTORS - READY
    wanted = IDLE_SHORT if short else (*IDLE, max(room, IDLE[-1]))
    counts = sorted({count for count in wanted if count <= room})
    if len(counts) < len(set(wanted)):
        print(f"skipped: {', '.join(f'{n:,}' for n in wanted if n > room)} idle: descriptors are limited to {most:,}")
    return counts


def idle(short, server):
    """Measures a message while there are idle connections, each of which has an idle timeout."""
    counts = idle_counts(short)
    with contextlib.ExitStack() as stack:
        crowds = [stack.enter_context(Crowd(server, count)) for count in counts]
        found = in_turns([crowd.cost_ns for crowd in crowds], ROUNDS_SHORT if short else ROUNDS, random.Random(SEED))
    print_costs("idle connections beside a message", counts, found)
    spent = [instructions(server, count) for count in counts]
    for count, each in zip(counts, spent):
        print(f"{count:,} idle connections beside a message: {each:,.1f} instructions", flush=True)
    series = {
        "time on a core": [(count, middle) for count, (middle, _, _) in zip(counts, ratios(found))],
        "instructions": [(count, each / spent[0]) for count, each in zip(counts, spent)],
    }
    yield curve("A message beside idle connections", "idle connections", "cost, of that beside none", series)


# ---------------------------------------------------------------------------------------------------------- timers


def bench(name, arguments, features=()):
    """Runs a bench of the crate, and returns what it prints."""
    flags = ["--features", ",".join(features)] if features else []
    argv = ["cargo", "bench", "--quiet", *flags, "--bench", name, "--", *arguments]
    return subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def timers(short, _):
    """Measures an operation on a timer while others are live."""
    counts = TIMERS_SHORT if short else TIMERS
    printed = bench("timers", [str(count) for count in counts] + ["--short"] * short)
    print(printed, end="", flush=True)
    series = {}
    for line in printed.splitlines():
        live, costs = re.fullmatch(r"(\d+) timers live: (.+)", line).groups()
        for name, cost in re.findall(r"([a-z-]+) (\d+) ns", costs):
            series.setdefault(name, []).append((int(live), int(cost)))
    require([x for x, _ in series["set"]] == list(counts), "not the points that were asked for")
    yield curve("A timer", "timers live", "ns", series)


# ----------------------------------------------------------------------------------------------- connections before


class FromAnywhere(TurnByTurn):
    def connect(self):
        return connect(self.server.address)


class Life:
    """A server, and connections to it that are opened, echo a message and close, a batch at a time."""

    def __init__(self, server):
        self.server = server
        self.driver = FromAnywhere(server)
        self.batch = counted.lives(READY)

    def live(self, connections):
        self.batch(self.driver, -(-connections // READY))

    def cost_ns(self):
        self.live(READY)  # Whatever ran in between has filled the caches.
        before = spent_ns(self.server.pid)
        self.live(BATCHES * READY)
        return (spent_ns(self.server.pid) - before) / (BATCHES * READY)


def connections(short, binary):
    """Measures a connection after many earlier ones, and the memory of the server that has had the most."""
    counts = BEFORE_SHORT if short else BEFORE
    memory = []
    with contextlib.ExitStack() as stack:
        servers_core = stack.enter_context(on_a_core_of_ours())
        lives = []
        for _ in counts:
            server = stack.enter_context(Server([binary, "--turn-by-turn"], stdin=subprocess.PIPE))
            os.sched_setaffinity(server.pid, {servers_core})
            lives.append(Life(server))
        had = 0
        for nth, count in enumerate(counts):
            # Servers with a lower goal have already had all their connections.
            lives[-1].live(count - had)
            if 0 < nth < len(counts) - 1:
                lives[nth].live(count)
            lives[-1].live(READY)
            had = count
            memory.append((count, counted.resident_bytes(lives[-1].server.pid) / 1024))
            print(f"{count:,} connections before: {memory[-1][1]:,.0f} KiB resident", flush=True)
        found = in_turns([life.cost_ns for life in lives], ROUNDS_SHORT if short else ROUNDS, random.Random(SEED))
    print_costs("connections before one", counts, found)
    series = {"time on a core": [(count, middle) for count, (middle, _, _) in zip(counts, ratios(found))]}
    x_label = "connections before"
    yield curve("Connect, echo, close", x_label, "cost, of that after none", series)
    yield curve("Memory after connections", x_label, "KiB resident", {"the server's": memory})


# ----------------------------------------------------------------------------------------------------------- loops


def loops(short, _):
    """Measures the throughput of two loops relative to one, with a CPU-bound protocol."""
    printed = bench("cores", ["--short"] * short, features=["workers"])
    print(printed, end="", flush=True)
    two = re.findall(r"^(.+): two loops answer ([\d.]+) times what one does", printed, re.M)
    on_cores_of_their_own = re.findall(r"of which follows ([\d.]+) on two cores of their own", printed)
    require(len(two) == len(on_cores_of_their_own) == 2, "not what was asked for")
    series = {}
    for (name, ratio), follows in zip(two, on_cores_of_their_own):
        series[name] = [(1, 1.0), (2, float(ratio))]
        series[f"{name}, by time on cores"] = [(1, 1.0), (2, float(follows))]
    yield curve("Answers of a group of loops", "loops", "answers, of those of one loop", series)


# ------------------------------------------------------------------------------------------------------- reporting

PARTS = {part.__name__: part for part in (idle, timers, connections, loops)}


def measure(short, parts=PARTS):
    """Returns the curves in the format described at the top of this file, and prints intermediate results."""
    curves = []
    with tempfile.TemporaryDirectory(prefix="curves-") as folder:
        server = counted.Builds(folder).server()
        for part in parts:
            for each in PARTS[part](short, server):
                print_table(each)
                curves.append(each)
    return curves


def print_table(each):
    print(f"\n{each['title']}: {each['y_label']}", flush=True)
    points = [dict(zip(series["xs"], series["ys"])) for series in each["series"]]
    rows = [[each["x_label"], *(series["name"] for series in each["series"])]]
    for x in sorted({x for series in points for x in series}):
        rows.append([f"{x:,}", *(f"{series[x]:,.3f}".rstrip("0").rstrip(".") for series in points)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths)))
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them if none is given")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--hold-a-crowd", nargs=2, metavar=("SERVER", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for part in arguments.parts:
        if part not in PARTS:
            parser.error(f"no such part: {part}")
    if arguments.hold_a_crowd:
        binary, count = arguments.hold_a_crowd
        return hold_a_crowd(binary, int(count))
    harness.limit_time(LIMIT_S)
    curves = measure(arguments.short, arguments.parts or PARTS)
    if arguments.json:
        arguments.json.write_text(json.dumps(curves, indent=1) + "\n")


if __name__ == "__main__":
    main()
