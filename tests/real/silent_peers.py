#!/usr/bin/env python3
"""Silent peers that hold all descriptors: another client is served within the time that the example promises.

    python3 tests/real/silent_peers.py

after `cargo build --examples --all-features`.  Each server may have 80 descriptors, and 120 silent peers connect.
The examples' default times would take long, so shorter ones are set with the option that users have for it.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time

import harness
from harness import Checks, Server, connect, require

LIMIT_S = 200
ANY_PORT = "127.0.0.1:0"
DESCRIPTORS_MAX = 80
SILENT = 120
TIMEOUT_S = 1

# Peers that found no room at first have their time to be silent, too, so that there are several turns of it: two where a
# peer takes a descriptor, and five of the relay, for which it takes two.  A machine that has other work may be late.
PROMISED_S = 2 * TIMEOUT_S + 3
RELAY_PROMISED_S = 5 * TIMEOUT_S + 3


def server(name, *arguments, timeout_s=TIMEOUT_S, **options):
    """An example with few descriptors."""
    argv = [harness.example(name), *arguments, "--timeout", str(timeout_s)]
    return Server(argv, descriptors_max=DESCRIPTORS_MAX, **options)


@contextlib.contextmanager
def silent_peers(server, first_words=b"", all_held=True):
    """Connects so many that some wait; by then they hold all descriptors available to them."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connect(server.address)) for _ in range(SILENT)]
        for peer in peers:
            peer.sendall(first_words)
        if all_held:
            server.wait_until(lambda: server.descriptors() >= DESCRIPTORS_MAX, "all descriptors are held")
        yield peers


def line_of(client, wanted):
    """Reads until a line with this text has arrived."""
    received = bytearray()
    while wanted not in received:
        piece = client.recv(65536)
        require(piece, f"the end came behind {bytes(received)!r}, and not {wanted!r}")
        received += piece
    return bytes(received)


def somebody_else(server, ask, promised_s=PROMISED_S):
    """A client that connects last is served within the promised time; returns how long it took."""
    begin = time.monotonic()
    with connect(server.address) as client:
        client.settimeout(promised_s)
        ask(client)
        took_s = time.monotonic() - begin
        require(took_s < promised_s, f"served after {took_s:.1f} s only")
        return f"served after {took_s:.1f} s"


def end_of(peer, limit_s=2 * PROMISED_S):
    """Returns how its connection ends: "end" or "reset"."""
    peer.settimeout(limit_s)
    try:
        while peer.recv(65536):
            pass
        return "end"
    except ConnectionResetError:
        return "reset"


def ends_of(peers):
    return set(map(end_of, peers))


# ---------------------------------------------------------------------------------------------------------- examples


def join(client, name=b"ann"):
    line_of(client, b"Your name?")
    client.sendall(name + b"\r\n")
    line_of(client, b"Welcome, " + name)


def chat():
    with server("chat", ANY_PORT) as chat, connect(chat.address) as member:
        join(member, b"member")
        with silent_peers(chat) as peers:
            found = somebody_else(chat, join)
            line_of(member, b"* ann has left")
            require(ends_of(peers) == {"end"}, "not ended in order")
        # Members may be silent for longer.
        with harness.others_meanwhile():
            harness.left_alone(2 * TIMEOUT_S)
        require(harness.still_connected(member), "a member was disconnected for being silent")
        return found


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def get(client):
    client.sendall(REQUEST)
    line_of(client, b"200 OK")


def http_server():
    with server("http_server", ANY_PORT) as http:
        with silent_peers(http) as peers:
            found = somebody_else(http, get)
            require(ends_of(peers) == {"end"}, "not ended in order")
        # Peers with keep-alive connections that send no further request.
        with silent_peers(http, REQUEST):
            return f"{found}, and {somebody_else(http, get)}"


HEADER = b"PROXY TCP4 192.0.2.%d 192.0.2.254 5 80\r\n"


def ask_behind(client, number=1):
    client.sendall(HEADER % number + b"to and fro\n")
    line_of(client, b"hello 192.0.2.%d:5\r\nto and fro\n" % number)


def proxy_echo():
    with server("proxy_echo", ANY_PORT) as echo:
        with silent_peers(echo):
            found = somebody_else(echo, ask_behind)
        with silent_peers(echo, HEADER % 2):
            return f"{found}, and {somebody_else(echo, ask_behind)} behind headers"


def ask_service(client):
    client.sendall(b"who are you?\n")
    return int(line_of(client, b"?\n").split()[0])


def service():
    with server("service", "tcp:" + ANY_PORT) as service:
        with silent_peers(service) as peers:
            found = somebody_else(service, ask_service)
            require(ends_of(peers) == {"end"}, "not ended in order")
        with silent_peers(service, b"half a line"):
            return f"{found}, and {somebody_else(service, ask_service)} behind half lines"


def service_answers_late():
    """A peer that waits for an answer is not silent."""
    with server("service", "tcp:" + ANY_PORT, "--delay", "2500") as service, connect(service.address) as client:
        with harness.others_meanwhile():
            require(ask_service(client) == service.pid, "another process answers")


def restart_of_service(folder):
    """SIGUSR2 while silent peers hold all descriptors: a new process takes over."""
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = os.path.join(folder, "notify")
    notify.bind(name)
    notify.settimeout(harness.WAIT_S)
    argv = ["env", f"NOTIFY_SOCKET={name}", harness.example("service"), "tcp:" + ANY_PORT, "--grace", "1"]
    with notify, Server(argv, descriptors_max=DESCRIPTORS_MAX) as old, silent_peers(old):
        require(notify.recv(4096) == b"READY=1\n", "not ready")
        os.kill(old.pid, signal.SIGUSR2)
        require(b"RELOADING=1" in notify.recv(4096), "not told that it reloads")
        told = dict(line.split("=", 1) for line in notify.recv(4096).decode().splitlines())
        require("MAINPID" in told, f"told {told}")
        new = int(told["MAINPID"])
        try:
            # Peers that waited in the backlog are the new process's, which has descriptors of its own for more.
            with connect(old.address) as client:
                require(ask_service(client) == new, "the old process answers")
            require(old.process.wait(harness.WAIT_S) == 0, "another exit code than 0")
        finally:
            os.kill(new, signal.SIGKILL)


# -------------------------------------------------------------------------------------------------------------- relay


@contextlib.contextmanager
def relay(**options):
    with Server([harness.example("echo_server"), ANY_PORT]) as echo:
        with server("relay", "%s:%d" % echo.address, ANY_PORT, **options) as relay:
            yield relay


def ask_echo(client):
    client.sendall(b"to and fro\n")
    line_of(client, b"to and fro\n")


def relay_is_free_again():
    with relay() as between:
        # It reserves some descriptors, so that no client is reset for lack of a second one.
        with silent_peers(between, all_held=False) as peers:
            between.wait_until(lambda: between.descriptors() > DESCRIPTORS_MAX // 2, "pairs")
            found = somebody_else(between, ask_echo, RELAY_PROMISED_S)
            require(ends_of(peers) == {"reset"}, "an end in order, though nobody has ended")
        with silent_peers(between, b"half a line", all_held=False):
            return f"{found}, and {somebody_else(between, ask_echo, RELAY_PROMISED_S)} behind half lines"


def pair(stack):
    """Both ends of what a relay connects."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.settimeout(harness.WAIT_S)
    between = stack.enter_context(server("relay", "%s:%d" % listener.getsockname(), ANY_PORT))
    client = stack.enter_context(connect(between.address))
    return client, stack.enter_context(listener.accept()[0])


def relay_times():
    """A pair with one active direction is not idle, even if half-closed; once both are idle, both sides are reset."""
    with contextlib.ExitStack() as stack:
        there, half_there, back, half_back = [pair(stack) for _ in range(4)]
        talking = [there, half_there, back[::-1], half_back[::-1]]
        for one, other in (talking[1], talking[3]):
            other.shutdown(socket.SHUT_WR)
            require(one.recv(1) == b"", "no end is passed on")
        begin = time.monotonic()
        while time.monotonic() < begin + 2.5 * TIMEOUT_S:
            for one, other in talking:
                one.sendall(b"still here\n")
                require(other.recv(100) == b"still here\n", "another text")
            harness.left_alone(TIMEOUT_S / 5)
        for one, other in talking:
            require(end_of(other) == "reset", "the silent side sees an end in order")
        for one, other in (talking[0], talking[2]):
            require(end_of(one) == "reset", "the other side sees an end in order")


def relay_to_one_that_takes_nothing():
    """The other side is held back, however much it has sent."""
    for sender in (0, 1):
        with contextlib.ExitStack() as stack:
            ends = pair(stack)
            ends[sender].settimeout(PROMISED_S)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                while True:
                    ends[sender].send(bytes(1 << 16))
            require(end_of(ends[1 - sender]) == "reset", "an end in order behind what is a part")


def bad_numbers():
    for name, first in (("chat", []), ("http_server", []), ("proxy_echo", []), ("service", []), ("relay", ["x:1"])):
        for option in (["--timeout"], ["--timeout", "soon"], ["--per-peer=0"], ["--per-peer", "-1"]):
            argv = [harness.example(name), *first, *option]
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=harness.WAIT_S, check=False)
            flag = option[0].partition("=")[0].encode()
            wanted = (1, b"", b"Error: " + flag + b" needs a number, 1 or more\n")
            require((done.returncode, done.stdout, done.stderr) == wanted, f"{argv}: {done}")


# ----------------------------------------------------------------------------------------------------------- per peer


def per_peer(name, arguments, ask, first_words=b""):
    """Two connections of one address are served, a third one is closed, and another address is served."""
    with server(name, *arguments, "--per-peer", "2", timeout_s=100) as limited:
        clients = [connect(limited.address) for _ in range(2)]
        for client in clients:
            ask(client)
        with connect(limited.address) as third:
            third.sendall(first_words)
            require(end_of(third) in ("end", "reset"), "a third connection is kept")
        with socket.create_connection(limited.address, harness.WAIT_S, ("127.0.0.2", 0)) as other:
            ask(other)
        clients.pop().close()

        def is_served():
            with connect(limited.address) as client:
                with contextlib.suppress(OSError, harness.Failed):
                    ask(client)
                    return True

        limited.wait_until(is_served, "room for another one")
        clients.pop().close()


def relay_per_peer():
    with Server([harness.example("echo_server"), ANY_PORT]) as echo:
        per_peer("relay", ["%s:%d" % echo.address, ANY_PORT], ask_echo)


def proxy_echo_per_client():
    """The limit applies to the client that the proxy reports, not to the proxy."""
    with server("proxy_echo", ANY_PORT, "--per-peer", "2", timeout_s=100) as limited, contextlib.ExitStack() as stack:
        client = lambda: stack.enter_context(connect(limited.address))
        one, other = client(), client()
        ask_behind(one, 1)
        ask_behind(other, 1)
        third = client()
        third.sendall(HEADER % 1)
        require(end_of(third) == "reset", "a third connection is kept")
        ask_behind(client(), 2)
        one.close()
        limited.wait_for_line(rb"192\.0\.2\.1:5 is gone: .*")
        ask_behind(client(), 1)


def main():
    checks = Checks(LIMIT_S)
    checks.begin("chat, and members who are silent", chat)
    checks.begin("http_server, before and between requests", http_server)
    checks.begin("proxy_echo, before and after the header", proxy_echo)
    checks.begin("service", service)
    checks.begin("service, an answer that takes longer", service_answers_late)
    checks.begin("relay", relay_is_free_again)
    checks.run("relay, one direction used", relay_times)
    checks.run("relay, a side that takes nothing", relay_to_one_that_takes_nothing)
    with tempfile.TemporaryDirectory() as folder:
        checks.run("SIGUSR2 to service", restart_of_service, folder)
    checks.run("two of chat per peer", per_peer, "chat", [ANY_PORT], lambda client: line_of(client, b"Your name?"))
    checks.run("two of http_server per peer", per_peer, "http_server", [ANY_PORT], get)
    checks.run("two of service per peer", per_peer, "service", ["tcp:" + ANY_PORT], ask_service)
    checks.run("two of relay per peer", relay_per_peer)
    checks.run("two of proxy_echo per client", proxy_echo_per_client)
    checks.run("numbers that are none", bad_numbers)
    checks.finish()


if __name__ == "__main__":
    main()
