#!/usr/bin/env python3
"""Mixed clients for a long time, every byte of whom is compared; and what five servers have left of them at rest.

    python3 tests/real/soak.py                 12 seconds
    python3 tests/real/soak.py --minutes 60    an hour
    python3 tests/real/soak.py --seed 7        other clients; the default is the date

after `cargo build --examples --all-features`, `cargo build --package switchboard-tls --examples` and
`cargo build --package outsider --examples`.

An echo server, a relay in front of it, a SOCKS5 proxy in front of it, an echo server over TLS, and a chat room have 76
clients at once; one that has ended is followed by another (soak_clients.py). They come in rounds. After each round all of
them leave, and each server has to be as it was: with the descriptors that it had at the start, and without a single system
call, so that it does not poll either. Its memory may be what it was after the first round and some more; the more
connections there were, the less may be left of each.
"""

import argparse
import contextlib
import datetime
import multiprocessing
import re
import tempfile
import time

import harness
import soak_clients
from certificates import make_ec_certificate
from harness import Checks, Failed, Server, Trace, require

ANY_PORT = "127.0.0.1:0"
ROUND_S = 60.0  # In the long form: so often everything comes to rest.
SHORT_ROUNDS_S = (1.5, 3.0)
REST_WITHIN_S = 10.0  # Buffers that have grown in a burst are released by a timer, some seconds later.
QUIET_S, LAST_QUIET_S = 1.0, 5.0
# Has glibc give back large buffers when they are freed. By default it comes to keep them, which looks like a leak.
ALLOCATOR = ["env", "MALLOC_MMAP_THRESHOLD_=16384"]
# What a server may have more than after the first round: pages that the allocator keeps.
# In a long time, or with records of 16 KiB in both directions of each connection over TLS, that is up to some 800 KiB.
GROWTH_MAX, SHORT_GROWTH_MAX = 1024 * 1024, 320 * 1024
# The same for each connection, if there were so many that this is more than the line above.
GROWTH_EACH_MAX = 1
MIB = 1 << 20


def total_of(lines):
    """Counts what `tls_echo` prints instead of keeping it: a line for each connection that begins and that ends."""
    def on_line(line):
        for kind in lines:
            if re.search(kind, line):
                lines[kind] += 1
                return True
        return False

    return on_line


class Soak:
    def __init__(self, stack, seed):
        files = make_ec_certificate(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        tls_echo = harness.built("examples/tls_echo", "cargo build --package switchboard-tls --examples")
        self.tls_lines = {rb" has Some\(TLSv1_[23]\), ": 0, rb" is gone: ": 0}

        def server(*argv, **options):
            return stack.enter_context(Server([*ALLOCATOR, *argv], **options))

        echo = server(harness.example("echo_server"), ANY_PORT)
        self.servers = {
            "echo": echo,
            "relay": server(harness.example("relay"), "%s:%d" % echo.address, ANY_PORT),
            "proxy": server(harness.outsider("socks5_proxy"), ANY_PORT, "--allow-local"),
            "tls": server(tls_echo, "--cert", files["cert"], "--key", files["key"], ANY_PORT,
                          on_line=total_of(self.tls_lines)),
            "chat": server(harness.example("chat"), ANY_PORT),
        }
        more = {"proxy": (echo.address,), "tls": (files["cert"],)}
        self.connections = dict.fromkeys(self.servers, 0)
        self.compared = dict.fromkeys(self.servers, 0)
        self.memory = []  # By server, after each round.
        self.connections_at_first = {}
        self.clients = {}
        spawning = multiprocessing.get_context("spawn")
        for kind, each in self.servers.items():
            ours, theirs = spawning.Pipe()
            body = (kind, (each.address, *more.get(kind, ())), seed, theirs)
            spawning.Process(target=soak_clients.process, args=body, daemon=True).start()
            theirs.close()
            self.clients[kind] = ours

    def round(self, seconds):
        """Clients of all kinds at once; and then nobody."""
        for pipe in self.clients.values():
            pipe.send(seconds)
        for kind, pipe in self.clients.items():
            require(pipe.poll(seconds + 4 * soak_clients.STUCK_S), f"{kind}: the clients do not end")
            found, failure = pipe.recv()
            if failure:
                raise Failed(failure + self.servers[kind].tail())
            connections, compared = found
            require(connections and compared, f"{kind}: {connections} connections, {compared} bytes")
            self.connections[kind] += connections
            self.compared[kind] += compared

    def require_rest(self, quiet_s):
        """Each server has the descriptors of its start, and none makes any system call for so long."""
        for kind, server in self.servers.items():
            what = f"{kind}: back at the {server.descriptors_at_start} descriptors of the start"
            server.wait_until(lambda server=server: server.descriptors() == server.descriptors_at_start, what)
            require(not server.errors, f"{kind}: {server.tail()}")
        with contextlib.ExitStack() as stack:
            traces = {kind: stack.enter_context(Trace(server.pid)) for kind, server in self.servers.items()}
            calls = lambda: {kind: sum(1 for _ in trace.calls()) for kind, trace in traces.items()}
            deadline = time.monotonic() + REST_WITHIN_S + quiet_s
            while True:
                before = calls()
                harness.left_alone(quiet_s)
                after = calls()
                if after == before:
                    break
                awake = {kind: list(traces[kind].calls())[-3:] for kind in after if after[kind] != before[kind]}
                require(time.monotonic() < deadline, f"not at rest: {awake}")
        self.memory.append({kind: anonymous_bytes(server.pid) for kind, server in self.servers.items()})
        self.connections_at_first = self.connections_at_first or dict(self.connections)
        begun, gone = self.tls_lines.values()
        expected = self.connections["tls"]
        require(begun == gone == expected, f"tls: {begun} of {expected} connections are made known, and {gone} ends")

    def require_bounded_memory(self):
        for kind, first in self.memory[0].items():
            since = self.connections[kind] - self.connections_at_first[kind]
            grown = self.memory[-1][kind] - first
            is_short = len(self.memory) <= len(SHORT_ROUNDS_S) and kind != "tls"
            most = max(SHORT_GROWTH_MAX if is_short else GROWTH_MAX, since * GROWTH_EACH_MAX)
            require(grown <= most, f"{kind}: {grown} bytes more after {since} connections; {most} are allowed")

    def figures(self):
        for kind in self.servers:
            memory = [row[kind] / MIB for row in self.memory]
            yield (f"{kind}: {self.connections[kind]:,} connections, {self.compared[kind] / MIB:,.0f} MiB compared; memory "
                   f"{memory[0]:.2f} MiB after the first round, {max(memory):.2f} at most, {memory[-1]:.2f} at last")


def anonymous_bytes(pid):
    """The memory that belongs to the process alone: not its code, and nothing that only its sockets have."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss_Anon:"))


def soak(rounds_s, seed):
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        this = Soak(stack, seed)
        for number, seconds in enumerate(rounds_s, 1):
            this.round(seconds)
            this.require_rest(LAST_QUIET_S if number == len(rounds_s) > 2 else QUIET_S)
            this.require_bounded_memory()
            if len(rounds_s) > 2:
                print(f"  round {number}: {time.monotonic() - begun:.0f} s, {sum(this.connections.values()):,} connections, "
                      f"{sum(this.compared.values()) / MIB:,.0f} MiB; memory {this.memory[-1]}", flush=True)
        for figures in this.figures():
            print("  " + figures, flush=True)
        for kind, server in this.servers.items():
            code = server.end()
            require(code == 0, f"{kind} ends with {code}{server.tail()}")
        connections, compared = sum(this.connections.values()), sum(this.compared.values())
        taken_s = time.monotonic() - begun
        return f"{connections:,} connections, {compared:,} bytes compared, in {taken_s:.0f} s, seed {seed}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--seed", default=str(datetime.date.today()))
    arguments = parser.parse_args()
    count = int(arguments.minutes * 60 / ROUND_S)
    rounds_s = (ROUND_S,) * count if count > 1 else SHORT_ROUNDS_S
    # What comes to rest slowly, or fails slowly.
    checks = Checks(int(sum(rounds_s) + len(rounds_s) * (QUIET_S + REST_WITHIN_S) + 5 * soak_clients.STUCK_S))
    checks.run("mixed clients get every byte, and nothing is left of them", soak, rounds_s, arguments.seed)
    checks.finish()


if __name__ == "__main__":
    main()
