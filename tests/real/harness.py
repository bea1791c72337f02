"""Shared by the real-client checks: starting and ending servers, waiting for printed lines, counting results.

Linux and the Python standard library only.  Nothing here sleeps blindly: every wait is for something
observable (a printed line, a row of /proc), and has a deadline.  The one exception is `left_alone`.
"""

import atexit
import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))

WAIT_S = 10.0  # How long anything that should happen at once may take, even on a busy machine.
POLL_S = 0.005  # How often conditions without a notification are polled.
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_running = []  # Every running process started here, so that none outlives the check.


class Failed(Exception):
    """A check did not find what it expects."""


def require(condition, what):
    if not condition:
        raise Failed(what)


def built(path, command):
    """Returns the path of a binary below the target folder's `debug`, where this command puts it."""
    path = os.path.join(PROJECT, os.environ.get("CARGO_TARGET_DIR", "target"), "debug", path)
    if not os.access(path, os.X_OK):
        sys.exit(f"{path} is missing: run `{command}` first")
    return path


def example(name):
    return built(os.path.join("examples", name), "cargo build --examples --all-features")


def outsider(name):
    """The same for the programs of `tests/outsider`."""
    return built(os.path.join("examples", name), "cargo build --package outsider --examples")


def package(name):
    """The same for a package with one program."""
    return built(name, f"cargo build --package {name}")


# ---------------------------------------------------------------------------------------------- counting results


def limit_time(limit_s):
    """Ends this process and the processes it started, after this time at the latest, and on SIGTERM."""
    # A parent may have ignored SIGINT (a shell does so for background jobs), and ignored signals are
    # inherited: the servers started here must see the system's default.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"not done after {limit_s} s"))
    signal.alarm(limit_s)


_floor = threading.Lock()  # Held by the check that is running, or is measuring how long something takes.
_mine = threading.local()


@contextlib.contextmanager
def others_meanwhile():
    """Lets other checks run meanwhile: for code that takes long but uses no CPU.

    Within it nothing may have an upper bound that the work of others could exceed.
    """
    if not getattr(_mine, "has_floor", False):
        yield
        return
    _mine.has_floor = False
    _floor.release()
    try:
        yield
    finally:
        _floor.acquire()
        _mine.has_floor = True


class Checks:
    """Runs named checks one after the other, prints a line for each, and exits with a code for the results.

    Checks started by `begin` rather than `run` overlap while they only wait for time to pass: see `others_meanwhile`.
    """

    def __init__(self, limit_s):
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self._begun = []
        limit_time(limit_s)

    def run(self, what, function, *arguments):
        with _floor:
            self._judge(what, function, arguments)

    def begin(self, what, function, *arguments):
        """Like `run`, but returns as soon as other checks may run; `finish` waits for all of them."""
        _floor.acquire()  # From here on the new thread holds it.
        thread = threading.Thread(target=self._judge_with_floor, args=(what, function, arguments), daemon=True)
        thread.start()
        self._begun.append(thread)

    def _judge_with_floor(self, what, *rest):
        _mine.has_floor = True
        try:
            self._judge(what, *rest)
        except SystemExit as error:  # It would silently end only this thread.
            self._fail(what, error)
        finally:
            _floor.release()

    def _judge(self, what, function, arguments):
        try:
            found = function(*arguments)
        except Exception as error:  # One failed check must not hide the results of the others.
            if not isinstance(error, Failed):
                traceback.print_exc()
            self._fail(what, error)
        else:
            self.passed += 1
            print(f"ok: {what}" + (f" ({found})" if found else ""), flush=True)

    def _fail(self, what, error):
        self.failed += 1
        print(f"FAILED: {what}: {error}", flush=True)

    def skip(self, what, why):
        self.skipped += 1
        print(f"skipped: {what}: {why}", flush=True)

    def finish(self):
        for thread in self._begun:
            thread.join()
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{self.passed} passed, {self.failed} failed{skipped}", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)


def refused(address):
    """Returns whether nobody listens there any more."""
    try:
        socket.create_connection(address, WAIT_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        pass  # It was closed just now.
    return False


def left_alone(seconds):
    """Leaves a server alone: here the passing of time itself is tested."""
    time.sleep(seconds)


# ------------------------------------------------------------------------------------------------------- servers


def start(argv, **options):
    """Like `subprocess.Popen`, for a process that ends with this one even if this one is killed."""
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *argv], **options)
    _running.append(process)
    return process


def end(process, number=signal.SIGKILL, limit_s=WAIT_S):
    """Sends a signal to a process started here, waits for its end and returns its exit code."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Failed(f"pid {process.pid} still ran {limit_s} s after signal {number}") from None
    finally:
        if process in _running:
            _running.remove(process)
    return code


@atexit.register
def _end_all():
    for process in list(_running):
        if process.poll() is None:
            process.kill()
            process.wait()


class Server:
    """A server process, its printed lines, and the address it listens on.

    `stdout` is "kept" (read here, line by line), "closed" (`>&-`), "full" (`/dev/full`) or "broken" (a pipe whose
    reader left after the first line).  `descriptors_max` is the limit on open descriptors it runs under.
    `stdin` is nothing, or a pipe for a caller that controls the server through it.
    `on_line`, if given, sees every printed line first; one for which it returns true is not remembered here.
    """

    def __init__(self, argv, *, stdin=subprocess.DEVNULL, stdout="kept", descriptors_max=None, on_line=None):
        self.lines = []
        self.errors = []
        self.changed = threading.Condition()
        if descriptors_max:
            argv = ["prlimit", f"--nofile={descriptors_max}:{descriptors_max}", *argv]
        if stdout == "closed":
            argv = ["sh", "-c", 'exec "$@" >&-', "sh", *argv]
        with open("/dev/full", "wb") as full:
            out = full if stdout == "full" else subprocess.PIPE
            self.process = start(argv, stdin=stdin, stdout=out, stderr=subprocess.PIPE)
        self.pid = self.process.pid
        self._readers = [self._read(self.process.stderr, self.errors.append)]
        if stdout == "kept":
            self._readers.append(self._read(self.process.stdout, self.lines.append, on_line))
        elif stdout == "broken":
            self.lines.append(self.process.stdout.readline().removesuffix(b"\n"))
            self.process.stdout.close()
        self.address = self._listening_address(printed=stdout in ("kept", "broken"))
        self.descriptors_at_start = self.descriptors()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            end(self.process)
        if self.process in _running:
            _running.remove(self.process)
        for reader in self._readers:
            reader.join(WAIT_S)

    def _read(self, stream, remember, on_line=None):
        def loop():
            with stream:
                for line in stream:
                    line = line.removesuffix(b"\n")
                    with self.changed:
                        if not (on_line and on_line(line)):
                            remember(line)
                        self.changed.notify_all()

        reader = threading.Thread(target=loop, daemon=True)
        reader.start()
        return reader

    def _listening_address(self, printed):
        """Returns the address as printed or, if nothing can be printed, as the kernel lists it for this process."""
        if not printed:
            return self.wait_until(lambda: listening_address(self.pid), "a listening socket")
        line = self.wait_for_line(rb"listening on \S+:\S+", "the line `listening on ADDR`")
        address = line.split()[-1].decode()
        if address.startswith("unix:"):
            return address.removeprefix("unix:")
        host, port = address.rsplit(":", 1)
        return host, int(port)

    def wait(self, condition, what, limit_s=WAIT_S):
        """Waits until `condition()`, which looks at the printed lines, is true, and returns its value."""
        deadline = time.monotonic() + limit_s
        with self.changed:
            while True:
                found = condition()
                if found:
                    return found
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    ended = "" if self.alive() else f" (the server ended: {self.process.returncode})"
                    raise Failed(f"after {limit_s} s still not printed: {what}{ended}{self.tail()}")
                self.changed.wait(min(left_s, 0.5))
                if not self.alive():
                    # Its last lines may still be on their way; no others will follow.
                    deadline = min(deadline, time.monotonic() + 1)

    def wait_until(self, condition, what, limit_s=WAIT_S):
        """Polls until `condition()` is true, and returns its value."""
        deadline = time.monotonic() + limit_s
        while not (found := condition()):
            require(self.alive(), f"the server ended ({self.process.returncode}) before: {what}{self.tail()}")
            require(time.monotonic() < deadline, f"after {limit_s} s still not: {what}{self.tail()}")
            time.sleep(POLL_S)
        return found

    def wait_for_line(self, pattern, what=None, limit_s=WAIT_S):
        """Waits for a line that `pattern` (a regular expression on bytes) matches completely."""
        matches = re.compile(pattern).fullmatch
        return self.wait(lambda: next(filter(matches, self.lines), None), what or pattern, limit_s)

    def wait_for_text(self, text, limit_s=WAIT_S):
        """Waits for a line that is exactly `text`."""
        return self.wait_for_line(re.escape(text.encode()), repr(text), limit_s)

    def count(self, pattern):
        matches = re.compile(pattern).fullmatch
        with self.changed:
            return sum(1 for line in self.lines if matches(line))

    def tail(self):
        last = [*self.lines[-4:], *self.errors[-4:]]
        return "".join("\n    | " + ascii(line[:200]) for line in last)

    def alive(self):
        return self.process.poll() is None

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _stat(self):
        """Returns the fields from the third one, the state, on."""
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()

    def cpu_s(self):
        """Returns the CPU seconds used so far, user and system."""
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_S

    def is_asleep(self):
        """Returns whether it waits: a process that is merely starved of CPU does not."""
        return self._stat()[0] == "S"

    def memory_peak_mib(self):
        """Returns the peak resident memory, rather than a sample that may miss it."""
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
            return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) / 1024

    def end(self, number=signal.SIGTERM):
        return end(self.process, number)

    def require_idle(self, seconds=2.0, polls_max=3):
        """Checks that the idle server sleeps: hardly a poll (attaching a tracer costs one or two), hardly any CPU."""
        require(self.alive(), f"the server ended ({self.process.returncode}){self.tail()}")
        # The work of other processes adds to neither.
        with others_meanwhile(), Trace(self.pid, "epoll_wait,epoll_pwait,epoll_pwait2,poll,ppoll,select,pselect6") as trace:
            cpu_s = self.cpu_s()
            left_alone(seconds)
            cpu_s = self.cpu_s() - cpu_s
        polls = sum(trace.counts().values())
        require(polls <= polls_max, f"{polls} polls in {seconds} s of rest")
        require(cpu_s <= 0.02, f"{cpu_s:.2f} s of CPU in {seconds} s of rest")

    def require_quiet(self):
        """Waits until the server has only the descriptors it started with, then calls `require_idle`."""
        self.wait_until(
            lambda: self.descriptors() == self.descriptors_at_start,
            f"back at the {self.descriptors_at_start} descriptors of the start",
        )
        self.require_idle()


class Trace:
    """`strace` on a running process, from entry to exit of a `with` block. With `fails` those calls fail with that error."""

    def __init__(self, pid, calls="all", options=(), fails=None):
        self._file = tempfile.NamedTemporaryFile(prefix="trace-")
        injected = ["-e", f"inject={calls}:error={fails}"] if fails else []
        argv = ["strace", "-f", "-e", f"trace={calls}", *injected, "-e", "signal=none", "-o", self._file.name, *options,
                "-p", str(pid)]
        self._process = start(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def __enter__(self):
        line = self._process.stderr.readline()
        require(b"attached" in line, f"strace says {line!r}")
        return self

    def __exit__(self, *_):
        end(self._process, signal.SIGTERM)
        self._process.stderr.close()

    def calls(self):
        """Returns every call as (name, line), including calls in progress when the tracer attached or detached."""
        with open(self._file.name, encoding="utf-8", errors="replace") as file:
            for line in file:
                match = re.match(r"(?:\d+\s+)?(\w+)\(", line)
                if match:
                    yield match.group(1), line.rstrip()

    def counts(self):
        counts = {}
        for name, _ in self.calls():
            counts[name] = counts.get(name, 0) + 1
        return counts


# The calls that start a thread or a process, and the kernel's error if there may be no more of them.  (The kernel's own
# limit, RLIMIT_NPROC, does not apply to root.)
STARTS = "clone,clone3,fork,vfork"
NO_MORE = "error=EAGAIN"


def starting_fails(argv, first=1):
    """Returns a prefix that runs a command so that it cannot start threads and processes, from the `first` one on."""
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none", "-e", f"trace={STARTS}",
            "-e", f"inject={STARTS}:{NO_MORE}:when={first}+", "--", *argv]


def without_threads(pid):
    """While this is entered, a running process can start neither threads nor processes."""
    return Trace(pid, STARTS, ["-e", f"inject={STARTS}:{NO_MORE}"])


# ---------------------------------------------------------------------------------------------- sockets, as seen


def _rows():
    """Returns the rows of the kernel's table of IPv4 TCP sockets.

    Each is (local, remote, state, bytes not acknowledged, bytes not read, inode).
    """
    with open("/proc/net/tcp", encoding="utf-8") as file:
        for row in list(file)[1:]:
            fields = row.split()
            unacknowledged, unread = (int(count, 16) for count in fields[4].split(":"))
            yield _address(fields[1]), _address(fields[2]), fields[3], unacknowledged, unread, fields[9]


def _address(field):
    host, port = field.split(":")
    return socket.inet_ntoa(struct.pack("=I", int(host, 16))), int(port, 16)


def listening_address(pid):
    """Returns the address of a process' listening socket, or None."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass  # It was closed after it was listed.
    for local, _, state, _, _, inode in _rows():
        if state == "0A" and f"socket:[{inode}]" in inodes:
            return local
    return None


def threads(pid):
    """Returns the names of a process's threads, but those that print: they end when nothing was printed for a while."""
    names = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/task/{task}/comm", encoding="utf-8") as file:
                names.append(file.read().strip())
    return [name for name in names if name != "output"]


def accepted_and_read(server, client):
    """Returns whether the server has accepted this client and read all its data, without relying on output.

    What the client has sent waits at its own end while there is no room at the server's: what is read is looked at only
    after all of it has arrived there.
    """
    here, there = client.getsockname(), server.address
    if any(unacknowledged for local, remote, _, unacknowledged, _, _ in _rows() if (local, remote) == (here, there)):
        return False
    for local, remote, _, _, unread, inode in _rows():
        if (local, remote) == (there, here):
            return inode != "0" and unread == 0
    return False


# ------------------------------------------------------------------------------------------------------- clients


def connect(address):
    """Connects a client that sends each piece immediately and unchanged."""
    client = socket.create_connection(address, timeout=WAIT_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def name_of(client):
    """Returns the client's address as servers print it."""
    return "%s:%d" % client.getsockname()


def reset(client):
    """Closes with a RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def still_connected(client):
    """Returns whether the server has neither closed nor reset this connection (and has sent nothing)."""
    client.setblocking(False)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        client.settimeout(WAIT_S)


def receive(client, count):
    """Receives exactly `count` bytes, or fewer if the stream ends before that."""
    received = bytearray()
    while len(received) < count:
        piece = client.recv(min(65536, count - len(received)))
        if not piece:
            break
        received += piece
    return bytes(received)


def echoes(client, message, limit_s=WAIT_S):
    """Returns whether the server echoes this message unchanged in time."""
    client.settimeout(limit_s)
    client.sendall(message)
    return receive(client, len(message)) == message


# ---------------------------------------------------------------------------- what the select server example prints

GOT_CONNECTION = "Got connection from {}"
DISCONNECTED = "{} disconnected"

_ESCAPES = {"\\": b"\\", "n": b"\n", "r": b"\r", "t": b"\t"}
_UNSAFE = {0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def unescape(text):
    """Returns the bytes of an escaped line.  Fails if something should have been escaped, or should not have been."""
    found = bytearray()
    position = 0
    while position < len(text):
        character = text[position]
        if character != "\\":
            code = ord(character)
            raw = code < 0x20 or 0x7F <= code < 0xA0 or code in _UNSAFE
            require(not raw, f"printed raw: U+{code:04X}")
            found += character.encode()
            position += 1
            continue
        escape = re.compile(r"\\(?:([\\nrt])|x([0-9a-f]{2})|u\{([0-9a-f]{1,6})\})").match(text, position)
        require(escape, f"no such escape: {text[position:position + 12]!r}")
        if escape.group(1):
            found += _ESCAPES[escape.group(1)]
        else:
            code = int(escape.group(2) or escape.group(3), 16)
            require(not 0x20 <= code < 0x7F, f"escaped for nothing: {escape.group()}")
            found += bytes([code]) if escape.group(2) else chr(code).encode()
        position = escape.end()
    return bytes(found)


def printed_of(server, name):
    """Returns what the select server printed of one client's input: the unescaped lines, in order."""
    start_of_line = f"{name}:".encode()
    with server.changed:
        lines = [line for line in server.lines if line.startswith(start_of_line)]
    return [unescape(line[len(start_of_line) :].decode("utf-8").removeprefix(" ")) for line in lines]
