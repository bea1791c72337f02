"""The clients of soak.py: each sends bytes that are nobody else's, and requires exactly these back.

Each function named in `KINDS` is the body of a process, which plays many clients at once until the time given to it is
over, and lets the last of them finish. All are honest, in different ways: they send a byte at a time or a quarter of a
megabyte, wait for each echo or for none, read slowly or at the very last, end one direction or both, or reset in the
middle.
"""

import collections
import contextlib
import random
import select
import signal
import socket
import ssl
import struct
import time

from harness import Failed, connect, receive, require, reset

STUCK_S = 30.0  # Without a byte for this long, on however busy a machine, something was lost.
CLIENTS = 16  # At once, of each kind.
MEMBERS = 12  # Of the chat room.
NAP_S = 0.02  # Slow readers take `SIP_BYTES` and sleep for so long.
SIP_BYTES = 4096
FULL_S, FEW_BYTES = 0.3, 1 << 15  # Buffers are full if the kernel has taken few bytes for so long.
# A prime, so that no power of two of bytes that are lost or repeated goes unnoticed.
PERIOD = 65521
READ_BYTES = 1 << 18
LINE_BYTES_MAX = 900  # The chat room's limit is 1,024.


class Pattern:
    """An endless stream of random bytes. Streams that begin elsewhere differ everywhere."""

    def __init__(self, random_):
        self.period = random_.randbytes(PERIOD)
        self.twice = self.period * (2 + READ_BYTES // PERIOD + 1)

    def piece(self, offset, count):
        begin = offset % PERIOD
        return self.twice[begin : begin + count]


# Ways to send and to receive: (how frequent it is, and the least and the most bytes, as powers of two). All buffers on the
# way, the kernel's too, hold some 8 MiB.
WAYS = {"bursts": (12, 0, 22), "waits": (12, 0, 17), "dribbles": (12, 0, 10), "sips": (12, 0, 18), "fills": (1, 23, 24)}


class Plan:
    """What a client does: how much it sends, in what pieces, how it reads, and how it ends."""

    def __init__(self, random_, ends):
        self.way = random_.choices(tuple(WAYS), [weight for weight, *_ in WAYS.values()])[0]
        _, least, most = WAYS[self.way]
        self.bytes = int(2 ** random_.uniform(least, most))
        self.piece_max = 16 if self.way == "dribbles" else READ_BYTES
        self.end = random_.choice(ends)
        # Where it resets, which may be before its first byte.
        self.resets_at = random_.randrange(self.bytes) if self.end == "resets" else None
        self.begins_at = random_.randrange(PERIOD)


class Client:
    """One connection that sends and receives at once. `act` is called when it can do either."""

    def __init__(self, channel, plan, random_, pattern, now):
        self.channel, self.plan, self.random, self.pattern = channel, plan, random_, pattern
        self.sent = self.received = self.offered = 0
        self.piece_ends_at = 0  # How far it may send now.
        self.sleeps_until = 0.0
        self.moved_at = self.taken_at = now
        self.has_shut = False
        # Reads nothing until all buffers on the way are full, or everything is sent.
        self.fills = plan.way == "fills"
        channel.setblocking(False)

    def may_send(self):
        if self.sent == self.plan.bytes:
            return False
        return self.sent < self.piece_ends_at or self.plan.way != "waits" or self.received == self.sent

    def events(self, now):
        reads = 0 if self.sleeps_until > now or self.fills else select.EPOLLIN
        return reads | (select.EPOLLOUT if self.may_send() else 0)

    def wakes(self, now):
        return 0 < self.sleeps_until <= now or self.fills and now - self.taken_at >= FULL_S

    def require_progress(self, now):
        require(now - self.moved_at < STUCK_S,
                f"nothing for {STUCK_S:.0f} s behind {self.received} of {self.sent} bytes: {vars(self.plan)}")

    def act(self, now):
        """Sends and receives what it can. Returns whether it has ended."""
        if self.may_send() and self._send() > FEW_BYTES:
            self.taken_at = now
        if self.fills and (self.sent == self.plan.bytes or now - self.taken_at >= FULL_S):
            self.fills = False
        ended = not self.fills and self.sleeps_until <= now and self._receive(now)
        if self.plan.resets_at is not None and self.received >= self.plan.resets_at:
            self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return True
        if self.received == self.plan.bytes and self.plan.end in ("closes", "unwraps"):
            return True
        if ended:
            require(self.has_shut, f"the server has closed behind {self.received} of {self.plan.bytes} bytes")
            require(self.received == self.plan.bytes, f"{self.received} of {self.plan.bytes} bytes came back")
        self.require_progress(now)
        return ended

    def _send(self):
        """Sends a piece, or what the kernel takes of it. Returns how much that is."""
        before = self.sent
        if self.sent >= self.piece_ends_at:
            most = self.plan.piece_max.bit_length() - 1
            piece = int(2 ** self.random.uniform(most if self.fills else 0, most))
            self.piece_ends_at = min(self.sent + piece, self.plan.bytes)
        data = self.pattern.piece(self.plan.begins_at + self.sent, self.piece_ends_at - self.sent)
        try:
            self.sent += self.channel.send(data)
            self.offered = self.sent
        except BlockingIOError:
            pass
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            # OpenSSL may have sent a record of it nevertheless, which it counts when it is called again.
            self.offered = self.piece_ends_at
        if self.sent == self.plan.bytes and self.plan.end == "half-closes":
            self.channel.shutdown(socket.SHUT_WR)
            self.has_shut = True
        return self.sent - before

    def _receive(self, now):
        """Requires the next bytes of the pattern. Returns whether the server has ended its direction."""
        self.sleeps_until = 0.0
        while True:
            try:
                data = self.channel.recv(SIP_BYTES if self.plan.way == "sips" else READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            if not data:
                return True
            expected = self.pattern.piece(self.plan.begins_at + self.received, len(data))
            if data != expected:
                wrong = next(n for n, (one, other) in enumerate(zip(data, expected)) if one != other)
                raise Failed(f"another byte behind {self.received + wrong}: {vars(self.plan)}")
            self.received += len(data)
            require(self.received <= self.offered, f"{self.received} bytes came back for {self.offered}")
            self.moved_at = now
            if self.plan.way == "sips":
                # What TLS has decrypted is read at the latest then, which no poll tells of.
                self.sleeps_until = now + NAP_S
                return False
            if not getattr(self.channel, "pending", int)():
                return False


def churn(open_channel, finish, ends, random_, until):
    """Keeps `CLIENTS` clients going until then, and lets them finish. Returns (connections, bytes that were compared)."""
    pattern, clients = Pattern(random_), {}
    connections = compared = 0
    with select.epoll() as poll:
        while True:
            now = time.monotonic()
            while now < until and len(clients) < CLIENTS:
                client = Client(open_channel(), Plan(random_, ends), random_, pattern, now)
                clients[client.channel.fileno()] = client
                poll.register(client.channel, client.events(now))
                connections += 1
            if not clients:
                return connections, compared
            ready = {descriptor for descriptor, _ in poll.poll(NAP_S)}
            now = time.monotonic()
            for descriptor, client in list(clients.items()):
                if descriptor in ready or client.wakes(now):
                    if client.act(now):
                        del clients[descriptor]
                        poll.unregister(descriptor)
                        compared += client.received
                        finish(client)
                        client.channel.close()
                    else:
                        poll.modify(descriptor, client.events(now))
                else:
                    client.require_progress(now)


def echo(address, random_, until):
    return churn(lambda: connect(address), lambda _: None, ("half-closes", "closes", "resets"), random_, until)


def through_proxy(address, target, random_, until):
    """The same, through a SOCKS5 proxy."""
    host, port = target
    request = bytes([5, 1, 0, 1]) + socket.inet_aton(host) + struct.pack(">H", port)

    def asked():
        channel = connect(address)
        channel.sendall(b"\x05\x01\x00" + request)
        reply = receive(channel, 12)
        require(reply[:6] == b"\x05\x00\x05\x00\x00\x01", f"the proxy answers {reply!r}")
        return channel

    return churn(asked, lambda _: None, ("half-closes", "closes", "resets"), random_, until)


def over_tls(address, certificate, random_, until):
    contexts = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        contexts.append(ssl.create_default_context(cafile=certificate))
        contexts[-1].minimum_version = contexts[-1].maximum_version = version

    def shaken():
        return random_.choice(contexts).wrap_socket(connect(address), server_hostname="localhost")

    def finish(client):
        """Has both sides say that nothing follows: it fails if the server does not, or sends more."""
        if client.plan.end == "unwraps":
            client.channel.settimeout(STUCK_S)
            client.channel.unwrap()

    return churn(shaken, finish, ("unwraps", "closes", "resets"), random_, until)


class Member:
    """A member of the chat room, and the lines that it is to hear: in order from each of the others, and of the room."""

    def __init__(self, address, name):
        self.name, self.unread, self.compared = name, b"", 0
        self.expected = collections.defaultdict(collections.deque)
        self.socket = connect(address)
        self.socket.settimeout(STUCK_S)
        self.require_line(b"Your name?")
        self.socket.sendall(name + b"\r\n")
        self.require_line(b"Welcome, " + name + b". /who lists who is here, /quit leaves.")

    def require_line(self, wanted):
        line = receive(self.socket, len(wanted) + 2)
        require(line == wanted + b"\r\n", f"{line!r}, not {wanted!r}")
        self.compared += len(line)

    def hear(self):
        data = self.socket.recv(READ_BYTES)
        require(data, f"{self.name} is let go")
        *lines, self.unread = (self.unread + data).split(b"\r\n")
        for line in lines:
            speaker, colon, _ = line.partition(b": ")
            expected = self.expected[speaker if colon else b"*"]
            require(expected, f"{self.name} hears {line[:60]!r}, which nobody has said")
            wanted = expected.popleft()
            require(line == wanted, f"{self.name} hears {line[:60]!r}, not {wanted[:60]!r}")
            self.compared += len(line) + 2

    def has_heard_all(self):
        return not self.unread and not any(self.expected.values())

    def leave(self, way):
        require(self.has_heard_all(), f"{self.name} has not heard all")
        if way == "resets":
            reset(self.socket)
            return
        if way == "quits":
            self.socket.sendall(b"/quit\r\n")
            require(self.socket.recv(1) == b"", f"{self.name} is not let go")
        self.socket.close()


class Room:
    """The members of a chat room, all of them ours, and what they say."""

    def __init__(self, address, random_):
        self.address, self.random = address, random_
        self.members, self.connections, self.compared = [], 0, 0
        letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,;-"
        self.letters = bytes(random_.choices(letters, k=PERIOD))

    def tell(self, teller, kind, line):
        for member in self.members:
            if member is not teller:
                member.expected[kind].append(line)

    def join(self):
        self.connections += 1
        name = b"m%d" % self.connections
        newcomer = Member(self.address, name)
        self.tell(None, b"*", b"* %s has joined" % name)
        self.members.append(newcomer)
        self.all_hear()

    def leave(self):
        leaver = self.members.pop(self.random.randrange(len(self.members)))
        leaver.leave(self.random.choice(("quits", "closes", "resets")))
        self.compared += leaver.compared
        self.tell(None, b"*", b"* %s has left" % leaver.name)
        self.all_hear()

    def talk(self):
        """Some say several lines at once, which arrive in pieces."""
        for speaker in self.random.sample(self.members, self.random.randint(1, 4)):
            data = b""
            for _ in range(self.random.randint(1, 20)):
                begin = self.random.randrange(PERIOD - LINE_BYTES_MAX)
                count = min(int(2 ** self.random.uniform(0, LINE_BYTES_MAX.bit_length())), LINE_BYTES_MAX - 2)
                text = b"x" + self.letters[begin : begin + count] + b"x"  # Space at its ends would be cut off.
                self.tell(speaker, speaker.name, speaker.name + b": " + text)
                data += text + b"\r\n"
            while data:
                piece = int(2 ** self.random.uniform(0, len(data).bit_length()))
                speaker.socket.sendall(data[:piece])
                data = data[piece:]
        self.all_hear()

    def all_hear(self):
        waiting = {member.socket: member for member in self.members if not member.has_heard_all()}
        deadline = time.monotonic() + STUCK_S
        while waiting:
            for heard in select.select(list(waiting), [], [], STUCK_S)[0]:
                waiting[heard].hear()
                if waiting[heard].has_heard_all():
                    del waiting[heard]
            require(time.monotonic() < deadline, f"{[member.name for member in waiting.values()]} do not hear all")


def chat(address, random_, until):
    room = Room(address, random_)
    for _ in range(MEMBERS):
        room.join()
    while time.monotonic() < until:
        for _ in range(room.random.randint(0, 4)):
            room.talk()
        room.leave()
        room.join()
    while room.members:
        room.leave()
    return room.connections, room.compared


KINDS = {"echo": echo, "relay": echo, "proxy": through_proxy, "tls": over_tls, "chat": chat}


def process(kind, arguments, seed, rounds):
    """The body of a client process: for each number of seconds that it is sent, it answers with what it has found.

    It ends with the process that started it, whose end of the pipe is closed then.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    random_ = random.Random(f"{kind} {seed}")
    with contextlib.suppress(EOFError, OSError):
        while True:
            seconds = rounds.recv()
            until = time.monotonic() + seconds  # From when this was received, not awaited.
            try:
                rounds.send((KINDS[kind](*arguments, random_, until), None))
            except Exception as error:  # Told by the other process.
                rounds.send((None, f"{kind}: {type(error).__name__}: {error}"))
