#!/usr/bin/env python3
"""Counts what a message, a connection and idling cost: not timed, so the figures are valid on a busy machine too.

    python3 benches/measure.py                      builds, measures, prints
    python3 benches/measure.py instructions rest    only those of: instructions, unix, broadcast, lines, requests, connections, calls, memory, rest
    python3 benches/measure.py tls                  the same over TLS, which is measured only on request
    python3 benches/measure.py --check              also fails if a figure exceeds its bound in bounds.toml
    python3 benches/measure.py --breakdown          also prints which functions the instructions are spent in
    python3 benches/measure.py --write-readme       also writes the table of figures into benches/README.md, or the file named

Linux, with valgrind and strace installed. It measures benches/measured/server.rs and, for requests,
benches/measured/programs.rs, in a separate process; the clients are here.
"""

import argparse
import contextlib
import datetime
import os
import pathlib
import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "real"))

import harness  # noqa: E402 (found by the line above)
import syscalls  # noqa: E402
from callgrind import Profile  # noqa: E402
from harness import Server, Trace, connect, receive, require  # noqa: E402
from report import machine, write_between_marks  # noqa: E402

LIMIT_S = 600
MESSAGE = b"sixty-four bytes, as the measurements of such loops have them.\r\n"
LINES = 16  # Lines that arrive together, each as long as a message.
PIPELINED = (1, 16)  # Requests that arrive together.
READY = 50  # Connections that are ready at each poll.
ROUNDS = (5, 55)  # The difference of two runs, so that starting and ending do not count.
MEMBERS = (100, 1_000)  # Of a broadcast.
REST_S = 10
IDLE = (5_000, 10_000)
IDLE_SERVERS = (  # Flags, bound, and what they add.
    ([], "bytes_a_connection", "its protocol included"),
    (["--idle-timeout"], "bytes_a_connection_with_timeout", "with an idle timeout"),
    (["--filter"], "bytes_a_connection_with_filter", "with a filter"),
    (["--idle-timeout", "--filter"], "bytes_a_connection_with_both", "with an idle timeout and a filter"),
)
SPARE_DESCRIPTORS = 64


class Figure:
    """A figure, its unit, and the command that measures it again. `bound` is its name in bounds.toml."""

    def __init__(self, bound, what, value, unit, command):
        self.bound = bound
        self.what = what
        self.value = value
        self.unit = unit
        self.command = command

    def value_shown(self):
        return f"{self.value:,.2f}".rstrip("0").rstrip(".") if self.value < 10 else f"{self.value:,.0f}"


# -------------------------------------------------------------------------------------------------- building


class Builds:
    """Builds the measured server in two profiles. Both produce the same file name, so it is copied."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.built = {}

    def server(self, profile="bench", package="switchboard", name="measured_server"):
        if (profile, name) not in self.built:
            command = ["cargo", "build", "--quiet", "--profile", profile, "--package", package, "--example", name]
            subprocess.run(command, cwd=ROOT, check=True)
            target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / name
            self.built[profile, name] = str(shutil.copy(target, self.folder / f"{name}-{profile}"))
        return self.built[profile, name]

    def tls_server(self):
        return self.server(package="switchboard-tls", name="measured_tls")


# ---------------------------------------------------------------------------------------------- instructions


class TurnByTurn:
    """A server that turns on command: what is ready then was made ready before."""

    def __init__(self, server):
        self.server = server
        self.turns = 0

    def turn(self):
        self.turns += 1
        self.server.process.stdin.write(b".")
        self.server.process.stdin.flush()

    def connect(self):
        if not isinstance(self.server.address, str):
            return connect(self.server.address)
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(harness.WAIT_S)
        client.connect(self.server.address)
        return client


def profile_of(binary, workload, rounds, flags):
    with tempfile.NamedTemporaryFile(prefix="callgrind-") as out:
        argv = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out.name}", binary]
        with Server([*argv, *flags], stdin=subprocess.PIPE) as server:
            workload(TurnByTurn(server), rounds)
            server.process.stdin.close()
            require(server.process.wait(harness.WAIT_S) == 0, f"the server failed{server.tail()}")
        return Profile.read(out.name)


def difference(binary, workload, ready, flags=(), rounds=ROUNDS, driven=("--turn-by-turn",)):
    """Returns the cost of a message or a connection: instructions and calls, by function."""
    few, many = (profile_of(binary, workload(ready), count, [*driven, *flags]) for count in rounds)
    return (many - few) / ((rounds[1] - rounds[0]) * ready)


def exchange(server, clients, message=MESSAGE):
    """All clients send, the server turns once, and then all have their answer."""
    for client in clients:
        client.sendall(message)
    server.turn()
    for client in clients:
        require(receive(client, len(message)) == message, "not an echo")


def messages(ready, message=MESSAGE):
    def workload(server, rounds):
        with contextlib.ExitStack() as sockets:
            clients = [sockets.enter_context(server.connect()) for _ in range(ready)]
            server.turn()  # Accepts them.
            for _ in range(rounds):
                exchange(server, clients, message)

    return workload


def broadcasts(members):
    """One of the members sends, and all receive."""

    def workload(server, rounds):
        with contextlib.ExitStack() as sockets:
            clients = []
            for first in range(0, members, READY):
                clients += [sockets.enter_context(server.connect()) for _ in range(first, min(first + READY, members))]
                server.turn()  # Accepts them.
                expected = server.server.descriptors_at_start + len(clients)
                server.server.wait_until(lambda expected=expected: server.server.descriptors() >= expected, "not all accepted")
            for _ in range(rounds):
                clients[0].sendall(MESSAGE)
                server.turn()
                for client in clients:
                    require(receive(client, len(MESSAGE)) == MESSAGE, "not what was sent")

    return workload


def batches(ready):
    """Measures lines that arrive together, as that many messages."""
    return messages(ready, LINES * MESSAGE)


def lives(ready):
    def workload(server, rounds):
        for _ in range(rounds):
            with contextlib.ExitStack() as sockets:
                clients = [sockets.enter_context(server.connect()) for _ in range(ready)]
                server.turn()  # Accepts them.
                exchange(server, clients)
                for client in clients:
                    client.shutdown(socket.SHUT_WR)
                server.turn()  # Finds their ends.
                for client in clients:
                    require(client.recv(1) == b"", "no end of stream")

    return workload


ALLOCATORS = re.compile(r"(malloc|calloc|realloc|posix_memalign|aligned_alloc)(@.*)?")


def instructions(builds, breakdown):
    command = "python3 benches/measure.py instructions"
    for profile, bound, ready, flags, addition in (
        ("bench", "instructions_a_message", READY, [], ""),
        ("release", "instructions_a_message_release", READY, [], ""),
        ("bench", None, READY, ["--timed"], ", callbacks timed"),
        ("bench", None, READY, ["--idle-timeout"], ", with an idle timeout"),
        ("bench", None, 1, [], ""),
    ):
        cost = difference(builds.server(profile), messages, ready, flags)
        what = f"a 64-byte message echoed, {ready} ready at each poll, {profile} profile{addition}"
        yield Figure(bound, what, cost.instructions(), "instructions", command)
        if bound == "instructions_a_message":
            allocations = cost.calls(ALLOCATORS)
            yield Figure("allocations_a_message", "a 64-byte message echoed", allocations, "allocations", command)
        if breakdown:
            print(cost.table())


def unix(builds, breakdown):
    with tempfile.TemporaryDirectory() as folder:
        # Each run of the server binds the path anew.
        cost = difference(builds.server(), messages, READY, ["--unix", os.path.join(folder, "socket")])
    what = f"a 64-byte message echoed over a Unix stream, {READY} ready at each poll, bench profile"
    yield Figure("instructions_a_message_unix", what, cost.instructions(), "instructions", "python3 benches/measure.py unix")
    if breakdown:
        print(cost.table())


def broadcast(builds, breakdown):
    raise_descriptor_limit()
    for members in MEMBERS:
        cost = difference(builds.server(), broadcasts, members, ["--broadcast"])
        what = f"64 bytes broadcast to {members:,}, to each of them, bench profile"
        yield Figure("instructions_a_receiver", what, cost.instructions(), "instructions", "python3 benches/measure.py broadcast")
        if breakdown:
            print(cost.table())


def lines(builds, breakdown):
    """Returns what a line costs in addition to its share of the same bytes, echoed unparsed."""
    by_lines, bare = (difference(builds.server(), batches, READY, flags) / LINES for flags in (["--lines"], []))
    command = "python3 benches/measure.py lines"
    what = f"a 64-byte line received and answered, {LINES} a read, over the echo of the same bytes, bench profile"
    yield Figure("instructions_a_line", what, (by_lines - bare).instructions(), "instructions", command)
    if breakdown:
        print((by_lines - bare).table())
    kinds = calls_of_each(builds.server(), batches, ["--lines"])
    what = f"{LINES} lines received and answered, {READY} connections ready at each poll ({shown(kinds)})"
    yield Figure("system_calls_a_batch_of_lines", what, sum(kinds.values()), "system calls", command)


# What wrk and redis-benchmark send, and what an answer begins with.
SET = (b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000000\r\n$3\r\nVXK\r\n", b"+OK\r\n")
GET = (b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n", b"$3\r\nVXK\r\n")
HTTP_GET = (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1234\r\n\r\n", b"HTTP/1.1 200 OK\r\n")
PROGRAMS = (  # The example, what precedes the requests, the request.
    ("http_server", HTTP_GET, HTTP_GET),
    ("resp_server", SET, GET),
)


def requests_of(first, each, pipelined):
    """Returns the workload of requests that arrive this many at a time, each client's in one write."""

    def workload(ready):
        def rounds_of(server, rounds):
            with contextlib.ExitStack() as sockets:
                clients = [sockets.enter_context(server.connect()) for _ in range(ready)]
                server.turn()  # Accepts them.
                clients[0].sendall(first[0])
                server.turn()
                require(clients[0].recv(65536).startswith(first[1]), "the first request failed")
                clients[0].sendall(each[0])
                server.turn()
                answer = clients[0].recv(65536)
                require(answer.startswith(each[1]), "the request failed")
                for _ in range(rounds):
                    for client in clients:
                        client.sendall(pipelined * each[0])
                    server.turn()
                    for client in clients:
                        answers = receive(client, pipelined * len(answer))
                        require(answers.count(each[1]) == pipelined, "not all were answered")

        return rounds_of

    return workload


def requests(builds, breakdown):
    """Returns what a request costs in the examples of two protocols."""
    command = "python3 benches/measure.py requests"
    for program, first, each in PROGRAMS:
        binary = builds.server("release", name="measured_programs")
        for pipelined in PIPELINED:
            workload = requests_of(first, each, pipelined)
            cost = difference(binary, workload, READY, driven=(program,)) / pipelined
            what = f"a GET answered by `{program}`, {pipelined} a read, {READY} connections ready at each poll, release profile"
            yield Figure(f"instructions_a_request_{program}_{pipelined}", what, cost.instructions(), "instructions", command)
            if breakdown:
                print(cost.table())


def connections(builds, breakdown):
    command = "python3 benches/measure.py connections"
    cost = difference(builds.server(), lives, READY)
    what = f"connect, a 64-byte message echoed, close; {READY} at each poll, bench profile"
    yield Figure("instructions_a_connection", what, cost.instructions(), "instructions", command)
    allocations = cost.calls(ALLOCATORS)
    yield Figure("allocations_a_connection", "connect, a 64-byte message echoed, close", allocations, "allocations", command)
    if breakdown:
        print(cost.table())


# ------------------------------------------------------------------------------------------------------ TLS


class TlsClient:
    """A client over TLS whose handshake is driven turn by turn."""

    def __init__(self, server):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # It is our own server.
        self.came, self.goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.came, self.goes)
        self.socket = server.connect()
        self._step(self.tls.do_handshake)
        server.turn()  # Accepts it.
        server.turn()  # Answers.
        while self._step(self.tls.do_handshake) is None:
            self._receive()
        server.turn()  # Receives the end of the handshake.

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _step(self, step):
        """Returns the result of a step, or None if it needs more input; and sends its output."""
        try:
            result = step() or True
        except ssl.SSLWantReadError:
            result = None
        self.socket.sendall(self.goes.read())
        return result

    def _receive(self):
        data = self.socket.recv(65536)
        require(data, "the server has closed")
        self.came.write(data)

    def sendall(self, message):
        self._step(lambda: self.tls.write(message))

    def receive(self, count):
        data = b""
        while len(data) < count:
            piece = self._step(lambda: self.tls.read(count - len(data)))
            if piece is None:
                self._receive()
            else:
                data += piece
        return data


def tls_messages(ready):
    def workload(server, rounds):
        with contextlib.ExitStack() as clients:
            clients = [clients.enter_context(TlsClient(server)) for _ in range(ready)]
            for _ in range(rounds):
                for client in clients:
                    client.sendall(MESSAGE)
                server.turn()
                for client in clients:
                    require(client.receive(len(MESSAGE)) == MESSAGE, "not an echo")

    return workload


# The functions that encrypt or implement the protocol, which are not ours.
OF_RUSTLS = re.compile(r"(<?(&mut )?(ring|rustls)\b.*)|ring_core_.*|aes_.*|gcm_.*|mem(cpy|move|set|cmp).*|.*_(avx|sse|unaligned).*")


def tls(builds, breakdown):
    command = "python3 benches/measure.py tls"
    cost = difference(builds.tls_server(), tls_messages, READY, driven=())
    ours = sum(count for name, count in cost.spent.items() if not OF_RUSTLS.fullmatch(name))
    what = f"a 64-byte message echoed over TLS 1.3, {READY} ready at each poll, bench profile"
    yield Figure(None, what, cost.instructions(), "instructions", command)
    yield Figure("instructions_a_message_tls", f"{what}, without those of rustls and ring", ours, "instructions", command)
    allocations = cost.calls(ALLOCATORS)
    yield Figure("allocations_a_message_tls", what, allocations, "allocations", command)
    if breakdown:
        print(cost.table())


# ---------------------------------------------------------------------------------------------- system calls


def traced(binary, workload, rounds, flags):
    """Returns the server's calls during the rounds, without the reads of its commands."""
    with Server([binary, "--turn-by-turn", *flags], stdin=subprocess.PIPE) as server:
        driver = TurnByTurn(server)
        with Trace(server.pid) as trace:
            workload(driver, rounds)
        counts = syscalls.by_kind(trace)
    counts["read"] -= driver.turns
    return counts


def calls_of_each(binary, workload, flags=()):
    few, many = (traced(binary, workload(READY), rounds, flags) for rounds in ROUNDS)
    count = (ROUNDS[1] - ROUNDS[0]) * READY
    return {kind: (many[kind] - few.get(kind, 0)) / count for kind in sorted(many) if many[kind] != few.get(kind, 0)}


def shown(kinds):
    return ", ".join(f"{kind} {count:.2f}" for kind, count in kinds.items())


def calls(builds, _):
    command = "python3 benches/measure.py calls"
    for bound, what, workload in (
        ("system_calls_a_message", f"a 64-byte message echoed, {READY} ready at each poll", messages),
        ("system_calls_a_connection", f"connect, a 64-byte message echoed, close; {READY} at each poll", lives),
    ):
        kinds = calls_of_each(builds.server(), workload)
        yield Figure(bound, f"{what} ({shown(kinds)})", sum(kinds.values()), "system calls", command)


# ---------------------------------------------------------------------------------------------------- memory


def resident_bytes(pid):
    """Returns the process's resident memory in user space, including shared pages; sockets belong to the kernel."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return 1024 * int(re.search(r"^Rss:\s+(\d+) kB", file.read(), re.M).group(1))


def raise_descriptor_limit():
    """Raises the limit of descriptors to its maximum, and returns that."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def memory(builds, _):
    most = raise_descriptor_limit()
    for count in IDLE:
        if count + SPARE_DESCRIPTORS > most:
            print(f"skipped: {count:,} idle connections: descriptors are limited to {most:,}", flush=True)
            continue
        for flags, bound, addition in IDLE_SERVERS:
            what = f"an idle connection, one of {count:,}, {addition}"
            value = bytes_a_connection([builds.server(), *flags], count)
            command = "python3 benches/measure.py memory"
            yield Figure(bound, what, value, "bytes resident in user space", command)


def bytes_a_connection(argv, count):
    """Measures how resident memory grows from no connection to this many, each of which was echoed to once.

    Before that, one connection is opened and closed: what the first one touches belongs to the loop, not to a connection.
    """
    with Server(argv) as server, contextlib.ExitStack() as sockets:
        with connect(server.address) as client:
            require(harness.echoes(client, MESSAGE), "no echo")
        server.wait_until(lambda: server.descriptors() == server.descriptors_at_start, "no connection left")
        before = resident_bytes(server.pid)
        for _ in range(count):
            client = connect(server.address)
            sockets.callback(harness.reset, client)
            require(harness.echoes(client, MESSAGE), "no echo")
        return (resident_bytes(server.pid) - before) / count


# ------------------------------------------------------------------------------------------------------ rest


def wake_ups(pid):
    """Returns how often the single-threaded process has gone to sleep so far; each poll that waits counts once."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.M).group(1))


def rest(builds, _):
    with Server([builds.server()]) as server, contextlib.ExitStack() as sockets:
        clients = [sockets.enter_context(connect(server.address)) for _ in range(READY)]
        syscalls.rounds_of_echoes(clients, 2)
        harness.left_alone(2)  # A timer releases buffers that have grown in a burst.
        before, start, cpu_s = wake_ups(server.pid), time.monotonic(), server.cpu_s()
        harness.left_alone(REST_S)
        woken, seconds = wake_ups(server.pid) - before, time.monotonic() - start
        # Polls that do not wait would not put it to sleep more often.
        require(server.cpu_s() == cpu_s, "it is busy at rest")
    what = f"a process at rest, {READY} connections open, over {REST_S} s"
    yield Figure("polls_a_minute", what, 60 * woken / seconds, "polls a minute", "python3 benches/measure.py rest")


# -------------------------------------------------------------------------------------------------- reporting


def over_bounds(figures):
    with open(ROOT / "benches" / "bounds.toml", "rb") as file:
        bounds = tomllib.load(file)
    for figure in figures:
        # A figure without a bound is for information only.
        if figure.bound is not None and round(figure.value, 3) > bounds[figure.bound]:
            yield f"{figure.bound}: {figure.what}: {figure.value_shown()} {figure.unit}, {bounds[figure.bound]} at most"


def write_table(readme, figures):
    lines = ["| what | cost |", "| --- | --- |"]
    lines += [f"| {figure.what} | {figure.value_shown()} {figure.unit} |" for figure in figures]
    taken = f"Measured on {datetime.date.today()} by `python3 benches/measure.py`: {machine()}."
    write_between_marks(readme, "measured", taken + "\n\n" + "\n".join(lines) + "\n")


PARTS = {part.__name__: part for part in (instructions, unix, broadcast, lines, requests, connections, calls, memory, rest)}
# Only on request, since it builds another package and its dependencies.
MORE_PARTS = {"tls": tls}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}, {', '.join(MORE_PARTS)}; all but the last if none is given")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--breakdown", action="store_true")
    parser.add_argument("--write-readme", nargs="?", type=pathlib.Path, const=ROOT / "benches" / "README.md", metavar="FILE")
    arguments = parser.parse_args()
    for part in arguments.parts:
        if part not in {**PARTS, **MORE_PARTS}:
            parser.error(f"no such part: {part}")
    if arguments.write_readme and arguments.parts:
        parser.error("the table has all figures: give no parts")
    harness.limit_time(LIMIT_S)
    print(machine(), flush=True)
    figures = []
    with tempfile.TemporaryDirectory(prefix="measured-") as folder:
        builds = Builds(folder)
        for part in arguments.parts or PARTS:
            for figure in {**PARTS, **MORE_PARTS}[part](builds, arguments.breakdown):
                figures.append(figure)
                print(f"{figure.what}: {figure.value_shown()} {figure.unit} [{figure.command}]", flush=True)
    if arguments.write_readme:
        write_table(arguments.write_readme, figures)
    too_much = list(over_bounds(figures)) if arguments.check else []
    for line in too_much:
        print(f"OVER ITS BOUND: {line}", flush=True)
    sys.exit(1 if too_much else 0)


if __name__ == "__main__":
    main()
