"""What is said in the sessions of `sweep.py`: clients that compare all that they receive, and what is printed."""

import contextlib
import os
import re
import select
import signal
import socket
import time

import harness
from harness import require

PATIENCE_S = 4.0  # How long a client waits for an answer: longer than any pause after which the loop tries again.
ATTEMPTS = 5  # More than there are threads or processes.
DATAGRAM_PATIENCE_S = 2.0


class Cut(Exception):
    """A client's connection has ended before its time: `how` is "ended", "short" or "hung"."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


class Client:
    """A client of a stream server that compares all that it receives."""

    def __init__(self, session, address=None):
        self.session = session
        self.verdict = "exact"
        address = address or session.addresses[0]
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        session.sockets.append(self.socket)
        self.socket.settimeout(PATIENCE_S)
        # Its name in a trace.
        self.name = str(os.fstat(self.socket.fileno()).st_ino)
        try:
            self.socket.connect(address)
            if self.socket.family == socket.AF_INET:
                self.name = str(self.socket.getsockname()[1])
        except TimeoutError:
            self.verdict = "hung"
        except OSError:
            self.verdict = "ended"

    def asks(self, data, answer, ends=False):
        """Sends this while it receives, until the answer is there, and with `ends` until the end of the stream."""
        if self.verdict == "exact":
            try:
                self._exchange(data, answer, ends)
            except Cut as cut:
                self.verdict = cut.how
            except OSError:
                self.verdict = "ended"
        return self

    def _exchange(self, data, answer, ends):
        self.received, data = b"", memoryview(data)
        self.socket.setblocking(False)
        deadline = time.monotonic() + PATIENCE_S
        is_shut, whole = False, lambda: re.fullmatch(answer, self.received, re.DOTALL)
        while ends or not whole():
            left_s = deadline - time.monotonic()
            readable, writable, _ = select.select([self.socket], [self.socket] if data else [], [], max(left_s, 0))
            if not readable and not writable:
                raise Cut("hung")
            if writable:
                data = data[self.socket.send(data) :]
            if ends and not data and not is_shut:
                self.socket.shutdown(socket.SHUT_WR)
                is_shut = True
            if readable:
                piece = self.socket.recv(1 << 16)
                if not piece:
                    if ends and not data and whole():
                        return
                    raise Cut("short")
                self.received += piece
                require(len(self.received) < 1 << 20, "it answers without end")

    def leaves(self):
        self.socket.close()
        self.session.tell(self.verdict, self.name)


def is_text(data):
    return re.escape(data)


def talk(session, greeting=b"", small=b"one line\n", large=b"x" * 3999 + b"\n", count=50, answer=is_text, stays=True):
    """Clients that come one by one and stay, send little and much, and end in different ways."""
    first = Client(session).asks(small, greeting + answer(small))
    second = Client(session, session.addresses[-1]).asks(large * count, greeting + answer(large) * count)
    third = Client(session).asks(small * 2, greeting + answer(small) * 2, ends=True)
    third.leaves()
    first.asks(small, answer(small)).leaves()
    second.asks(small, answer(small)).leaves()
    last = served(session, lambda: Client(session).asks(small, greeting + answer(small)))
    if not stays:
        last.leaves()
    session.rest()
    if stays:
        session.stayed = last


def served(session, comes):
    """Lets clients come until one is served: some may meet the failure, one by thread, but not all."""
    for _ in range(ATTEMPTS):
        last = comes()
        if last.verdict == "exact":
            return last
        last.leaves()
    # Each child meets it anew: whether it has done lasting harm shows without the failure.
    if last.verdict != "hung" and session.stop_failing():
        last = comes()
        if last.verdict == "exact":
            return last
    last.verdict = "hung"
    return last


def talk_http(session):
    """The same for HTTP: only the date varies."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    talk(session, small=request, large=request, count=30, stays=False,
         answer=lambda _: rb"HTTP/1\.1 200 OK\r\n(?:[^\r]+\r\n)+\r\n[^\r]*?\n")


def talk_resp(session):
    """The same for Redis' protocol."""
    talk(session, small=b"*2\r\n$4\r\nECHO\r\n$3\r\nyes\r\n", large=b"*2\r\n$4\r\nECHO\r\n$3\r\nyes\r\n", count=500,
         answer=lambda _: rb"\$3\r\nyes\r\n", stays=False)


class Printed(Client):
    """A client of a server that only prints what it is sent: its lines are those that begin with its name."""

    def __init__(self, session):
        super().__init__(session)
        self.says = [b"Got connection from 127.0.0.1:%s" % self.name.encode()]

    def printed(self):
        own = re.compile(rb"(Got connection from )?127\.0\.0\.1:%s\b" % self.name.encode())
        return [line for line in self.session.lines() if own.match(line)]

    def sends(self, data, *lines):
        """Sends this, and waits until these lines of it are printed, or one of them might be lost."""
        self.says += [b"127.0.0.1:%s: %s" % (self.name.encode(), line) for line in lines]
        if self.verdict == "exact":
            try:
                self.socket.sendall(data)
                self._waits()
            except Cut as cut:
                self.verdict = cut.how
            except OSError:
                self.verdict = "ended"
        return self

    def _waits(self):
        """Waits for all lines so far. One that is missing while the last one is there is lost."""
        deadline = time.monotonic() + PATIENCE_S
        while self.says[-1] not in self.printed():
            if select.select([self.socket], [], [], harness.POLL_S)[0]:
                require(self.socket.recv(1) == b"", "it says something")
                raise Cut("short")
            if time.monotonic() > deadline:
                return  # It is lost, which is judged when all has been said.

    def leaves(self):
        is_cut = self.verdict in ("short", "ended")
        self.says.append(b"127.0.0.1:%s disconnected" % self.name.encode())
        self.socket.close()
        deadline = time.monotonic() + PATIENCE_S
        while self.says[-1] not in self.printed() and time.monotonic() < deadline:
            time.sleep(harness.POLL_S)
        printed = self.printed()
        if is_cut and printed:
            # What was printed before it was cut off, if anything, and its end.
            self.says = self.says[: len(printed) - 1] + self.says[-1:]
        elif is_cut:
            self.says = []
        missing = [line for line in self.says if line not in printed]
        require(printed == [line for line in self.says if line in printed], f"printed {printed}, not {self.says}")
        for _ in missing:
            self.session.tell("lost", self.name)
        super().leaves()


def talk_printed(session):
    """Lines that come whole, in pieces, without an end and with what must be escaped."""
    first = Printed(session).sends(b"one line\n", b"one line")
    second = Printed(session).sends(b"x" * 3999 + b"\ny\x1b[2J\r\n\n", b"x" * 3999, rb"y\x1b[2J", b"")
    second.sends(b"half of ", b"half of ").sends(b"a line\n", b"a line")
    first.sends(b"two\nlines\n", b"two", b"lines").leaves()
    second.leaves()
    last = served(session, lambda: Printed(session).sends(b"last\n", b"last"))
    session.rest()
    last.leaves()


class Member(Client):
    """A member of the chat room, who hears of those that come and go."""

    def __init__(self, session, room, name):
        super().__init__(session)
        self.room, self.called, self.unread, self.gone, self.here = room, name, b"", [], []
        self.hears(b"Your name?")
        self.says(name)
        self.hears(b"Welcome, %s. /who lists who is here, /quit leaves." % name)
        if self.verdict == "exact":
            room.says_of(self, b"* %s has joined" % name)
            room.members.append(self)
            self.asks_who()
        else:
            room.half_joined.append(name)

    def asks_who(self):
        """It is told the names of all members; who is missing was cut off before, and it will not hear of that."""
        self.says(b"/who")
        self.hears(None)
        if self.verdict == "exact":
            names = [member.called for member in self.room.members]
            missing = [name for name in names if name not in self.here and name not in self.gone]
            require(self.here == sorted(set(names) - {*missing, *self.gone}), f"{self.here} are here, of {names}")
            require(all(self.room.may_be(name, b"left") for name in missing), f"{missing} are not here")
            self.gone += missing

    def says(self, line):
        with contextlib.suppress(OSError):  # That it is cut off shows when it hears nothing.
            self.socket.sendall(line + b"\r\n")

    def hears(self, line, of=None):
        """Hears this line (or, with None, who is here), said by `of`: if that one was cut off meanwhile, it may hear
        that instead."""
        while self.verdict == "exact":
            heard = self._line()
            if heard == line or heard is None:
                return
            if line is None and heard.startswith(b"* here now: "):
                self.here = heard.removeprefix(b"* here now: ").split(b", ")
                return
            which = re.fullmatch(rb"\* (\w+) has (left|joined)", heard)
            require(which and self.room.may_be(*which.groups()), f"{self.called} hears {heard}, not {line}")
            if which[2] == b"left":
                require(which[1] not in self.gone, f"{self.called} hears twice that {which[1]} has left")
                self.gone.append(which[1])
                if of and which[1] == of.called:
                    return

    def quits(self):
        """Leaves in order; until then it may hear that others were cut off."""
        self.says(b"/quit")
        while (heard := self._line()) is not None:
            left = re.fullmatch(rb"\* (\w+) has left", heard)
            require(left and self.room.may_be(left[1], b"left"), f"{self.called} leaves, and hears {heard}")
            require(left[1] not in self.gone, f"{self.called} hears twice that {left[1]} has left")
            self.gone.append(left[1])
        if self.verdict == "short" and not self.unread:
            self.verdict = "exact"

    def finds_itself_cut_off(self):
        """The others have heard that it has left, which it has not said."""
        require(self._line() is None, f"{self.called} is still told something")
        require(self.verdict != "hung", f"{self.called} is not told that it was cut off")

    def _line(self):
        deadline = time.monotonic() + PATIENCE_S
        while b"\r\n" not in self.unread:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                piece = self.socket.recv(1 << 16)
            except TimeoutError:
                self.verdict = "hung"
                return None
            except OSError:
                self.verdict = "ended"
                return None
            if not piece:
                self.verdict = "short"
                return None
            self.unread += piece
        line, self.unread = self.unread.split(b"\r\n", 1)
        return line


class Room:
    """What is said in the chat room, which everybody must hear."""

    def __init__(self):
        self.members, self.left = [], []
        self.half_joined = []  # Those that were cut off before they were welcomed: the others may have heard of them.

    def may_be(self, name, what):
        return name in self.half_joined or what == b"left" and name not in self.left

    def says_of(self, speaker, line):
        """All others hear this line."""
        for member in self.members:
            if member is not speaker:
                member.hears(line, speaker)
        self.looks_for(speaker)

    def looks_for(self, member):
        """Who has left by what the others hear was cut off."""
        if any(member.called in other.gone for other in self.members) and member.verdict == "exact":
            member.finds_itself_cut_off()

    def says(self, speaker, line):
        if speaker.verdict == "exact":
            speaker.says(line)
            self.says_of(speaker, b"%s: %s" % (speaker.called, line))

    def leaves(self, member):
        """One leaves in order, unless it was cut off: then the others hear of it once."""
        if member in self.members:
            self.members.remove(member)
            self.looks_for(member)
            if member.verdict == "exact":
                member.quits()
            for other in self.members:
                if member.called not in other.gone:
                    other.hears(b"* %s has left" % member.called)
            self.left.append(member.called)
        member.leaves()


def talk_chat(session):
    """Members who come, speak, ask who is there, and leave."""
    room = Room()
    members = [Member(session, room, name) for name in (b"Ann", b"Bob", b"Cleo")]
    for speaker in members:
        room.says(speaker, b"one line")
        room.says(speaker, b"x" * 1000)
    for member in room.members:
        member.asks_who()
    room.leaves(members[1])
    names = iter((b"Dan", b"Eve", b"Fay", b"Gus", b"Hal", b"Ida"))
    last = served(session, lambda: Member(session, room, next(names)))
    room.says(members[0], b"the last line")
    for member in (members[0], members[2], last):
        room.leaves(member)
    session.rest()


def talk_datagrams(session):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DATAGRAM_PATIENCE_S)
        client.connect(session.addresses[0])
        lost, name = 0, str(client.getsockname()[1])
        for number, length in enumerate((1, 100, 1472, 9000, 60_000, 2)):
            data = bytes([number]) * length
            client.send(data)
            try:
                # Sent again by time, an earlier one may come behind its time.
                if client.recv(1 << 16) != data:
                    session.tell("short", name)
            except (TimeoutError, ConnectionError):
                lost += 1
        told = sum(1 for line in session.lines() if b"listening on" not in line)
        session.tell("exact" if not lost else "ended" if lost == 1 and told else "hung", name)
        session.rest()


THANKS = b"Thank you for connecting\n"
SHORT_LINES = {"greeting": re.escape(THANKS), "count": 10, "stays": False}
READY = {"greeting": rb"Thank you for connecting\. What you send comes back\.\r\n", "count": 10}


def answered_by(pid):
    """Returns the answer of the service: the id of its process, and the line."""
    return lambda data: b"%d " % pid + re.escape(data)


def talk_service(session):
    talk(session, count=10, answer=answered_by(session.pid), stays=False)


def talk_restart(session):
    """Another process takes over, while a client stays with the old one; or the old one says why not, and goes on."""
    line, old = b"one line\n", session.pid
    stays = Client(session).asks(line, answered_by(old)(line))
    os.kill(old, signal.SIGUSR2)
    deadline = time.monotonic() + 2 * harness.WAIT_S
    while session.pid == old and b"this process continues" not in session.said():
        require(time.monotonic() < deadline, "nobody takes over, and nobody says why")
        asks = Client(session, session.addresses[-1]).asks(line, rb"\d+ one line\n")
        pid = int(asks.received.split()[0] if asks.verdict == "exact" else old)
        asks.leaves()
        if pid != old:
            session.follows(pid)
        time.sleep(10 * harness.POLL_S)
    # The old process ends such a connection behind its answer, and the last one ends it.
    stays.asks(line, answered_by(old)(line), ends=True).leaves()
    if session.pid == old:
        session.tell("stayed")
    talk_service(session)
