"""The sessions of `sweep.py`: examples under `strace`, from their start to their end."""

import contextlib
import os
import re
import signal
import subprocess
import time

import harness
from harness import require
from sweep_clients import (
    PATIENCE_S, READY, SHORT_LINES, talk, talk_chat, talk_datagrams, talk_http, talk_printed, talk_resp, talk_restart,
    talk_service,
)

REST_S = 0.1
BUSY_SHARE = 0.3  # Of the rest: a thread that spins gets at least half of a CPU, also beside others.


class Kind:
    """What a session is: its example with its arguments ("PATH" is that of a Unix socket), what is said, which sockets
    listen, and whether another process takes over."""

    def __init__(self, example, arguments, talk, sockets=("tcp",), restarts=False):
        self.example, self.arguments, self.talk, self.sockets = example, arguments, talk, sockets
        self.restarts = restarts


PORT = "127.0.0.1:0"
BOTH = ["tcp:127.0.0.1:0", "unix:PATH"]
SESSIONS = {
    "echo_server": Kind("echo_server", [PORT], talk),
    "unix_echo": Kind("unix_echo", ["PATH"], talk, ("unix",)),
    "udp_echo": Kind("udp_echo", [PORT], talk_datagrams, ("udp",)),
    "socket_server_threads": Kind("socket_server", ["--threads=3", PORT], lambda s: talk(s, **SHORT_LINES)),
    "socket_server_processes": Kind("socket_server", ["--processes=3", PORT], lambda s: talk(s, **SHORT_LINES)),
    "socket_server_unix": Kind("socket_server", ["--threads=3", "--unix", "PATH"], lambda s: talk(s, **SHORT_LINES),
                               ("unix",)),
    "http_server": Kind("http_server", [PORT], talk_http),
    "resp_server": Kind("resp_server", [PORT], talk_resp),
    "select_server": Kind("select_server", [PORT], talk_printed),
    "chat": Kind("chat", [PORT], talk_chat),
    "accept_retry": Kind("accept_retry", [PORT], lambda s: talk(s, **READY)),
    "accept_ready": Kind("accept_retry", ["--ready", PORT], lambda s: talk(s, **READY)),
    "service": Kind("service", [*BOTH], talk_service, ("tcp", "unix")),
    "service_restart": Kind("service", ["--start-timeout", "3", *BOTH], talk_restart, ("tcp", "unix"), True),
}


class Session:
    """An example under strace, from its start to its end."""

    def __init__(self, name, folder, call=None, error=None, k=None, outlives=False):
        """With `outlives`, it can go on without the failure: see `stop_failing`."""
        self.kind = SESSIONS[name]
        self.path = os.path.join(folder, "socket")
        self.trace = os.path.join(folder, "trace")
        self.verdicts, self.sockets, self.stayed, self.outlives = [], [], None, outlives
        what = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={k}"] if call else []
        # With the filter, the calls that are traced fail once strace has gone; with -I 2, signals end it at all.
        what = ["-I", "2", *what] if outlives else ["--seccomp-bpf", *what] if call else what
        argv = ["strace", "-D", "-f", "-yy", "-q", "-s", "48", "-o", self.trace, *what, "--",
                harness.example(self.kind.example),
                *(argument.replace("PATH", self.path) for argument in self.kind.arguments)]
        self.out, self.err = (open(os.path.join(folder, each), "w+b") for each in ("out", "err"))
        # A pipe, since only that can fail as one; it is emptied by `cat`.
        self.printer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=self.out)
        self.process = harness.start(argv, stdin=subprocess.DEVNULL, stdout=self.printer.stdin, stderr=self.err)
        self.printer.stdin.close()
        # The process that serves: another one, once that has taken over.
        self.pid = self.process.pid
        self.addresses, self.at_start, self.tracer = [], None, 0
        self.wrong = ""  # What a client or a line has told.

    def said(self):
        """Returns what it has reported so far."""
        with open(self.err.name, "rb") as file:
            return file.read()

    def follows(self, pid):
        """Another process has taken over: the first one ends by itself, cleanly."""
        self.pid = pid
        self.rest()
        self.at_start = self.descriptors()

    def tell(self, verdict, name=""):
        """Notes how something has ended, and the name of the client that it is about."""
        self.verdicts.append((verdict, name))

    def stop_failing(self):
        """Ends strace, so that no further call fails. Returns whether the example is still there."""
        if not self.outlives:
            return False
        with contextlib.suppress(OSError):
            deadline = time.monotonic() + harness.WAIT_S
            if self.tracer:
                os.kill(self.tracer, signal.SIGTERM)
            while self._find_tracer() and time.monotonic() < deadline:
                time.sleep(harness.POLL_S)
        return self.process.poll() is None

    def _find_tracer(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return int(re.search(r"TracerPid:\s*(\d+)", file.read()).group(1))

    def lines(self):
        # Not by the descriptor that `cat` has, too: with that its writes would go to where this reads.
        with open(self.out.name, "rb") as file:
            return file.read().splitlines()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd")), self.children()

    def children(self):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="utf-8") as file:
                return len(file.read().split())
        return 0

    def _listens(self):
        """Returns the addresses, from the lines."""
        found = []
        for line in self.lines():
            if line.startswith(b"listening on "):
                host, _, port = line.split()[-1].decode().rpartition(":")
                found.append(self.path if self.path.encode() in line else (host, int(port)))
        return found

    def _listens_unsaid(self):
        """The same from the kernel: an example whose line is lost listens all the same."""
        found = []
        with contextlib.suppress(OSError):
            fds = [os.readlink(f"/proc/{self.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{self.process.pid}/fd")]
            for kind in self.kind.sockets:
                if kind == "unix":
                    found += [self.path] * os.path.exists(self.path)
                    continue
                with open(f"/proc/net/{kind}", encoding="utf-8") as file:
                    rows = [row.split() for row in list(file)[1:]]
                rows = [row for row in rows if f"socket:[{row[9]}]" in fds and row[3] in ("0A", "07")]
                found += [("127.0.0.1", int(row[1].split(":")[1], 16)) for row in rows]
        return found

    def _started(self):
        begin = time.monotonic()
        while self.process.poll() is None:
            waited_s = time.monotonic() - begin
            with contextlib.suppress(OSError):
                self.tracer = self.tracer or self._find_tracer()
            self.addresses = self._listens()
            if len(self.addresses) < len(self.kind.sockets) and waited_s > 1:
                self.addresses = self._listens_unsaid()
            if len(self.addresses) == len(self.kind.sockets):
                return True
            if waited_s > harness.WAIT_S:
                self.tell("hung")
                return False
            time.sleep(harness.POLL_S)
        return False

    def _cpu_s(self):
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{self.pid}/task/{task}/schedstat", encoding="utf-8") as file:
                    total += int(file.read().split()[0])
        return total / 1e9

    def rest(self):
        """Everybody has an answer: it sleeps.  What it still tries again by time may take a moment."""
        for _ in range(5):
            cpu_s = self._cpu_s()
            time.sleep(REST_S)
            if self._cpu_s() - cpu_s < BUSY_SHARE * REST_S:
                return
        self.tell("spun")

    def _left(self):
        """All clients but the one that stays are gone, and so is what they needed."""
        extra = 1 if self.stayed else 0
        deadline = time.monotonic() + PATIENCE_S
        while True:
            descriptors, children = self.descriptors()
            if descriptors <= self.at_start[0] + extra and children <= self.at_start[1]:
                return
            if time.monotonic() > deadline:
                self.tell("leaked")
                return
            time.sleep(harness.POLL_S)

    def run(self):
        """Returns the verdict."""
        try:
            if self._started():
                # Its threads start in their time: the descriptors are counted when it sleeps.
                self.rest()
                self.at_start = self.descriptors()
                try:
                    self.kind.talk(self)
                    self._left()
                except (FileNotFoundError, ProcessLookupError):
                    pass  # It is gone, which its exit code tells about.
                except harness.Failed as failed:
                    self.wrong = str(failed)
                    self.tell("wrong")
            return self._judged()
        finally:
            for each in self.sockets:
                each.close()
            if self.process.poll() is None:
                harness.end(self.process)
            for pid in self._group():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ValueError):
                harness._running.remove(self.process)
            self.printer.wait(harness.WAIT_S)
            self._is_traced_to_the_end()
            self.out.close()
            self.err.close()

    def _judged(self):
        ended_early = self.process.poll() is not None and self.pid == self.process.pid
        if not ended_early:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            if self.stayed:
                self._sees_the_end()
            if not self._has_ended():
                self.tell("hung")
                return self._worst()
        code, said = self.process.returncode, self.said()
        if self.pid != self.process.pid:
            self._is_traced_to_the_end()
            code = code or self._code_of_successor()
        if code < 0 or b"panicked at" in said:
            return "crashed"
        if code or ended_early:
            return "died" if code and said.strip() else "silent"
        return self._worst()

    def _is_traced_to_the_end(self):
        """Waits for strace, which is a process of its own: it may still be writing."""
        deadline = time.monotonic() + harness.WAIT_S
        with contextlib.suppress(OSError):
            while self.tracer and time.monotonic() < deadline:
                with open(f"/proc/{self.tracer}/stat", encoding="utf-8") as file:
                    if file.read().rpartition(")")[2].split()[0] == "Z":
                        return
                time.sleep(harness.POLL_S)

    def _group(self):
        """Returns the processes that it has left behind: those that report where it did, as strace does."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if int(pid) != self.tracer and os.path.samefile(f"/proc/{pid}/fd/2", self.err.name):
                    yield int(pid)

    def _has_ended(self):
        """Returns whether all its processes end in time."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        while self.process.poll() is None or (self.pid != self.process.pid and os.path.exists(f"/proc/{self.pid}")):
            if time.monotonic() > deadline:
                return False
            time.sleep(harness.POLL_S)
        return True

    def _code_of_successor(self):
        """Returns the exit code from the trace, of which this is the last line of the process."""
        with open(self.trace, encoding="utf-8", errors="replace") as file:
            trace = file.read()
        ends = re.findall(rf"^{self.pid} +\+\+\+ (exited with|killed by) (\w+)", trace, re.MULTILINE)
        return sum(-1 if how == "killed by" else int(code) for how, code in ends)

    def _sees_the_end(self):
        """An idle client sees an orderly end, or a reset."""
        client = self.stayed.socket
        client.settimeout(PATIENCE_S)
        try:
            require(client.recv(1) == b"", "it says something at its end")
        except TimeoutError:
            self.tell("hung")
        except ConnectionError:
            self.tell("ended", self.stayed.name)

    def _worst(self):
        told = [verdict for verdict, _ in self.verdicts]
        if told.count("lost") > 1:
            told.append("hung")
        order = ("wrong", "hung", "spun", "leaked", "short", "ended", "stayed", "lost")
        return next((verdict for verdict in order if verdict in told), "exact")

    def cut_off(self, *verdicts):
        """Returns the clients that were cut off in one of these ways."""
        return {name for verdict, name in self.verdicts if verdict in verdicts}
