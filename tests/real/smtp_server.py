#!/usr/bin/env python3
"""The mail server with Python's smtplib, swaks and curl, and with peers that smuggle, flood, stall and leave.

    python3 tests/real/smtp_server.py

after `cargo build --examples --all-features`.  What is stored is compared, byte by byte, with what was sent.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile

import harness
from harness import WAIT_S, Checks, Server, connect, receive, require

LIMIT_S = 150
ANY_PORT = "127.0.0.1:0"
MEMORY_MAX_MIB = 40
DOTS = b"Subject: dots\r\n\r\n.\r\n..\r\n.a line\r\n\r\nthe end.\r\n"


@contextlib.contextmanager
def serving(*options, threads=False):
    """Runs a server that stores into a folder, and yields what it has stored."""
    with tempfile.TemporaryDirectory(prefix="mail-") as folder:
        ways = ["--threads", "4"] if threads else []
        with Server([harness.example("smtp_server"), ANY_PORT, "--maildir", folder, *ways, *options]) as server:
            yield server, lambda: [path.read_bytes() for path in sorted(pathlib.Path(folder, "new").iterdir())]


def body(stored):
    """Returns a stored message without the lines that the server prepends."""
    require(stored.startswith(b"Return-Path: <"), f"no return path: {stored[:60]!r}")
    head, _, rest = stored.partition(b"\r\n")
    received, _, rest = rest.partition(b" +0000\r\n")
    require(received.startswith(b"Received: from "), f"not received: {received!r}")
    return rest


class Peer:
    """A raw client."""

    def __init__(self, server, greet=True):
        self.socket = connect(server.address)
        self.socket.settimeout(WAIT_S)
        self.file = self.socket.makefile("rb")
        if greet:
            self.expect(b"220 ")
            self.say(b"EHLO peer", b"250")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def expect(self, code):
        while True:
            line = self.file.readline()
            require(line.startswith(code.strip()), f"{line!r} came, and not {code!r}")
            if line[3:4] == b" ":
                return line

    def say(self, line, code):
        self.socket.sendall(line + b"\r\n")
        return self.expect(code)

    def begin_message(self):
        self.say(b"MAIL FROM:<a@example.org>", b"250")
        self.say(b"RCPT TO:<b@example.org>", b"250")
        self.say(b"DATA", b"354")

    def end_of_stream(self):
        rest = self.file.read()
        require(rest == b"", f"{rest!r} came, and not the end")


def by_smtplib(threads):
    """Several messages on one connection: dots, none at all, and one that fills what is advertised."""
    long = b"\r\n".join([b"Subject: long", b""] + [b"x" * 996] * 1040) + b"\r\n"
    with serving(threads=threads) as (server, stored):
        with smtplib.SMTP(*server.address, timeout=WAIT_S) as client:
            require(client.sendmail("a@example.org", ["b@example.org", "c@example.org"], DOTS) == {}, "one is refused")
            require(client.esmtp_features.get("size") == "1048576", f"SIZE: {client.esmtp_features}")
            client.sendmail("", ["b@example.org"], long)
            require(client.mail("a@example.org")[0] == 250 and client.rset()[0] == 250, "RSET")
            with_size = client.mail("a@example.org", ["SIZE=1048577"])
            require(with_size[0] == 552, f"too large: {with_size}")
            refused = client.docmd("RCPT", "TO:<b@example.org>")
            require(refused[0] == 503, f"out of order: {refused}")
            require(client.verify("b@example.org")[0] == 252 and client.noop()[0] == 250, "VRFY, NOOP")
        first, second = stored()
        require(body(first) == DOTS and body(second) == long, "what is stored is not what was sent")
        server.wait_for_line(rb"mail from <a@example\.org> to <b@example\.org>, <c@example\.org>: \d+ bytes")


def by_swaks(threads):
    with serving(threads=threads) as (server, stored):
        host, port = server.address
        command = ["swaks", "--server", host, "--port", str(port), "--from", "a@example.org", "--to", "b@example.org,c@example.org",
                   "--body", "a\n.\nb\n", "--pipeline", "--silent", "2"]
        done = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
        require(done.returncode == 0, f"swaks: {done.stdout!r} {done.stderr!r}")
        (message,) = stored()
        require(b"\r\n\r\na\r\n.\r\nb\r\n" in message, f"stored: {message!r}")


def by_curl(threads):
    with serving(threads=threads) as (server, stored):
        host, port = server.address
        command = ["curl", "--silent", "--show-error", f"smtp://{host}:{port}/curl.example", "--mail-from", "a@example.org",
                   "--mail-rcpt", "b@example.org", "--upload-file", "-"]
        done = subprocess.run(command, input=DOTS, capture_output=True, timeout=WAIT_S, check=False)
        require(done.returncode == 0, f"curl: {done.stderr!r}")
        (message,) = stored()
        require(body(message) == DOTS, f"stored: {message!r}")


def many_at_once(threads):
    """Many clients at once, each with its own message."""
    with serving(threads=threads) as (server, stored), contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(server)) for _ in range(4 if threads else 100)]
        for peer in peers:
            peer.begin_message()
        for number, peer in enumerate(peers):
            peer.say(b"number %d\r\n." % number, b"250")
        require({body(text) for text in stored()} == {b"number %d\r\n" % number for number in range(len(peers))}, "stored")


def smuggled(threads):
    """What some servers take for the end of a message is none here, and messages that contain it are not stored."""
    with serving(threads=threads) as (server, stored):
        for ending in (b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r"):
            with Peer(server) as peer:
                peer.begin_message()
                second = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nsmuggled"
                peer.socket.sendall(b"first" + ending + second + b"\r\n.\r\n")
                peer.expect(b"554")
                peer.say(b"NOOP", b"250")
                peer.say(b"NOOP\nNOOP", b"500")
        require(not stored(), f"stored: {stored()}")


def endless_message(threads):
    """An endless message is rejected with an answer, and not kept."""
    with serving(threads=threads) as (server, stored), Peer(server) as peer:
        peer.begin_message()
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                sent += peer.socket.send(b"y" * 900 + b"\r\n")
        require(sent < 64 << 20, "all of 64 MiB are taken")
        require(server.memory_peak_mib() < MEMORY_MAX_MIB, f"{server.memory_peak_mib():.0f} MiB")
        require(not stored(), "it is stored")
        return f"cut off after {sent >> 20} MiB"


def too_long_messages(threads):
    """Messages slightly too long, or with long lines, are read to the end and refused; the connection stays open."""
    with serving(threads=threads) as (server, stored), Peer(server) as peer:
        peer.begin_message()
        peer.socket.sendall((b"z" * 500 + b"\r\n") * 3000)
        peer.say(b".", b"552")
        peer.begin_message()
        peer.say(b"l" * 999 + b"\r\n.", b"554")
        peer.say(b"NOOP " + b"n" * 600, b"500")
        peer.begin_message()
        peer.say(b"short\r\n.", b"250")
        require([body(text) for text in stored()] == [b"short\r\n"], "stored")


def ten_thousand_recipients(threads):
    """All are sent before reading an answer: a hundred are accepted and get the mail; the others are refused."""
    with serving(threads=threads) as (server, stored), Peer(server) as peer:
        peer.say(b"MAIL FROM:<a@example.org>", b"250")
        peer.socket.settimeout(0.5)
        lines = b"".join(b"RCPT TO:<r%d@example.org>\r\n" % number for number in range(10_000))
        sent = 0
        answers = bytearray()
        while answers.count(b"\n") < 10_000:
            with contextlib.suppress(TimeoutError):
                sent += peer.socket.send(lines[sent:]) if sent < len(lines) else 0
            with contextlib.suppress(TimeoutError):
                peer.socket.settimeout(0.05 if sent < len(lines) else WAIT_S)
                answers += peer.socket.recv(65536)
        codes = [line[:3] for line in bytes(answers).splitlines()]
        require(codes == [b"250"] * 100 + [b"452"] * 9_900, "other answers")
        peer.socket.settimeout(WAIT_S)
        peer.say(b"DATA", b"354")
        peer.say(b"for all\r\n.", b"250")
        (message,) = stored()
        require(body(message) == b"for all\r\n", "stored")


def reads_nothing():
    """The server stops reading from a client that sends endlessly and reads nothing; others are unaffected."""
    with serving() as (server, _), Peer(server) as greedy:
        greedy.socket.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += greedy.socket.send(b"HELP\r\n" * 10_000)
        require(sent < 64 << 20, "all of 64 MiB are taken")
        with Peer(server) as other:
            other.say(b"NOOP", b"250")
        require(server.memory_peak_mib() < MEMORY_MAX_MIB, f"{server.memory_peak_mib():.0f} MiB")


def garbage(threads):
    """Binary noise, and an HTTP client: after twenty errors the server closes the connection."""
    with serving(threads=threads) as (server, _):
        with Peer(server) as peer:
            peer.socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\xff\xfe\x00\r\n" + b"\r\n" * 40)
            answers = peer.file.read().splitlines()
            require(all(answer[:2] == b"50" for answer in answers[:-1]) and answers[-1][:4] == b"421 ", f"{answers}")
            require(len(answers) == 20, f"{len(answers)} answers")
        with Peer(server) as peer:
            peer.say(b"NOOP", b"250")


def silence(threads):
    """Half a line, half a message, and nothing at all: each gets an answer and is disconnected."""
    with serving("--timeout", "1", threads=threads) as (server, stored):
        with Peer(server) as half, Peer(server) as body_alone, Peer(server) as nothing:
            half.socket.sendall(b"MAIL FR")
            body_alone.begin_message()
            body_alone.socket.sendall(b"half a message\r\n")
            for peer in (half, body_alone, nothing):
                peer.expect(b"421")
                peer.end_of_stream()
        require(not stored(), "half a message is stored")


def leaves(threads):
    """Peers that reset, or end their half, in the middle of everything."""
    with serving(threads=threads) as (server, stored):
        for words in (b"", b"EHLO x\r\n", b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhalf\r\n"):
            for leave in (harness.reset, lambda client: client.shutdown(socket.SHUT_WR)):
                client = connect(server.address)
                client.sendall(words)
                leave(client)
                if client.fileno() >= 0:
                    client.settimeout(WAIT_S)
                    while client.recv(65536):
                        pass
                    client.close()
        with Peer(server) as peer:
            peer.say(b"NOOP", b"250")
        require(not stored(), "half a message is stored")


def quits_behind_its_message(threads):
    """QUIT is pipelined with the message: the message is stored first."""
    with serving(threads=threads) as (server, stored), Peer(server) as peer:
        peer.begin_message()
        peer.socket.sendall(b"last words\r\n.\r\nQUIT\r\n")
        peer.expect(b"250")
        peer.expect(b"221")
        peer.end_of_stream()
        require([body(text) for text in stored()] == [b"last words\r\n"], "stored")


def one_too_many():
    """A connection over the limit per address gets an answer and is disconnected."""
    with serving("--per-peer", "2") as (server, _), Peer(server) as one, Peer(server) as two:
        with Peer(server, greet=False) as third:
            third.socket.sendall(b"EHLO third\r\n")  # Data sent meanwhile does not make it lose the answer.
            third.expect(b"421")
            third.end_of_stream()
        one.say(b"NOOP", b"250")
        two.say(b"QUIT", b"221")


def ends_in_order():
    """SIGTERM: a client without a message in progress is told at once; one with a message can finish it first."""
    with serving() as (server, stored), Peer(server) as idle, Peer(server) as busy:
        busy.begin_message()
        server.process.send_signal(signal.SIGTERM)
        idle.expect(b"421")
        idle.end_of_stream()
        busy.say(b"to be kept\r\n.", b"250")
        busy.expect(b"421")
        busy.end_of_stream()
        require(server.process.wait(WAIT_S) == 0, "no clean end")
        require([body(text) for text in stored()] == [b"to be kept\r\n"], "stored")


def cannot_store(threads):
    """The folder is gone: the client gets a temporary error, and the server continues."""
    with serving(threads=threads) as (server, stored), Peer(server) as peer:
        folder = server.process.args[server.process.args.index("--maildir") + 1]
        shutil.rmtree(folder)
        peer.begin_message()
        peer.say(b"lost\r\n.", b"451")
        peer.say(b"NOOP", b"250")
        os.makedirs(os.path.join(folder, "new"))


def main():
    checks = Checks(LIMIT_S)
    for threads in (False, True):
        where = "threads" if threads else "loop"
        for check in (by_smtplib, by_swaks, by_curl, many_at_once, smuggled, too_long_messages, endless_message,
                      ten_thousand_recipients, garbage, silence, leaves, quits_behind_its_message, cannot_store):
            checks.run(f"{where}: {check.__name__.replace('_', ' ')}", check, threads)
    for check in (reads_nothing, one_too_many, ends_in_order):
        checks.run(check.__name__.replace("_", " "), check)
    checks.finish()


if __name__ == "__main__":
    main()
