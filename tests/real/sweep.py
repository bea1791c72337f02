#!/usr/bin/env python3
"""Lets every system call of a session fail once, with each error that it can have, and looks at what comes of it.

    python3 tests/real/sweep.py                  a sample of each judged session, by the date
    python3 tests/real/sweep.py echo_server      every call, every error and every k of that session
    python3 tests/real/sweep.py --long           the same for all judged sessions

A session starts an example under `strace`, talks to it over several connections, and ends it by SIGTERM.  A clean
session tells which calls are made; then each is made to fail, the k-th of its name, in a session of its own.  `strace`
counts by thread, so where there are several threads or processes, the k-th call of each of them fails; what cannot
happen to all of those calls is left out, and counted.  The client compares every byte.  A session ends in one of these verdicts, of which the first that applies counts:

    crashed   the process ended by a signal, or panicked
    silent    it ended with another code than 0 and said nothing
    died      it ended with a code and a message
    hung      it answers nobody, does not end when told to, or has left a client waiting
    spun      it uses the CPU while nobody wants anything
    leaked    it has more descriptors or children than at its start, though all clients are gone
    short     a client saw an orderly end before all of its bytes
    many      more clients than one were cut off
    ended     one client was cut off by an error, or one datagram was lost and that was told; all others are served
    exact     as if nothing had failed

Which of them are allowed is in `allowed`.
"""

import concurrent.futures
import contextlib
import datetime
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

import harness
from harness import Checks, require

LIMIT_S = 330
LIMIT_LONG_S = 7200
SAMPLE = 20  # How many of each session are tried in the short form.
AT_ONCE = 2
PATIENCE_S = 4.0  # How long a client waits for an answer: longer than any pause after which the loop tries again.
ATTEMPTS = 5  # More than there are threads or processes.
DATAGRAM_PATIENCE_S = 2.0
REST_S = 0.1
BUSY_SHARE = 0.3  # Of the rest: a thread that spins gets at least half of a CPU, also beside others.

# ------------------------------------------------------------------------------------------- which calls can fail

NO_MEMORY = ("ENOMEM",)
FULL = ("EMFILE", "ENFILE")
INTERRUPTED = ("EINTR",)
GONE = ("ECONNRESET", "ETIMEDOUT")

# The errors of each call, by its man page, for these descriptors: (call, pattern of the descriptor) -> errors.  The first
# row that matches counts. EAGAIN is left out where the kernel would promise an event with it: none would come.
ERRORS = [
    ("accept4?", "", ("ECONNABORTED", "EPROTO", "ENETDOWN", "ENOBUFS", *FULL, *NO_MEMORY, *INTERRUPTED)),
    ("recvfrom", "^UDP", ("ECONNREFUSED", *NO_MEMORY, *INTERRUPTED)),
    ("sendto", "^UDP", ("EPERM", "ENETUNREACH", "ECONNREFUSED", "ENOBUFS", *NO_MEMORY, *INTERRUPTED)),
    # The pair that signals come through: its calls never sleep, so that not even a signal can disturb them.
    ("(recvfrom|sendto|read|write)", "^UNIX pair", ()),
    ("(read|recvfrom|recvmsg|readv)", "^UNIX", ("ECONNRESET", *NO_MEMORY, *INTERRUPTED)),
    ("(write|writev|sendto|sendmsg)", "^UNIX", ("EPIPE", "ECONNRESET", "ENOBUFS", *NO_MEMORY, *INTERRUPTED)),
    ("(read|recvfrom|recvmsg|readv)", "^TCP", (*GONE, *NO_MEMORY, *INTERRUPTED)),
    ("(write|writev|sendto|sendmsg)", "^TCP", ("EPIPE", "ENOBUFS", *GONE, *NO_MEMORY, *INTERRUPTED)),
    ("write", "^pipe", ("EPIPE", "ENOSPC", *INTERRUPTED)),
    ("read", "^pipe", INTERRUPTED),
    # What wakes a loop never sleeps either.
    ("(read|write)", "eventfd", ()),
    ("(read|pread64)", "", ("EIO", *INTERRUPTED)),
    ("epoll_create1|eventfd2|timerfd_create|pipe2|socketpair|dup|dup3", "", (*FULL, *NO_MEMORY)),
    ("epoll_ctl", "", ("ENOSPC", *NO_MEMORY)),
    ("epoll_wait|epoll_pwait|dup2|wait4|waitid|ppoll", "", INTERRUPTED),
    ("poll", "", (*NO_MEMORY, *INTERRUPTED)),
    ("socket", "", ("EACCES", "EAFNOSUPPORT", "ENOBUFS", *FULL, *NO_MEMORY)),
    ("bind", "", ("EACCES", "EADDRINUSE", "EADDRNOTAVAIL", *NO_MEMORY)),
    ("listen", "", ("EADDRINUSE",)),
    ("(set|get)sockopt", "", ("ENOPROTOOPT", "ENOBUFS")),
    ("getsockname|getpeername", "", ("ENOBUFS", "ENOTCONN")),
    ("shutdown", "", ("ENOTCONN",)),
    ("fcntl", "", ("EMFILE", "EPERM")),
    ("ioctl", "", ("ENOTTY", "EPERM")),
    ("clone3?|v?fork", "", ("EAGAIN", *NO_MEMORY)),
    ("execve", "", ("ENOENT", "EACCES", *NO_MEMORY)),
    ("open(at)?", "", ("ENOENT", "EACCES", *FULL, *NO_MEMORY)),
    ("access|readlink(at)?|newfstatat|statx|f?stat|lstat|lseek|unlink|f?chmod|fchmodat|getcwd|umask", "",
     ("EACCES", "ENOENT", *NO_MEMORY)),
    ("mmap|mprotect|brk|munmap|mremap|madvise", "", NO_MEMORY),
    ("getrandom", "", ("EAGAIN", "EINTR")),
    ("prctl|sched_getaffinity|prlimit64|pidfd_open|pidfd_send_signal", "", ("EPERM",)),
    ("kill|tgkill|setpgid|setsid", "", ("EPERM",)),
    ("sigaltstack", "", NO_MEMORY),
]
# These cannot fail with valid arguments.  `close` releases the descriptor also if it fails, which strace cannot imitate:
# what it lets fail is not done at all.  Nor can it let only those calls of `futex` fail that wait: to wake cannot fail.
NEVER = re.compile(
    "close|futex|arch_prctl|set_tid_address|set_robust_list|rseq|rt_sig\\w+|gettid|getpid|getppid|exit|exit_group|clock_\\w+"
    "|sched_yield|restart_syscall|get[eu]?[ug]id|uname|nanosleep"
)
MEMORY = ("mmap", "mprotect", "brk", "munmap", "mremap", "madvise", "sigaltstack")


def errors_of(call, descriptor):
    for pattern, of, errors in ERRORS:
        if re.fullmatch(pattern, call) and re.search(of, descriptor):
            return errors
    require(NEVER.fullmatch(call), f"what errors has {call} of {descriptor or 'no descriptor'}? It is in no table")
    return ()


# ------------------------------------------------------------------------------------------ which verdicts are allowed

LOST = {"exact", "ended"}
TOLD = {"exact", "died"}


def allowed(stage, call, descriptor, error):
    """Returns the verdicts that are allowed for this failure."""
    if stage == "before":  # The dynamic loader and the standard library may end the process as they like.
        return {"exact", "died", "silent", "crashed", "ended", "short"}
    if call in MEMORY:  # The allocator aborts; a stack for signals is the standard library's affair.
        return {"exact", "ended", "died", "silent", "crashed", "many"}
    if error in INTERRUPTED:  # Nobody notices a signal, whichever call it interrupts.
        return {"exact"}
    if stage == "start":
        return TOLD
    if stage in ("child", "thread"):
        # A handler is told of an error, as by any blocking socket, and its client is reset. Each one meets the same.
        return {"exact", "ended", "many", *(("short",) if error in ("ECONNRESET", "EPIPE") else ())}
    if re.match("accept", call):  # The connection stays in the backlog, and the loop tries again.
        return {"exact"}
    if call in ("sendto", "write", "writev", "sendmsg") and error in ("ENOBUFS", "ENOMEM") and descriptor[:3] != "UDP":
        return {"exact"}  # The loop tries again, by time.
    if descriptor.startswith(("TCP", "UNIX")) and error in ("ECONNRESET", "EPIPE"):
        # The kernel has torn down such a connection itself, and its close sends nothing more. Here it has not.
        return {*LOST, "short"}
    if stage == "end":  # All answers are out: what fails now may be told in the exit code.
        return {"exact", "ended", "died"}
    return LOST


# ---------------------------------------------------------------------------------------------------- one session


class Call:
    """A call in a trace: its name, its descriptor, which one of its thread's, and in which stage of the session."""

    def __init__(self, stage, name, descriptor, k):
        self.stage, self.name, self.descriptor, self.k = stage, name, descriptor, k


LINE = re.compile(r"(\d+) +(\w+)\((?:\d+<((?:->|[^>])*?)>)?")


def calls_of(path):
    """Returns every call of a clean session's trace."""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    main = lines[0].split()[0]
    children = {line.split()[0] for line in lines if re.match(r"\d+ +execve\(", line)} - {main}
    pair = {name for line in lines if " socketpair(" in line for name in re.findall(r"UNIX-\w+:\[[^\]]*\]", line)}
    stage, counts, calls = "before", {}, []
    for line in lines:
        if "--- SIGTERM" in line and line.startswith(main):
            stage = "end"
        match = LINE.match(line)
        if not match:
            continue
        thread, name, descriptor = match.groups()
        descriptor = descriptor or ""
        if descriptor in pair:
            descriptor = "UNIX pair"
        if stage == "before" and name in ("epoll_create1", "socket", "getsockopt"):
            stage = "start"
        k = counts[thread, name] = counts.get((thread, name), 0) + 1
        own = "child" if thread in children else "thread" if thread != main and stage == "session" else stage
        calls.append(Call(own, name, descriptor, k))
        if stage == "start" and name == "write" and "listening on" in line:
            stage = "session"
    return calls


class Cut(Exception):
    """A client's connection has ended before its time: `how` is "ended", "short" or "hung"."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


class Client:
    """A client of a stream server that compares all that it receives."""

    def __init__(self, session):
        self.session = session
        self.verdict = "exact"
        try:
            self.socket = socket.socket(session.family, socket.SOCK_STREAM)
            session.sockets.append(self.socket)
            self.socket.settimeout(PATIENCE_S)
            self.socket.connect(session.address)
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
        received, data = b"", memoryview(data)
        self.socket.setblocking(False)
        deadline = time.monotonic() + PATIENCE_S
        is_shut, whole = False, lambda: re.fullmatch(answer, received, re.DOTALL)
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
                received += piece
                require(len(received) < 1 << 20, "it answers without end")

    def leaves(self):
        with contextlib.suppress(AttributeError):
            self.socket.close()
        self.session.verdicts.append(self.verdict)


def is_text(data):
    return re.escape(data)


def talk(session, greeting=b"", small=b"one line\n", large=b"x" * 3999 + b"\n", count=50, answer=is_text, stays=True):
    """Clients that come one by one and stay, send little and much, and end in different ways."""
    first = Client(session).asks(small, greeting + answer(small))
    second = Client(session).asks(large * count, greeting + answer(large) * count if answer is not is_text
                                  else greeting + re.escape(large * count))
    third = Client(session).asks(small * 2, greeting + answer(small) * 2, ends=True)
    third.leaves()
    first.asks(small, answer(small)).leaves()
    second.asks(small, answer(small)).leaves()
    for attempt in range(ATTEMPTS):  # One of these may meet the failure, or one by thread, but not all.
        last = Client(session).asks(small, greeting + answer(small))
        if last.verdict == "exact":
            break
    if last.verdict != "exact":
        last.verdict = "hung"
    else:
        session.verdicts += ["ended"] * attempt
    if not stays:
        last.leaves()
    session.rest()
    if stays:
        session.stayed = last


def talk_http(session):
    """The same for HTTP: only the date varies."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    talk(session, small=request, large=request, count=30, stays=False,
         answer=lambda _: rb"HTTP/1\.1 200 OK\r\n(?:[^\r]+\r\n)+\r\n[^\r]*?\n")


def talk_resp(session):
    """The same for Redis' protocol."""
    talk(session, small=b"*2\r\n$4\r\nECHO\r\n$3\r\nyes\r\n", large=b"*2\r\n$4\r\nECHO\r\n$3\r\nyes\r\n", count=500,
         answer=lambda _: rb"\$3\r\nyes\r\n", stays=False)


def talk_datagrams(session):
    with socket.socket(session.family, socket.SOCK_DGRAM) as client:
        client.settimeout(DATAGRAM_PATIENCE_S)
        client.connect(session.address)
        lost = 0
        for number, length in enumerate((1, 100, 1472, 9000, 60_000, 2)):
            data = bytes([number]) * length
            client.send(data)
            try:
                # Sent again by time, an earlier one may come behind its time.
                if client.recv(1 << 16) != data:
                    session.verdicts.append("short")
            except (TimeoutError, ConnectionError):
                lost += 1
        told = sum(1 for line in session.lines() if b"listening on" not in line)
        session.verdicts.append("exact" if not lost else "ended" if lost == 1 and told else "hung")
        session.rest()


THANKS = b"Thank you for connecting\n"
SHORT_LINES = {"greeting": re.escape(THANKS), "count": 10, "stays": False}
# Each session: the example, its arguments ("PATH" is that of a Unix socket), the kind of socket, and what is said.
SESSIONS = {
    "echo_server": ("echo_server", ["127.0.0.1:0"], "tcp", talk),
    "unix_echo": ("unix_echo", ["PATH"], "unix", talk),
    "udp_echo": ("udp_echo", ["127.0.0.1:0"], "udp", talk_datagrams),
    "socket_server_threads": ("socket_server", ["--threads=3", "127.0.0.1:0"], "tcp", lambda s: talk(s, **SHORT_LINES)),
    "socket_server_processes": ("socket_server", ["--processes=3", "127.0.0.1:0"], "tcp", lambda s: talk(s, **SHORT_LINES)),
    "socket_server_unix": ("socket_server", ["--threads=3", "--unix", "PATH"], "unix", lambda s: talk(s, **SHORT_LINES)),
    "http_server": ("http_server", ["127.0.0.1:0"], "tcp", talk_http),
    "resp_server": ("resp_server", ["127.0.0.1:0"], "tcp", talk_resp),
}
# Those in which every outcome is judged. In the others the outcomes of some failures are not, so they are run by name.
JUDGED = ("echo_server", "unix_echo", "udp_echo", "http_server")


class Session:
    """An example under strace, from its start to its end."""

    def __init__(self, name, folder, call=None, error=None, k=None):
        example, arguments, kind, self.talk = SESSIONS[name]
        self.path = os.path.join(folder, "socket")
        self.trace = os.path.join(folder, "trace")
        self.kind, self.verdicts, self.sockets, self.stayed = kind, [], [], None
        self.family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
        what = ["--seccomp-bpf", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={k}"] if call else []
        argv = ["strace", "-D", "-f", "-yy", "-qq", "-s", "48", "-o", self.trace, *what, "--", harness.example(example),
                *(self.path if argument == "PATH" else argument for argument in arguments)]
        self.out, self.err = (open(os.path.join(folder, each), "w+b") for each in ("out", "err"))
        # A pipe, since only that can fail as one; it is emptied by `cat`.
        self.printer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=self.out)
        self.process = harness.start(argv, stdin=subprocess.DEVNULL, stdout=self.printer.stdin, stderr=self.err)
        self.printer.stdin.close()
        self.address = None

    def lines(self):
        self.out.seek(0)
        return self.out.read().splitlines()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd")), self.children()

    def children(self):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="utf-8") as file:
                return len(file.read().split())
        return 0

    def _listens(self):
        """Returns the address, from the line or else from the kernel."""
        for line in self.lines():
            if line.startswith(b"listening on "):
                host, _, port = line.split()[-1].decode().rpartition(":")
                return self.path if self.kind == "unix" else (host, int(port))
        return None

    def _listens_unsaid(self):
        if self.kind == "unix":
            return self.path if os.path.exists(self.path) else None
        table = "/proc/net/udp" if self.kind == "udp" else "/proc/net/tcp"
        with contextlib.suppress(OSError):
            fds = [os.readlink(f"/proc/{self.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{self.process.pid}/fd")]
            with open(table, encoding="utf-8") as file:
                for row in list(file)[1:]:
                    fields = row.split()
                    if f"socket:[{fields[9]}]" in fds and fields[3] in ("0A", "07"):
                        return "127.0.0.1", int(fields[1].split(":")[1], 16)
        return None

    def _started(self):
        begin = time.monotonic()
        while self.process.poll() is None:
            waited_s = time.monotonic() - begin
            # An example whose line is lost listens all the same.
            self.address = self._listens() or (self._listens_unsaid() if waited_s > 1 else None)
            if self.address:
                return True
            if waited_s > harness.WAIT_S:
                self.verdicts.append("hung")
                return False
            time.sleep(harness.POLL_S)
        return False

    def _cpu_s(self):
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{self.process.pid}/task/{task}/schedstat", encoding="utf-8") as file:
                    total += int(file.read().split()[0])
        return total / 1e9

    def rest(self):
        """Everybody has an answer: it sleeps.  What it still tries again by time may take a moment."""
        for _ in range(5):
            cpu_s = self._cpu_s()
            time.sleep(REST_S)
            if self._cpu_s() - cpu_s < BUSY_SHARE * REST_S:
                return
        self.verdicts.append("spun")

    def _left(self, at_start):
        """All clients but the one that stays are gone, and so is what they needed."""
        extra = 1 if self.stayed else 0
        deadline = time.monotonic() + PATIENCE_S
        while True:
            descriptors, children = self.descriptors()
            if descriptors <= at_start[0] + extra and children <= at_start[1]:
                return
            if time.monotonic() > deadline:
                self.verdicts.append("leaked")
                return
            time.sleep(harness.POLL_S)

    def run(self):
        """Returns the verdict."""
        try:
            if self._started():
                # Its threads start in their time: the descriptors are counted when it sleeps.
                self.rest()
                at_start = self.descriptors()
                try:
                    self.talk(self)
                    self._left(at_start)
                except (FileNotFoundError, ProcessLookupError):
                    pass  # It is gone, which its exit code tells about.
            return self._judged()
        finally:
            for each in self.sockets:
                each.close()
            if self.process.poll() is None:
                harness.end(self.process)
            with contextlib.suppress(ValueError):
                harness._running.remove(self.process)
            self.printer.wait(harness.WAIT_S)
            self.out.close()
            self.err.close()

    def _judged(self):
        ended_early = self.process.poll() is not None
        if not ended_early:
            self.process.terminate()
            if self.stayed:
                self._sees_the_end()
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                self.verdicts.append("hung")
                self.process.kill()
                self.process.wait()
                return self._worst()
        code = self.process.returncode
        self.err.seek(0)
        said = self.err.read()
        if code < 0 or b"panicked at" in said:
            return "crashed"
        if code or ended_early:
            return "died" if code and said.strip() else "silent"
        return self._worst()

    def _sees_the_end(self):
        """An idle client sees an orderly end, or a reset."""
        client = self.stayed.socket
        client.settimeout(PATIENCE_S)
        try:
            require(client.recv(1) == b"", "it says something at its end")
        except TimeoutError:
            self.verdicts.append("hung")
        except ConnectionError:
            self.verdicts.append("ended")

    def _worst(self):
        for verdict in ("hung", "spun", "leaked", "short"):
            if verdict in self.verdicts:
                return verdict
        cut = self.verdicts.count("ended")
        return ("exact", "ended")[cut] if cut < 2 else "many"


# ------------------------------------------------------------------------------------------------------ the sweep


def clean(name):
    """Returns the calls of a session in which nothing fails."""
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        session = Session(name, folder)
        verdict = session.run()
        require(verdict == "exact", f"{verdict} without a failure: {session.verdicts}")
        return calls_of(session.trace)


def failures_of(name):
    """Returns everything that can fail, and which verdicts are allowed: (call, error, k) -> verdicts; and how many
    failures are left out because another thread's k-th call cannot have them."""
    failures, impossible = {}, set()
    by_k = {}
    for call in clean(name):
        if call.name != "execve" or call.stage == "child":  # Else it is the start of the program itself.
            by_k.setdefault((call.name, call.k), []).append(call)
    for (call, k), calls in by_k.items():
        errors = [errors_of(call, each.descriptor) for each in calls]
        for error in {error for of in errors for error in of}:
            if all(error in of for of in errors):
                verdicts = (allowed(each.stage, call, each.descriptor, error) for each in calls)
                failures[call, error, k] = set().union(*verdicts)
            else:
                impossible.add((call, error, k))
    return failures, len(impossible)


def tried(name, failure):
    """Returns the verdict of a session with this failure, and whether it has come about."""
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        session = Session(name, folder, *failure)
        verdict = session.run()
        with open(session.trace, encoding="utf-8", errors="replace") as file:
            trace = file.read()
        return verdict, "(INJECTED)" in trace, trace


def sweep(name, sample):
    failures, left_out = failures_of(name)
    chosen = sorted(failures)
    if sample:
        chosen = random.Random(f"{datetime.date.today()} {name}").sample(chosen, min(sample, len(chosen)))
    counts, wrong, missed = {}, [], 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for failure, (verdict, has_failed, trace) in zip(chosen, pool.map(lambda each: tried(name, each), chosen)):
            missed += not has_failed
            counts[verdict] = counts.get(verdict, 0) + 1
            if verdict not in failures[failure] if has_failed else verdict != "exact":
                call, error, k = failure
                at = next((line for line in trace.splitlines() if "(INJECTED)" in line), "not reached")
                wrong.append(f"{verdict}: {error} of {call} {k}: {at[:150]}")
    # Timing decides how many reads and waits there are: a few of the last ones may not come.
    require(missed * 5 <= len(chosen), f"{missed} of {len(chosen)} calls were not reached")
    for each in wrong:
        print(f"  {each}", flush=True)
    found = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    require(not wrong, f"{len(wrong)} of {len(chosen)} end otherwise than they may; all: {found}")
    return f"{len(chosen)} of {len(failures)} failures: {found}; {missed} were not reached, {left_out} left out"


def main():
    names = [name for name in sys.argv[1:] if name in SESSIONS]
    is_long = "--long" in sys.argv or bool(names)
    checks = Checks(LIMIT_LONG_S if is_long else LIMIT_S)
    for name in names or JUDGED:
        checks.run(f"{name}: each call that fails has an outcome that is allowed", sweep, name, 0 if is_long else SAMPLE)
    checks.finish()


if __name__ == "__main__":
    main()
