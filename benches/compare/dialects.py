"""What clients of lost.py say and what they must hear: echoed lines, HTTP, and Redis' protocol.

The n-th request and the n-th answer are the same in each run. Which of its kinds a request is depends on chance with a
fixed seed, so a lost, doubled or exchanged answer shows within a few more, even where answers do not name their request.
"""

import random
import re

import harness
from harness import require

SEED = 1
LINE_BYTES = 128
VALUE_BYTES = 100
KEYS = 10


def kinds(count, most):
    dice = random.Random(SEED)
    return [dice.randrange(most) for _ in range(count)]


class Exact:
    """Reads answers whose bytes are known before, all of them of the same length."""

    def __init__(self, expected, length):
        self.expected = memoryview(expected)
        self.length = length
        self.read_bytes = 0
        self.wrong = False

    @property
    def answers(self):
        return self.read_bytes // self.length

    @property
    def all_bytes(self):
        return len(self.expected)

    def feed(self, piece):
        if self.wrong:
            return
        wanted = self.expected[self.read_bytes : self.read_bytes + len(piece)]
        right = len(piece)
        if wanted != piece:
            right = next((at for at, (one, other) in enumerate(zip(wanted, piece)) if one != other), len(wanted))
            self.wrong = True
        self.read_bytes += right


class Echo:
    """Numbered lines."""

    name = "echo"

    def requests(self, count):
        return b"".join(b"%0*d\n" % (LINE_BYTES - 1, number) for number in range(count))

    def prepare(self, server):
        """Says something once, as whoever comes first may make the server allocate what it keeps."""
        with harness.connect(server.address) as client:
            line = self.requests(1)
            require(harness.echoes(client, line), "not an echo")

    def reader(self, count):
        return Exact(self.requests(count), LINE_BYTES)


class Resp:
    """GET of ten keys with different values."""

    name = "resp"

    @staticmethod
    def value(key):
        return b"%0*d" % (VALUE_BYTES, key)

    def requests(self, count):
        gets = [b"*2\r\n$3\r\nGET\r\n$1\r\n%d\r\n" % key for key in range(KEYS)]
        return b"".join(gets[key] for key in kinds(count, KEYS))

    def answer(self, key):
        return b"$%d\r\n%s\r\n" % (VALUE_BYTES, self.value(key))

    def prepare(self, server):
        with harness.connect(server.address) as client:
            for key in range(KEYS):
                client.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\n%d\r\n%s" % (key, self.answer(key)))
                require(harness.receive(client, 5) == b"+OK\r\n", "not set")

    def reader(self, count):
        answers = [self.answer(key) for key in range(KEYS)]
        return Exact(b"".join(answers[key] for key in kinds(count, KEYS)), len(answers[0]))


HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*?(?i:content-length): *(\d+)\r\n(?:[^\r\n]+\r\n)*\r\n")


class Http:
    """GET of two paths: one is there, the other one is not."""

    name = "http"
    paths = (b"/", b"/no")
    statuses = (b"200", b"404")

    def __init__(self):
        self.bodies = {}
        self.lengths = []

    def request(self, kind):
        return b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % self.paths[kind]

    def requests(self, count):
        both = [self.request(kind) for kind in range(2)]
        return b"".join(both[kind] for kind in kinds(count, 2))

    def prepare(self, server):
        """Remembers the bodies of both answers, and how long the answers are."""
        self.bodies.clear()
        self.lengths.clear()
        with harness.connect(server.address) as client:
            for kind, status in enumerate(self.statuses):
                client.sendall(self.request(kind))
                received = b""
                while not (head := HEAD.match(received)) or len(received) < head.end() + int(head.group(2)):
                    piece = client.recv(65536)
                    require(piece, f"the stream has ended after {received!r}")
                    received += piece
                require(head.group(1) == status, f"another status: {received!r}")
                self.bodies[status] = received[head.end() :]
                self.lengths.append(len(received))

    def reader(self, count):
        return Answers([self.statuses[kind] for kind in kinds(count, 2)], self.bodies, self.lengths)


class Answers:
    """Reads answers of HTTP."""

    def __init__(self, statuses, bodies, lengths):
        self.statuses = statuses
        self.bodies = bodies
        self.answers = 0
        self.kept = b""
        self.wrong = False
        self.all_bytes = sum(lengths[status != Http.statuses[0]] for status in statuses)

    def feed(self, piece):
        kept, at = self.kept + piece, 0
        while not self.wrong and (head := HEAD.match(kept, at)):
            status, end = head.group(1), head.end() + int(head.group(2))
            if end > len(kept):
                break
            expected = self.statuses[self.answers] if self.answers < len(self.statuses) else None
            if status != expected or kept[head.end() : end] != self.bodies[status]:
                self.wrong = True
                break
            self.answers += 1
            at = end
        self.kept = kept[at:]
        # A head that is complete and is not understood.
        self.wrong |= b"\r\n\r\n" in self.kept and not HEAD.match(self.kept)
