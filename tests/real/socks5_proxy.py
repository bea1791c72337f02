#!/usr/bin/env python3
"""Tests the SOCKS5 proxy of `tests/outsider` with curl and raw clients: what passes, what is refused, and clients that must
not disturb it.

    python3 tests/real/socks5_proxy.py

after `cargo build --package outsider --examples`.
"""

import contextlib
import functools
import hashlib
import http.server
import os
import socket
import struct
import subprocess
import tempfile
import threading

import harness
from harness import WAIT_S, Checks, Server, connect, receive, require

LIMIT_S = 120
ANY_PORT = "127.0.0.1:0"
MEMORY_MAX_MIB = 40
BULK_BYTES = 16 << 20

SUCCEEDED, FAILED, NOT_ALLOWED, NETWORK, HOST, REFUSED, TIMED_OUT, NO_COMMAND, NO_ADDRESS = range(9)


def proxy(*options, local=True):
    command = harness.built(os.path.join("examples", "socks5_proxy"), "cargo build --package outsider --examples")
    return Server([command, ANY_PORT, *(["--allow-local"] if local else []), *options])


@contextlib.contextmanager
def listening(host="127.0.0.1", backlog=16):
    with socket.socket() as listener:
        listener.settimeout(WAIT_S)
        listener.bind((host, 0))
        listener.listen(backlog)
        yield listener


def asked(server, request, methods=b"\x00"):
    """Returns a client that has sent its request and waits for the reply."""
    client = connect(server.address)
    client.settimeout(WAIT_S)
    client.sendall(bytes([5, len(methods)]) + methods)
    require(receive(client, 2) == b"\x05\x00", "the greeting is not answered")
    client.sendall(request)
    return client


def request_for(host, port):
    """Encodes an address as a number if it is one, and otherwise as a name."""
    for kind, family in ((1, socket.AF_INET), (4, socket.AF_INET6)):
        with contextlib.suppress(OSError):
            return bytes([5, 1, 0, kind]) + socket.inet_pton(family, host) + struct.pack(">H", port)
    return bytes([5, 1, 0, 3, len(host)]) + host.encode() + struct.pack(">H", port)


def answer(client):
    """Returns the code and the address of the reply."""
    version, code, zero, kind = receive(client, 4)
    require((version, zero) == (5, 0) and kind in (1, 4), f"no answer: {(version, code, zero, kind)}")
    size = 4 if kind == 1 else 16
    rest = receive(client, size + 2)
    return code, (socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, rest[:size]), struct.unpack(">H", rest[size:])[0])


@contextlib.contextmanager
def through(server, listener):
    """Yields both ends of a connection through the proxy."""
    with asked(server, request_for(*listener.getsockname()[:2])) as client:
        code, bound = answer(client)
        require(code == SUCCEEDED, f"refused: {code}")
        target, peer = listener.accept()
        with target:
            require(peer[:2] == bound, f"reached from {peer}, and not from {bound} as it says")
            target.settimeout(WAIT_S)
            yield client, target


def send_all(sender, data):
    thread = threading.Thread(target=lambda: (sender.sendall(data), sender.shutdown(socket.SHUT_WR)), daemon=True)
    thread.start()
    return thread


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def by_curl():
    """Fetches a file by the server's name and by its address, with a password and without."""
    with tempfile.TemporaryDirectory(prefix="socks-") as folder:
        content = os.urandom(3 << 20)
        with open(os.path.join(folder, "file"), "wb") as file:
            file.write(content)
        handler = functools.partial(Quiet, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
            threading.Thread(target=web.serve_forever, daemon=True).start()
            for options, login in (((), ""), (("--user", "me:secret"), "me:secret@")):
                with proxy(*options) as server:
                    for scheme, host in (("socks5h", "localhost"), ("socks5", "127.0.0.1")):
                        command = ["curl", "--silent", "--show-error", "--max-time", "10", "--proxy",
                                   f"{scheme}://{login}{server.address[0]}:{server.address[1]}",
                                   f"http://{host}:{web.server_port}/file"]
                        done = subprocess.run(command, capture_output=True, timeout=2 * WAIT_S, check=False)
                        require(done.returncode == 0 and done.stdout == content, f"{command}: {done.stderr!r}")
                    if login:
                        wrong = [part.replace("secret", "guess") for part in command]
                        done = subprocess.run(wrong, capture_output=True, timeout=2 * WAIT_S, check=False)
                        require(done.returncode == 97 and not done.stdout, f"a wrong password: {done.returncode} {done.stderr!r}")
                        none = [part.replace("me:secret@", "") for part in command]
                        require(subprocess.run(none, capture_output=True, timeout=2 * WAIT_S, check=False).returncode == 97, "no password")
            web.shutdown()


def both_ways():
    """Sends 16 MiB each way at once, read only later at both ends: all of it arrives, and both ends, in bounded memory."""
    data = [os.urandom(BULK_BYTES), os.urandom(BULK_BYTES)]
    with proxy() as server, listening() as listener, through(server, listener) as ends:
        senders = [send_all(end, bytes_) for end, bytes_ in zip(ends, data)]
        got = [hashlib.sha256(), hashlib.sha256()]
        for end, digest in zip(reversed(ends), got):
            while piece := end.recv(1 << 20):
                digest.update(piece)
        for sender in senders:
            sender.join(WAIT_S)
        require([digest.digest() for digest in got] == [hashlib.sha256(bytes_).digest() for bytes_ in data], "other bytes")
        require(server.memory_peak_mib() < MEMORY_MAX_MIB, f"{server.memory_peak_mib():.0f} MiB")


def said_too_early():
    """Data that a client sends before the reply is passed to the target, and so is the end after it."""
    with proxy() as server, listening() as listener:
        with asked(server, request_for(*listener.getsockname()) + b"too early") as client:
            client.shutdown(socket.SHUT_WR)
            target, _ = listener.accept()
            with target:
                target.settimeout(WAIT_S)
                require(receive(target, 9) == b"too early" and target.recv(1) == b"", "not passed on")
                target.sendall(b"and an answer")
            require(answer(client)[0] == SUCCEEDED and receive(client, 13) == b"and an answer", "no answer")
            require(client.recv(1) == b"", "no end")


def resets():
    """A reset by either side is passed to the other."""
    for one in (0, 1):
        with proxy() as server, listening() as listener, through(server, listener) as ends:
            harness.reset(ends[one])
            try:
                require(ends[1 - one].recv(1) is None, "no reset")
            except ConnectionResetError:
                pass
            server.wait_until(lambda server=server: server.descriptors() == server.descriptors_at_start, "both closed")


def one_byte_at_a_time():
    with proxy() as server, listening() as listener, connect(server.address) as client:
        client.settimeout(WAIT_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\x05\x02\x00\x02":
            client.sendall(bytes([byte]))
        require(receive(client, 2) == b"\x05\x00", "greeting")
        for byte in request_for("localhost", listener.getsockname()[1]):
            client.sendall(bytes([byte]))
        require(answer(client)[0] == SUCCEEDED, "request")


def own_addresses():
    """Returns this machine's addresses that are not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # Nothing is sent: this only asks which address would be used.
        yield probe.getsockname()[0]


def local_is_refused():
    """The proxy does not connect to ports of its own machine, however they are written."""
    with proxy(local=False) as server, listening("0.0.0.0") as listener:
        port = listener.getsockname()[1]
        hosts = ["127.0.0.1", "127.9.9.9", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "169.254.169.254", "fe80::1"]
        for host in [*hosts, *own_addresses()]:
            for number in (port, 25):
                with asked(server, request_for(host, number)) as client:
                    code = answer(client)[0]
                    require(code == NOT_ALLOWED or (code == REFUSED and number == 25), f"{host}:{number}: {code}")
                    require(client.recv(1) == b"", "no end behind a refusal")
    return f"{len(hosts)} names, and {len(list(own_addresses()))} own addresses"


def refusals():
    """Each kind of failure has its own code."""
    with listening() as listener:
        closed = listener.getsockname()[1]
    cases = {
        "nobody listens": (request_for("127.0.0.1", closed), REFUSED),
        "no such name": (request_for("nobody.invalid", 80), HOST),
        "a name that is none": (b"\x05\x01\x00\x03\x02\xff\xfe\x00\x50", HOST),
        "BIND": (b"\x05\x02" + request_for("127.0.0.1", closed)[2:], NO_COMMAND),
        "UDP": (b"\x05\x03" + request_for("127.0.0.1", closed)[2:], NO_COMMAND),
        "no such kind of address": (b"\x05\x01\x00\x09\x00\x00\x00\x00\x00\x00", NO_ADDRESS),
        "another version": (b"\x04" + request_for("127.0.0.1", closed)[1:], FAILED),
    }
    with proxy() as server:
        for what, (request, wanted) in cases.items():
            with asked(server, request) as client:
                code = answer(client)[0]
                require(code == wanted, f"{what}: {code}, and not {wanted}")
                require(client.recv(1) == b"", f"{what}: no end")
        with connect(server.address) as client:
            client.settimeout(WAIT_S)
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            require(client.recv(1) == b"", "HTTP is answered")
        with connect(server.address) as client:
            client.settimeout(WAIT_S)
            client.sendall(b"\x05\x01\x02")
            require(receive(client, 2) == b"\x05\xff" and client.recv(1) == b"", "a method that is not offered")


def floods_while_it_connects():
    """The target does not answer and the client keeps sending: the proxy stops reading from it, and serves others."""
    with proxy() as server, listening(backlog=0) as listener, contextlib.ExitStack() as stack:
        address = listener.getsockname()
        for _ in range(8):  # The backlog is full behind these, and the next SYN gets no answer.
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        client = stack.enter_context(asked(server, request_for(*address)))
        client.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += client.send(b"x" * 65536)
        require(sent < 64 << 20, "all of 64 MiB are taken")
        require(server.memory_peak_mib() < MEMORY_MAX_MIB, f"{server.memory_peak_mib():.0f} MiB")
        with listening() as other, through(server, other) as (one, two):
            one.sendall(b"through")
            require(receive(two, 7) == b"through", "others are not served")


def silence():
    """Clients that send nothing, half a greeting or half a request are closed after ten seconds, silent pairs after their limit."""
    with proxy("--timeout", "1") as server, listening() as listener, through(server, listener) as pair:
        waiting = [connect(server.address) for _ in range(3)]
        waiting[1].sendall(b"\x05")
        waiting[2].sendall(b"\x05\x01\x00\x05\x01\x00")
        require(receive(waiting[2], 2) == b"\x05\x00", "greeting")
        for client in (*pair, *waiting):
            client.settimeout(10 + WAIT_S)
        with harness.others_meanwhile():
            for client in (*pair, *waiting):
                with contextlib.suppress(ConnectionResetError):
                    require(client.recv(1) == b"", "not let go")
                client.close()
        server.require_quiet()


def ends_in_order():
    with proxy() as server, listening() as listener, through(server, listener) as (client, target):
        client.sendall(b"last words")
        require(receive(target, 10) == b"last words", "relay")
        client.close()
        target.close()
        require(server.end() == 0, "no clean end")


def main():
    checks = Checks(LIMIT_S)
    checks.begin("silence", silence)
    for check in (by_curl, both_ways, said_too_early, resets, one_byte_at_a_time, local_is_refused, refusals,
                  floods_while_it_connects, ends_in_order):
        checks.run(check.__name__.replace("_", " "), check)
    checks.finish()


if __name__ == "__main__":
    main()
