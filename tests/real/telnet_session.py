#!/usr/bin/env python3
"""People's clients against the select server: two telnets at once on terminals of their own, and netcat.

Telnet is typed at through a pseudo-terminal, as a person does.  Its interrupt key sends the telnet codes IAC IP, and
its Synch is sent as urgent data: whoever stops reading at the urgent mark never sees the line that follows.
"""

import os
import subprocess
import termios
import threading
import time

import harness
from harness import Checks, Failed, Server, require

LIMIT_S = 120
INTERRUPT = b"\x03"
ESCAPE = b"\x1d"
CONTROL_KEYS = 6  # Where the terminal's attributes list its special keys.
IAC_IP = b"\xff\xf4"
IAC_DO_TIMING_MARK = b"\xff\xfd\x06"
IAC_DATA_MARK = b"\xff\xf2"


class Telnet:
    """A telnet with a terminal of its own."""

    def __init__(self, server):
        ours, terminal = os.openpty()
        self.terminal = ours
        self.shown = b""
        self.changed = threading.Condition()
        already = server.count(rb"Got connection from \S+")
        self.process = harness.start(
            ["setsid", "--ctty", "telnet", server.address[0], str(server.address[1])],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "dumb", "LC_ALL": "C"},
        )
        os.close(terminal)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_for_mode(talking=True)
        server.wait(lambda: server.count(rb"Got connection from \S+") == already + 1, "one connection more")
        self.server = server
        self.name = [line for line in server.lines if line.startswith(b"Got ")][-1].split()[-1].decode()
        self.sent = b""

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
            except OSError:  # So a terminal says that its program has left.
                return
            with self.changed:
                self.shown += piece
                self.changed.notify_all()

    def wait_for_shown(self, text, after=0):
        with self.changed:
            found = self.changed.wait_for(lambda: text in self.shown[after:], harness.WAIT_S)
        require(found, f"telnet does not show {text!r} but {self.shown[after:]!r}")

    def wait_for_mode(self, talking):
        """Until telnet has set its terminal for talking (the escape key ends a line then) or for commands.

        What is typed before is taken in the old mode, or thrown away by the change.
        """
        deadline = time.monotonic() + harness.WAIT_S
        while (termios.tcgetattr(self.terminal)[CONTROL_KEYS][termios.VEOL] == ESCAPE) != talking:
            require(self.process.poll() is None, f"telnet ended: {self.shown!r}")
            require(time.monotonic() < deadline, f"telnet does not get ready: {self.shown!r}")
            time.sleep(harness.POLL_S)

    def type(self, keys):
        os.write(self.terminal, keys)

    def command(self, text, shows=b""):
        """Types at telnet's own prompt, and waits until telnet shows this."""
        before = len(self.shown)
        self.type(ESCAPE)
        self.wait_for_mode(talking=False)
        self.wait_for_shown(b"telnet> ", before)
        self.type(text.encode() + b"\n")
        self.wait_for_shown(shows, before)
        if text != "quit":
            self.wait_for_mode(talking=True)

    def wait_for_sent(self, data):
        """Until the server has printed this, after all that came before, and nothing else."""
        self.sent += data

        def all_printed():
            return b"".join(harness.printed_of(self.server, self.name)) == self.sent

        self.server.wait(all_printed, f"{self.sent!r} from {self.name}")

    def say(self, line):
        """Types a line and waits until it is printed."""
        self.type(line.encode() + b"\n")
        self.wait_for_sent(line.encode())

    def quit(self):
        self.command("quit", shows=b"Connection closed.")
        require(self.process.wait(harness.WAIT_S) == 0, f"telnet exits with {self.process.returncode}")
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
        # The terminal's "next key as it is" (^V) lets a person type an escape.
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


def netcat(server, text, printed):
    """Sends text by `nc -N`, which ends its half when the text does and exits when the server ends the other."""
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
        checks.run("idle afterwards", server.require_quiet)
        checks.run("ends with 0", lambda: require(server.end() == 0, "another exit code"))
    checks.finish()


if __name__ == "__main__":
    main()
