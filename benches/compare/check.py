#!/usr/bin/env python3
"""Checks that the peers do what they are compared for: `python3 benches/compare/check.py [--no-build] [PEER…]`.

Each of them (all, if none is named), in both modes, over TCP and over Unix streams: every byte in order, the rest of it
after an end of stream, no descriptor leaked, no memory growth for a peer that does not read, and no other one delayed by it.
peers.py lists what a peer cannot do; if the peer reports that itself, the report is checked too.
"""

import argparse
import contextlib
import pathlib
import random
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import peers
from peers import LAST_LINES, MODES, OTHERS, TRANSPORTS

sys.path.insert(0, str(peers.HERE.parent.parent / "tests" / "real"))

import harness  # noqa: E402 (found by the line above)
from harness import Server, receive, require  # noqa: E402

LIMIT_S = 580
WAIT_S = harness.WAIT_S
MIB = 1024 * 1024
BULK_BYTES = 16 * MIB
LIVES = 500
CROWD = 20
ROUNDS = 20
# The echo output that a server may hold for a client that does not read: a read or two, a buffer that doubles, and
# what the collectors of Go and Python have not collected yet.
ECHO_GROWTH_MIB = 8
# The same in a fan-out, where a peer with more than 16 MiB is disconnected: that much, in a doubling buffer while it
# moves.
FANOUT_GROWTH_MIB = 56
FLOOD_BYTES = 80 * MIB
# A client's socket buffers, small so that the kernel holds little of a large transfer.
SOCKET_BYTES = 64 * 1024
# A server that takes nothing for this long counts as having stopped reading.
STALL_S = 0.5


class PeerServer(Server):
    """A running peer; `address` is a pair or a path."""

    def __init__(self, peer, mode, transport, folder):
        where = "127.0.0.1:0" if transport == "tcp" else str(pathlib.Path(folder) / f"{peer.name}-{mode}.sock")
        environment = [f"{name}={value}" for name, value in peer.environment.items()]
        super().__init__(["env", *environment, *peer.command(mode, where)])

    def _listening_address(self, printed):
        address = self.wait_for_line(rb"listening on \S+").split()[-1].decode()
        if "/" in address:
            return address
        host, port = address.rsplit(":", 1)
        return host, int(port)

    def connect(self, buffer_bytes=None):
        is_unix = isinstance(self.address, str)
        client = socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET)
        if buffer_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        client.settimeout(WAIT_S)
        client.connect(self.address)
        if not is_unix:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def memory_mib(self):
        with open(f"/proc/{self.pid}/statm", encoding="utf-8") as file:
            return int(file.read().split()[1]) * 4096 / MIB

    def require_all_closed(self):
        self.wait_until(lambda: self.descriptors() <= self.descriptors_before, "no descriptor of a client left")

    def settle(self, greeting):
        """Connects and disconnects one client: what a runtime opens for the first one is not counted as a leak."""
        with self.connect() as client:
            require(harness.echoes(client, greeting, WAIT_S), "not an echo")
            self.most = self.descriptors()
        self.descriptors_before = self.most - 1
        self.require_all_closed()
        self.descriptors_before = self.descriptors()


def in_background(call):
    """Runs `call` in a thread, and returns a function that waits for its result or its exception."""
    outcome = []

    def run():
        try:
            outcome.append((call(), None))
        except Exception as error:  # Raised again in the waiting thread.
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def finish():
        thread.join(LIMIT_S)
        require(outcome, "a client does not come to its end")
        result, error = outcome[0]
        if error:
            raise error
        return result

    return finish


def received_to_end(client, piece_bytes=256 * 1024):
    """Reads to the end of the stream."""
    received = bytearray()
    while piece := client.recv(piece_bytes):
        received += piece
    return bytes(received)


# ------------------------------------------------------------------------------------------------------ echo


def echo_of_many(server):
    """Messages of many sizes on many connections, all in flight at once."""
    dice = random.Random(1)
    with contextlib.ExitStack() as sockets:
        clients = [sockets.enter_context(server.connect()) for _ in range(CROWD)]
        for _ in range(ROUNDS):
            messages = [dice.randbytes(dice.choice((1, 64, 1000, 20_000))) for _ in clients]
            for client, message in zip(clients, messages):
                client.sendall(message)
            for client, message in zip(clients, messages):
                require(receive(client, len(message)) == message, "not an echo")
    server.require_all_closed()


def echo_after_the_end(server):
    """A peer that sends and ends its stream at once gets everything back, and then the end."""
    for size in (1, 64, 65_536, 65_537, 1_000_000):
        message = random.Random(size).randbytes(size)
        with server.connect() as client:

            def send(client=client, message=message):
                client.sendall(message)
                client.shutdown(socket.SHUT_WR)

            sent = in_background(send)
            require(received_to_end(client) == message, f"{size} bytes did not come back before the end")
            sent()
    server.require_all_closed()


def echo_to_a_slow_reader(server):
    """A large transfer comes back complete although its reader starts late, and the server's memory does not grow with it."""
    data = random.Random(2).randbytes(BULK_BYTES)
    before = server.memory_mib()
    with server.connect(SOCKET_BYTES) as client:
        position = send_until_stalled(client, data)
        require(position < len(data), "the server never stopped reading")

        def send():
            client.sendall(memoryview(data)[position:])
            client.shutdown(socket.SHUT_WR)

        sent = in_background(send)
        require(received_to_end(client) == data, "not what was sent")
        sent()
    grown = server.memory_peak_mib() - before
    require(grown <= ECHO_GROWTH_MIB, f"its memory grew by {grown:.1f} MiB")
    server.require_all_closed()
    return f"{grown:.1f} MiB more"


def send_until_stalled(client, data):
    """Sends until the server takes no more, and returns how much it took."""
    position = 0
    client.setblocking(False)
    while position < len(data) and select.select([], [client], [], STALL_S)[1]:
        with contextlib.suppress(BlockingIOError):
            position += client.send(memoryview(data)[position : position + 256 * 1024])
    client.settimeout(WAIT_S)
    return position


def echo_beside_one_who_does_not_read(server):
    with server.connect(SOCKET_BYTES) as stalled:
        stalled_at = send_until_stalled(stalled, bytes(BULK_BYTES))
        require(stalled_at < BULK_BYTES, "the server never stopped reading")
        with server.connect() as client:
            for _ in range(ROUNDS):
                require(harness.echoes(client, b"and me?"), "not an echo")
        server.require_idle(STALL_S)  # It does not spin because of that one either.
        harness.reset(stalled)
    server.require_all_closed()


def echo_lives(server):
    """Connects, sends a message and closes, many times: some by an end of stream, some by a reset."""
    for number in range(LIVES):
        client = server.connect()
        message = b"life %d" % number
        require(harness.echoes(client, message), "not an echo")
        if number % 5 == 0 and not isinstance(server.address, str):
            harness.reset(client)
        else:
            client.close()
    server.require_all_closed()


# --------------------------------------------------------------------------------------------------- fan-out


def fanout_to_all(server):
    """Every member gets each member's lines once, complete and in order; some are sent in pieces."""
    with contextlib.ExitStack() as sockets:
        members = join(server, sockets, CROWD)
        got = [in_background(lambda member=member: receive_lines(member, CROWD * ROUNDS)) for member in members]
        for number in range(ROUNDS):
            for at, member in enumerate(members):
                line = b"member %d says %d %s\n" % (at, number, b"x" * (at * 37 % 101))
                cut = (number * 7 + at) % len(line)
                for piece in (line[:cut], line[cut:]) if number % 2 else (line,):
                    member.sendall(piece)
        for finish in got:
            require_each_once(finish())
    server.require_all_closed()


def join(server, sockets, count):
    """Connects this many members. A peer that gets its own line back is a member; all others that get it already were."""
    members = []
    for _ in range(count):
        member = sockets.enter_context(server.connect())
        member.sendall(b"here\n")
        members.append(member)
        for told in members:
            require(receive(told, 5) == b"here\n", "not told who is there")
    return members


def receive_lines(client, count):
    received = b""
    lines = []
    while len(lines) < count:
        piece = client.recv(256 * 1024)
        require(piece, "the stream has ended")
        *whole, received = (received + piece).split(b"\n")
        lines += whole
    require(not received, "more than was said")
    return lines


def require_each_once(lines):
    heard = {}
    for line in lines:
        words = line.split(b" ")
        at, number = int(words[1]), int(words[3])
        require(number == heard.get(at, -1) + 1, "a line is missing, or came twice")
        require(words[4:] == [b"x" * (at * 37 % 101)], "not the line that was said")
        heard[at] = number
    require(len(heard) == CROWD, "somebody was not heard")


def fanout_after_the_end(server):
    """A peer that sends lines and ends its stream gets them, and then the end; the others get only whole lines."""
    with server.connect() as other:
        other.sendall(b"here\n")
        require(receive(other, 5) == b"here\n", "not told who is there")
        for number in range(ROUNDS):
            with server.connect() as member:
                lines = b"first of %d\nlast of %d\n" % (number, number)
                member.sendall(lines + b"half a line")
                member.shutdown(socket.SHUT_WR)
                require(received_to_end(member) == lines, "not his own lines before the end")
                require(receive(other, len(lines)) == lines, "not told what he said")
    server.require_all_closed()


def fanout_beside_one_who_does_not_read(server):
    """One member never reads: the others get everything, and it does not fill the memory."""
    before = server.memory_mib()
    lines = b"".join(b"%0999d\n" % number for number in range(1000))
    with contextlib.ExitStack() as sockets:
        members = join(server, sockets, 2)
        stalled = sockets.enter_context(server.connect(SOCKET_BYTES))
        stalled.sendall(b"here\n")
        for member in members:
            require(receive(member, 5) == b"here\n", "not told who is there")
        talker, listener = members
        for _ in range(FLOOD_BYTES // len(lines)):
            sent = in_background(lambda: talker.sendall(lines))
            heard = in_background(lambda: receive(listener, len(lines)))
            require(receive(talker, len(lines)) == lines and heard() == lines, "not what was said")
            sent()
        grown = server.memory_peak_mib() - before
        require(grown <= FANOUT_GROWTH_MIB, f"its memory grew by {grown:.1f} MiB")
    server.require_all_closed()
    return f"{grown:.1f} MiB more"


def fanout_lives(server):
    for number in range(LIVES):
        with server.connect() as member:
            line = b"life %d\n" % number
            require(harness.echoes(member, line), "not his own line")
    server.require_all_closed()


# -------------------------------------------------------------------------------------------------- running

CHECKS = {  # By mode; each with the ability that it requires of a peer.
    "echo": {
        "every byte, in order": (echo_of_many, None),
        "all of it after the end of the stream": (echo_after_the_end, None),
        "16 MiB to a slow reader": (echo_to_a_slow_reader, None),
        "others are served beside one who does not read": (echo_beside_one_who_does_not_read, OTHERS),
        "500 connections leave nothing": (echo_lives, None),
    },
    "fanout": {
        "every line to every member, once": (fanout_to_all, None),
        "the last lines before the end of the stream": (fanout_after_the_end, LAST_LINES),
        "bounded beside one who does not read": (fanout_beside_one_who_does_not_read, OTHERS),
        "500 members leave nothing": (fanout_lives, None),
    },
}


def refuses(peer, mode, transport, folder):
    """A peer reports what it cannot do: exit status 2, and one line on stderr."""
    address = "127.0.0.1:0" if transport == "tcp" else str(pathlib.Path(folder) / "refused.sock")
    process = subprocess.run(peer.command(mode, address), capture_output=True, text=True, timeout=WAIT_S, check=False)
    require(process.returncode == 2, f"exit status {process.returncode}")
    require(len(process.stderr.splitlines()) == 1 and not process.stdout, f"it says {process.stderr!r}")
    return process.stderr.strip()


def check(checks, peer, folder):
    if not shutil.which(peer.argv[0]):
        return checks.run(peer.name, require, False, f"{peer.argv[0]} is missing: it is not built")
    for transport in TRANSPORTS:
        for mode in MODES:
            name = f"{peer.name}, {mode} over {transport}"
            if not peer.can(mode, transport):
                checks.run(f"{name}: says that it cannot", refuses, peer, mode, transport, folder)
                continue
            for what, (function, ability) in CHECKS[mode].items():
                if ability is not None and ability in peer.cannot:
                    print(f"known: {name}: not {what}", flush=True)
                    continue
                checks.run(f"{name}: {what}", in_a_server_of_its_own, function, peer, mode, transport, folder)


def in_a_server_of_its_own(function, peer, mode, transport, folder):
    """Runs a check against a new server, whose peak memory is then due to that check alone."""
    with PeerServer(peer, mode, transport, folder) as server:
        server.settle(b"hello\n")
        found = function(server)
        require(server.alive(), f"it has ended: {server.process.returncode}{server.tail()}")
        code = server.end()
        require(code in (0, -15), f"SIGTERM ends it with {code}")
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(peers.PEERS)}; all if none is given")
    parser.add_argument("--no-build", action="store_true", help="they are built already")
    arguments = parser.parse_args()
    chosen = peers.chosen(arguments.peers)
    if not arguments.no_build:
        peers.build(chosen)
    start = time.monotonic()
    checks = harness.Checks(LIMIT_S)
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        for peer in chosen:
            check(checks, peer, folder)
    print(f"{time.monotonic() - start:.0f} s")
    checks.finish()


if __name__ == "__main__":
    main()
