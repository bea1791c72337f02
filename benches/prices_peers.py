"""The hostile peers of prices.py that speak no TLS.

Each is one peer: a generator. It yields `READY` when what it needs is there; from then on it counts. Whenever the server
is to turn, it yields how much it has done since: bytes, or connections. It leaves its sockets to `stack`, which closes them
when all peers have reached their peak.
"""

import contextlib
import socket
from typing import Callable, NamedTuple

import harness
from harness import require, reset

PIECE = 4096
LARGE = 65536
KERNEL_BYTES = 4096  # What a peer that does not read has the kernel keep for it: the rest is the server's.
LINGER_STEPS_MAX = 100  # Of `LARGE` bytes each: by default, a megabyte is discarded, and the rest is refused.
READS, STEPS_OF_READS = 1024, 32  # Reads of a byte each between two turns, and how often: the server is told of much more room.
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

READY = None


class Kind(NamedTuple):
    name: str  # In bounds.toml.
    what: str  # The peer does.
    unit: str  # What is counted.
    attack: Callable
    few: bool = False  # The kernel keeps megabytes for each of them, or their records take long to make.


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

    def narrow(self):
        """Has the smallest window that the kernel allows."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, 1)

    def read_bytes(self):
        """Reads a byte at a time; has the server turn only now and then, and yields how many there were."""
        for _ in range(STEPS_OF_READS):
            count = 0
            with contextlib.suppress(BlockingIOError):
                while count < READS:
                    require(self.socket.recv(1), "its connection has ended")
                    count += 1
            yield count

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


def bytes_of(server, stack, name, data, before=b""):
    """Sends this a byte at a time, each read by itself, behind what is not counted."""
    peer = Peer(server, name, stack)
    peer.send(before)
    yield READY
    for byte in data:
        yield peer.send(bytes([byte]))
        peer.drop()


def negotiations_a_byte_at_a_time(server, stack):
    yield from bytes_of(server, stack, "telnet", b"\xff\xfd\x01" * 100)


def commands_in_a_line(server, stack, count=8):
    """A letter and a command in turn: the parts of the line are put aside and joined."""
    yield from pieces(server, stack, "telnet", b"x\xff\xf1" * (PIECE // 3), count)


def subnegotiations(server, stack):
    yield from pieces(server, stack, "telnet", b"\xff\xfa\x01" + b"x" * 1000 + b"\xff\xf0", 32)


def until_refused(send):
    """Sends until the kernel takes no more, because the server has stopped reading."""
    refused = 0
    while refused < 2:
        sent = send()
        refused = 0 if sent else refused + 1
        yield sent


def never_reads(server, stack, name="echo", data=b"x" * LARGE):
    peer = Peer(server, name, stack, KERNEL_BYTES)
    yield READY
    yield from until_refused(lambda: peer.send(data))


def pipeline_never_read(server, stack):
    yield from never_reads(server, stack, "lines", b"x\r\n" * (LARGE // 3))


def reads_a_byte_at_a_time(server, stack, name="echo", data=b"x" * LARGE):
    """First it sends as `never_reads` does, which is not counted."""
    peer = Peer(server, name, stack, KERNEL_BYTES)
    peer.narrow()
    for _ in until_refused(lambda: peer.send(data)):
        server.command(b"t")
    yield READY
    yield from peer.read_bytes()


def after_the_close(server, stack):
    """Has its connection closed before all that it has sent is read, and sends more, until it is reset."""
    peer = Peer(server, "lines", stack)
    peer.send(b"quit\r\n" + b"x" * (2 * LARGE))
    yield READY
    with contextlib.suppress(ConnectionError):
        for _ in range(LINGER_STEPS_MAX):
            yield peer.send(b"x" * LARGE)
        raise harness.Failed("what follows a close is read for ever")


def header_line_cut(server, stack):
    # All of it but its last byte.
    yield from bytes_of(server, stack, "proxy", b"PROXY TCP4 255.255.255.255 255.255.255.254 65535 65534\r")


def binary_header_cut(server, stack):
    # A source, a destination and their ports, and a value of type 0xE0 with 500 bytes.
    rest = bytes(12) + b"\xe0" + (500).to_bytes(2, "big") + b"x" * 500
    head = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + len(rest).to_bytes(2, "big")
    yield from bytes_of(server, stack, "proxy", head + rest[:-1])


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


def http_byte_at_a_time(server, stack):
    yield from bytes_of(server, stack, "http", GET * 12)


def http_pipeline(server, stack):
    yield from pieces(server, stack, "http", GET * (PIECE // len(GET)), 8)


def http_fields(server, stack):
    yield from pieces(server, stack, "http", (GET[:-2] + b"a:\r\n" * 99 + b"\r\n") * 10, 8)


def http_long_head(server, stack):
    yield from bytes_of(server, stack, "http", b"x" * 300, GET[:-2] + b"X: " + b"x" * 15_700)


def http_chunks(server, stack):
    peer = Peer(server, "http", stack)
    peer.send(GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n")
    server.command(b"t")
    yield READY
    for _ in range(8):
        yield peer.send(b"1\r\nx\r\n" * (PIECE // 6))


def http_never_read(server, stack):
    yield from never_reads(server, stack, "http", GET * (LARGE // len(GET)))


def http_read_a_byte_at_a_time(server, stack):
    yield from reads_a_byte_at_a_time(server, stack, "http", GET * (LARGE // len(GET)))


KINDS = [
    Kind("byte_at_a_time", "a line a byte at a time", "byte", byte_at_a_time),
    Kind("empty_lines", "empty lines, 4,096 at a time, each answered", "byte", empty_lines),
    Kind("line_without_end", "a line without an end, until it is cut off", "byte", line_without_end),
    Kind("urgent", "urgent bytes, one at a time, each echoed", "byte", urgent),
    Kind("connects_and_resets", "connects and resets", "connection", connects_and_resets),
    Kind("connects_and_closes", "connects and closes", "connection", connects_and_closes),
    Kind("connects_sends_and_resets", "connects, sends a byte and resets", "connection", connects_sends_and_resets),
    Kind("half_closes", "connects, sends a byte, ends its half and stays", "connection", half_closes),
    Kind("flood", "64 KiB at a time, echoed", "byte", flood),
    Kind("never_reads", "64 KiB at a time, echoed, and reads nothing", "byte", never_reads, few=True),
    Kind("reads_a_byte_at_a_time", "the same, and then reads a byte at a time", "byte it reads",
         reads_a_byte_at_a_time, few=True),
    Kind("after_the_close", "goes on sending after the close", "byte", after_the_close),
    Kind("header_line_cut", "a PROXY header, version 1, a byte at a time, not to its end", "byte", header_line_cut),
    Kind("binary_header_cut", "the same, version 2, with 500 bytes of a value", "byte", binary_header_cut),
    Kind("negotiations", "telnet negotiations, 1,365 at a time, each refused", "byte", negotiations),
    Kind("negotiations_a_byte_at_a_time", "telnet negotiations, a byte at a time", "byte", negotiations_a_byte_at_a_time),
    Kind("commands_in_a_line", "a letter and a telnet command in turn, 1,365 at a time", "byte", commands_in_a_line),
    Kind("subnegotiations", "telnet subnegotiations of 1,000 bytes", "byte", subnegotiations),
    Kind("datagrams", "datagrams of one byte, 16 at a time, each echoed", "byte", datagrams),
    Kind("pipeline", "lines of one byte, 1,365 at a time, each answered", "byte", pipeline),
    Kind("pipeline_never_read", "the same, 21,845 at a time, and reads nothing", "byte", pipeline_never_read, few=True),
    Kind("http_byte_at_a_time", "requests of HTTP, a byte at a time, each answered", "byte", http_byte_at_a_time),
    Kind("http_pipeline", "requests of HTTP, 151 at a time, each answered", "byte", http_pipeline),
    Kind("http_fields", "requests with 99 empty fields, ten at a time, each answered", "byte", http_fields),
    Kind("http_long_head", "the last of 16,000 bytes of a head, one at a time", "byte", http_long_head),
    Kind("http_chunks", "a body in chunks of one byte, 682 at a time", "byte", http_chunks),
    Kind("http_never_read", "requests, 2,427 at a time, and reads nothing", "byte", http_never_read, few=True),
    Kind("http_read_a_byte_at_a_time", "the same, and then reads the answers a byte at a time", "byte it reads",
         http_read_a_byte_at_a_time, few=True),
]
