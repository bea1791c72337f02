#!/usr/bin/env python3
"""Interactive clients against the select server and the chat room: telnet, PuTTY's plink and BusyBox's telnet on terminals
of their own, and netcat.

A pseudo-terminal types into them, as a person does.  Telnet's interrupt key sends the telnet codes IAC IP, and
its Synch is sent as urgent data: a server that stops reading at the urgent mark never sees the line that follows.
In character mode, telnet ends a line with CR NUL.

Debian: telnet (which is inetutils-telnet), putty-tools, busybox, netcat-openbsd.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import termios
import threading
import time

import harness
from harness import Checks, Failed, Server, require

LIMIT_S = 120
INTERRUPT = b"\x03"
ESCAPE = b"\x1d"
LOCAL_MODES = 3  # Where a terminal's attributes have the flags of line editing,
CONTROL_KEYS = 6  # and where they list its special keys.
END_OF_INPUT = b"\x04"  # After half a line, it sends that as it is.
IAC_IP = b"\xff\xf4"
IAC_DO_TIMING_MARK = b"\xff\xfd\x06"
IAC_DATA_MARK = b"\xff\xf2"


class Terminal:
    """A client with a terminal of its own."""

    def __init__(self, argv):
        ours, terminal = os.openpty()
        self.terminal = ours
        self.shown = b""
        self.changed = threading.Condition()
        self.process = harness.start(
            ["setsid", "--ctty", *argv],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "dumb", "LC_ALL": "C"},
        )
        os.close(terminal)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            harness.end(self.process)
        self._reader.join(harness.WAIT_S)
        os.close(self.terminal)

    def _read(self):
        while True:
            try:
                piece = os.read(self.terminal, 4096)
            except OSError:  # This is how a terminal reports that its program has exited.
                return
            with self.changed:
                self.shown += piece
                self.changed.notify_all()

    def wait_for_shown(self, text, after=0):
        with self.changed:
            found = self.changed.wait_for(lambda: text in self.shown[after:], harness.WAIT_S)
        require(found, f"the client does not show {text!r} but {self.shown[after:]!r}")

    def type(self, keys):
        os.write(self.terminal, keys)

    def wait_for_keys_one_by_one(self):
        """Waits until the terminal passes on each key at once, instead of whole lines."""
        deadline = time.monotonic() + harness.WAIT_S
        while termios.tcgetattr(self.terminal)[LOCAL_MODES] & termios.ICANON:
            require(time.monotonic() < deadline, f"it does not leave the line mode: {self.shown!r}")
            time.sleep(harness.POLL_S)

    def wait_for_end(self):
        try:
            return self.process.wait(harness.WAIT_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"the client does not end: {self.shown!r}") from None


    # Of inetutils' telnet.

    def wait_for_mode(self, talking):
        """Waits until telnet has set its terminal for the session (in which the escape key ends a line) or for commands.

        Input typed before that is read in the old mode, or discarded by the change.
        """
        deadline = time.monotonic() + harness.WAIT_S
        while (termios.tcgetattr(self.terminal)[CONTROL_KEYS][termios.VEOL] == ESCAPE) != talking:
            require(self.process.poll() is None, f"telnet ended: {self.shown!r}")
            require(time.monotonic() < deadline, f"telnet does not get ready: {self.shown!r}")
            time.sleep(harness.POLL_S)

    def command(self, text, shows=b"", then=None):
        """Types at telnet's own prompt, and waits until telnet shows this and resumes the session, or for something else."""
        before = len(self.shown)
        self.type(ESCAPE)
        self.wait_for_mode(talking=False)
        self.wait_for_shown(b"telnet> ", before)
        self.type(text.encode() + b"\n")
        self.wait_for_shown(shows, before)
        (then or (lambda: self.wait_for_mode(talking=True)))()


def connections(server):
    return [line.split()[-1].decode() for line in server.lines if line.startswith(b"Got connection from ")]


class Printed(Terminal):
    """A client of the select server, which prints what the client sends."""

    def __init__(self, server, argv):
        already = len(connections(server))
        super().__init__(argv)
        server.wait(lambda: len(connections(server)) == already + 1, "one connection more")
        self.server = server
        self.name = connections(server)[-1]
        self.sent = b""

    def wait_for_sent(self, data):
        """Waits until the server has printed this next, and nothing else."""
        self.sent += data

        def all_printed():
            return b"".join(harness.printed_of(self.server, self.name)) == self.sent

        self.server.wait(all_printed, f"{self.sent!r} from {self.name}")

    def say(self, line):
        """Types a line and waits until it is printed."""
        self.type(line.encode() + b"\n")
        self.wait_for_sent(line.encode())


def telnet(address):
    return ["telnet", address[0], str(address[1])]


class Telnet(Printed):
    def __init__(self, server):
        super().__init__(server, telnet(server.address))
        self.wait_for_mode(talking=True)

    def quit(self):
        self.command("quit", b"Connection closed.", self.wait_for_end)
        require(self.process.returncode == 0, f"telnet exits with {self.process.returncode}")
        self.server.wait_for_text(harness.DISCONNECTED.format(self.name))


def two_at_once(server):
    with Telnet(server) as first, Telnet(server) as second:
        first.say("hello from the first")
        second.say("hello from the second")
        first.say("I am not done yet")
        require_lines(server, first, "hello from the first", "I am not done yet")
        require_lines(server, second, "hello from the second")
        first.quit()
        second.say("left alone, and still heard")
        second.quit()


def require_lines(server, telnet, *lines):
    printed = harness.printed_of(server, telnet.name)
    require(printed == [line.encode() for line in lines], f"printed {printed}")


def a_silent_one_blocks_nobody(server):
    with Telnet(server) as silent, Telnet(server) as talker:
        talker.say("is anybody there?")
        talker.quit()
        silent.say("yes, I am")
        silent.quit()


def terminal_controls_come_out_escaped(server):
    with Telnet(server) as telnet:
        # The terminal's literal-next key (^V) lets a person type an escape.
        telnet.type(b"red \x16\x1b[31m\n")
        telnet.wait_for_sent(b"red \x1b[31m")
        server.wait_for_text(f"{telnet.name}: red \\x1b[31m")
        telnet.quit()


def interrupt_key(server):
    with Telnet(server) as telnet:
        telnet.say("before")
        telnet.type(INTERRUPT)
        telnet.wait_for_sent(IAC_IP + IAC_DO_TIMING_MARK)
        telnet.say("after")
        telnet.quit()


def interrupt_key_with_urgent_data(server):
    with Telnet(server) as telnet:
        telnet.command("toggle autosynch", shows=b"urgent mode")
        for number in range(3):
            telnet.say(f"before {number}")
            telnet.type(INTERRUPT)
            telnet.wait_for_sent(IAC_IP + IAC_DO_TIMING_MARK + IAC_DATA_MARK)
            telnet.say(f"after {number}")
        telnet.quit()


def send_commands(server):
    with Telnet(server) as telnet:
        telnet.say("before")
        telnet.command("send synch")
        telnet.wait_for_sent(IAC_DATA_MARK)
        telnet.say("after synch")
        telnet.command("send ip")
        telnet.wait_for_sent(IAC_IP)
        telnet.say("after ip")
        telnet.quit()


# ------------------------------------------------------------------------------------------------------ other clients


def plink(way):
    return lambda address: ["plink", way, "-P", str(address[1]), address[0]]


def busybox(address):
    return ["busybox", "telnet", address[0], str(address[1])]


# Their names, how they are started, and what each sends first.
OTHERS = [
    ("plink -raw", plink("-raw"), b""),
    # Will: size of the window, speed, type, environment, no go-aheads. Do: echo, no go-aheads.
    ("plink -telnet", plink("-telnet"), b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfb\x27\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03"),
    ("busybox telnet", busybox, b""),
]


def installed(program):
    require(shutil.which(program), "it is not installed")


def other_prints_lines(server, argv, greeting):
    with Printed(server, argv(server.address)) as client:
        client.wait_for_sent(greeting)
        client.say("hello")
        client.say("and again")
        client.type(b"half a line" + END_OF_INPUT)
        client.wait_for_sent(b"half a line")
        client.say("and its end")
        printed = harness.printed_of(server, client.name)[-4:]
        require(printed == [b"hello", b"and again", b"half a line", b"and its end"], f"printed {printed}")
    server.wait_for_text(harness.DISCONNECTED.format(client.name))


def other_chats(argv):
    """Exchanges lines both ways in the chat room, which speaks telnet."""
    with chat_room() as (server, member), Terminal(argv(server.address)) as client:
        client.wait_for_shown(b"Your name?")
        # This one exits when its own input ends, as netcat does.
        converse(member, client, b"\n", at_the_end=END_OF_INPUT if "-raw" in client.process.args else b"")


@contextlib.contextmanager
def chat_room():
    with Server([harness.example("chat"), "127.0.0.1:0"]) as server, harness.connect(server.address) as member:
        expect(member, b"Your name?\r\n")
        member.sendall(b"member\r\n")
        expect(member, b"Welcome, member. /who lists who is here, /quit leaves.\r\n")
        yield server, member


def converse(member, client, enter, also=(), at_the_end=b""):
    """The client, which was asked for its name, joins, sends and receives a line, and leaves."""
    client.type(b"visitor" + enter)
    client.wait_for_shown(b"Welcome, visitor.")
    expect(member, b"* visitor has joined\r\n")
    for typed, heard in ((b"good evening", b"good evening"), *also):
        client.type(typed + enter)
        expect(member, b"visitor: " + heard + b"\r\n")
        member.sendall(b"to you too\r\n")
        before = len(client.shown)
        client.wait_for_shown(b"member: to you too", max(0, before - 100))
    client.type(b"/quit" + enter)
    expect(member, b"* visitor has left\r\n")
    client.type(at_the_end)
    client.wait_for_end()


def expect(member, line):
    got = harness.receive(member, len(line))
    require(got == line, f"{got!r}, not {line!r}")


BYTE_255 = (b"x\xffy", b"x\\xffy")  # On the wire it is doubled; the room shows it escaped.
OFFER_TO_ECHO = b"\xff\xfb\x01\xff\xfb\x03"
WONT_ECHO = b"\xff\xfc\x01"
WONT_SUPPRESS_GO_AHEAD = b"\xff\xfc\x03"


def other_chats_key_by_key(argv, line_end):
    """Connects through a relay that offers to echo, as a terminal server does, so that the client sends each key by itself."""
    with chat_room() as (server, member), offers_echo(server.address) as (address, sent):
        with Terminal(argv(address)) as client:
            client.wait_for_shown(b"Your name?")
            client.wait_for_keys_one_by_one()
            converse(member, client, b"\r", [BYTE_255])
        for typed in (b"visitor", b"good evening", b"x\xff\xffy", b"/quit"):
            require(typed + line_end in sent, f"sent {bytes(sent)!r}, without {typed + line_end!r}")


@contextlib.contextmanager
def offers_echo(server_address):
    """Relays one connection after an offer to echo, and keeps what the client has sent.

    The room's refusal to echo, once the client has agreed to it, is not passed on.
    """
    sent = bytearray()

    def pass_on(source, target, kept):
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                kept += data
                target.sendall(data.replace(WONT_ECHO, b"").replace(WONT_SUPPRESS_GO_AHEAD, b""))
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve():
        with contextlib.suppress(OSError), listener.accept()[0] as client, harness.connect(server_address) as server:
            client.sendall(OFFER_TO_ECHO)
            back = threading.Thread(target=pass_on, args=(server, client, bytearray()), daemon=True)
            back.start()
            pass_on(client, server, sent)
            back.join(harness.WAIT_S)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(harness.WAIT_S)
        between = threading.Thread(target=serve, daemon=True)
        between.start()
        yield listener.getsockname(), sent
        between.join(harness.WAIT_S)


def netcat(server, text, printed):
    """Sends text with `nc -N`, which shuts down its half after the text, and exits when the server ends the other half."""
    already = len(server.lines)
    try:
        done = subprocess.run(
            ["nc", "-N", server.address[0], str(server.address[1])],
            input=text,
            capture_output=True,
            timeout=harness.WAIT_S,
        )
    except subprocess.TimeoutExpired:
        raise Failed("nc does not end: the server keeps its half open") from None
    require(done.returncode == 0, f"nc exits with {done.returncode}: {done.stderr!r}")
    require(not done.stdout, f"nc was sent {done.stdout!r}")
    server.wait(lambda: server.lines[already:] and server.lines[-1].endswith(b" disconnected"), "the end of nc")
    got, *lines, left = server.lines[already:]
    name = got.decode().split()[-1]
    expected = [f"{name}: {line}" for line in printed]
    require(got.decode() == harness.GOT_CONNECTION.format(name), f"printed {got!r}")
    require([line.decode() for line in lines] == expected, f"printed {lines!r}")
    require(left.decode() == harness.DISCONNECTED.format(name), f"printed {left!r}")


def main():
    checks = Checks(LIMIT_S)
    for program in ("telnet", "plink", "busybox", "nc"):
        checks.run(f"{program} is there", installed, program)
    with Server([harness.example("select_server"), "127.0.0.1:0"]) as server:
        checks.run("two telnets at once", two_at_once, server)
        checks.run("a silent telnet blocks nobody", a_silent_one_blocks_nobody, server)
        checks.run("what moves a terminal's cursor is printed escaped", terminal_controls_come_out_escaped, server)
        checks.run("telnet's interrupt key", interrupt_key, server)
        checks.run("telnet's interrupt key with urgent data", interrupt_key_with_urgent_data, server)
        checks.run("telnet's send ip and send synch", send_commands, server)
        checks.run("netcat with two lines", netcat, server, b"one\ntwo\r\n", ["one", "two"])
        checks.run("netcat with a partial line", netcat, server, b"one\n\npart", ["one", "", "part"])
        checks.run("netcat with nothing", netcat, server, b"", [])
        for name, argv, greeting in OTHERS:
            checks.run(f"{name}, printed", other_prints_lines, server, argv, greeting)
        checks.run("idle afterwards", server.require_quiet)
        checks.run("ends with 0", lambda: require(server.end() == 0, "another exit code"))
    for name, argv, _ in OTHERS:
        checks.run(f"{name} in the chat room", other_chats, argv)
    checks.run("telnet in the chat room, key by key", other_chats_key_by_key, telnet, b"\r\0")
    checks.run("plink -telnet in the chat room, key by key", other_chats_key_by_key, plink("-telnet"), b"\r\0")
    checks.run("busybox telnet in the chat room, key by key", other_chats_key_by_key, busybox, b"\r\n")
    checks.finish()


if __name__ == "__main__":
    main()
