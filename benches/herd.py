#!/usr/bin/env python3
"""Measures how fast a crowd of idle connections comes and goes: without anything, with an idle timeout, with a filter.

    python3 benches/herd.py                     builds, measures, prints: a minute
    python3 benches/herd.py --write-readme      also writes the table into benches/README.md, or the file named
    python3 benches/herd.py --short             some hundred connections, to check that it works

One process has 19,900 idle connections, or as many as its descriptors allow. 10,000 of them connect at once, a herd, beside
the others: each sends a message, and the time is from the first connect to the last echo. Then SIGTERM: the times are
until the process has ended, and until the last client has seen the end of its stream. None may see a reset.

Linux, two cores, with util-linux installed. The server (benches/measured/server.rs) has one core. The clients, here, have
the other, and take most of the time: so the server's CPU time for the herd is printed too.
"""

import argparse
import datetime
import errno
import os
import pathlib
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import measure
from measure import MESSAGE, Builds, harness, raise_descriptor_limit
from harness import Failed, Server, require
from report import machine, write_between_marks

LIMIT_S = 900
CONNECTIONS, HERD = 19_900, 10_000
SHORT_CONNECTIONS, SHORT_HERD = 400, 200
ROUNDS = 5
# Of each process: what it has open besides the connections.
SPARE_DESCRIPTORS = 100
# Clients have many addresses: one has few ports, and looking for a free one among them takes long.
SOURCES = 200
AT_ONCE = 100  # Of those that are no herd.
DONE_S = 60
EVENTS = select.EPOLLIN | select.EPOLLRDHUP


class Clients:
    """Non-blocking clients of a server."""

    def __init__(self, address):
        self.address = address
        self.epoll = select.epoll()
        self.sockets = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.sockets.values():
            harness.reset(client)
        self.epoll.close()

    def connect(self, count):
        """Connects this many at once, and waits until each was echoed to."""
        unheard = set()
        for _ in range(count):
            client = socket.socket()
            self.sockets[client.fileno()] = client
            client.setblocking(False)
            client.bind((f"127.0.1.{1 + len(self.sockets) % SOURCES}", 0))
            error = client.connect_ex(self.address)
            require(error in (0, errno.EINPROGRESS), f"connect: {os.strerror(error)}")
            self.epoll.register(client, select.EPOLLOUT)
            unheard.add(client.fileno())
        for number, event in self._events(lambda: unheard, "connections were not echoed to"):
            client = self.sockets[number]
            if event & select.EPOLLOUT:
                require(client.send(MESSAGE) == len(MESSAGE), "a new connection has no room for a message")
                self.epoll.modify(client, EVENTS)
            else:
                require(client.recv(2 * len(MESSAGE)) == MESSAGE, "not an echo")
                unheard.remove(number)

    def await_ends(self):
        """Waits until each has seen the end of its stream, and closes it then."""
        for number, _ in self._events(lambda: self.sockets, "connections have not ended"):
            # A reset would raise an error.
            require(self.sockets[number].recv(1) == b"", "something was sent before the end")
            self.sockets.pop(number).close()

    def _events(self, left, what):
        deadline = time.monotonic() + DONE_S
        while left():
            yield from self.epoll.poll(1, len(self.sockets))
            require(time.monotonic() < deadline, f"{len(left())} {what}")


def cpu_s(pid):
    """Returns the exact CPU time of a process with one thread."""
    with open(f"/proc/{pid}/schedstat", encoding="utf-8") as file:
        return int(file.read().split()[0]) / 1e9


def when_ended(process):
    """Waits until a process has ended, of which this is a descriptor, and returns the time."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    require(poll.poll(1000 * DONE_S), "the server has not ended")
    os.close(process)
    return time.monotonic()


def one_round(argv, core, connections, herd):
    """Returns the seconds that the herd takes, those of the server's CPU, and the seconds from SIGTERM to the server's end
    and to that of the last client."""
    with Server(["taskset", "--cpu-list", str(core), *argv, "--signals"]) as server, Clients(server.address) as clients, ThreadPoolExecutor(1) as pool:
        for first in range(0, connections - herd, AT_ONCE):
            clients.connect(min(AT_ONCE, connections - herd - first))
        start, cpu_before_s = time.monotonic(), cpu_s(server.pid)
        clients.connect(herd)
        herd_s, cpu_of_herd_s = time.monotonic() - start, cpu_s(server.pid) - cpu_before_s
        end = pool.submit(when_ended, os.pidfd_open(server.pid))
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        clients.await_ends()
        all_ended = time.monotonic()
        require(server.process.wait(DONE_S) == 0, f"the server failed{server.tail()}")
        return herd_s, cpu_of_herd_s, end.result() - start, all_ended - start


def shown(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}\N{EN DASH}{max(values):.2f})"


def arguments_given():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, metavar="N", help=f"{ROUNDS} if not given")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--write-readme", nargs="?", type=pathlib.Path, const=measure.ROOT / "benches" / "README.md", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.write_readme and arguments.short:
        parser.error("the table is of all connections")
    arguments.rounds = arguments.rounds or (1 if arguments.short else ROUNDS)
    return arguments


def sizes(is_short):
    """Returns how many connections there are, and how many of them are the herd, as descriptors allow."""
    most = raise_descriptor_limit() - SPARE_DESCRIPTORS
    connections, herd = (SHORT_CONNECTIONS, SHORT_HERD) if is_short else (CONNECTIONS, HERD)
    if connections > most:
        print(f"descriptors are limited: {most:,} connections, not {connections:,}", flush=True)
    return min(connections, most), min(herd, most)


def measure_all(arguments, connections, herd, cores):
    """Returns the rounds by what the connections have. Each round has all of them."""
    kinds = {"nothing else": [], "an idle timeout": ["--idle-timeout"], "a filter": ["--filter"], "both": ["--idle-timeout", "--filter"]}
    rounds = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="herd-") as folder:
        server = Builds(folder).server()
        os.sched_setaffinity(0, {cores[0]})
        for _ in range(arguments.rounds):
            for kind, flags in kinds.items():
                rounds[kind].append(one_round([server, *flags], cores[-1], connections, herd))
    return rounds


def table(rounds, connections, herd):
    lines = [f"| {connections:,} connections, each with | {herd:,} connect at once, s | CPU of the server for that, s | SIGTERM to its end, s | to the last client's, s |",
             "| --- | --- | --- | --- | --- |"]
    for kind, of in rounds.items():
        lines.append(f"| {kind} | {' | '.join(shown(figures) for figures in zip(*of))} |")
    return "\n".join(lines) + "\n"


def main():
    arguments = arguments_given()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed: one for the server, one for its clients")
    harness.limit_time(LIMIT_S)
    connections, herd = sizes(arguments.short)
    rounds = measure_all(arguments, connections, herd, cores)
    text = table(rounds, connections, herd)
    print(f"{machine()}; {arguments.rounds} rounds\n\n{text}", flush=True)
    if arguments.write_readme:
        taken = (f"Measured on {datetime.date.today()} by `python3 benches/herd.py`: {machine()}; medians of {arguments.rounds} rounds, "
                 "and the fastest and the slowest one.")
        write_between_marks(arguments.write_readme, "herd", f"{taken}\n\n{text}")


if __name__ == "__main__":
    try:
        main()
    except (Failed, OSError, subprocess.CalledProcessError) as failure:
        sys.exit(f"FAILED: {failure}")
