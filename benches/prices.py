#!/usr/bin/env python3
"""What each kind of hostile peer costs a server for each byte that it sends, in instructions, system calls and memory.

    python3 benches/prices.py                builds, attacks, prints; fails where a price exceeds its bound in bounds.toml
    python3 benches/prices.py urgent header  only the kinds with one of these words in their name
    python3 benches/prices.py --write        also writes the table into SECURITY.md

Linux, with valgrind and strace installed. It attacks benches/measured/prices.rs, whose limits are the defaults, and has it
turn after each step of an attack: a peer that sends one byte at a time has each of its bytes read by itself, which is the
worst case, however slow the machine is. So the counts are the same on a busy machine.

Instructions (of user space, by callgrind) and system calls (by strace) are those of a single peer, which shares no poll
with others, divided by the bytes that it has sent; for a peer whose attack is to connect, by its connections. Memory is
what 64 peers at once have at their peak, divided by 64: resident memory of user space, over what it was after one of the kind
had been there and left. The microseconds are what the process was on a processor for, in the kernel and outside it, with
these 64; they depend on the machine, and have no bound.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import math
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "real"))

import harness  # noqa: E402 (found by the line above)
from harness import Trace, require, reset  # noqa: E402
from report import machine, write_between_marks  # noqa: E402

LIMIT_S = 200
PEERS = 64
GREEDY_PEERS = 16  # Of those for each of whom the kernel keeps megabytes.
PIECE = 4096
LARGE = 65536
KERNEL_BYTES = 4096  # What a peer that does not read has the kernel keep for it: the rest is the server's.
LINGER_STEPS_MAX = 100  # Of `LARGE` bytes each: by default, a megabyte is discarded, and the rest is refused.
COUNTED, NEXT = "measured_prices::counted", "measured_prices::next"


# ------------------------------------------------------------------------------------------------------- attacks
#
# Each is one peer: a generator. It yields `READY` when what it needs is there; from then on it counts. Whenever the
# server is to turn, it yields how much it has done since: bytes, or connections. It leaves its sockets to `stack`, which
# closes them when all peers have reached their peak.

READY = None


class Peer:
    """A connection of a hostile peer, and what it gets back, which it may read or not."""

    def __init__(self, server, name, stack, kernel_bytes=None):
        self.socket = stack.enter_context(socket.socket())
        if kernel_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kernel_bytes)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(server.addresses[name])
        self.socket.setblocking(False)

    def send(self, data, flags=0):
        """Sends as much as the kernel takes. Returns how much that is."""
        with contextlib.suppress(BlockingIOError):
            return self.socket.send(data, flags)
        return 0

    def drop(self):
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self.socket.recv(1 << 20):
                pass


def pieces(server, stack, name, data, count, reads=True, flags=0):
    """Sends the same again and again, each time read by itself."""
    peer = Peer(server, name, stack)
    yield READY
    for _ in range(count):
        yield peer.send(data, flags)
        if reads:
            peer.drop()


def byte_at_a_time(server, stack):
    yield from pieces(server, stack, "lines", b"x", 400)


def empty_lines(server, stack):
    yield from pieces(server, stack, "lines", b"\n" * PIECE, 8)


def line_without_end(server, stack):
    yield from pieces(server, stack, "lines", b"x" * 1024, 17)


def urgent(server, stack):
    yield from pieces(server, stack, "echo", b"!", 200, flags=socket.MSG_OOB)


def flood(server, stack):
    yield from pieces(server, stack, "echo", b"x" * LARGE, 16)


def pipeline(server, stack):
    yield from pieces(server, stack, "lines", b"x\r\n" * (PIECE // 3), 8)


def negotiations(server, stack):
    yield from pieces(server, stack, "telnet", b"\xff\xfd\x01" * (PIECE // 3), 8)


def negotiations_a_byte_at_a_time(server, stack):
    peer = Peer(server, "telnet", stack)
    yield READY
    for number in range(300):
        yield peer.send(b"\xff\xfd\x01"[number % 3 :][:1])
        peer.drop()


def commands_in_a_line(server, stack, count=8):
    """A letter and a command in turn: the parts of the line are put aside and joined."""
    yield from pieces(server, stack, "telnet", b"x\xff\xf1" * (PIECE // 3), count)


def subnegotiations(server, stack):
    yield from pieces(server, stack, "telnet", b"\xff\xfa\x01" + b"x" * 1000 + b"\xff\xf0", 32)


def never_reads(server, stack, name="echo", data=b"x" * LARGE):
    """Sends until the kernel takes no more, because the server has stopped reading."""
    peer = Peer(server, name, stack, KERNEL_BYTES)
    yield READY
    refused = 0
    while refused < 2:
        sent = peer.send(data)
        refused = 0 if sent else refused + 1
        yield sent


def pipeline_never_read(server, stack):
    yield from never_reads(server, stack, "lines", b"x\r\n" * (LARGE // 3))


def after_the_close(server, stack):
    """Has its connection closed before all that it has sent is read, and sends more, until it is reset."""
    peer = Peer(server, "lines", stack)
    peer.send(b"quit\r\n" + b"x" * (2 * LARGE))
    yield READY
    with contextlib.suppress(ConnectionError):
        for _ in range(LINGER_STEPS_MAX):
            yield peer.send(b"x" * LARGE)
        raise harness.Failed("what follows a close is read for ever")


def header(server, stack, data):
    """Sends all of a PROXY header but its last byte, a byte at a time."""
    peer = Peer(server, "proxy", stack)
    yield READY
    for byte in data:
        yield peer.send(bytes([byte]))


def header_line_cut(server, stack):
    yield from header(server, stack, b"PROXY TCP4 255.255.255.255 255.255.255.254 65535 65534\r")


def binary_header_cut(server, stack):
    # A source, a destination and their ports, and a value of type 0xE0 with 500 bytes.
    rest = bytes(12) + b"\xe0" + (500).to_bytes(2, "big") + b"x" * 500
    yield from header(server, stack, b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + len(rest).to_bytes(2, "big") + rest[:-1])


def connections(server, stack, end, data=b""):
    """Connects, again and again. The last one is not ended here, so that it is there at the peak."""
    yield READY
    for _ in range(50):
        peer = Peer(server, "echo", stack)
        peer.send(data) if data else None
        yield 0
        end(peer.socket)
        yield 1
    Peer(server, "echo", stack)
    yield 0


def connects_and_resets(server, stack):
    yield from connections(server, stack, reset)


def connects_and_closes(server, stack):
    yield from connections(server, stack, socket.socket.close)


def connects_sends_and_resets(server, stack):
    yield from connections(server, stack, reset, b"x")


def half_closes(server, stack):
    yield from connections(server, stack, lambda peer: peer.shutdown(socket.SHUT_WR), b"x")


def datagrams(server, stack):
    peer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    peer.connect(server.addresses["datagrams"])
    peer.setblocking(False)
    yield READY
    for _ in range(16):
        for _ in range(16):
            peer.send(b"x")
        yield 16
        with contextlib.suppress(BlockingIOError):
            while peer.recv(10):
                pass


# (name in bounds.toml, what the peer does, what is counted, the attack)
KINDS = [
    ("byte_at_a_time", "a line a byte at a time", "byte", byte_at_a_time),
    ("empty_lines", "empty lines, 4,096 at a time, each answered", "byte", empty_lines),
    ("line_without_end", "a line without an end, until it is cut off", "byte", line_without_end),
    ("urgent", "urgent bytes, one at a time, each echoed", "byte", urgent),
    ("connects_and_resets", "connects and resets", "connection", connects_and_resets),
    ("connects_and_closes", "connects and closes", "connection", connects_and_closes),
    ("connects_sends_and_resets", "connects, sends a byte and resets", "connection", connects_sends_and_resets),
    ("half_closes", "connects, sends a byte, ends its half and stays", "connection", half_closes),
    ("flood", "64 KiB at a time, echoed", "byte", flood),
    ("never_reads", "64 KiB at a time, echoed, and reads nothing", "byte", never_reads),
    ("after_the_close", "goes on sending after the close", "byte", after_the_close),
    ("header_line_cut", "a PROXY header, version 1, a byte at a time, not to its end", "byte", header_line_cut),
    ("binary_header_cut", "the same, version 2, with 500 bytes of a value", "byte", binary_header_cut),
    ("negotiations", "telnet negotiations, 1,365 at a time, each refused", "byte", negotiations),
    ("negotiations_a_byte_at_a_time", "telnet negotiations, a byte at a time", "byte", negotiations_a_byte_at_a_time),
    ("commands_in_a_line", "a letter and a telnet command in turn, 1,365 at a time", "byte", commands_in_a_line),
    ("subnegotiations", "telnet subnegotiations of 1,000 bytes", "byte", subnegotiations),
    ("datagrams", "datagrams of one byte, 16 at a time, each echoed", "byte", datagrams),
    ("pipeline", "lines of one byte, 1,365 at a time, each answered", "byte", pipeline),
    ("pipeline_never_read", "the same, 21,845 at a time, and reads nothing", "byte", pipeline_never_read),
]
COLUMNS = ("instructions", "system_calls", "memory_bytes", "descriptors")


# ------------------------------------------------------------------------------------------------------ measuring


class Server:
    """The attacked process, which turns when it is told to."""

    def __init__(self, argv):
        self.process = harness.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addresses = {}
        while "datagrams" not in self.addresses:
            name, address = self.process.stdout.readline().decode().split()
            host, port = address.rsplit(":", 1)
            self.addresses[name] = (host, int(port))
        self.commands = 0
        self.command(b"t")  # Opens what it reads commands from.
        self.descriptors_at_start = self.descriptors()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        if not any(failure):
            self.process.stdin.close()
            code = self.process.wait(harness.WAIT_S)
            require(code == 0, f"it ended with {code}: {self.process.stderr.read()!r}")
        harness.end(self.process)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def command(self, name):
        self.commands += 1
        self.process.stdin.write(name)
        self.process.stdin.flush()
        require(self.process.stdout.readline() == b"\n", f"it has ended: {self.process.poll()}")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def status(self, field):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB", file.read(), re.M).group(1))

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def processor_us(self):
        with open(f"/proc/{self.process.pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1000


def attack(server, kind, count=1, during=contextlib.nullcontext):
    """Has so many peers attack, step by step. Returns how much they have done, and the descriptors of each at the peak."""
    done = most = 0
    with contextlib.ExitStack() as stack:
        peers = [kind(server, stack) for _ in range(count)]
        for peer in peers:
            require(next(peer) is READY, "it does not prepare itself")
        for _ in range(2):
            server.command(b"t")  # Accepts them.
        with during():
            while peers:
                steps = [(peer, next(peer, None)) for peer in peers]
                peers = [peer for peer, step in steps if step is not None]
                done += sum(step for _, step in steps if step)
                if peers:
                    server.command(b"c")
                most = max(most, server.descriptors() - server.descriptors_at_start)
    deadline = time.monotonic() + harness.WAIT_S
    while (left := server.descriptors() - server.descriptors_at_start) > 0:
        require(time.monotonic() < deadline, f"{kind.__name__}: {left} descriptors are left of peers that are gone")
        server.command(b"t")
    return done, most / count


def build():
    command = ["cargo", "build", "--quiet", "--profile", "bench", "--features", "proxy", "--example", "measured_prices"]
    subprocess.run(command, cwd=ROOT, check=True)
    return str(ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / "measured_prices")


def instructions(binary, kinds):
    """Attacks a single process with one kind behind the other; callgrind writes a file behind each."""
    with tempfile.TemporaryDirectory(prefix="prices-") as folder:
        argv = ["valgrind", "--quiet", "--tool=callgrind", f"--toggle-collect={COUNTED}", f"--dump-after={NEXT}",
                f"--callgrind-out-file={folder}/out", binary]
        with Server(argv) as server:
            done = []
            for kind in kinds:
                done.append(attack(server, kind)[0])
                server.command(b"n")
        for number, units in enumerate(done, 1):
            text = (pathlib.Path(folder) / f"out.{number}").read_text(encoding="utf-8", errors="replace")
            yield int(re.search(r"^(?:totals|summary): (\d+)", text, re.M).group(1)) / units


def system_calls(server, kind):
    """Without those that carry the commands: one read and one write for each."""
    traced = []

    @contextlib.contextmanager
    def during():
        with Trace(server.process.pid) as trace:
            before = server.commands
            yield
            commands = server.commands - before
        traced.append(sum(trace.counts().values()) - 2 * commands)

    done, _ = attack(server, kind, during=during)
    return traced[0] / done


def memory(binary, kind):
    """Returns (bytes at the peak for each peer, descriptors, microseconds)."""
    with Server([binary]) as server:
        attack(server, kind)
        server.forget_peak()
        before, us = server.status("VmRSS"), server.processor_us()
        count = GREEDY_PEERS if kind in (never_reads, pipeline_never_read) else PEERS
        done, descriptors = attack(server, kind, count)
        return (server.status("VmHWM") - before) / count, descriptors, (server.processor_us() - us) / done


def prices(binary, kinds):
    """Yields (kind, its figures by column, microseconds)."""
    attacks = [kind[3] for kind in kinds]
    # Callgrind takes half of the time, and none of the others' figures.
    with concurrent.futures.ThreadPoolExecutor() as pool, Server([binary]) as server:
        counted = pool.submit(lambda: list(instructions(binary, attacks)))
        calls = [system_calls(server, each) for each in attacks]
        others = [memory(binary, each) for each in attacks]
        for kind, one, other, (bytes_, descriptors, us) in zip(kinds, counted.result(), calls, others):
            yield kind, dict(zip(COLUMNS, (one, other, bytes_, descriptors))), us


def shown(value):
    """Shows three digits, or one of a small figure."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    digits = 2 if value >= 0.1 else 0
    return f"{value:.{digits - math.floor(math.log10(value))}f}"


def write_table(rows):
    lines = ["| what the peer does | for each | instructions | system calls | µs | bytes of memory | descriptors |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for (_, what, unit, _), figures, us in rows:
        cells = (what, unit, shown(figures["instructions"]), shown(figures["system_calls"]), shown(us),
                 shown(figures["memory_bytes"]), shown(figures["descriptors"]))
        lines.append("| " + " | ".join(cells) + " |")
    taken = f"Measured on {datetime.date.today()} by `python3 benches/prices.py`: {machine()}."
    write_between_marks(ROOT / "SECURITY.md", "prices", taken + "\n\n" + "\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    kinds = [kind for kind in KINDS if not arguments.words or any(word in kind[0] for word in arguments.words)]
    if not kinds or arguments.write and arguments.words:
        sys.exit("no kind has such a name, or only some are to be written")
    binary = build()
    harness.limit_time(LIMIT_S)
    with open(ROOT / "benches" / "bounds.toml", "rb") as file:
        bounds = tomllib.load(file)["prices"]
    rows, over = [], [f"there is no peer of the kind {name}" for name in set(bounds) - {kind[0] for kind in KINDS}]
    for kind, figures, us in prices(binary, kinds):
        name, what, unit, _ = kind
        rows.append((kind, figures, us))
        print(f"{what}: " + ", ".join(f"{shown(value)} {column}" for column, value in figures.items()) +
              f" ({shown(us)} µs) for each {unit}", flush=True)
        over += [f"{name}: {value:.3f} {column}, {bounds[name][column]} at most" for column, value in figures.items()
                 if value > bounds[name][column]]
    for line in over:
        print(f"OVER ITS BOUND: {line}")
    if arguments.write:
        write_table(rows)
    sys.exit(bool(over))


if __name__ == "__main__":
    main()
