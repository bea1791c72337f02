#!/usr/bin/env python3
"""Tries what examples/README.md suggests: telnet and netcat in a real terminal (tmux), curl, and our own client.

    python3 tests/real/course.py

after `cargo build --examples --all-features`.  Debian: telnet, tmux, curl, netcat-openbsd.
"""

import glob
import os
import re
import signal
import subprocess
import tempfile
import termios
import time
from contextlib import ExitStack, suppress

import harness
from harness import Checks, Server, require

LIMIT_S = 200
ANY_PORT = "127.0.0.1:0"
CONTROL_KEYS = 6  # The index of the special keys in the terminal's attributes.
ESCAPE = b"\x1d"
# tmux discards unread output when a terminal's last process exits, so a program's last output may be lost.
KEEPS_THE_TERMINAL = ("sh", "-c", '"$@"; exec cat', "sh")
SELECT_SERVERS = ("select_server", "select_server_register", "select_server_mio")


class Terminals:
    """Our own tmux, which ends with this process; each window runs a telnet."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="tmux-")
        self._environment = {**os.environ, "TMUX_TMPDIR": self._folder.name, "LC_ALL": "C.UTF-8", "TERM": "xterm"}
        self._environment.pop("TMUX", None)
        self._process = harness.start(["tmux", "-D", "-f", "/dev/null"], env=self._environment, stdin=subprocess.DEVNULL)
        self._count = 0
        deadline = time.monotonic() + harness.WAIT_S
        while self._run("show-options", "-g").returncode:
            require(time.monotonic() < deadline, "tmux does not start")
            time.sleep(harness.POLL_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        harness.end(self._process)
        self._folder.cleanup()

    def _run(self, *arguments):
        command = ["tmux", *arguments]
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=harness.WAIT_S, check=False
        )

    def run(self, *arguments):
        done = self._run(*arguments)
        require(done.returncode == 0, f"tmux {arguments}: {done.stderr}")
        return done.stdout

    def window(self, program, server):
        self._count += 1
        name = f"window{self._count}"
        host, port = server.address
        command = (*KEEPS_THE_TERMINAL, program, host, str(port))
        self.run("new-session", "-d", "-s", name, "-x", "100", "-y", "30", *command)
        return Window(self, name)

    def netcat(self, server):
        return self.window("nc", server)

    def telnet(self, server):
        window = self.window("telnet", server)
        window.wait_for("Escape character is '^]'.")
        window.wait_until_talking()
        return window


class Window:
    def __init__(self, terminals, name):
        self.terminals = terminals
        self.name = name

    def shown(self):
        return self.terminals.run("capture-pane", "-p", "-t", self.name)

    def wait_for(self, text, limit_s=harness.WAIT_S):
        deadline = time.monotonic() + limit_s
        while text not in (shown := self.shown()):
            require(time.monotonic() < deadline, f"{self.name} does not show {text!r} but:\n{shown}")
            time.sleep(harness.POLL_S)

    def wait_until_talking(self):
        """Waits until telnet has set its terminal mode: that may discard what was typed before."""
        path = self.terminals.run("display-message", "-p", "-t", self.name, "#{pane_tty}").strip()
        terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
        try:
            deadline = time.monotonic() + harness.WAIT_S
            while termios.tcgetattr(terminal)[CONTROL_KEYS][termios.VEOL] != ESCAPE:
                require(time.monotonic() < deadline, f"telnet does not get ready: {self.shown()}")
                time.sleep(harness.POLL_S)
        finally:
            os.close(terminal)

    def keys(self, *keys):
        self.terminals.run("send-keys", "-t", self.name, *keys)

    def type(self, text):
        self.terminals.run("send-keys", "-t", self.name, "-l", text)

    def line(self, text):
        self.type(text)
        self.keys("Enter")

    def part(self, text):
        """Sends it unchanged, without a line end."""
        self.type(text)
        self.keys("C-d")

    def quit(self):
        self.keys("C-]")
        self.wait_for("telnet>")
        self.line("quit")
        self.wait_for("Connection closed.")


def names_of(server, count):
    """Returns the clients as the server prints them, in the order in which they connected."""
    got = re.compile(rb"Got connection from (\S+)")
    found = lambda: [match.group(1).decode() for match in map(got.fullmatch, server.lines) if match]
    server.wait(lambda: len(found()) >= count, f"{count} connections")
    return found()


def select_server(terminals, name):
    with Server([harness.example(name), ANY_PORT]) as server:
        first = terminals.telnet(server)
        one = names_of(server, 1)[0]
        second = terminals.telnet(server)
        other = names_of(server, 2)[1]
        first.line("hello from the first window")
        server.wait_for_text(f"{one}: hello from the first window")
        second.line("and hello from the second")
        server.wait_for_text(f"{other}: and hello from the second")
        first.quit()
        server.wait_for_text(f"{one} disconnected")
        second.line("still here")
        server.wait_for_text(f"{other}: still here")
        second.quit()
        server.wait_for_text(f"{other} disconnected")
        wanted = [
            f"Got connection from {one}",
            f"Got connection from {other}",
            f"{one}: hello from the first window",
            f"{other}: and hello from the second",
            f"{one} disconnected",
            f"{other}: still here",
            f"{other} disconnected",
        ]
        require([line.decode() for line in server.lines[1:]] == wanted, f"printed {server.lines}")
        server.require_idle()
        require(server.end() == 0, "another exit code")


def who_is_there_at_the_end(name):
    """Clients still connected when the server exits are reported, and see an orderly close."""
    with Server([harness.example(name), ANY_PORT]) as server:
        client = harness.connect(server.address)
        client.sendall(b"half a line")
        server.wait_for_text(f"{harness.name_of(client)}: half a line")
        require(server.end() == 0, "another exit code")
        server.wait_for_text(f"{harness.name_of(client)} disconnected")
        require(client.recv(1) == b"", "no end")


def half_a_line(terminals, name):
    """Half a line from both clients appears after a moment, and so does the rest."""
    with Server([harness.example(name), ANY_PORT]) as server:
        for open_window in (terminals.telnet, terminals.netcat):
            window = open_window(server)
            client = names_of(server, 1)[-1]
            window.part("half a li")
            server.wait_for_text(f"{client}: half a li")
            window.line("ne")
            server.wait_for_text(f"{client}: ne")
            server.lines.clear()
        require(server.end() == 0, "another exit code")


def pieces(terminals):
    """The logger prints pieces, as they are sent."""
    with Server([harness.example("simple_logger"), ANY_PORT]) as server:
        for open_window, end in ((terminals.telnet, "\\r\\n"), (terminals.netcat, "\\n")):
            window = open_window(server)
            window.line("a line")
            server.wait_for_line(rf".*a line{re.escape(end)}.*".encode())
            window.part("half a li")
            server.wait_for_line(rb".*half a li\W*")
            window.line("ne")
            server.wait_for_line(rf"\W*(.*\W)?ne{re.escape(end)}.*".encode())
            server.lines.clear()
        require(server.end() == 0, "another exit code")


def lines(terminals):
    """Half a line waits for its other half."""
    with Server([harness.example("line_logger"), ANY_PORT]) as server:
        for open_window in (terminals.telnet, terminals.netcat):
            window = open_window(server)
            window.part("half a li")
            with harness.connect(server.address) as other:
                # This one sends later but is printed earlier.
                other.sendall(b"from another\n")
                server.wait_for_line(rb".*from another.*")
            require(not server.count(rb".*half.*"), f"printed {server.lines}")
            window.line("ne")
            server.wait_for_line(rb".*half a line.*")
            server.lines.clear()
        require(server.end() == 0, "another exit code")


def ask_http(window, *head):
    for line in (*head, ""):
        window.line(line)


def http(terminals):
    """A person types the requests of a browser."""
    with Server([harness.example("http_server"), ANY_PORT]) as server:
        window = terminals.telnet(server)
        for count in (1, 2):
            ask_http(window, "GET / HTTP/1.1", "Host: x")
            deadline = time.monotonic() + harness.WAIT_S
            while window.shown().count("200 OK") < count:
                require(time.monotonic() < deadline, f"no answer: {window.shown()}")
                time.sleep(harness.POLL_S)
        without_host = terminals.telnet(server)
        ask_http(without_host, "GET / HTTP/1.1")
        without_host.wait_for("400 Bad Request")
        without_host.wait_for("Connection closed by foreign host.")
        begin = time.monotonic()
        slow = terminals.telnet(server)
        slow.part("GET / HT")
        with harness.others_meanwhile():
            slow.wait_for("408 Request Timeout", 10 + harness.WAIT_S)
            took_s = time.monotonic() - begin
        slow.wait_for("Connection closed by foreign host.")
        require(took_s >= 9, f"it hung up after {took_s:.1f} s")
        ask_http(window, "GET / HTTP/1.0")
        window.wait_for("Connection closed by foreign host.")
        require(server.end() == 0, "another exit code")


SERVICE_GRACE_S = 20


def service(terminals):
    """SIGUSR2 with connected telnets: one sends another line, and one does not."""
    with Server([harness.example("service"), "tcp:" + ANY_PORT]) as server, ExitStack() as stack:
        stack.callback(end_children, server.pid)
        asks, is_silent = terminals.telnet(server), terminals.telnet(server)
        for window in (asks, is_silent):
            window.line("hello")
            window.wait_for(f"{server.pid} hello")
        subprocess.run(["kill", "-USR2", str(server.pid)], check=True, timeout=harness.WAIT_S)
        begin = time.monotonic()
        new, new_pid = another_process(terminals, server)
        stack.callback(end_number, new_pid)
        asks.line("once more")
        asks.wait_for(f"{server.pid} once more")
        asks.wait_for("Connection closed by foreign host.")
        require(server.alive(), "the old process ended though a telnet is there")
        with harness.others_meanwhile():
            is_silent.wait_for("Connection closed by foreign host.", SERVICE_GRACE_S + harness.WAIT_S)
            took_s = time.monotonic() - begin
        require(took_s >= SERVICE_GRACE_S - 1, f"it was let go after {took_s:.1f} s")
        require(server.process.wait(harness.WAIT_S) == 0, "another exit code")
        new.line("still there?")
        new.wait_for(f"{new_pid} still there?")
        subprocess.run(["kill", str(new_pid)], check=True, timeout=harness.WAIT_S)
        server_is_gone(server)
        new.line("the last")
        new.wait_for(f"{new_pid} the last")
        new.wait_for("Connection closed by foreign host.")


def end_children(pid):
    """Ends the processes started by this one, which nobody else would end once they are ready."""
    for folder in glob.glob(f"/proc/{pid}/task/*/children"):
        with open(folder, encoding="ascii") as file:
            for child in file.read().split():
                end_number(int(child))


def end_number(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def another_process(terminals, server):
    """Returns a telnet to the new process, and its process id: like a person, connects again until the id changes."""
    deadline = time.monotonic() + harness.WAIT_S
    while True:
        window = terminals.telnet(server)
        window.line("who?")
        window.wait_for(" who?")
        pid = int(re.search(r"(\d+) who\?", window.shown()).group(1))
        if pid != server.pid:
            return window, pid
        require(time.monotonic() < deadline, "no other process answers")


def server_is_gone(server):
    deadline = time.monotonic() + harness.WAIT_S
    while not harness.refused(server.address):
        require(time.monotonic() < deadline, "it still listens")
        time.sleep(harness.POLL_S)


def chat(terminals):
    with Server([harness.example("chat"), ANY_PORT]) as server:
        ann, bob = terminals.telnet(server), terminals.telnet(server)
        for window, name in ((ann, "ann"), (bob, "bob")):
            window.wait_for("Your name?")
            window.line(name)
            window.wait_for(f"Welcome, {name}.")
        ann.wait_for("* bob has joined")
        ann.line("good evening")
        bob.wait_for("ann: good evening")
        # An escape sequence that would clear the screen, typed as a person would.
        bob.type("look ")
        bob.keys("C-v", "Escape")
        bob.line("[2J here")
        ann.wait_for("bob: look \\x1b[2J here")
        ann.wait_for("* bob has joined")  # Not cleared.
        bob.line("/who")
        bob.wait_for("* here now: ann, bob")
        bob.line("/quit")
        bob.wait_for("Connection closed by foreign host.")
        ann.wait_for("* bob has left")
        ann.quit()
        require(server.end() == 0, "another exit code")


def greeting(terminals):
    with Server([harness.example("greeting_server"), ANY_PORT]) as server:
        for answer in ("hihi", "once more"):
            window = terminals.telnet(server)
            window.wait_for("byebye")
            window.line(answer)
            server.wait_for_text(f"{answer}\\r\\n")
            window.wait_for("Connection closed by foreign host.")
        require(server.end() == 0, "another exit code")


def echo(terminals):
    with Server([harness.example("echo_server"), ANY_PORT]) as server:
        window = terminals.telnet(server)
        window.line("there and back")
        deadline = time.monotonic() + harness.WAIT_S
        while window.shown().count("there and back") < 2:  # What was typed, and what was received.
            require(time.monotonic() < deadline, f"no echo: {window.shown()}")
            time.sleep(harness.POLL_S)
        window.quit()
        require(server.end() == 0, "another exit code")


def peek(terminals):
    with Server([harness.example("peek"), ANY_PORT]) as server:
        window = terminals.telnet(server)
        window.line("hello")
        server.wait_for_text("read hello\\r\\n")
        require(server.lines[1:] == [b"peeked at hello\\r\\n", b"read hello\\r\\n"], f"printed {server.lines}")
        window.quit()


def peek_twice():
    with Server([harness.example("peek"), ANY_PORT]) as server:
        with harness.connect(server.address) as client:
            client.sendall(b"hel")
            server.wait_for_text("peeked at hel")
            client.sendall(b"lo\n")
            require(client.recv(100, 0) == b"hello\n", "another answer")
        server.wait_for_text("read hello\\n")
        wanted = [b"peeked at hel", b"peeked at hello\\n", b"read hello\\n"]
        require(server.lines[1:] == wanted, f"printed {server.lines}")


def peek_with_curl():
    with Server([harness.example("peek"), ANY_PORT]) as server:
        url = "http://%s:%d/" % server.address
        done = subprocess.run(["curl", "-sS", url], capture_output=True, timeout=harness.WAIT_S, check=False)
        require((done.returncode, done.stdout) == (0, b"hello, browser\n"), f"{done}")
        server.wait_for_line(rb"read GET / HTTP/1\.1.*", "the request")
        require(server.end() == 0, "another exit code")


def thanked(way):
    """The tutorial's smallest server, in each of its modes, with our client: one request, and the server exits."""
    with Server([harness.example("socket_server"), *way, "--once", ANY_PORT]) as server:
        command = [harness.example("greeting_client"), "%s:%d" % server.address]
        done = subprocess.run(command, capture_output=True, timeout=harness.WAIT_S, check=False)
        wanted = b"the data received is Thank you for connecting\\n\n"
        require((done.returncode, done.stdout) == (0, wanted), f"{done}")
        require(server.process.wait(harness.WAIT_S) == 0, "another exit code")


def main():
    checks = Checks(LIMIT_S)
    with Terminals() as terminals:
        # The slow checks; the rest runs meanwhile.
        checks.begin("http_server, telnet as the browser", http, terminals)
        checks.begin("service, telnets and SIGUSR2", service, terminals)
        for name in SELECT_SERVERS:
            checks.run(f"{name}, two telnets", select_server, terminals, name)
            checks.run(f"{name}, ended with a client", who_is_there_at_the_end, name)
            checks.run(f"{name}, half a line", half_a_line, terminals, name)
        checks.run("simple_logger, half a line", pieces, terminals)
        checks.run("line_logger, half a line", lines, terminals)
        checks.run("chat, two telnets", chat, terminals)
        checks.run("greeting_server, telnet as the client", greeting, terminals)
        checks.run("echo_server, telnet", echo, terminals)
        checks.run("peek, telnet", peek, terminals)
        checks.run("peek looks twice", peek_twice)
        checks.run("peek, curl", peek_with_curl)
        for way in ((), ("--threads=2",), ("--processes=2",)):
            checks.run(f"socket_server {' '.join(way)}, our client", thanked, way)
        checks.finish()


if __name__ == "__main__":
    main()
