#!/usr/bin/env python3
"""Real peers: netcat, socat, Python's sockets and asyncio (and Twisted) against the examples, in both directions.

Their clients talk to our servers, and our clients to their servers; every byte is compared.  `--twisted` does the same
with Twisted, and needs it installed (in a virtual environment).  A tool that is missing is a failure.  The peers
themselves are in `standard_peers.py` and `twisted_peer.py`.
"""

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading

import harness
from harness import WAIT_S, Checks, Server, require
from standard_peers import PEERS, at, netcat_server, until

LIMIT_S = 60

BYTES = bytes(range(256)) + random.Random(1).randbytes(1 << 20)
# The longest that netcat takes in one is 16 KiB.
DATAGRAMS = [b"\0", b"two\n", random.Random(2).randbytes(1472), random.Random(3).randbytes(9000)]
# As Unix datagrams; netcat's buffer is the shortest.
LINES = [b"one\n", b"two \x1b[2J\n", b"x" * 9000 + b"\n"]
TYPED = b"first line\r\nsecond \x1b[2J line\nrest"


# --------------------------------------------------------------------------------------------- their clients, ours serve


def is_echoed(client, server, data=BYTES):
    back = client(server, data)
    require(back == data, f"{len(back)} of {len(data)} bytes came back" + ("" if len(back) != len(data) else ", others"))


def echoes_tcp(client):
    with Server([harness.example("echo_server"), "127.0.0.1:0"]) as server:
        is_echoed(client, server.address)
        is_echoed(client, server.address, b"")
        require(server.end() == 0, "another exit code than 0")


@contextlib.contextmanager
def unix_echo(name):
    server = harness.start([harness.example("unix_echo"), name], stdout=subprocess.PIPE)
    try:
        require(server.stdout.readline() == b"listening on unix:%s\n" % name.encode(), "it does not listen")
        yield name
    finally:
        harness.end(server)
        server.stdout.close()


@contextlib.contextmanager
def unix_names():
    """Returns a path and an abstract name."""
    with tempfile.TemporaryDirectory() as folder:
        yield os.path.join(folder, "peers.sock"), f"@switchboard-peers-{os.getpid()}"


def echoes_unix(client):
    with unix_names() as names:
        for name in names:
            with unix_echo(name) as server:
                is_echoed(client, server)


def is_collected(sender):
    """Lines sent as Unix datagrams are each printed unchanged."""
    with unix_names() as names:
        for name in names:
            collector = harness.start([harness.example("unix_datagram"), name], stdout=subprocess.PIPE)
            try:
                require(collector.stdout.readline() == b"listening on unix:%s\n" % name.encode(), "it does not listen")
                with sender(name) as send:
                    for line in LINES:
                        send(line)
                        printed = collector.stdout.readline()
                        wanted = b": " + line.replace(b"\x1b", b"\\x1b")
                        require(printed.startswith(b"unix:") and printed.endswith(wanted), f"{name}: {printed[:99]!r}")
            finally:
                harness.end(collector)
                collector.stdout.close()


def echoes_datagrams(client):
    with Server([harness.example("udp_echo"), "127.0.0.1:0"]) as server:
        back = client(server.address, DATAGRAMS)
        require(back == DATAGRAMS, f"came back: {[len(datagram) for datagram in back]} bytes")
        require(server.end() == 0, "another exit code than 0")


def is_logged(client):
    """Exactly what a client has typed is printed, in pieces and by lines."""
    pieces = [r"first line\r\nsecond \x1b[2J line\nrest"]
    lines = ["first line", r"second \x1b[2J line", "rest (unfinished)"]
    for name, shown, reason in [("simple_logger", pieces, ""), ("line_logger", lines, ": closed by the peer")]:
        with Server([harness.example(name), "127.0.0.1:0"]) as server:
            require(client(server.address, TYPED) == b"", "it was answered")
            first = server.wait_for_line(rb"Got connection from \S+").decode()
            peer = first.split()[-1]
            server.wait_for_line(rb".* disconnected.*", "the end")
            wanted = [first, *(f"{peer}: {line}" for line in shown), f"{peer} disconnected{reason}"]
            printed = [line.decode() for line in server.lines if not line.startswith(b"listening on ")]
            require(printed == wanted, f"{name} printed {printed}, not {wanted}")


def is_relayed(client, server_of):
    """Our relay works between their client and their echo server."""
    with server_of(None, None) as (target, _), Server([harness.example("relay"), at(target), "127.0.0.1:0"]) as relay:
        is_echoed(client, relay.address)
        require(relay.end() == 0, "another exit code than 0")


# --------------------------------------------------------------------------------------------- our clients, they serve


def run(name, *arguments):
    done = subprocess.run([harness.example(name), *arguments], capture_output=True, timeout=WAIT_S, check=False)
    require(done.returncode == 0 and not done.stderr, f"{name} ended with {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode()


def is_greeted(server_of):
    with server_of(None, b"byebye") as (address, heard):
        printed = run("greeting_client", at(address))
        require(printed == "the data received is byebye\n", f"printed {printed!r}")
        until(lambda: heard() == [b"hihi"], "hihi, and nothing else")


def both_are_greeted(server_of):
    with server_of(None, b"byebye") as (address, heard):
        printed = sorted(run("two_sockets_client", at(address)).splitlines())
        require(printed == [f"sock{n}: the data received is byebye" for n in (1, 2)], f"printed {printed!r}")
        until(lambda: sorted(heard()) == [b"client send use sock2", b"hihi I am client"], "both answers")


def is_echoed_to_us(server_of):
    with unix_names() as names:
        for name in names:
            with server_of(name, None) as (path, _):
                message = "hello \x1b[2J" + "x" * 50_000
                printed = run("unix_echo", path, message)
                require(printed == message.replace("\x1b", "\\x1b") + "\n", f"printed {len(printed)} characters")


def hears_us(hearer):
    with unix_names() as names:
        for name in names:
            with hearer(name) as heard:
                run("unix_datagram", name, *(line.decode() for line in LINES))
                until(lambda: heard() == b"".join(LINES), f"{name}: all lines, and nothing else")


def is_heard_through_the_relay():
    """Between two netcats, without an echo: each prints what was typed into the other."""
    with netcat_server(None, b"from behind") as (target, heard):
        with Server([harness.example("relay"), at(target), "127.0.0.1:0"]) as relay:
            answers = []
            thread = threading.Thread(target=lambda: answers.extend(heard()), daemon=True)
            thread.start()
            printed = PEERS["streams"]["nc"](relay.address, BYTES)
            thread.join(WAIT_S)
            require(printed == b"from behind" and answers == [BYTES], f"{printed!r}, {list(map(len, answers))} bytes")


def netcat_answers_over_unix():
    with unix_names() as names:
        for name in names:
            with netcat_server(name, b"there") as (path, heard):
                # It shuts down writing when its input ends, so that our client, which prints at the end, can exit.
                answers = []
                thread = threading.Thread(target=lambda: answers.extend(heard()), daemon=True)
                thread.start()
                printed = run("unix_echo", path, "who is there?")
                thread.join(WAIT_S)
                require((printed, answers) == ("there\n", [b"who is there?"]), f"{name}: {printed!r}, {answers}")


def is_answered(server_of):
    """Sends three questions, and each is echoed; those sent too early are reported as refused, and sent again."""
    with server_of() as address:
        client = subprocess.run(
            [harness.example("udp_client"), at(address)], capture_output=True, timeout=WAIT_S, check=False
        )
        require(client.returncode == 0 and not client.stderr, f"{client.returncode}: {client.stderr.decode()}")
        lines = client.stdout.decode().splitlines()
        answered = [line for line in lines if "refused" not in line]
        asked = len(lines) - len(answered)
        wanted = [f"{at(address)} answers: question {asked + number}" for number in (1, 2, 3)]
        require(answered == wanted, f"printed {lines}")


# --------------------------------------------------------------------------------------------------------- all of them


def check_all(checks, streams, datagrams, servers, datagram_servers, senders, hearers):
    for name, client in streams.items():
        checks.run(f"{name} against echo_server", echoes_tcp, client)
        checks.run(f"{name} against unix_echo", echoes_unix, client)
        checks.run(f"{name} against the loggers", is_logged, client)
    for name, client in datagrams.items():
        checks.run(f"{name} against udp_echo", echoes_datagrams, client)
    for name, server_of in servers.items():
        checks.run(f"greeting_client against {name}", is_greeted, server_of)
        checks.run(f"two_sockets_client against {name}", both_are_greeted, server_of)
        checks.run(f"unix_echo's client against {name}", is_echoed_to_us, server_of)
        for peer, client in streams.items():
            checks.run(f"relay between {peer} and {name}", is_relayed, client, server_of)
    for name, server_of in datagram_servers.items():
        checks.run(f"udp_client against {name}", is_answered, server_of)
    for name, sender in senders.items():
        checks.run(f"{name} against unix_datagram", is_collected, sender)
    for name, hearer in hearers.items():
        checks.run(f"unix_datagram's sender against {name}", hears_us, hearer)


def main():
    checks = Checks(LIMIT_S)
    if sys.argv[1:] == ["--twisted"]:
        import twisted_peer  # Twisted is needed only here.

        check_all(checks, **twisted_peer.PEERS)
    else:
        check_all(checks, **PEERS)
        # Its server takes one client, and does not echo.
        checks.run("greeting_client against nc", is_greeted, netcat_server)
        checks.run("relay between nc and nc", is_heard_through_the_relay)
        checks.run("unix_echo's client against nc", netcat_answers_over_unix)
    checks.finish()


if __name__ == "__main__":
    main()
