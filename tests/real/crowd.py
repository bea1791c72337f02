#!/usr/bin/env python3
"""A crowd of hostile clients, and honest ones beside it: what the honest ones wait, and what the crowd costs the server.

    python3 tests/real/crowd.py           300 hostile clients, and 120 over TLS
    python3 tests/real/crowd.py --long    1,000 and 600, too, and for longer

after `cargo build --examples --all-features` and `cargo build --package switchboard-tls --examples`.  The crowd is a process of
its own. An equal number of its clients each: read a few bytes a second of what they have requested; never read; flood; send a
byte at a time; send urgent bytes; half-close and stay; reset, again and again. A second crowd is at an echo over TLS: its
handshakes dribble, stall, are none, or are broken off once the server has computed keys and signed; or it is established, and
sends records of one byte or never reads.

What honest clients wait depends on the machine, so they are measured without the crowd, too: the bound is in milliseconds,
or twice that, whichever is more. Clients that do not read send until the kernel's buffers at both ends are full and the
server's queue has reached its high mark, which is where it stops to read from them.
"""

import contextlib
import functools
import multiprocessing
import os
import resource
import socket
import ssl
import statistics
import struct
import sys
import tempfile
import time

import harness
from certificates import make_ec_certificate
from harness import Checks, Server, connect, example, receive, require
from tls_attacks import hello_of

LIMIT_S = 300
DESCRIPTORS = 4096
HONEST = 8
MESSAGE = bytes(range(64))
CHUNK = b"x" * 8192
LARGE = b"x" * 65536  # Of those that do not read: 5 MB of it fill the buffers.
STEP_S = 0.02  # The crowd acts so often.
MIB = 1 << 20
# Hostile clients: (how long they are there, the bound of the 99th percentile in ms, that of the server's memory in bytes).
BOUNDS = {300: (8.0, 5.0, 8 * MIB), 1000: (60.0, 20.0, 64 * MIB)}
TLS_BOUNDS = {120: (6.0, 20.0, 6 * MIB), 600: (60.0, 50.0, 24 * MIB)}
HELLO_STEPS = 50  # Each of those that break off begins a handshake a second: what these cost is up to the cryptography.
ANY_PORT = "127.0.0.1:0"


class Hostile:
    """One of the crowd; `act` is called every `STEP_S`, and returns how many bytes were sent."""

    def __init__(self, address):
        self.address = address
        self.socket = None
        self.open()

    def open(self):
        self.socket = socket.create_connection(self.address, harness.WAIT_S)
        self.socket.setblocking(False)

    def send(self, data, flags=0):
        try:
            return self.socket.send(data, flags)
        except BlockingIOError:
            return 0
        except OSError:
            # It was ended, which is fair.
            self.socket.close()
            self.open()
            return 0

    def drop(self, count):
        try:
            self.socket.recv(count)
        except OSError:
            pass


class Slow(Hostile):
    def act(self):
        self.drop(4)
        return self.send(LARGE)


class NeverReads(Hostile):
    def act(self):
        return self.send(LARGE)


class Floods(Hostile):
    def act(self):
        self.drop(1 << 20)
        return self.send(CHUNK)


class Dribbles(Hostile):
    def act(self):
        self.drop(1)
        return self.send(b"x")


class Urgent(Hostile):
    def act(self):
        self.drop(64)
        return self.send(b"!", socket.MSG_OOB)


class HalfCloses(Hostile):
    def open(self):
        super().open()
        self.socket.send(b"bye")
        self.socket.shutdown(socket.SHUT_WR)

    def act(self):
        return 0


class Resets(Hostile):
    def act(self):
        sent = self.send(CHUNK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.open()
        return sent


KINDS = (Slow, NeverReads, Floods, Dribbles, Urgent, HalfCloses, Resets)


def careless_context():
    """Whoever attacks does not ask for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


HELLO = hello_of(careless_context())


class DribblesHello(Hostile):
    """Begins another handshake in the midst of the last one, which ends that."""

    sent = 0

    def act(self):
        self.sent += 1
        return self.send(HELLO[self.sent % len(HELLO) :][:1])


class StallsHello(Hostile):
    def open(self):
        super().open()
        self.socket.send(HELLO[: len(HELLO) // 2])

    def act(self):
        return self.send(b"")


class SendsNoHello(Hostile):
    def act(self):
        return self.send(CHUNK)


class BreaksOff(Hostile):
    """Lets the server compute keys and sign, and then resets."""

    steps = 0

    def act(self):
        self.steps += 1
        if self.steps % HELLO_STEPS:
            return 0
        sent = self.send(HELLO)
        self.socket.settimeout(harness.WAIT_S)
        with contextlib.suppress(OSError):
            self.socket.recv(1)  # The server has answered.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.open()
        return sent


class Established(Hostile):
    def open(self):
        plain = socket.create_connection(self.address, harness.WAIT_S)
        self.socket = careless_context().wrap_socket(plain)
        self.socket.setblocking(False)

    def send(self, data, flags=0):
        try:
            return self.socket.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError:
            self.socket.close()
            self.open()
            return 0


class NeverReadsRecords(Established):
    def act(self):
        return self.send(LARGE)


class DribblesRecords(Established):
    def act(self):
        self.drop(1)
        return self.send(b"x")


TLS_KINDS = (DribblesHello, StallsHello, SendsNoHello, BreaksOff, NeverReadsRecords, DribblesRecords)


def crowd(address, kinds, count, begun, stop, sent):
    """The body of the crowd's process."""
    clients = [kinds[number % len(kinds)](address) for number in range(count)]
    begun.set()
    while not stop.is_set():
        next_at = time.monotonic() + STEP_S
        sent.value += sum(client.act() for client in clients)
        time.sleep(max(0.0, next_at - time.monotonic()))
    for client in clients:
        client.socket.close()


def percentile_ms(connect_one, seconds):
    """The 99th percentile of what honest clients wait for an echo, in milliseconds, and how many echoes that were."""
    waits = []
    clients = [connect_one() for _ in range(HONEST)]
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for client in clients:
                begun = time.perf_counter()
                client.sendall(MESSAGE)
                require(receive(client, len(MESSAGE)) == MESSAGE, "another echo")
                waits.append(time.perf_counter() - begun)
            time.sleep(0.002)
    finally:
        for client in clients:
            client.close()
    return statistics.quantiles(waits, n=100)[98] * 1000, len(waits)


def memory(server):
    with open(f"/proc/{server.pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss_Anon:"))


def beside(argv, kinds, connect_to, count, bounds):
    seconds, most_ms, most_bytes = bounds
    with Server(argv, descriptors_max=DESCRIPTORS, on_line=lambda line: b" is gone: " in line or b" has Some(" in line) as server:
        connect_one = functools.partial(connect_to, server.address)
        alone_ms, _ = percentile_ms(connect_one, 2.0)
        before = memory(server)
        processes = multiprocessing.get_context("spawn")
        begun, stop, sent = processes.Event(), processes.Event(), processes.Value("Q", 0)
        body = (server.address, kinds, count, begun, stop, sent)
        hostile = processes.Process(target=crowd, args=body, daemon=True)
        hostile.start()
        try:
            require(begun.wait(harness.WAIT_S * 3), "the crowd is not there")
            beside_ms, echoes = percentile_ms(connect_one, seconds)
            peak = memory(server) - before
            require(hostile.is_alive(), "the crowd has given up")
        finally:
            stop.set()
            hostile.join(harness.WAIT_S)
            if hostile.is_alive():
                hostile.kill()
        server.wait_until(lambda: server.descriptors() == server.descriptors_at_start, "all descriptors are closed")
        server.require_quiet()
        require(sent.value > count * 1000, f"the crowd has sent {sent.value} bytes")
        found = (f"{beside_ms:.2f} ms for 99 of 100, {alone_ms:.2f} without them, {echoes} echoes; {peak / MIB:.1f} MiB more "
                 f"for {sent.value / MIB:.0f} MiB sent")
        require(peak <= most_bytes, f"more than {most_bytes / MIB:.0f} MiB: {found}")
        require(beside_ms <= max(most_ms, 2 * alone_ms), f"more than {most_ms} ms: {found}")
        return found


def beside_plain(count):
    return beside([example("echo_server"), ANY_PORT], KINDS, connect, count, BOUNDS[count])


def beside_tls(count):
    server = harness.built(os.path.join("examples", "tls_echo"), "cargo build --package switchboard-tls --examples")
    with tempfile.TemporaryDirectory(prefix="crowd-") as folder:
        files = make_ec_certificate(folder)
        context = ssl.create_default_context(cafile=files["cert"])

        def connect_to(address):
            return context.wrap_socket(connect(address), server_hostname="localhost")

        argv = [server, "--cert", files["cert"], "--key", files["key"], ANY_PORT]
        return beside(argv, TLS_KINDS, connect_to, count, TLS_BOUNDS[count])


def main():
    checks = Checks(LIMIT_S)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most), most))
    checks.run("300 hostile clients", beside_plain, 300)
    checks.run("120 hostile clients over TLS", beside_tls, 120)
    if sys.argv[1:] == ["--long"]:
        checks.run("1,000 hostile clients", beside_plain, 1000)
        checks.run("600 hostile clients over TLS", beside_tls, 600)
    checks.finish()


if __name__ == "__main__":
    main()
