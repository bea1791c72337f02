#!/usr/bin/env python3
"""Restricted settings: what README.md's two commands run, and a server under load, with few resources.

    python3 tests/real/restricted.py           servers in each setting, and with all restrictions combined
    python3 tests/real/restricted.py --long    the tests, too

as root, after `cargo build --examples --all-features`.  Each setting is first verified from within: one that restricts
nothing would prove nothing.
"""

import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

import harness
import service
from harness import Checks, Failed, Server, end, require, start

SHORT_LIMIT_S, LONG_LIMIT_S = 400, 3000
TESTS_LIMIT_S = 600
ANY_PORT = "127.0.0.1:0"
NOBODY = 65534

MEMORY_BYTES = 64 << 20
DESCRIPTORS_MAX = 64
# What a test may use, as CONTRIBUTING.md says. Some have more clients than the servers here may have descriptors.
TEST_DESCRIPTORS_MAX = 256

# The load: concurrent clients, some of which wait for a descriptor if there are few; what each sends; and additional
# clients that send and never read.
CLIENTS, ROUNDS, MESSAGE_BYTES = 120, 20, 4096
DEAF, DEAF_BYTES = 20, 4 << 20

# ------------------------------------------------------------------------------------- system calls that are missing

LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16
ALLOW, FAIL = 0x7FFF0000, 0x00050000
X86_64 = 0xC000003E
# statx (332, Linux 4.11) and all that came after it: close_range, pidfd_open, clone3, epoll_pwait2, io_uring, and so on.
FIRST_NEWER_CALL = 332
SOCKET_CALL = 41
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


class Step(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("if_true", ctypes.c_uint8), ("if_false", ctypes.c_uint8), ("value", ctypes.c_uint32)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("steps", ctypes.POINTER(Step))]


OLD_KERNEL = [
    (LOAD, 0, 0, ARCHITECTURE_AT), (JUMP_IF_EQUAL, 0, 2, X86_64),
    (LOAD, 0, 0, NUMBER_AT), (JUMP_IF_AT_LEAST, 1, 0, FIRST_NEWER_CALL),
    (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, FAIL | errno.ENOSYS),
]
NO_IPV6 = [
    (LOAD, 0, 0, ARCHITECTURE_AT), (JUMP_IF_EQUAL, 0, 4, X86_64),
    (LOAD, 0, 0, NUMBER_AT), (JUMP_IF_EQUAL, 0, 2, SOCKET_CALL),
    (LOAD, 0, 0, FIRST_ARGUMENT_AT), (JUMP_IF_EQUAL, 1, 0, socket.AF_INET6),
    (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, FAIL | errno.EAFNOSUPPORT),
]
FILTERS = {"old-kernel": OLD_KERNEL, "no-ipv6": NO_IPV6}


def filtered(name, argv):
    """Execs another program, for which, and for its descendants, some system calls fail from here on."""
    steps = FILTERS[name]
    array = (Step * len(steps))(*(Step(*step) for step in steps))
    program = Program(len(steps), array)
    libc = ctypes.CDLL(None, use_errno=True)
    no = ctypes.c_ulong(0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), no, no, no) or libc.prctl(
            PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program), no, no):
        sys.exit(f"no filter of system calls: {os.strerror(ctypes.get_errno())}")
    os.execvp(argv[0], argv)


# ------------------------------------------------------------------------------------------------------ settings


@contextlib.contextmanager
def memory_group():
    """Creates a memory-limited group of processes, kernel memory included; yields the file of its members."""
    name = f"switchboard-test-{os.getpid()}"
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = os.path.join(root, name)
        try:
            os.mkdir(folder)
        except OSError:
            continue
        try:
            if not os.path.exists(os.path.join(folder, limit)):
                continue
            with open(os.path.join(folder, limit), "w", encoding="ascii") as file:
                file.write(str(MEMORY_BYTES))
            yield os.path.join(folder, "cgroup.procs")
            return
        finally:
            os.rmdir(folder)
    raise Failed("no group with a limit on memory can be made here")


def without_proc():
    return ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /proc && exec "$0" "$@"']


def read_only():
    """Makes every file system read-only except that of temporary files."""
    script = r"""
        mount --make-rprivate /
        cut -d" " -f5 /proc/self/mountinfo | while read -r at; do
          case "$(printf '%b' "$at")" in /dev|/dev/*|/proc|/proc/*|/sys/*) ;; *) mount -o remount,bind,ro "$(printf '%b' "$at")" ;; esac
        done
        exec "$0" "$@"
    """
    return ["unshare", "--mount", "sh", "-ec", script]


def by_filter(name):
    return [sys.executable, os.path.abspath(__file__), "--filtered", name]


# In the order in which they can be combined: listing mounts needs /proc, and mounting needs privileges. Each has a
# command that runs a program under it, and a line of Python that verifies it from within.
RESTRICTIONS = {
    "one core": (["taskset", "--cpu-list", "0"], "len(os.sched_getaffinity(0)) == 1"),
    "a read-only root": (read_only(), "fails(errno.EROFS, open, '/etc/switchboard-test', 'w')"),
    "no /proc": (without_proc(), "not os.path.exists('/proc/self')"),
    "an old kernel's calls": (by_filter("old-kernel"), "fails(errno.ENOSYS, os.pidfd_open, os.getpid())"),
    "no IPv6": (by_filter("no-ipv6"), "fails(errno.EAFNOSUPPORT, socket.socket, socket.AF_INET6)"),
    "uid nobody": (
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"],
        f"os.getuid() == {NOBODY} and fails(errno.EACCES, open, '/etc/shadow')",
    ),
}
LOOK = """
import errno, os, socket
def fails(number, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno == number
    return False
assert {}
"""


def require_to_hold(names):
    """Verifies from within that the restrictions hold."""
    for name in names:
        wrapper, shows = RESTRICTIONS[name]
        look = subprocess.run([*wrapper, sys.executable, "-c", LOOK.format(shows)], capture_output=True, text=True, timeout=20)
        require(look.returncode == 0, f"{name}: is not so: {look.stderr.strip()[-300:]}")


def under(names, argv):
    wrapped = [part for name in names for part in RESTRICTIONS[name][0]]
    return [*wrapped, *argv]


# ---------------------------------------------------------------------------------------------------- the server


def exchange(address, number, failures):
    """One client; checks every byte of its echo."""
    try:
        with socket.create_connection(address, 60) as client:
            client.settimeout(60)
            for turn in range(ROUNDS):
                message = bytes((number + turn + at) % 251 for at in range(MESSAGE_BYTES))
                client.sendall(message)
                received = bytearray()
                while len(received) < len(message):
                    piece = client.recv(65536)
                    require(piece, "the end came in the middle")
                    received += piece
                require(received == message, "other bytes came back")
    except (OSError, Failed) as error:
        failures.append(f"client {number}: {error}")


def load(server, deaf_count):
    """Well-behaved clients, all at once, alongside some that send much and read nothing."""
    failures = []
    with contextlib.ExitStack() as stack:
        for _ in range(deaf_count):
            deaf = stack.enter_context(socket.create_connection(server.address, 60))
            deaf.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(DEAF_BYTES // 65536):
                    deaf.send(bytes(65536))
        clients = [threading.Thread(target=exchange, args=(server.address, number, failures)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    require(not failures, f"{len(failures)} of {CLIENTS}: {failures[:3]}")
    require(server.alive(), f"the server ended{server.tail()}")


def server_works(names, programs, descriptors_max=None, members=None):
    require_to_hold(names)
    argv = [programs["echo_server"], ANY_PORT]
    if members:
        # First of all: an unprivileged process may not join it.
        argv = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', members, *under(names, argv)]
    else:
        argv = under(names, argv)
    with Server(argv, descriptors_max=descriptors_max) as server:
        if members:
            with open(members, encoding="ascii") as file:
                require(server.pid in map(int, file), "the limit on memory does not hold for it")
        load(server, DEAF if descriptors_max is None else descriptors_max // 4)
        server.wait_until(lambda: server.descriptors() <= server.descriptors_at_start, "all descriptors are closed")
        code = server.end()
        require(code == 0, f"on SIGTERM it ended with {code}{server.tail()}")
    first_command_works(under(names, [programs["select_server"], ANY_PORT]), descriptors_max)
    service_restarts(under(names, [programs["service"], f"tcp:{ANY_PORT}"]), descriptors_max)


def first_command_works(argv, descriptors_max):
    """The first of README.md's commands: a line of a client is printed, and SIGINT ends it."""
    with Server(argv, descriptors_max=descriptors_max) as server:
        with socket.create_connection(server.address, 10) as client:
            client.sendall(b"a line\n")
            server.wait_for_line(rb".*: a line")
        code = server.end(harness.signal.SIGINT)
        require(code == 0, f"on SIGINT it ended with {code}{server.tail()}")


def service_restarts(argv, descriptors_max):
    """A new process takes over; it has to find the old one's program."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(argv, descriptors_max=descriptors_max))
        require(service.ask(server.address) == server.pid, "another process answers")
        os.kill(server.pid, harness.signal.SIGUSR2)
        require(server.process.wait(harness.WAIT_S) == 0, "the old process does not end cleanly")
        new = service.ask(server.address)
        stack.callback(service.end_process, new)
        os.kill(new, harness.signal.SIGTERM)
        service.wait_until(lambda: service.is_gone(new), "the new process ends")


# ----------------------------------------------------------------------------------------------------- the tests


def test_programs():
    """What the second of README.md's commands runs, of the crate itself."""
    command = ["cargo", "test", "--all-features", "--no-run", "--lib", "--test", "it", "--package", "switchboard", "--message-format=json"]
    built = subprocess.run(command, cwd=harness.PROJECT, check=True, capture_output=True, text=True).stdout
    artifacts = [json.loads(line) for line in built.splitlines() if line.startswith("{")]
    programs = [artifact["executable"] for artifact in artifacts if artifact.get("executable")]
    require(len(programs) == 2, f"not two programs: {programs}")
    return programs


def tests_pass(names, programs, environment):
    require_to_hold(names)
    passed = 0
    for program in programs["tests"]:
        argv = ["prlimit", f"--nofile={TEST_DESCRIPTORS_MAX}:{TEST_DESCRIPTORS_MAX}", *under(names, [program])]
        with tempfile.TemporaryFile() as output:
            process = start(argv, cwd=harness.PROJECT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            try:
                code = process.wait(TESTS_LIMIT_S)
            finally:
                end(process)
            output.seek(0)
            text = output.read().decode(errors="replace")
        failed = re.findall(r"^test (\S+) \.\.\. FAILED|^    (\S+::\S+)$", text, re.MULTILINE)
        require(code == 0, f"ended with {code}: {sorted({one or other for one, other in failed})[:8]} {text[-300:]}")
        passed += int(re.search(r"test result: ok\. (\d+) passed", text).group(1))
    require(passed > 1000, f"only {passed} tests")
    return f"{passed} tests"


def main():
    if sys.argv[1:2] == ["--filtered"]:
        filtered(sys.argv[2], sys.argv[3:])
    long = sys.argv[1:] == ["--long"]
    checks = Checks(LONG_LIMIT_S if long else SHORT_LIMIT_S)
    if os.getuid() != 0:
        sys.exit("it has to be root who takes things away")
    # Where nobody may read and write, whatever the folder of the project allows; not on the file systems made read-only.
    with tempfile.TemporaryDirectory(prefix="switchboard-", dir="/dev/shm") as scratch:
        os.chmod(scratch, 0o777)
        programs = {}
        for name in ("echo_server", "select_server", "service"):
            programs[name] = shutil.copy(harness.example(name), scratch)
        everything = list(RESTRICTIONS)
        for name in RESTRICTIONS:
            checks.run(f"server: {name}", server_works, [name], programs)
        checks.run(f"server: {DESCRIPTORS_MAX} descriptors", server_works, [], programs, DESCRIPTORS_MAX)
        with memory_group() as members:
            checks.run("server: 64 MiB of memory", server_works, [], programs, None, members)
        with memory_group() as members:
            checks.run("server: all of it at once", server_works, everything, programs, DESCRIPTORS_MAX, members)
        if long:
            programs["tests"] = [shutil.copy(program, scratch) for program in test_programs()]
            # As under cargo, which normally runs them.
            environment = {**os.environ, "TMPDIR": scratch, "CARGO_PKG_NAME": "switchboard", "SWITCHBOARD_SEEDS": "100"}
            for name in RESTRICTIONS:
                checks.run(f"tests: {name}", tests_pass, [name], programs, environment)
            checks.run("tests: all of it at once", tests_pass, everything, programs, environment)
    checks.finish()


if __name__ == "__main__":
    main()
