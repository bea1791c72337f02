#!/usr/bin/env python3
"""The service example as a service manager runs it: sockets handed over, readiness, the watchdog, drains, and restarts
under load in which nobody is refused and no answer is cut.

`systemd-socket-activate` acts as systemd (from the Debian package `systemd`, which need not run), as does this script
when it passes sockets in or receives notifications itself.
"""

import contextlib
import ctypes
import os
import random
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time

import harness
from harness import WAIT_S, Checks, Server, connect, refused, require

LIMIT_S = 240
ANY = "tcp:127.0.0.1:0"

# A process that takes over is not started here. Once its parent has exited, this one becomes its parent and ends it.
PR_SET_CHILD_SUBREAPER = 36
require(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0, "cannot become a subreaper")


def descendants():
    """Returns all descendants of this process, as (pid, state)."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            parents[int(name)] = (int(fields[1]), fields[0])

    def is_ours(pid):
        while pid in parents and pid != os.getpid():
            pid = parents[pid][0]
        return pid == os.getpid()

    return {pid: state for pid, (parent, state) in parents.items() if pid != os.getpid() and is_ours(parent)}


def end_process(pid):
    """Ends an indirectly started process, and waits for it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid), f"the end of process {pid}")


def is_gone(pid):
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return not os.path.exists(f"/proc/{pid}")


def wait_until(condition, what, limit_s=WAIT_S):
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        require(time.monotonic() < deadline, f"after {limit_s} s still not: {what}")
        time.sleep(harness.POLL_S)
    return found


def service(*arguments, program=None, **options):
    return [program or harness.example("service"), *arguments]


class Manager:
    """Receives the notifications for a service manager."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        self.socket.settimeout(WAIT_S)
        self.environment = {"NOTIFY_SOCKET": name}

    def hear(self):
        """Returns the next message other than the watchdog's, as a dictionary."""
        while True:
            lines = self.socket.recv(4096).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            if message != {"WATCHDOG": "1"}:
                return message

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


@contextlib.contextmanager
def environment(**variables):
    """Adds to the environment of servers that are started meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def ask(address, line=b"hello", client=None):
    """Sends a line, checks the answer, and returns the id of the process that sent it."""
    own = None if client else connect(address)
    with own or contextlib.nullcontext():
        asked = client or own
        asked.settimeout(WAIT_S)
        asked.sendall(line + b"\n")
        return answer_on(asked, line)


def answer_on(client, line):
    received = bytearray()
    while not received.endswith(b"\n"):
        piece = client.recv(65536)
        require(piece, f"an answer is cut after {len(received)} bytes")
        received += piece
    process, _, rest = bytes(received).partition(b" ")
    require(rest == line + b"\n", f"another answer: {rest[:80]!r}")
    return int(process)


def unix_client(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(WAIT_S)
    client.connect(path)
    return client


# ------------------------------------------------------------------------------------------------ sockets handed over


def activated(folder):
    """Sockets from systemd's own program: one TCP and one Unix socket, with their names."""
    path = os.path.join(folder, "activated.sock")
    # It does not accept port 0, so use one that was free a moment ago.
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    listens = ["-l", "%s:%d" % address, "-l", path, "--fdname=web:local"]
    argv = ["systemd-socket-activate", *listens, *service("systemd:web", "systemd:local")]
    with contextlib.ExitStack() as stack:
        process = harness.start(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        stack.callback(process.stdout.close)
        stack.callback(harness.end, process)
        wait_until(lambda: os.path.exists(path), "systemd's Unix socket")
        # The first client starts the program, which replaces systemd's.
        require(ask(address) == process.pid, "another process answers")
        with unix_client(path) as client:
            require(ask(None, client=client) == process.pid, "another process answers")
        flags = [descriptor_flags(process.pid, number) for number in (3, 4)]
        require(all(flag & os.O_NONBLOCK and flag & os.O_CLOEXEC for flag in flags), f"flags {flags}")
        require(harness.end(process, signal.SIGTERM) == 0, "another exit code than 0")
        printed = process.stdout.read()
        require(printed.count(b"listening on ") == 2, f"printed {printed!r}")
    require(os.path.exists(path), "systemd's path was removed")


def all_sockets_of_a_name_are_served():
    """A unit with several ListenStream= passes as many sockets under one name; a restart passes all of them on."""
    with contextlib.ExitStack() as stack:
        sockets = [high(stack, socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        argv, options = handed(sockets, "systemd:web", "systemd:admin", names="web:admin:web")
        process = harness.start(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options)
        stack.callback(process.stdout.close)
        stack.callback(harness.end, process)
        addresses = [sock.getsockname() for sock in sockets]
        require([ask(address) for address in addresses] == [process.pid] * 3, "another process answers")
        os.kill(process.pid, signal.SIGUSR2)
        process.wait(WAIT_S)
        successors = {ask(address) for address in addresses}
        require(len(successors) == 1 and process.pid not in successors, f"answered by {successors}")
        successor = successors.pop()
        os.kill(successor, signal.SIGTERM)
        wait_until(lambda: is_gone(successor), "the end of the new process")
        require(process.stdout.read().count(b"listening on ") == 6, "another number of listeners")


def units_are_valid(folder):
    """systemd's only complaint about the example's unit files is that the program is not installed here."""
    names = ["switchboard.service", "switchboard.socket"]
    for name in names:
        with open(os.path.join(harness.PROJECT, "examples", "service", name), encoding="utf-8") as file:
            text = file.read().replace("/usr/local/bin/switchboard-service", harness.example("service"))
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    argv = ["systemd-analyze", "verify", *(os.path.join(folder, name) for name in names)]
    process = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=WAIT_S, check=False)
    require(process.returncode == 0 and not process.stdout, f"systemd says {process.stdout!r}")


def descriptor_flags(pid, number):
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
        return next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))


def handed(sockets, *arguments, names=None, pid="$$", count=None):
    """Starts a service with these as its descriptors from 3 on, and with their description."""
    # Each is moved to its place through a number that no other uses.
    moves = [f"exec {3 + index}<&{sock.fileno()}" for index, sock in enumerate(sockets)]
    exports = [f"LISTEN_PID={pid}"] if pid else []
    exports.append(f"LISTEN_FDS={len(sockets) if count is None else count}")
    exports += [f"LISTEN_FDNAMES={names}"] if names is not None else []
    script = "; ".join([*moves, f'export {" ".join(exports)}', 'exec "$@"'])
    options = {"pass_fds": [sock.fileno() for sock in sockets]}
    return ["bash", "-c", script, "bash", *service(*arguments)], options


def says(what, sockets, *arguments, **said):
    """It does not start, and prints why."""
    argv, options = handed(sockets, *arguments, **said)
    process = harness.start(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
    try:
        _, errors = process.communicate(timeout=WAIT_S)
    finally:
        harness.end(process)
    require(process.returncode == 1 and what in errors, f"not {what!r} but {errors!r} and code {process.returncode}")


def wrong_ones_are_named():
    with contextlib.ExitStack() as stack:
        listening = high(stack, socket.create_server(("127.0.0.1", 0)))
        bound = high(stack, socket.socket())
        bound.bind(("127.0.0.1", 0))
        connected = high(stack, socket.create_connection(listening.getsockname()))
        unix, other = map(lambda sock: high(stack, sock), socket.socketpair())
        udp = high(stack, socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        file = high(stack, open(os.devnull, "rb"))
        says('"web", is a TCP socket that does not listen', [connected], "systemd:web", names="web")
        says("is a TCP socket that does not listen", [bound], "systemd:unknown")
        says("is a Unix socket that does not listen", [listening, unix], "systemd:x", names="x:y")
        says("is neither a TCP, nor a Unix stream, nor a UDP socket", [file], "systemd:web", names="web")
        says("LISTEN_FDNAMES has 2 names, but LISTEN_FDS is 1", [listening], "systemd:web", names="web:two")
        says('LISTEN_FDS="many" is not a number', [listening], "systemd:web", names="web", count="many")
        says("is not a number", [listening], "systemd:web", names="web", count="4000000000")
        says("is neither a TCP", [listening], "systemd:web", names="web:none", count=2)
        says('there are ["web"]', [listening], "systemd:other", names="web")
        says("none is left", [listening], "systemd:web", "systemd:web", names="web")
        says("no listening socket was handed over", [udp], "systemd:web", names="web")
        # Meant for another process.
        says("no listening socket was handed over", [listening], "systemd:web", names="web", pid="1")
        require(other, "kept until here")


def high(stack, sock):
    """Duplicates a descriptor to a number that does not collide with any other."""
    stack.callback(sock.close)
    if isinstance(sock, socket.socket):
        copy = socket.socket(fileno=os.dup(sock.detach()))
        while copy.fileno() < 10:
            stack.callback(copy.close)
            copy = copy.dup()
        stack.callback(copy.close)
        return copy
    return sock


# ------------------------------------------------------------------------------------------- what the manager is told


def manager_is_told(name):
    with Manager(name) as manager, environment(**manager.environment, WATCHDOG_USEC="400000"):
        with Server(service(ANY)) as server:
            require(manager.hear() == {"READY": "1"}, "not ready")
            require(ask(server.address) == server.pid, "another process answers")
            # Half of the requested interval; on a busy machine one may be late, and then the next one comes sooner.
            pings = [time.monotonic() for _ in range(6) if manager.socket.recv(100) == b"WATCHDOG=1\n"]
            require(len(pings) == 6, "other messages than the watchdog's")
            took_s = pings[-1] - pings[0]
            require(0.85 < took_s < 5, f"5 half times of 0.4 s took {took_s:.2f} s")
            require(server.end() == 0, "another exit code than 0")
            require(manager.hear() == {"STOPPING": "1"}, "not told that it stops")


def manager_that_does_not_read_is_not_waited_for():
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "notify")
        with Manager(name) as manager, environment(
            **manager.environment, WATCHDOG_USEC="2000", RUST_LOG="warn"
        ):
            with Server(service(ANY)) as server:
                # Until no more of its messages fit.
                wait_until(lambda: any(b"cannot tell" in line for line in server.errors), "a full socket")
                require(ask(server.address) == server.pid, "another process answers")
                require(server.end() == 0, "another exit code than 0")


# ------------------------------------------------------------------------------------------------------------- drains


def sigterm_drains():
    with Server(service(ANY, "--delay", "100")) as server:
        clients = [connect(server.address) for _ in range(20)]
        for client in clients:
            client.sendall(b"d")
        for client in clients:
            server.wait_until(lambda c=client: harness.accepted_and_read(server, c), "half a request is read")
        os.kill(server.pid, signal.SIGTERM)
        server.wait_until(lambda: refused(server.address), "it listens no more")
        for client in clients:
            client.sendall(b"ue\n")
        for client in clients:
            require(answer_on(client, b"due") == server.pid, "another process answers")
            require(client.recv(1) == b"", "it is kept open while the server drains")
            client.close()
        require(server.process.wait(WAIT_S) == 0, "another exit code than 0")


def second_signal_ends_at_once():
    with Server(service(ANY, "--delay", "1000000", "--grace", "1000")) as server:
        with connect(server.address) as client:
            client.sendall(b"never answered\n")
            server.wait_until(lambda: harness.accepted_and_read(server, client), "the request is read")
            os.kill(server.pid, signal.SIGTERM)
            server.wait_until(lambda: refused(server.address), "it listens no more")
            begin = time.monotonic()
            require(server.end() == 0, "another exit code than 0")
            return f"{(time.monotonic() - begin) * 1000:.0f} ms"


# ----------------------------------------------------------------------------------------------------------- restarts


def restart_takes_over(folder):
    path = os.path.join(folder, "own.sock")
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(Manager(os.path.join(folder, "notify")))
        stack.enter_context(environment(**manager.environment))
        server = stack.enter_context(Server(service(ANY, f"unix:{path}:mode=600", "unix:@switchboard-%d" % os.getpid())))
        require(manager.hear() == {"READY": "1"}, "not ready")
        inode = os.stat(path).st_ino
        # Its own, besides its listeners; a descriptor leaked into the next process would add one each time.
        open_at_start = server.descriptors()
        kept = connect(server.address)
        require(ask(None, client=kept) == server.pid, "another process answers")
        old = server.pid
        for _ in range(3):
            os.kill(old, signal.SIGUSR2)
            reloading = manager.hear()
            require(reloading.keys() == {"RELOADING", "MONOTONIC_USEC"}, f"told {reloading}")
            age_s = time.clock_gettime(time.CLOCK_MONOTONIC) - int(reloading["MONOTONIC_USEC"]) / 1e6
            require(0 <= age_s < WAIT_S, f"the reload began {age_s} s ago")
            ready = manager.hear()
            require(ready.keys() == {"MAINPID", "READY"}, f"told {ready}")
            new = int(ready["MAINPID"])
            stack.callback(end_process, new)
            if kept:
                # Connected clients stay, and are disconnected after the next answer.
                require(ask(None, client=kept) == old, "the new process answers on an old connection")
                require(kept.recv(1) == b"", "it is kept open while the server drains")
                kept = kept.close()
                require(server.process.wait(WAIT_S) == 0, "another exit code than 0")
            wait_until(lambda pid=old: is_gone(pid), "the old process ends")
            require(ask(server.address) == new, "the old process answers")
            with unix_client(path) as client:
                require(ask(None, client=client) == new, "the old process answers on the Unix socket")
            wait_until(
                lambda pid=new: len(os.listdir(f"/proc/{pid}/fd")) == open_at_start, "as many descriptors as the first had"
            )
            old = new
        found = os.stat(path)
        require(found.st_ino == inode and stat.S_IMODE(found.st_mode) == 0o600, "another socket, or another mode")
        os.kill(old, signal.SIGTERM)
        require(manager.hear() == {"STOPPING": "1"}, "not told that it stops")
        wait_until(lambda: is_gone(old), "the last process ends")
        require(refused(server.address), "somebody listens still")
        require(not os.path.exists(path), "the path is left behind")


def program_in(folder, text=None):
    """Puts the example, or a script in its place, under another path."""
    path = os.path.join(folder, "program")
    temporary = path + ".new"
    with open(temporary, "wb") as file:
        if text:
            file.write(text.encode())
        else:
            with open(harness.example("service"), "rb") as example:
                file.write(example.read())
    os.chmod(temporary, 0o755)
    os.rename(temporary, path)
    return path


def failed_restart_changes_nothing(folder):
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(Manager(os.path.join(folder, "notify")))
        stack.enter_context(environment(**manager.environment))
        path = os.path.join(folder, "own.sock")
        argv = service(ANY, f"unix:{path}", "--start-timeout", "1", program=program_in(folder))
        server = stack.enter_context(Server(argv))
        require(manager.hear() == {"READY": "1"}, "not ready")
        for text, why in [
            ("#!/bin/sh\nexit 3\n", "exit status: 3"),
            ("#!/nonexistent\n", "cannot start a new process"),
            ("#!/bin/sh\nexec sleep 1000\n", "not ready after 1s"),
            ("#!/bin/sh\nexec 3>&- 4>&- 5>&-\nexec sleep 1000\n", "did not become ready: signal: 9"),
        ]:
            program_in(folder, text)
            os.kill(server.pid, signal.SIGUSR2)
            require("RELOADING" in manager.hear(), "not told that it reloads")
            if "not ready" in why:
                # A second signal meanwhile does not start a second process.
                wait_until(lambda: len(descendants()) == 2, "a new process")
                os.kill(server.pid, signal.SIGUSR2)
            told = manager.hear()
            require(told.get("READY") == "1" and why in told["STATUS"], f"told {told}")
            require(ask(server.address) == server.pid, "another process answers")
            wait_until(lambda: len(descendants()) == 1, f"no process left over of {descendants()}")
        server.require_idle(polls_max=5)
        # Then a working one.
        program_in(folder)
        os.kill(server.pid, signal.SIGUSR2)
        require("RELOADING" in manager.hear(), "not told that it reloads")
        new = int(manager.hear()["MAINPID"])
        stack.callback(end_process, new)
        require(server.process.wait(WAIT_S) == 0, "another exit code than 0")
        require(ask(server.address) == new, "another process answers")


# A new process that is killed but does not exit until the file `release` exists, since its tracer holds it. Both
# close what they inherited from the old process, so that it sees at once that the new one will not become ready.
HELD = """#!/usr/bin/env python3
import ctypes, os, time
parent = os.getpid()
reads, writes = os.pipe()
if os.fork() == 0:
    libc = ctypes.CDLL(None, use_errno=True)
    PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 0x4206, 0x40
    if libc.ptrace(PTRACE_SEIZE, parent, None, ctypes.c_void_p(PTRACE_O_TRACEEXIT)):
        raise OSError(ctypes.get_errno(), "ptrace")
    os.write(writes, b"1")
    os.closerange(3, 100)
    while not os.path.exists("RELEASE"):
        time.sleep(0.01)
    os._exit(0)
os.read(reads, 1)
open("RELEASE.held", "w").close()
os.closerange(3, 100)
time.sleep(1000)
"""


def killed_and_held(server):
    """Returns whether a child of the server is stopped at its exit, by a tracer."""
    return "t" in [state for pid, state in descendants().items() if pid != server]


def one_that_does_not_die_is_not_waited_for(folder):
    release = os.path.join(folder, "release")
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(Manager(os.path.join(folder, "notify")))
        stack.enter_context(environment(**manager.environment))
        server = stack.enter_context(Server(service(ANY, program=program_in(folder))))
        stack.callback(lambda: open(release, "w", encoding="ascii").close())
        require(manager.hear() == {"READY": "1"}, "not ready")
        program_in(folder, HELD.replace("RELEASE", release))
        os.kill(server.pid, signal.SIGUSR2)
        require("RELOADING" in manager.hear(), "not told that it reloads")
        wait_until(lambda: os.path.exists(release + ".held"), "the new process")
        wait_until(lambda: killed_and_held(server.pid), "the end of the new process is held")
        for _ in range(20):
            require(ask(server.address) == server.pid, "another process answers")
        open(release, "w", encoding="ascii").close()
        told = manager.hear()
        require(told.get("READY") == "1" and "did not become ready: signal: 9" in told["STATUS"], f"told {told}")
        # Its tracer has lost its parent, and is now our child.
        wait_until(lambda: all(map(is_gone, descendants().keys() - {server.pid})), "the end of the new process")
        require(ask(server.address) == server.pid, "another process answers")


def stopping_meanwhile_ends_both(folder):
    with Server(service(ANY, program=program_in(folder))) as server:
        program_in(folder, "#!/bin/sh\nexec sleep 1000\n")
        os.kill(server.pid, signal.SIGUSR2)
        wait_until(lambda: len(descendants()) == 2, "a new process")
        require(server.end() == 0, "another exit code than 0")
        wait_until(lambda: not descendants(), f"no process left over of {descendants()}")


class Load:
    """Clients that connect, ask, and compare the answer, one connection after the other, until told to stop."""

    def __init__(self, address, clients):
        self.address = address
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.answered = {}
        self.failures = []
        self.threads = [threading.Thread(target=self.run, args=(seed,), daemon=True) for seed in range(clients)]

    def run(self, seed):
        choose = random.Random(seed)
        while not self.stopped.is_set():
            line = choose.randbytes(choose.choice((1, 100, 10_000, 30_000))).hex().encode()
            try:
                process = ask(self.address, line)
            except Exception as error:
                with self.lock:
                    self.failures.append(repr(error))
                continue
            with self.lock:
                self.answered[process] = self.answered.get(process, 0) + 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join(WAIT_S)

    def total(self):
        with self.lock:
            return sum(self.answered.values())

    def goes_on(self, count):
        """Waits for this many more answers, or for a failure."""
        wanted = self.total() + count
        wait_until(lambda: self.total() >= wanted or self.failures, f"{count} answers", 60)

    def finish(self):
        self.__exit__()
        require(not self.failures, f"{len(self.failures)} failed, the first by {self.failures[:3]}")


RESTARTS = 8
BETWEEN = 150  # Answers.


def restarts_under_load(folder):
    """Repeated SIGUSR2: the service owns the listener."""
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(Manager(os.path.join(folder, "notify")))
        stack.enter_context(environment(**manager.environment))
        server = stack.enter_context(Server(service(ANY, "--delay", "5")))
        require(manager.hear() == {"READY": "1"}, "not ready")
        load = stack.enter_context(Load(server.address, 24))
        processes = [server.pid]
        for _ in range(RESTARTS):
            load.goes_on(BETWEEN)
            os.kill(processes[-1], signal.SIGUSR2)
            require("RELOADING" in manager.hear(), "not told that it reloads")
            processes.append(int(manager.hear()["MAINPID"]))
            stack.callback(end_process, processes[-1])
            wait_until(lambda: is_gone(processes[-2]) or server.process.poll() == 0, "the old process ends")
        load.goes_on(BETWEEN)
        load.finish()
        require(set(load.answered) == set(processes), f"answered by {load.answered}, not all of {processes}")
        os.kill(processes[-1], signal.SIGTERM)
        wait_until(lambda: is_gone(processes[-1]), "the last process ends")
        require(refused(server.address), "somebody listens still")
        return f"{RESTARTS} restarts, {load.total()} answers, 0 refused, 0 cut"


def sigterm_under_load():
    """Repeated SIGTERM and restart: the manager owns the listener, and clients wait meanwhile."""
    with contextlib.ExitStack() as stack:
        listening = high(stack, socket.create_server(("127.0.0.1", 0), backlog=1024))
        argv, options = handed([listening], "systemd:web", "--delay", "5", names="web")
        load = stack.enter_context(Load(listening.getsockname(), 24))
        for _ in range(RESTARTS):
            process = harness.start(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
            stack.callback(harness.end, process)
            load.goes_on(BETWEEN)
            if _ == RESTARTS - 1:
                break
            require(harness.end(process, signal.SIGTERM) == 0, "another exit code than 0")
        load.finish()
        require(len(load.answered) == RESTARTS, f"answered by {load.answered}")
        require(harness.end(process, signal.SIGTERM) == 0, "another exit code than 0")
        return f"{RESTARTS} processes, {load.total()} answers, 0 refused, 0 cut"


def main():
    checks = Checks(LIMIT_S)
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(100))

        def own():
            path = os.path.join(folder, str(next(numbers)))
            os.mkdir(path)
            return path

        checks.run("systemd-socket-activate hands sockets over", activated, own())
        checks.run("all sockets of a name are served", all_sockets_of_a_name_are_served)
        checks.run("the unit files are valid", units_are_valid, own())
        checks.run("what is no listening socket is named", wrong_ones_are_named)
        checks.run("a service manager is told", manager_is_told, os.path.join(own(), "notify"))
        checks.run("so is one with an abstract name", manager_is_told, f"@switchboard-manager-{os.getpid()}")
        checks.run("one that does not read is not waited for", manager_that_does_not_read_is_not_waited_for)
        checks.run("SIGTERM drains", sigterm_drains)
        checks.run("the second signal ends at once", second_signal_ends_at_once)
        checks.run("a restart takes over", restart_takes_over, own())
        checks.run("a restart that fails changes nothing", failed_restart_changes_nothing, own())
        checks.run("a new process that does not die is not waited for", one_that_does_not_die_is_not_waited_for, own())
        checks.run("stopping while a new process starts ends both", stopping_meanwhile_ends_both, own())
        checks.run("restarts under load", restarts_under_load, own())
        checks.run("SIGTERM under load", sigterm_under_load)
    checks.finish()


if __name__ == "__main__":
    main()
