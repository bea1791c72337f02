#!/usr/bin/env python3
"""HAProxy in front of the echo server that reads PROXY headers: both versions, IPv4, IPv6 and Unix clients, an address
that comes through two proxies, checksums, health checks, and peers that are not a proxy.  Also sends what HAProxy
itself never does.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

import harness
from harness import WAIT_S, Checks, Server, connect, echoes, receive, require

LIMIT_S = 150
HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"
LARGE = bytes(range(256)) * 4096
DEADLINE_S = 5  # The server's own, for a header.

V4, V6, UNIX = "v4", "v6", "unix"
VERSIONS = {"V1": "send-proxy", "V2": "send-proxy-v2", "V2 ": "send-proxy-v2 proxy-v2-options crc32c,unique-id"}


def has_ipv6():
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


class HaProxy:
    """HAProxy in the foreground, on listening sockets that it inherits: `listeners` are (name, socket, lines)."""

    def __init__(self, listeners):
        self._folder = tempfile.TemporaryDirectory(prefix="haproxy-")
        self.control = os.path.join(self._folder.name, "control")
        config = os.path.join(self._folder.name, "config")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"global\n  stats socket {self.control} level admin\n  nbthread 1\n")
            file.write("defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n")
            file.write("  unique-id-format id-%pid-%rt\n")
            for name, listener, bind, lines in listeners:
                file.write(f"listen {name}\n  bind fd@{listener.fileno()} {bind}\n")
                file.writelines(f"  {line}\n" for line in lines)
        descriptors = [listener.fileno() for _, listener, *_ in listeners]
        self._log = open(os.path.join(self._folder.name, "log"), "w+b")
        argv = [HAPROXY, "-db", "-f", config]
        self.process = harness.start(argv, pass_fds=descriptors, stdout=self._log, stderr=subprocess.STDOUT)

    def __enter__(self):
        self.wait_until(lambda: os.path.exists(self.control), "its control socket")
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            harness.end(self.process, signal.SIGTERM)
        self._log.close()
        self._folder.cleanup()

    def wait_until(self, condition, what):
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                raise harness.Failed(f"HAProxy: not {what}: {self._log.read().decode(errors='replace')}")
            time.sleep(harness.POLL_S)

    def state(self, name):
        """Returns what its health checks report for the named server: its status, and that of the last check."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(WAIT_S)
            control.connect(self.control)
            control.sendall(b"show stat\n")
            rows = b"".join(iter(lambda: control.recv(65536), b"")).decode().removeprefix("# ").splitlines()
        names = rows[0].split(",")
        for row in rows[1:]:
            fields = dict(zip(names, row.split(",")))
            if (fields.get("pxname"), fields.get("svname")) == (name, "echo"):
                return fields["status"], fields["check_status"]
        raise harness.Failed(f"HAProxy has no server {name}")


def listening(kind, folder):
    """Returns a socket for HAProxy to listen on, and the address for clients."""
    if kind == UNIX:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(folder, f"front-{len(os.listdir(folder))}"))
        listener.listen()
    elif kind == V6:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    else:
        listener = socket.create_server(("127.0.0.1", 0))
    return listener


def client_of(listener):
    client = socket.socket(listener.family)
    client.settimeout(WAIT_S)
    client.connect(listener.getsockname())
    return client


def shown(name):
    """Formats a Python address as the server prints it."""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_for_haproxy(server):
    host, port = server.address
    return f"{host.strip('[]')}:{port}"


def line(client):
    """Reads up to the end of a line, and nothing beyond it."""
    read = bytearray()
    while not read.endswith(b"\n"):
        piece = client.recv(1)
        require(piece, f"ended after {bytes(read)!r}")
        read += piece
    return bytes(read).rstrip(b"\r\n").decode()


def is_known(server, version, kind, folder):
    """A client through HAProxy is greeted with its own address; its data is echoed; its end is passed on."""
    front = listening(kind, folder)
    lines = [f"server echo {address_for_haproxy(server)} {VERSIONS[version]}"]
    with front, HaProxy([("front", front, "", lines)]), client_of(front) as client:
        greeting = line(client)
        if kind == UNIX:
            # It has no address to report, or says that the address is unknown.
            require(re.fullmatch(r"hello (unix:\(unnamed\)|(127\.0\.0\.1|\[::1\]):\d+)", greeting), f"{greeting!r}")
        else:
            own, other = shown(client.getsockname()), shown(client.getpeername())
            require(greeting == f"hello {own}", f"{greeting!r} in place of {own}")
            server.wait_for_line(re.escape(f"{version.strip()}: {own} to {other} through ").encode() + rb"\S+")
        require(echoes(client, b"hello"), "no echo")
        client.sendall(LARGE)
        require(receive(client, len(LARGE)) == LARGE, "a large echo differs")
        client.shutdown(socket.SHUT_WR)
        require(client.recv(1) == b"", "no end")
        if kind != UNIX:
            server.wait_for_text(f"{own} is gone: closed by the peer")


def is_known_through_two(server, version):
    """HAProxy passes on the address of a client behind another proxy, in a header of its own."""
    front = listening(V4, "")
    lines = [f"server echo {address_for_haproxy(server)} {VERSIONS[version]}"]
    with front, HaProxy([("front", front, "accept-proxy", lines)]):
        for client_is, at in [("192.0.2.77 198.51.100.1 1 65535", "192.0.2.77:1 to 198.51.100.1:65535"),
                              ("2001:db8::7 2001:db8::8 65535 1", "[2001:db8::7]:65535 to [2001:db8::8]:1")]:
            with client_of(front) as client:
                family = "TCP6" if ":" in client_is else "TCP4"
                client.sendall(f"PROXY {family} {client_is}\r\nat once".encode())
                require(line(client) == f"hello {at.split()[0]}", "not greeted by its name")
                require(receive(client, 7) == b"at once", "what came at once is not echoed")
                server.wait_for_line(re.escape(f"{version.strip()}: {at} through ").encode() + rb"\S+")


def is_healthy(server, version):
    """HAProxy's own health checks expect a greeting, which the server sends only once it has read their header."""
    front = listening(V4, "")
    lines = ["option tcp-check", "tcp-check expect rstring ^hello", "server echo "
             f"{address_for_haproxy(server)} {VERSIONS[version]} check inter 100ms check-send-proxy"]
    with front, HaProxy([("front", front, "", lines)]) as haproxy:
        wanted = rb"V2: the proxy 127\.0\.0\.1:\d+ itself" if version == "V2" else rb"V1: .*"
        before = server.count(wanted)
        server.wait(lambda: server.count(wanted) >= before + 5, "five health checks")
        haproxy.wait_until(lambda: haproxy.state("front") == ("UP", "L7OK"), "its server is up by its checks")
        with client_of(front) as client:
            require(line(client) == f"hello {shown(client.getsockname())}", "no client beside the checks")


def is_up_by_connecting(server):
    """A check that only connects and closes is not an error, and leaves nothing behind."""
    front = listening(V4, "")
    lines = [f"server echo {address_for_haproxy(server)} send-proxy-v2 check inter 50ms no-check-send-proxy"]
    with front, HaProxy([("front", front, "", lines)]) as haproxy:
        haproxy.wait_until(lambda: haproxy.state("front") == ("UP", "L4OK"), "its server is up by connecting")


def is_refused():
    """A peer that is not one of the proxies gets nothing, whatever it sends."""
    with Server([harness.example("proxy_echo"), "--trust=192.0.2.1", "127.0.0.1:0"]) as server:
        with connect(server.address) as client, contextlib.suppress(ConnectionError):
            client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
            require(client.recv(1) == b"", "something came")
        require(server.count(rb".*192\.0\.2\.1.*") == 0, "taken for who he says he is")
        server.require_quiet()
    with Server([harness.example("proxy_echo"), "--trust=127.0.0.1", "127.0.0.1:0"]) as server:
        with connect(server.address) as client:
            client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
            require(line(client) == "hello 192.0.2.1:1", "a proxy that is trusted is not served")


def meets_a_reset(client):
    try:
        client.recv(1)
        return False
    except ConnectionResetError:
        return True


def is_reset(server, what):
    with connect(server.address) as client:
        client.sendall(what)
        require(meets_a_reset(client), "no reset")


def deadline_holds(server):
    """Neither a silent client nor a trickling one keeps its connection beyond the deadline."""
    with connect(server.address) as silent, connect(server.address) as slow:
        start = time.monotonic()
        for byte in b"PROXY TCP4 192.":
            try:
                slow.sendall(bytes([byte]))
            except ConnectionError:
                break
            harness.left_alone(0.5)  # Too slow for the deadline.
        took = time.monotonic() - start
        require(took >= DEADLINE_S - 0.5, f"reset after {took:.1f} s")
        require(meets_a_reset(silent), "no reset of the silent one")
        require(not harness.still_connected(slow), "the slow one is still there")


def escapes(server):
    """An address that would clear the screen is printed escaped."""
    name = b"/\x1b[2J\n".ljust(108, b"\0")
    with connect(server.address) as client:
        client.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x31" + struct.pack(">H", 216) + name + bytes(108))
        require(line(client) == r"hello unix:/\x1b[2J\n", "not escaped")


def main():
    checks = Checks(LIMIT_S)
    if not os.access(HAPROXY, os.X_OK):
        raise SystemExit("haproxy is missing: apt-get install haproxy")
    kinds = [V4, V6, UNIX] if has_ipv6() else [V4, UNIX]
    with tempfile.TemporaryDirectory(prefix="proxy-") as folder:
        for at in ["127.0.0.1:0", "[::1]:0"] if V6 in kinds else ["127.0.0.1:0"]:
            with Server([harness.example("proxy_echo"), at]) as server:
                for version in VERSIONS:
                    for kind in kinds:
                        how = f"{VERSIONS[version]} to {at}"
                        checks.run(f"a client by {kind} through {how}", is_known, server, version, kind, folder)
                    checks.run(f"a client beyond two proxies, {how}", is_known_through_two, server, version)
                checks.run("idle afterwards", server.require_quiet)
    with Server([harness.example("proxy_echo"), "127.0.0.1:0"]) as server:
        for version in ("V1", "V2"):
            checks.run(f"health checks with {VERSIONS[version]}", is_healthy, server, version)
        checks.run("health checks that only connect", is_up_by_connecting, server)
        checks.run("a request without a header is reset", is_reset, server, b"GET / HTTP/1.0\r\n\r\n")
        checks.run("a header over the bound is reset by its first bytes", is_reset, server,
                   b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff")
        checks.run("a line without an end is reset", is_reset, server, b"PROXY UNKNOWN " + b"x" * 93)
        checks.run("a name is printed escaped", escapes, server)
        checks.run("the deadline", deadline_holds, server)
        checks.run("idle afterwards", server.require_quiet)
        checks.run("a clean end", lambda: require(server.end() == 0, "another exit code"))
    checks.run("who is none of the proxies", is_refused)
    if V6 not in kinds:
        checks.skip("clients and servers by IPv6", "this machine has none")
    checks.finish()


if __name__ == "__main__":
    main()
