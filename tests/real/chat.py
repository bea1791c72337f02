"""The chat example with real clients: names, joins, leaves, escapes, telnet's bytes, and a member that never reads.

    python3 tests/real/chat.py

after `cargo build --examples --all-features`.  The room of 500 needs about 600 open descriptors here, and is skipped
if the limit cannot be raised that far.
"""

import resource
import selectors
import socket
import time

from harness import Checks, Server, connect, example, require

MEMBERS = 500
LINES = 40  # Per talking member.
TALKERS = 20
ENDLESS_MIB = 256
FILLING = 1000  # Bytes per line: soon more than one queue and the kernel's buffers hold.
LINES_MAX = 600  # Per talking member; by then the one that never reads must have been disconnected.


class Client:
    """A member: what it sends, and the lines it gets."""

    def __init__(self, server, name=None):
        self.socket = connect(server.address)
        self.unread = b""
        require(self.line() == b"Your name?", "no question")
        if name:
            self.say(name)
            require(self.line().startswith(b"Welcome, " + name), f"no welcome for {name}")

    def say(self, line):
        self.socket.sendall(line + b"\r\n")

    def line(self):
        while b"\r\n" not in self.unread:
            data = self.socket.recv(65536)
            require(data, "the server has closed")
            self.unread += data
        line, self.unread = self.unread.split(b"\r\n", 1)
        return line

    def expect(self, line):
        got = self.line()
        require(got == line, f"{got!r}, not {line!r}")

    def gone(self):
        try:
            return self.socket.recv(65536) == b""
        except ConnectionError:
            return True


def conversation():
    with Server([example("chat")]) as server:
        ann = Client(server, b"ann")
        bob = Client(server)
        early = Client(server)
        early.say(b" /quit ")
        require(early.gone(), "not let go without a name")
        for name in [b"", b"two words", b"x" * 21, b"\x1b[2J", b"\xc3\xa9"]:
            bob.say(name)
            bob.expect(b"A name has 1 to 20 letters and digits. Your name?")
        bob.say(b"ann")
        bob.expect(b"That name is taken. Your name?")
        bob.say(b"bob")
        require(bob.line().startswith(b"Welcome, bob"), "no welcome")
        ann.expect(b"* bob has joined")
        bob.say(b"hello \x1b[2J\\ \xe2\x80\xaeforged\r")
        ann.expect(b"bob: hello \\x1b[2J\\\\ \\u{202e}forged")
        ann.say(b"/who")
        ann.expect(b"* here now: ann, bob")
        ann.say(b"/nick")
        ann.expect(b"* there are /who and /quit")
        ann.say(b"x" * 2000)
        ann.expect(b"* that was too long")
        ann.say(b"still here")
        bob.expect(b"ann: still here")
        bob.say(b"/quit")
        require(bob.gone(), "not let go")
        ann.expect(b"* bob has left")
        ann.say(b"/who")
        ann.expect(b"* here now: ann")
        ann.socket.close()
        server.require_quiet()


def telnet_bytes():
    with Server([example("chat")]) as server:
        ann, bob = Client(server, b"ann"), Client(server, b"bob")
        ann.expect(b"* bob has joined")
        # An option is refused and a question answered, in the middle of a line, sent byte by byte.
        for byte in b"he\xff\xfd\x01ll\xff\xf6o\xff\xff\r\n":
            bob.socket.sendall(bytes([byte]))
        ann.expect(b"bob: hello\\xff")
        bob.expect(b"\xff\xfc\x01* yes")
        bob.socket.sendall(b"\xff\xf4\xff\xf2")
        ann.expect(b"* bob has left")
        require(bob.gone(), "the interrupt key does not leave")


def endless_line():
    """An endless line is reported once, and costs the server nothing, however long it gets."""
    with Server([example("chat")]) as server:
        ann, bob = Client(server, b"ann"), Client(server, b"bob")
        ann.expect(b"* bob has joined")
        piece = b"x" * (1 << 20)
        before_mib = server.memory_peak_mib()
        for n in range(ENDLESS_MIB):
            bob.socket.sendall(piece)
            if n == ENDLESS_MIB // 2:
                ann.say(b"anybody there?")
                bob.expect(b"* that was too long")
                bob.expect(b"ann: anybody there?")
        bob.say(b"the end")
        bob.say(b"another line")
        ann.expect(b"bob: another line")
        grown_mib = server.memory_peak_mib() - before_mib
        require(grown_mib < 1, f"{grown_mib:.1f} MiB more")
        return f"{ENDLESS_MIB} MiB in one line, {grown_mib * 1024:.0f} KiB more at most"


def crowd():
    """500 members, one of which never reads: the other 499 get every line in order, and that one is disconnected."""
    with Server([example("chat")], descriptors_max=4096) as server:
        silent = socket.socket()
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(server.address)
        silent.sendall(b"silent\r\n")
        readers = [Client(server, b"m%03d" % n) for n in range(MEMBERS - 1)]
        expected = {
            b"m%03d" % n: [b"m%03d: %d %s" % (n, line, b"x" * FILLING) for line in range(LINES_MAX)]
            for n in range(TALKERS)
        }
        for reader in readers:
            reader.heard = {name: 0 for name in expected}
            reader.cut = False
            reader.socket.setblocking(False)
        selector = selectors.DefaultSelector()
        for n, reader in enumerate(readers):
            selector.register(reader.socket, selectors.EVENT_READ, (b"m%03d" % n, reader))
        talkers = {name: readers[n] for n, name in enumerate(expected)}
        heard, said, deadline = 0, 0, time.monotonic() + 90
        while said < LINES or heard < all_heard(said) or not all(reader.cut for reader in readers):
            require(time.monotonic() < deadline, f"{heard} of {all_heard(said)} lines heard")
            # Talkers send their next line once all have received the last, until the silent member is disconnected.
            if heard == all_heard(said):
                require(said < LINES_MAX, "the member who never reads is not cut off")
                for name, talker in talkers.items():
                    talker.socket.sendall(expected[name][said][len(name) + 2 :] + b"\r\n")
                said += 1
            for key, _ in selector.select(0.1):
                name, reader = key.data
                heard += hear(name, reader, expected)
        silent.close()
        return f"{heard} lines heard, the silent one cut off"


def all_heard(said):
    """Returns how many lines are received for so many per talker: the silent member and the sender get none."""
    return (MEMBERS - 2) * TALKERS * said


def hear(name, reader, expected):
    """Reads what has arrived, checks its order, and returns the number of lines."""
    data = reader.socket.recv(1 << 20)
    require(data, f"{name} was cut off")
    *lines, reader.unread = (reader.unread + data).split(b"\r\n")
    count = 0
    for line in lines:
        speaker = line.split(b":", 1)[0]
        if speaker in expected:
            wanted = expected[speaker][reader.heard[speaker]]
            require(line == wanted, f"{name} heard {line[:40]!r}, not {wanted[:40]!r}")
            reader.heard[speaker] += 1
            count += 1
        elif line == b"* silent has left":
            reader.cut = True
        else:
            require(line.endswith(b"has joined"), f"{name} heard {line!r}")
    return count


def main():
    checks = Checks(limit_s=180)
    checks.run("names, joins, leaves, commands, escapes", conversation)
    checks.run("telnet's control bytes", telnet_bytes)
    checks.run("a line without end", endless_line)
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < MEMBERS + 100 <= most:
        limit = MEMBERS + 100
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    if limit < MEMBERS + 100:
        checks.skip("a room of 500", f"only {limit} descriptors")
    else:
        checks.run("a room of 500, one of whom never reads", crowd)
    checks.finish()


if __name__ == "__main__":
    main()
