#!/usr/bin/env python3
"""Compares the socket servers with Python's own `socketserver`: the same clients have the same conversations with both.

    tests/real/socket_server.py             everything, with 10,000 requests handled by threads and as many by processes
    tests/real/socket_server.py --twisted   Twisted's clients against ours; needs Twisted
"""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import Checks, Server, connect, end, refused, require

LIMIT_S = 300
REQUESTS = 10_000
THANKS = b"Thank you for connecting\n"
KINDS = {"tcp": [], "udp": ["--udp"], "unix": ["--unix"], "unix-datagram": ["--unix-datagram"]}
WAYS = {"one at a time": [], "threads": ["--threads=4"], "processes": ["--processes=4"]}

# The same handlers on Python's own server, one program for each kind of socket and way of handling.
ORACLE = """
import socketserver, sys
kind, way, address = sys.argv[1:]
class Stream(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"Thank you for connecting\\n")
        for line in self.rfile:
            self.wfile.write(line)
class Datagram(socketserver.DatagramRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read())
base = {"tcp": socketserver.TCPServer, "udp": socketserver.UDPServer, "unix": socketserver.UnixStreamServer,
        "unix-datagram": socketserver.UnixDatagramServer}[kind]
mixin = {"one at a time": [], "threads": [socketserver.ThreadingMixIn], "processes": [socketserver.ForkingMixIn]}[way]
where = ("127.0.0.1", 0) if kind in ("tcp", "udp") else address
server = type("Oracle", (*mixin, base), {"max_packet_size": 65536})(where, Datagram if kind in ("udp", "unix-datagram") else Stream)
shown = "%s:%d" % server.server_address if kind in ("tcp", "udp") else "unix:" + address
print("listening on", shown, flush=True)
server.serve_forever()
"""


class Running:
    """One of the two servers, for one kind of socket, and its address."""

    def __init__(self, kind, argv):
        self.kind = kind
        self.server = Server(argv)
        self.pid = self.server.pid
        self.address = self.server.address

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self.server.__exit__(*details)


def ours(kind, way, path, *flags):
    address = "127.0.0.1:0" if kind in ("tcp", "udp") else path
    return Running(kind, [harness.example("socket_server"), *KINDS[kind], *WAYS[way], *flags, address])


def oracle(kind, way, path):
    return Running(kind, [sys.executable, "-c", ORACLE, kind, way, path])


def talk_by_stream(running, pieces):
    family = socket.AF_INET if running.kind == "tcp" else socket.AF_UNIX
    with socket.socket(family) as client:
        client.settimeout(harness.WAIT_S)
        client.connect(running.address)
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        heard = bytearray()
        while piece := client.recv(65536):
            heard += piece
        return bytes(heard)


def talk_by_datagram(running, packet, folder):
    family = socket.AF_INET if running.kind == "udp" else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(harness.WAIT_S)
        path = os.path.join(folder, "client")
        client.bind(("127.0.0.1", 0) if running.kind == "udp" else path)
        try:
            client.sendto(packet, running.address)
            return client.recv(65536)
        finally:
            if running.kind != "udp":
                os.unlink(path)


def conversation(rng):
    """Returns what a client sends, and in which pieces."""
    text = b"".join(rng.randbytes(rng.randrange(60)).replace(b"\n", b".") + b"\n" for _ in range(rng.randrange(1, 20)))
    text += rng.randbytes(rng.randrange(30)).replace(b"\n", b".")
    pieces = []
    while text:
        cut = rng.randrange(1, 200)
        pieces.append(text[:cut])
        text = text[cut:]
    return pieces


def same_as_the_oracle(kind, way):
    rng = random.Random(f"{kind} {way}")
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("ours", "oracle")]
        with ours(kind, way, paths[0]) as mine, oracle(kind, way, paths[1]) as theirs:
            for number in range(20):
                if kind in ("tcp", "unix"):
                    said = conversation(rng)
                    heard = [talk_by_stream(running, said) for running in (mine, theirs)]
                    require(heard[0] == THANKS + b"".join(said), f"ours answers {heard[0]!r} to {said!r}")
                else:
                    # An empty request first, which is answered like any other.
                    said = rng.randbytes(rng.randrange(1, 9000) if number else 0)
                    heard = [talk_by_datagram(running, said, folder) for running in (mine, theirs)]
                require(heard[0] == heard[1], f"to {said!r} ours answers {heard[0]!r} and Python's {heard[1]!r}")


def others_wait(way):
    """The maximum number of clients stay silent; one more waits, and is served when one of them leaves."""
    with ours("tcp", way, "") as running, contextlib.ExitStack() as sockets:
        served = 1 if way == "one at a time" else 4
        clients = [sockets.enter_context(connect(running.address)) for _ in range(served)]
        for client in clients:
            require(harness.receive(client, len(THANKS)) == THANKS, "not thanked")
        late = sockets.enter_context(connect(running.address))
        late.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            require(not late.recv(1), "one more than is served at once is served")
        clients[0].close()
        late.settimeout(harness.WAIT_S)
        require(harness.receive(late, len(THANKS)) == THANKS, "who waited is not served")


def refuses_and_tells():
    """An unwanted client is refused unread, and a failed request is reported after its handler has finished."""
    with Server([harness.example("socket_server"), "--echo", "--refuse=127.0.0.2", "--threads=2", "127.0.0.1:0"]) as server:
        for host, is_wanted in [("127.0.0.2", False), ("127.0.0.1", True)]:
            with socket.create_connection(server.address, harness.WAIT_S, source_address=(host, 0)) as client:
                client.sendall(b"hello\n")
                with contextlib.suppress(ConnectionResetError):
                    require(client.recv(100) == (b"hello\n" if is_wanted else b""), f"another answer to {host}")
                if is_wanted:
                    peer = "%s:%d" % client.getsockname()
                    harness.reset(client)
        server.wait_for_text(f"Done with connection from {peer}: 6 bytes")
        server.wait(lambda: server.errors, "what went wrong")
        require(re.fullmatch(f"the request from {peer} failed: .*reset.*".encode(), server.errors[0]), f"{server.errors}")
        require(server.count(rb"Got connection from 127.0.0.2.*") == 0, "who is refused is served")
    for flags in (["--processes=2"], ["--udp"]):
        done = subprocess.run([harness.example("socket_server"), "--echo", *flags], capture_output=True, timeout=harness.WAIT_S)
        require(done.returncode == 1 and b"--echo is for connections" in done.stderr, f"{done}")


def sigchld_is_ignored(kind):
    """SIGCHLD is inherited as ignored, as after `trap '' CHLD`: no child's status is kept, and complete answers need none."""
    ignoring = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ours")
        address = "127.0.0.1:0" if kind in ("tcp", "udp") else path
        argv = [harness.example("socket_server"), *KINDS[kind], "--processes=2", address]
        with Running(kind, [sys.executable, "-c", ignoring, *argv]) as running:
            for number in range(10):
                said = b"hello %d\n" % number
                if kind in ("tcp", "unix"):
                    require(talk_by_stream(running, [said]) == THANKS + said, "another answer")
                else:
                    require(talk_by_datagram(running, said, folder) == said, "another answer")
            running.server.wait_until(lambda: not children(running.pid), "the end of all children")


def children(pid):
    found = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            found.update(file.read().split())
    return found


def ask(running, count):
    for number in range(count):
        line = b"request %d\n" % number
        require(talk_by_stream(running, [line]) == THANKS + line, "another answer")


def leaves_nothing(way):
    with ours("tcp", way, "") as running:
        before = running.server.descriptors()
        failures = []

        def client():
            try:
                ask(running, REQUESTS // 4)
            except Exception as error:
                failures.append(error)

        clients = [threading.Thread(target=client) for _ in range(4)]
        began = time.monotonic()
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        took_s = time.monotonic() - began
        require(not failures, f"{len(failures)} clients failed: {failures[:1]}")
        running.server.wait_until(lambda: not children(running.pid), "the end of all children")
        running.server.wait_until(lambda: running.server.descriptors() == before, "as few descriptors as before")
        # The main thread, and four that handle requests.
        threads = harness.threads(running.pid)
        require(len(threads) <= 5, f"its threads are {threads}")
        require(end(running.server.process, signal.SIGTERM) == 0, "another exit code")
        return f"{REQUESTS} requests in {took_s:.1f} s"


def once(way):
    with ours("tcp", way, "", "--once") as running:
        ask(running, 1)
        require(running.server.process.wait(harness.WAIT_S) == 0, "another exit code")


def ends_in_order(way):
    """On SIGTERM, requests in progress are answered, and then the program exits."""
    with ours("tcp", way, "") as running, connect(running.address) as client:
        require(harness.receive(client, len(THANKS)) == THANKS, "not thanked")
        running.server.process.send_signal(signal.SIGTERM)
        running.server.wait_until(lambda: refused(running.address), "a closed listener")
        client.sendall(b"still here\n")
        client.shutdown(socket.SHUT_WR)
        require(harness.receive(client, 11) == b"still here\n", "what was in progress is not answered")
        require(client.recv(1) == b"", "no orderly end")
        require(running.server.process.wait(harness.WAIT_S) == 0, "another exit code")


def no_thread_left(way):
    """New clients are reset, or wait for a busy thread; the server keeps running, and logs the reason."""
    argv = ["env", "RUST_LOG=warn", harness.example("socket_server"), *WAYS[way], "127.0.0.1:0"]
    with Running("tcp", argv) as running:
        with harness.without_threads(running.pid):
            require_reset(running)
        told = lambda: any(b"cannot start a thread" in line for line in running.server.errors)  # noqa: E731
        running.server.wait(told, "why a client was reset")
        require(talk_by_stream(running, [b"again\n"]) == THANKS + b"again\n", "it does not serve any more")
        if way == "processes":
            # A thread exists by now, and no process can be started.
            with harness.without_threads(running.pid):
                require_reset(running)
        else:
            with connect(running.address) as first:
                require(harness.receive(first, len(THANKS)) == THANKS, "the first one is not served")
                with harness.without_threads(running.pid), connect(running.address) as second:
                    running.server.wait(lambda: any(b"fewer threads" in line for line in running.server.errors), "a warning")
                    first.shutdown(socket.SHUT_WR)
                    require(harness.receive(second, len(THANKS)) == THANKS, "the second one is not served")
        require(talk_by_stream(running, [b"again\n"]) == THANKS + b"again\n", "it does not serve any more")


def require_reset(running):
    try:
        with connect(running.address) as client:
            got = client.recv(100)
    except ConnectionResetError:
        return
    require(False, f"no reset, but {got!r}")
def ends_beside_an_idle_client(way, signals):
    """A silent client cannot keep the server alive: the first signal leaves it a grace period, the second none."""
    with ours("tcp", way, "") as running, connect(running.address) as client:
        require(harness.receive(client, len(THANKS)) == THANKS, "not thanked")
        began = time.monotonic()
        running.server.process.send_signal(signal.SIGINT)
        running.server.wait_until(lambda: refused(running.address), "a closed listener")
        if signals > 1:
            running.server.process.send_signal(signal.SIGINT)
        with harness.others_meanwhile():
            require(running.server.process.wait(harness.WAIT_S) == 0, "another exit code")
        took_s = time.monotonic() - began
        # The grace period is 5 s: one signal waits for it, two do not.
        require(signals > 1 or took_s >= 4.9, f"ended after {took_s:.1f} s, before the grace")
        require(signals == 1 or took_s < 4, f"ended after {took_s:.1f} s")
        return f"{took_s:.1f} s"


def interrupt_key(way):
    """A terminal sends its interrupt to the whole process group, but only the server acts on it, and lets requests finish."""
    with Running("tcp", ["setsid", harness.example("socket_server"), *WAYS[way], "127.0.0.1:0"]) as running:
        with connect(running.address) as client:
            require(harness.receive(client, len(THANKS)) == THANKS, "not thanked")
            os.killpg(running.pid, signal.SIGINT)
            running.server.wait_until(lambda: refused(running.address), "a closed listener")
            client.sendall(b"still here\n")
            client.shutdown(socket.SHUT_WR)
            require(harness.receive(client, 11) == b"still here\n", "what was under way is not answered")
            require(client.recv(1) == b"", "no orderly end")
            require(running.server.process.wait(harness.WAIT_S) == 0, "another exit code")


TWISTED = """
import sys
from twisted.internet import reactor, protocol
from twisted.protocols.basic import LineReceiver
left = clients = 40
class Client(LineReceiver):
    delimiter = b"\\n"
    thanked = False
    def lineReceived(self, line):
        if not self.thanked:
            assert line == b"Thank you for connecting", line
            self.thanked = True
            self.sendLine(b"hello from Twisted")
        else:
            assert line == b"hello from Twisted", line
            self.heard = True
            self.transport.loseWriteConnection()
    def connectionLost(self, reason):
        global left
        left -= self.heard
        if not left:
            reactor.stop()
class Clients(protocol.ClientFactory):
    protocol = Client
for _ in range(clients):
    reactor.connectTCP("127.0.0.1", int(sys.argv[1]), Clients())
reactor.callLater(20, lambda: sys.exit("not answered"))
reactor.run()
sys.exit(1 if left else 0)
"""


def twisted_clients(way):
    with ours("tcp", way, "") as running:
        client = subprocess.run([sys.executable, "-c", TWISTED, str(running.address[1])], timeout=60, capture_output=True)
        require(client.returncode == 0, client.stderr.decode()[-500:] or client.stdout.decode()[-500:])


def main():
    checks = Checks(LIMIT_S)
    if sys.argv[1:] == ["--twisted"]:
        for way in WAYS:
            checks.run(f"Twisted's clients, {way}", twisted_clients, way)
        checks.finish()
    for kind in KINDS:
        for way in WAYS:
            checks.run(f"as Python's: {kind}, {way}", same_as_the_oracle, kind, way)
    for kind in KINDS:
        checks.run(f"SIGCHLD is ignored: {kind}", sigchld_is_ignored, kind)
    for way in WAYS:
        checks.run(f"others wait: {way}", others_wait, way)
        checks.run(f"--once: {way}", once, way)
    checks.run("some are refused, and what goes wrong is told", refuses_and_tells)
    for way in WAYS:
        checks.begin(f"SIGINT beside an idle client: {way}", ends_beside_an_idle_client, way, 1)
        checks.run(f"SIGINT twice beside an idle client: {way}", ends_beside_an_idle_client, way, 2)
        checks.run(f"the interrupt key: {way}", interrupt_key, way)
        checks.run(f"SIGTERM: {way}", ends_in_order, way)
    for way in ("threads", "processes"):
        checks.run(f"many requests leave nothing behind: {way}", leaves_nothing, way)
        checks.run(f"no thread left: {way}", no_thread_left, way)
    checks.finish()


if __name__ == "__main__":
    main()
