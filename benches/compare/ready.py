#!/usr/bin/env python3
"""Counts what an echoed message costs the peers when few, some or many connections are ready at each poll.

    python3 benches/compare/ready.py                    the compiled peers: some 10 minutes
    python3 benches/compare/ready.py epoll tokio        some of them
    python3 benches/compare/ready.py --no-instructions  only system calls and CPU time
    python3 benches/compare/ready.py --bytes 4096       with messages of this size, not of 64 bytes
    python3 benches/compare/ready.py --cold             CPU time with nothing of the server in the processor's caches

The server is stopped while its clients send, so as many connections are ready when it polls as the column says, of 1,000.
Instructions outside the kernel, and misses of a first-level data cache, are callgrind's; system calls are strace's; both
are differences of two runs, so that starting and connecting do not count. CPU time is what the kernel counts, its own
included: medians over rounds in which all servers take turns, as a ratio to the loop by hand on epoll.
"""

import argparse
import contextlib
import os
import pathlib
import random
import re
import signal
import statistics
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "tests" / "real")]

import harness  # noqa: E402 (found by the line above)
import peers as table  # noqa: E402
import syscalls  # noqa: E402
from check import PeerServer  # noqa: E402
from harness import Failed, Trace, receive, require  # noqa: E402
from peers import Peer  # noqa: E402

MESSAGE_BYTES = 64
CONNECTIONS = 1_000
READY = (1, 50, 1_000)
MESSAGES = (1_000, 4_000)  # The difference of two runs.
CPU_ROUNDS, CPU_MESSAGES = 24, 2_000
COLD_ROUNDS, COLD_POLLS = 8, 4  # Polls at most.
COLD_BYTES = 64 * 1024 * 1024  # More than the caches hold.
BUILT_S, LIMIT_S = 1_800, 1_800
# Those of which callgrind counts nothing useful: it does not follow a ring, and interpreters translate for minutes.
NOT_COUNTED = {"monoio", "compio", "go", "asyncio", "uvloop", "twisted"}


class Clients:
    """All clients of a server. Which of them send next is random, and the same in each run."""

    def __init__(self, server, size, stack):
        self.process = server.pid
        self.message = random.Random(size).randbytes(size)
        self.sockets = [stack.enter_context(server.connect()) for _ in range(CONNECTIONS)]
        self.dice = random.Random(1)
        for each in self.sockets:
            self.talk([each])

    def talk(self, sockets):
        for each in sockets:
            each.sendall(self.message)
        self.hear(sockets)

    def hear(self, sockets):
        for each in sockets:
            require(receive(each, len(self.message)) == self.message, "not an echo")

    def exchange(self, ready, messages):
        """Has so many messages echoed, of which `ready` arrive while the server is stopped."""
        for _ in range(messages // ready):
            chosen = self.dice.sample(self.sockets, ready)
            if ready == 1:
                self.talk(chosen)
                continue
            os.kill(self.process, signal.SIGSTOP)
            try:
                for each in chosen:
                    each.sendall(self.message)
            finally:
                os.kill(self.process, signal.SIGCONT)
            self.hear(chosen)


def serving(peer, size, stack, before=()):
    """Starts a server, with all its threads on one core, and its clients."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        started = Peer(peer.name, peer.kind, [*before, *peer.argv], peer.what, environment=peer.environment)
        server = stack.enter_context(PeerServer(started, "echo", "tcp", None))
    finally:
        os.sched_setaffinity(0, cores)
    return server, Clients(server, size, stack)


# ------------------------------------------------------------------------------------------------ what is counted


def profile(peer, size, ready, messages):
    """Returns the instructions and the misses of a whole run."""
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(tempfile.NamedTemporaryFile(prefix="callgrind-"))
        argv = ["valgrind", "--quiet", "--tool=callgrind", "--cache-sim=yes", f"--callgrind-out-file={out.name}"]
        server, clients = serving(peer, size, stack, argv)
        clients.exchange(ready, messages)
        server.end()
        found = pathlib.Path(out.name).read_text(encoding="utf-8", errors="replace")
        events = re.search(r"^events: (.*)", found, re.M).group(1).split()
        totals = dict(zip(events, map(int, re.search(r"^(?:totals|summary): (.*)", found, re.M).group(1).split())))
        return totals["Ir"], totals["D1mr"] + totals["D1mw"]


def counted(peer, size, ready):
    few, many = (profile(peer, size, ready, messages) for messages in MESSAGES)
    return [(more - less) / (MESSAGES[1] - MESSAGES[0]) for less, more in zip(few, many)]


def calls(peer, size):
    """Returns the system calls a message, by how many are ready."""
    found = {}
    with contextlib.ExitStack() as stack:
        server, clients = serving(peer, size, stack)
        for ready in READY:
            runs = []
            for messages in MESSAGES:
                with Trace(server.pid) as trace:
                    clients.exchange(ready, messages)
                runs.append(syscalls.by_kind(trace))
            few, many = runs
            kinds = {kind: many.get(kind, 0) - few.get(kind, 0) for kind in {*few, *many}}
            found[ready] = {kind: count / (MESSAGES[1] - MESSAGES[0]) for kind, count in kinds.items() if count > 0}
    return found


def cpu_ns(pid):
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def make_cold(junk=bytearray(COLD_BYTES)):
    """Replaces what the caches of the servers' core hold."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    bytes(junk)
    os.sched_setaffinity(0, cores)


def cpu(chosen, size, ready, cold):
    """Returns the CPU time a message of each, in rounds that all take part in."""
    messages = max(ready, CPU_MESSAGES // (10 if ready == 1 else 1))
    polls = max(1, min(COLD_POLLS, CONNECTIONS // ready)) if cold else 1
    with contextlib.ExitStack() as stack:
        serve = {peer.name: serving(peer, size, stack) for peer in chosen}
        rounds, dice = [], random.Random(2)
        for _ in range(COLD_ROUNDS if cold else CPU_ROUNDS):
            took = {}
            for name in dice.sample(list(serve), len(serve)):
                server, clients = serve[name]
                clients.exchange(ready, ready)  # Those of others were in the caches.
                took[name] = 0
                for _ in range(polls):
                    if cold:
                        make_cold()
                    before = cpu_ns(server.pid)
                    clients.exchange(ready, ready if cold else messages)
                    took[name] += cpu_ns(server.pid) - before
            rounds.append(took)
        return rounds


# ------------------------------------------------------------------------------------------------------------ all


def shown(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def print_table(what, chosen, cells):
    print(f"\n| {what} | {' | '.join(f'{ready:,} ready' for ready in READY)} |\n{'| --- ' * (len(READY) + 1)}|")
    for peer in chosen:
        print(f"| {peer.name} | {' | '.join(cells(peer.name, ready) for ready in READY)} |", flush=True)


def show_calls(chosen, size):
    found = {peer.name: calls(peer, size) for peer in chosen}

    def cells(name, ready):
        kinds = sorted(found[name][ready].items(), key=lambda item: -item[1])
        return ", ".join(f"{kind} {count:.3f}" for kind, count in kinds if count >= 0.0005)

    print_table("system calls a message", chosen, cells)


def show_cpu(chosen, size, cold):
    rounds = {ready: cpu(chosen, size, ready, cold) for ready in READY}

    def cells(name, ready):
        if table.YARDSTICK not in rounds[ready][0]:
            return "–"
        ratios = [took[name] / took[table.YARDSTICK] for took in rounds[ready]]
        low, middle, high = statistics.quantiles(ratios, n=4)
        return f"{middle:.2f} ({low:.2f}–{high:.2f})"

    print_table(f"CPU time a message, relative to {table.YARDSTICK}", chosen, cells)


def show_instructions(chosen, size):
    costs = {(peer.name, ready): counted(peer, size, ready) for peer in chosen for ready in READY}
    print_table("instructions a message", chosen, lambda name, ready: shown(costs[name, ready][0]))
    print_table("misses of the first-level data cache", chosen, lambda name, ready: shown(costs[name, ready][1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help="all that are compiled if none is given")
    parser.add_argument("--no-instructions", action="store_true")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--no-build", action="store_true", help="they are built already")
    parser.add_argument("--bytes", type=int, default=MESSAGE_BYTES, help="the size of a message")
    arguments = parser.parse_args()
    size = arguments.bytes
    harness.limit_time(BUILT_S)
    chosen = table.chosen(arguments.peers or [name for name, peer in table.PEERS.items() if peer.kind != "python"])
    if not arguments.no_build:
        table.build(chosen)
    harness.limit_time(LIMIT_S)
    if not arguments.cold:
        show_calls(chosen, size)
    show_cpu(chosen, size, arguments.cold)
    if not (arguments.no_instructions or arguments.cold):
        show_instructions([peer for peer in chosen if peer.name not in NOT_COUNTED], size)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
