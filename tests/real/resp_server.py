#!/usr/bin/env python3
"""The example that implements Redis' protocol: redis-server itself, redis-cli, redis-benchmark, redis-py, hiredis,
node-redis, ioredis.

    python3 tests/real/resp_server.py [STREAMS [SEED]]

after `cargo build --examples --all-features`.  redis-server runs on its own Unix socket, without a port and without a
file, and without the commands that the example does not have: so both must give the same answers to any stream of
bytes.  The libraries are fetched (`libraries.py`), once.
"""

import contextlib
import fcntl
import os
import pty
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

import harness
import libraries
from harness import WAIT_S, Checks, Failed, Server, Trace, connect, example, receive, require
from libraries import Program

LIMIT_S = 300
POLL_S = 0.0002  # How often to check whether one of thousands of pieces has been taken.
ACK_S = 0.005  # Many times the size of a read.
STREAMS = 1500
BULK_BYTES_MAX = 8 << 20
ARGUMENTS_MAX = 1 << 20
LINE_BYTES_MAX = 64 << 10
HELD_MIB_MAX = 128
REST_MIB_MAX = 16  # The program itself, its connections, and their shared buffers.
OURS = ["get", "set", "incr", "ping", "mget", "del", "decr", "incrby", "decrby", "echo", "hello", "auth", "client", "info", "command",
        "config", "quit"]
SUBCOMMANDS = ["command|count", "command|info", "command|docs", "config|get", "client|id", "client|getname", "client|setname"]
REQUEST_TIMEOUT_S = 30
OOM = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"


# ------------------------------------------------------------------------------------------------------ both servers


def wait_until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        require(time.monotonic() < deadline, what)
        time.sleep(POLL_S)
    return found


def listens(path):
    """Returns whether it listens; the path appears earlier, and on a busy machine there may be a gap."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


@contextlib.contextmanager
def redis_server(without=()):
    """Yields the socket path of our own redis-server, without the commands of these names."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "redis.sock")
        lines = ["port 0", f"unixsocket {path}", 'save ""', "appendonly no", f"dir {folder}", "loglevel warning",
                 f"proto-max-bulk-len {BULK_BYTES_MAX}", *(f'rename-command {name} ""' for name in without)]
        server = harness.start(["redis-server", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        server.stdin.write("\n".join(lines).encode())
        server.stdin.close()
        try:
            wait_until(lambda: server.poll() is not None or listens(path), "redis-server does not listen")
            require(server.poll() is None, f"redis-server ended: {server.poll()}")
            yield path
        finally:
            harness.end(server, signal.SIGTERM)


def resp_server(*arguments, descriptors_max=None):
    return Server([example("resp_server"), "127.0.0.1:0", *arguments], descriptors_max=descriptors_max)


def connect_to(address):
    if isinstance(address, tuple):
        return connect(address)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(WAIT_S)
    client.connect(address)
    return client


def request(*words):
    words = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def taken(client):
    """Returns whether the other side's kernel (TCP) or process (Unix) has everything that was sent."""
    return struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, b"\0" * 4))[0] == 0


def wait_until_taken(client):
    """Waits, so that the next piece does not arrive together with this one.

    Over TCP an ACK shows it, which is sent at the read, or up to 40 ms later if there is no answer to send it with.
    """
    late = time.monotonic() + ACK_S
    is_late = lambda: client.family != socket.AF_UNIX and time.monotonic() > late
    wait_until(lambda: taken(client) or hung_up(client) or is_late(), "not taken")


def hung_up(client):
    poll = select.poll()
    poll.register(client, 0)
    return bool(poll.poll(0))


# This fits into the kernel's buffers, in however small pieces it is written.
FITS_BYTES = 64 * 1024


def answers_to(address, pieces):
    """Returns everything received until the server closes the connection, or else until our own end of stream.

    redis-server closes at our end of stream whether or not its answers have been sent: it discards those that do not
    fit into the kernel's buffers.
    """
    with connect_to(address) as client:
        with contextlib.suppress(OSError):  # It has closed the connection: what it sent before can still be read.
            for piece in pieces:
                client.sendall(piece)
                if len(pieces) > 1:
                    wait_until_taken(client)
            client.shutdown(socket.SHUT_WR)
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(1 << 20):
                received += data
        return bytes(received)


def ask(client, *words):
    """Returns the answer to one request, as on the wire."""
    client.sendall(request(*words))
    return read_answer(client)


def read_line(client):
    line = b""
    while not line.endswith(b"\r\n"):
        byte = client.recv(1)
        require(byte, f"the server has closed, after {line!r}")
        line += byte
    return line


def read_answer(client):
    line = read_line(client)
    if line[:1] in b"$=" and line != b"$-1\r\n":
        count = int(line[1:]) + 2
        rest = receive(client, count)
        require(len(rest) == count, "half an answer")
        return line + rest
    return line + b"".join(read_answer(client) for _ in range(elements_of(line)))


def elements_of(line):
    """Returns how many elements follow an answer with this header: a map has two for each entry."""
    each = {b"*": 1, b"~": 1, b"%": 2}.get(line[:1])
    return each * int(line[1:]) if each else 0


def is_gone(client):
    """Returns whether the server has closed the connection without an answer."""
    with contextlib.suppress(ConnectionError):
        return client.recv(1) == b""
    return True


# ----------------------------------------------------------------------------------------------------- any stream at all

KEYS = [b"a", b"b", b"n", b"", b"key:\xff\x00\r\n", b"x" * 300]
NUMBERS = [b"0", b"41", b"-1", b"9223372036854775806", b"-9223372036854775808", b"007", b" 1", b"1.5", b"99999999999999999999"]
# Connection commands. However a stream is corrupted, it should not become a command that only one server knows, such as
# CLIENT LIST, or one with its own details, such as CLIENT ID, COMMAND and INFO.
SESSION = [[b"hello"], [b"hello", b"2"], [b"hello", b"3"], [b"hello", b"3"], [b"HELLO", b"3", b"setname", b"me"],
           [b"hello", b"2", b"auth", b"default", b"x"], [b"hello", b"3", b"AUTH", b"me", b"x"], [b"hello", b"3", b"auth", b"default"],
           [b"hello", b"3", b"setname", b"a b"], [b"hello", b"2", b"setname"], [b"hello", b"3", b"nosuch\r\nx\0y", b"setname", b"a"],
           [b"hello", b"3", b"setname", b"b", b"no"], [b"hello", b"1"], [b"hello", b"4"], [b"hello", b"setname", b"a"], [b"hello", b"03"],
           [b"client"], [b"client", b"getname"], [b"client", b"getname"], [b"client", b"getname", b"x"], [b"client", b"setname", b"me"],
           [b"client", b"setname", b""], [b"client", b"setname", b"\xff"], [b"client", b"setname", b"a\0b"], [b"client", b"setname"],
           [b"client", b"setinfo", b"lib-name", b"x"], [b"client", b"no\r\nsuch"], [b"auth"], [b"auth", b"x"],
           [b"auth", b"default", b"x"], [b"auth", b"Default", b"x"], [b"auth", b"a", b"b", b"c"]]
UNKNOWN = [b"nosuch", b"", b"ge", b"get\x00x", b"get\r\n", b"n" * 200, b"\xc3\xa9\x1b[2J", b"HTTP/1.1"]


def value(chance):
    kind = chance.random()
    if kind < 0.4:
        return chance.choice(NUMBERS)
    return chance.randbytes(chance.choice([0, 1, 3, 60, 500] if kind < 0.97 else [16_383, 16_384, 17_000]))


def words_of_a_command(chance):
    key = lambda: chance.choice(KEYS)
    kind = chance.choice(["get", "get", "set", "set", "set", "setx", "setx", "incr", "incr", "mget", "del", "ping", "echo",
                          "decr", "incrby", "incrby", "decrby", "decrby", "session", "session", "session", "unknown", "count", "quit"])
    if kind == "setx":
        options = [[b"NX"], [b"xx"], [b"GET"], [b"keepttl"], [b"EX", b"1000"], [b"px", b"1000000"], [b"EX", value(chance)],
                   [b"px", b"0"], [b"EX"], [b"nosuch"]]
        chosen = chance.sample(options, chance.choice([1, 1, 2, 3]))
        return [b"set", key(), value(chance), *(word for option in chosen for word in option)]
    if kind == "unknown":
        return [chance.choice(UNKNOWN), *(value(chance) for _ in range(chance.randrange(4)))]
    if kind == "session":
        return list(chance.choice(SESSION))
    if kind in ("incrby", "decrby"):
        return [kind.encode(), key(), chance.choice(NUMBERS)]
    if kind == "count":  # Too few or too many.
        return [chance.choice(OURS[:OURS.index("hello")]).encode(), *(key() for _ in range(chance.randrange(4)))]
    if kind == "quit" and chance.random() < 0.9:
        kind = "ping"
    of = {"get": 1, "incr": 1, "decr": 1, "echo": 1, "set": 2, "ping": chance.randrange(3), "quit": 0}.get(kind, 1 + chance.randrange(4))
    return [kind.encode(), *(key() if n == 0 or kind != "set" else value(chance) for n in range(of))]


def as_line(chance, words):
    """Returns a request as a person would type it, or nearly so."""
    def quoted(word):
        kind = chance.random()
        if kind < 0.5 and re.fullmatch(rb"[!#-&(-\[\]-~]+", word):
            return word
        if kind < 0.6:
            return b"'" + word.replace(b"'", b"\\'").replace(b"\n", b" ").replace(b"\0", b" ") + b"'"
        escaped = b"".join(b"\\x%02x" % byte if byte < 32 or byte in b'"\\' else bytes([byte]) for byte in word)
        return b'"' + escaped + b'"'

    blank = chance.choice([b" ", b" ", b"  ", b"\t", b" \x0b"])
    return blank.join(quoted(word[:1000]) for word in words) + chance.choice([b"\r\n", b"\r\n", b"\n", b" \n"])


def stream_of(chance):
    stream = b""
    for _ in range(chance.randrange(1, 12)):
        words = words_of_a_command(chance)
        if chance.random() < 0.1:
            words[0] = words[0].swapcase()
        stream += as_line(chance, words) if chance.random() < 0.3 else request(*words)
        if chance.random() < 0.05:
            stream += chance.choice([b"*0\r\n", b"*-1\r\n", b"\r\n", b"\n", b"*-7\r\n"])
    if chance.random() < 0.5:
        stream = broken(chance, stream)
    return stream


def broken(chance, stream):
    """Returns the same with a byte or two added or missing."""
    stream = bytearray(stream)
    for _ in range(chance.choice([1, 1, 2, 4])):
        # The beginnings of lines matter most.
        starts = [match.end() for match in re.finditer(rb"\r\n", stream)] or [0]
        at = min(chance.choice(starts) + chance.randrange(4), len(stream) - 1) if chance.random() < 0.7 \
            else chance.randrange(len(stream))
        byte = chance.choice([chance.randrange(256), *b"$*\r\n -+0123\"'\0"])
        kind = chance.randrange(4)
        if kind == 0:
            stream[at] = byte
        elif kind == 1:
            stream.insert(at, byte)
        elif kind == 2 and len(stream) > 1:
            del stream[at]
        elif len(stream) > 1:
            del stream[chance.randrange(1, len(stream)):]
    return bytes(stream)


def cut(chance, stream):
    cuts = sorted(chance.randrange(len(stream) + 1) for _ in range(chance.choice([0, 1, 2, 5])))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)])]
    return [piece for piece in pieces if piece]


# Cases that random ones cover too rarely.
HEADED = [b"*1x", b"*+1", b"*-0", b"*01", b"*2147483648", b"*9223372036854775808", b"*", b"*1\r\n$-1", b"*1\r\n$01",
          b"*1\r\n$8388609", b"*1\r\n:1", b"*1\r\n\r", b"*1\r\n\xff", b"*1\r\n", b"*1\r\n$"]
FIXED = [head + b"\r\n" for head in HEADED] + [
    b"*" + b"1" * 100_000, b"*1\r\n$" + b"1" * 100_000, b"a" * 100_000, b"\0" + b"a" * 100_000 + b"\r\n",
    b"*1\0\r\n", b"*1\r\n$4\0\r\nPING\r\n", b"PI\0NG\r\nPING\r\n", b'"\n', b"'\n", b'"a"b\n', b"'a'b\n", b'a"b"\n', b'"\\x4',
    b"*2\r\n$4\r\nECHO--$2--hi--PING\r\n", b"*1\rx$4\rxPINGxxPING\r\n", b"quit\r\nping\r\n", b"QUIT now\r\nping\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\n\r\nset a 1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nset a 1\r\n", request(*[b""] * 20),
    request(b"mget", *[b"n"] * 3000), request(b"echo", bytes(range(256)) * 250),
    b"ping\r\n" * 5_000, request(b"nosuch", *[b"y" * 50] * 5), b"nosuch 'a\r b'\r\n"]


def commands_of_redis():
    with redis_server() as path, connect_to(path) as client:
        names = re.findall(rb"\r\n([a-z]\S*)\r\n", ask(client, "command", "list"))
        names = sorted({name.decode() for name in names if b"|" not in name})
    require(set(OURS) <= set(names), f"{set(OURS) - set(names)} are none of Redis'")
    return names


def comparable(answers):
    """Removes the version and the id from HELLO's answer."""
    return re.sub(rb"(\$7\r\nversion\r\n)\$\d+\r\n7\.0\.\d+(\r\n\$5\r\nproto\r\n:[23]\r\n\$2\r\nid\r\n):\d+\r\n", rb"\1\2", answers)


def same_answers(count, seed):
    chance = random.Random(seed)
    others = [name for name in commands_of_redis() if name not in OURS]
    answered = closed = greeted = 0
    with redis_server(without=others) as redis, resp_server() as ours:
        require(answers_to(redis, [b"command count\r\n"]) == answers_to(ours.address, [b"command count\r\n"]), "other commands")
        streams = [[stream] for stream in FIXED] + [cut(chance, stream_of(chance)) for _ in range(count)]
        for number, pieces in enumerate(streams):
            expected, got = comparable(answers_to(redis, pieces)), comparable(answers_to(ours.address, pieces))
            same = len(os.path.commonprefix([got, expected]))
            begin = max(same - 100, 0)
            # redis-server has closed with more unsent than the kernel's buffers hold.
            is_cut = same == len(expected) > FITS_BYTES
            require(got == expected or is_cut, f"seed {seed}, stream {number}, {[piece[:100] for piece in pieces]}: from {begin} on\n"
                    f"    got      {got[begin:same + 100]}\n    expected {expected[begin:same + 100]}")
            answered += expected.count(b"\r\n")
            closed += b"Protocol error" in expected
            greeted += b"%7\r\n" in expected
        ours.require_quiet()
    require(answered > 3 * count and closed > count / 20 and greeted > count / 100, f"{answered}, {closed}, {greeted}: too few to tell")
    return f"{len(streams)} streams, about {answered} answers, {closed} broken, {greeted} with RESP3; seed {seed}"


# ---------------------------------------------------------------------------------------------------------- the clients


def cli(server, *words, stdin=b""):
    done = subprocess.run(["redis-cli", "-p", str(server.address[1]), *words], input=stdin, capture_output=True, timeout=WAIT_S,
                          check=False)
    require(done.returncode == 0 and not done.stderr, f"redis-cli {words}: {done.returncode}, {done.stderr}")
    return done.stdout.removesuffix(b"\n")


def redis_cli():
    with resp_server() as server:
        for words, expected in [(("ping",), b"PONG"), (("ping", "hello"), b"hello"), (("set", "a", "1"), b"OK"),
                                (("incr", "a"), b"2"), (("get", "a"), b"2"), (("mget", "a", "no"), b"2\n"),
                                (("set", "a", "3", "nx"), b""), (("del", "a", "no"), b"1"), (("echo", "two words"), b"two words"),
                                (("command", "count"), b"%d" % len(OURS)),
                                (("get",), b"ERR wrong number of arguments for 'get' command\n")]:
            got = cli(server, *words)
            require(got == expected, f"{words}: {got!r}")
        # Values are bytes.
        everything = bytes(range(256)) * 100
        require(cli(server, "-x", "set", "binary", stdin=everything) == b"OK", "not set")
        require(cli(server, "get", "binary") == everything, "another value")
        for words, expected in [(("set", "a", "2"), b"OK"), (("get", "no"), b""), (("mget", "a", "no"), b"2\n"), (("config", "get", "save"), b"save ")]:
            got = cli(server, "-3", *words)
            require(got == expected, f"RESP3: {words}: {got!r}")
        # A script, and many requests, which end with redis-cli's own ECHO.
        require(cli(server, stdin=b"set a 1\nincr a\nget a\n") == b"OK\n2\n2", "another script")
        many = b"".join(request("set", f"key:{n}", str(n)) for n in range(20_000))
        require(b"errors: 0, replies: 20000" in cli(server, "--pipe", stdin=many), "not all of them")
        require(cli(server, "mget", "key:0", "key:19999") == b"0\n19999", "not set")
        told = dict(line.split(b":", 1) for line in cli(server, "info").splitlines() if b":" in line)
        require(told[b"db0"] == b"keys=20002,expires=0,avg_ttl=0", f"{told}")
        require(told[b"connected_clients"] == b"1" and int(told[b"process_id"]) == server.pid, f"{told}")
        require(int(told[b"total_commands_processed"]) > 20_000, f"{told}")
        require(int(told[b"total_connections_received"]) >= 16, f"{told}")
        require(cli(server, "info", "clients", "memory").count(b"# ") == 2, "other sections")


def redis_cli_on_a_terminal():
    """On a terminal it first asks for the documentation of all commands, and shows hints from it."""
    with resp_server() as server:
        parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "REDISCLI_HISTFILE": "/dev/null"}
        client = harness.start(["redis-cli", "-p", str(server.address[1])], stdin=child, stdout=child, stderr=child,
                               env=environment)
        os.close(child)
        shown = b""
        for typed, expected in [(b"", b""), (b"set greeting hello\r", b"OK"), (b"get greeting\r", b'"hello"'),
                                (b"help mget\r", b"Get the values of all the given keys")]:
            os.write(parent, typed)
            deadline = time.monotonic() + WAIT_S
            # Until the prompt is back: input typed earlier would be lost.
            while not re.search(re.escape(expected) + b".*> ", shown, re.DOTALL):
                require(select.select([parent], [], [], deadline - time.monotonic())[0], f"{expected} does not come: {shown}")
                shown += os.read(parent, 65536)
            shown = b""
        os.write(parent, b"quit\r")
        require(client.wait(WAIT_S) == 0, "it ended otherwise")
        os.close(parent)


def describes_commands_as_redis_does(version):
    first_six = lambda answer: answer[:2] + [sorted(answer[2])] + answer[3:6]
    with redis_server() as redis, resp_server() as ours, connect_to(redis) as theirs, connect_to(ours.address) as client:
        require(comparable(ask(client, "hello", version)) == comparable(ask(theirs, "hello", version)), "another greeting")
        for name in OURS + SUBCOMMANDS:
            theirs.sendall(request("command", "info", name))
            expected = first_six(decoded(theirs)[0])
            # Those about parts of Redis that the example does not have.
            expected[2] = sorted(set(expected[2]) - {b"noscript", b"no_auth", b"allow_busy", b"admin", b"no_async_loading"})
            client.sendall(request("command", "info", name))
            got = first_six(decoded(client)[0])
            require(got == expected, f"{name}: {got}, and not {expected}")
        client.sendall(request("command"))
        require(sorted(entry[0].decode() for entry in decoded(client)) == sorted(OURS), "others")
        for words in (["config", "get", "save", "appendonly"], ["config", "get", "nosuch"], ["config", "get"], ["config"],
                      ["config", "nosuch"], ["command", "nosuch"], ["command", "count", "1"], ["info", "nosuch"],
                      ["command", "info", "nosuch"], ["command", "info", "no", "get|get", "config|", "|get", "config|get|x"],
                      ["command", "docs", "nosuch"], ["command", "docs", "config|nosuch", "x"], ["client", "id", "x"]):
            answers = [sorted(ask(asked, *words).split()) for asked in (client, theirs)]
            require(answers[0] == answers[1], f"{words}: {answers}")


def decoded(client):
    line = read_line(client)
    if line[:1] in b"*~%":
        return [decoded(client) for _ in range(elements_of(line))]
    if line[:1] == b"$":
        return receive(client, int(line[1:]) + 2)[:-2]
    return int(line[1:]) if line[:1] == b":" else line[1:-2]


def redis_benchmark():
    with resp_server() as server:
        found = []
        for pipelined, more in ((1, []), (16, []), (16, ["-r", "10000", "-d", "1000"])):
            done = subprocess.run(["redis-benchmark", "-p", str(server.address[1]), "-t", "ping,set,get,incr", "-n", "20000", "-c",
                                   "50", "-P", str(pipelined), "--csv", *more], capture_output=True, timeout=60, check=False)
            lines = done.stdout.decode().splitlines()[1:]
            require(done.returncode == 0 and len(lines) == 5, f"{done.returncode}, {done.stdout}, {done.stderr}")
            require(b"WARNING" not in done.stdout + done.stderr, f"{done.stderr}")
            found.append(f"P={pipelined}: {len(lines)} tests")
        server.require_quiet()
        return ", ".join(found)


# -------------------------------------------------------------------------------------------------------- the libraries


def library(argv, environment=None, least=0, versions=("2", "3", "default")):
    """The same program with redis-server and ours: it gets the same results, and reconnects after ours restarts."""
    environment = environment or {}
    found = []
    for version in versions:
        with redis_server() as path, Program(argv, path, version, environment) as client:
            expected = client.told()
            client.goes_on(has_lost_it=False)
            expected += client.told()
            client.require_end()
        with contextlib.ExitStack() as servers:
            server = servers.enter_context(resp_server())
            client = servers.enter_context(Program(argv, str(server.address[1]), version, environment))
            got = client.told()
            require(server.end() == 0, "another exit code")
            servers.enter_context(Server([example("resp_server"), "%s:%s" % server.address]))
            client.goes_on(has_lost_it=True)
            got += client.told()
            client.require_end()
        for one, other in zip(got, expected):
            require(one == other, f"RESP {version}: {str(one)[:500]}\n    and not {str(other)[:500]}")
        require(len(got) == len(expected) >= least, f"RESP {version}: {len(got)} of {len(expected)}")
        found.append(f"RESP {version}: {len(got)} things done")
    return ", ".join(found)


def redis_py():
    client = os.path.join(harness.HERE, "redis_py_client.py")
    return library([libraries.python_with_redis_py(), client], least=40)


def hiredis():
    """redis-py, with its answers parsed by hiredis."""
    python = libraries.python_with_hiredis()
    asked = subprocess.run([python, "-c", "import redis.utils; print(redis.utils.HIREDIS_AVAILABLE)"], capture_output=True,
                           timeout=WAIT_S, check=False)
    require(asked.stdout == b"True\n", f"redis-py does not use it: {asked}")
    return library([python, os.path.join(harness.HERE, "redis_py_client.py")], least=40, versions=("2", "3"))


def ioredis():
    client = os.path.join(harness.HERE, "ioredis_client.js")
    return library(["node", client], {"NODE_PATH": libraries.modules_with_ioredis()}, least=35, versions=("default",))


def node_redis():
    client = os.path.join(harness.HERE, "node_redis_client.js")
    return library(["node", client], {"NODE_PATH": libraries.modules_with_node_redis()}, least=35)


# ----------------------------------------------------------------------------------------------------------- the bounds


def answers_go_out_together():
    with resp_server() as server, connect(server.address) as client:
        require(ask(client, "ping") == b"+PONG\r\n", "no answer")
        with Trace(server.pid) as trace:
            client.sendall(request("ping") * 1000)
            require(receive(client, 7000) == b"+PONG\r\n" * 1000, "other answers")
        counts = trace.counts()
        reads, writes = (sum(counts.get(name, 0) for name in names) for names in (("recvfrom", "read"), ("sendto", "sendmsg", "write")))
        # 14,000 bytes and as many answers: a few of each, by how they arrived.
        require(1 <= writes <= reads <= 20, f"{writes} writes for {reads} reads")
        return f"{reads} reads and {writes} writes for 1,000 requests"


def requests_are_bounded():
    """A request that is too long ends only its own connection."""
    with resp_server() as server, connect(server.address) as bystander:
        biggest = b"\xff" * BULK_BYTES_MAX
        with connect(server.address) as client:
            require(ask(client, "set", "big", biggest) == b"+OK\r\n", "not set")
            require(ask(client, "get", "big") == b"$%d\r\n%s\r\n" % (BULK_BYTES_MAX, biggest), "another value")
            require(ask(client, *["mget"] + ["no"] * (1 << 17)) == b"*%d\r\n" % (1 << 17) + b"$-1\r\n" * (1 << 17), "others")
            # Five times that is more than the server queues for a client.
            client.sendall(request("mget", *["big"] * 5))
            require(is_gone(client), "not ended")
        for stream, text in ((b"*%d\r\n" % (ARGUMENTS_MAX + 1), b"invalid multibulk length"),
                             (b"*1\r\n$%d\r\n" % (BULK_BYTES_MAX + 1), b"invalid bulk length"),
                             (b"a" * (LINE_BYTES_MAX + 1), b"too big inline request")):
            got = answers_to(server.address, [stream])
            require(got == b"-ERR Protocol error: " + text + b"\r\n", f"{got}")
        # Nor may a request be that long.
        with connect(server.address) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(b"*6\r\n$4\r\nMGET\r\n" + (b"$%d\r\n%s\r\n" % (BULK_BYTES_MAX, biggest)) * 5)
            require(is_gone(client), "not ended")
        require(ask(bystander, "ping") == b"+PONG\r\n", "no answer")


def incomplete_requests_are_bounded(part, count):
    """`count` clients send all but the end of a request, more than is allowed in total: checks resident memory."""
    with resp_server() as server, contextlib.ExitStack() as sockets:
        gone = 0
        for _ in range(count):
            client = sockets.enter_context(connect(server.address))
            with contextlib.suppress(ConnectionError):
                client.sendall(part)
            gone += not wait_for_taken_or_gone(client)
        with connect(server.address) as client:
            require(ask(client, "set", "a", "1") == b"+OK\r\n", "others are not served")
        peak_mib = server.memory_peak_mib()
        require(gone and peak_mib < HELD_MIB_MAX + REST_MIB_MAX, f"{gone} ended, {peak_mib:.0f} MiB at the peak")
        return f"{gone} of {count} ended, {peak_mib:.0f} MiB at the peak"


def wait_for_taken_or_gone(client):
    """Waits until the server has taken the data; returns false if it has closed the connection instead."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if not harness.still_connected(client):
            return False
        if taken(client):
            return harness.still_connected(client)
        time.sleep(harness.POLL_S)
    raise Failed("neither taken nor ended")


def stored_bytes_are_bounded():
    with resp_server("--maxmemory=20000000") as server, connect(server.address) as client:
        count = 0
        while (answer := ask(client, "set", f"key:{count}", b"v" * 100_000)) == b"+OK\r\n":
            count += 1
            require(count < 1000, "no end")
        require(answer == OOM and 150 < count <= 200, f"{answer}, after {count}")
        require(ask(client, "incr", "n") == OOM and ask(client, "get", "n") == b"$-1\r\n", "added")
        require(len(ask(client, "get", "key:0")) == 100_011, "not there")
        require(ask(client, "del", "key:0", "key:1") == b":2\r\n", "not deleted")
        require(ask(client, "set", "key:0", "1") == b"+OK\r\n", "no room")
        # Replacing values for a long time: memory does not grow.
        for n in range(3000):
            size = (n * 7919) % 100_000
            require(ask(client, "set", f"key:{n % 10}", b"w" * size) == b"+OK\r\n", "no room")
        peak_mib = server.memory_peak_mib()
        require(peak_mib < 60, f"{peak_mib:.0f} MiB at the peak")
        return f"{count} values of 100 kB, {peak_mib:.0f} MiB at the peak"


def a_client_that_does_not_read():
    """A client asks for 2 GiB and does not read: the server holds the answers back, and serves others meanwhile."""
    with resp_server() as server, connect(server.address) as client, connect(server.address) as other:
        size, count = 1 << 20, 2048
        require(ask(client, "set", "big", b"b" * size) == b"+OK\r\n", "not set")
        client.settimeout(LIMIT_S)  # The timeout of the whole `sendall`.
        sender = threading.Thread(target=client.sendall, args=(request("get", "big") * count,), daemon=True)
        sender.start()
        wait_until(lambda: not taken(client) or not sender.is_alive(), "not sent")
        for n in range(1, 100):
            require(ask(other, "incr", "n") == b":%d\r\n" % n, "another number")
        server.require_idle()
        peak_mib = server.memory_peak_mib()
        require(peak_mib < 64, f"{peak_mib:.0f} MiB at the peak")
        expected = b"$%d\r\n" % size + b"b" * size + b"\r\n"
        for n in range(count):
            require(receive(client, len(expected)) == expected, f"answer {n} is another one")
        sender.join(WAIT_S)
        require(server.memory_peak_mib() < 64, "it grew")
        return f"{peak_mib:.0f} MiB at the peak"


def keys_expire():
    with resp_server() as server, connect(server.address) as client:
        begin = time.monotonic()
        require(ask(client, "set", "a", "1", "px", "400") == b"+OK\r\n", "not set")
        require(ask(client, "set", "b", "1", "ex", "1000") == b"+OK\r\n", "not set")
        while ask(client, "get", "a") != b"$-1\r\n":
            require(time.monotonic() - begin < WAIT_S, "still there")
            time.sleep(harness.POLL_S)
        took_s = time.monotonic() - begin
        require(took_s >= 0.4, f"gone after {took_s:.3f} s")
        # Unused keys are evicted as well.
        for n in range(5000):
            client.sendall(request("set", f"key:{n}", "x" * 1000, "px", "200"))
        for n in range(5000):
            require(read_answer(client) == b"+OK\r\n", "not set")
        wait_until(lambda: b"db0:keys=1,expires=1," in ask(client, "info", "keyspace"), "they do not go")
        server.require_idle()  # Though there is a key that could be evicted.
        return f"after {took_s * 1000:.0f} ms"


def silent_peers_do_not_keep_the_others_out():
    """There are more silent peers than descriptors, so a client waits until they are closed."""
    with resp_server(descriptors_max=80) as server, contextlib.ExitStack() as sockets:
        begin = time.monotonic()
        for _ in range(120):
            sockets.enter_context(connect(server.address))
        with connect(server.address) as client:
            client.settimeout(REQUEST_TIMEOUT_S + 2 * WAIT_S)
            client.sendall(request("ping"))
            with harness.others_meanwhile():
                answer = read_answer(client)
            took_s = time.monotonic() - begin
            require(answer == b"+PONG\r\n" and took_s >= REQUEST_TIMEOUT_S, f"{answer} after {took_s:.0f} s: there was room")
            require(ask(client, "set", "a", "1") == b"+OK\r\n", "no answer")
        return f"served after {took_s:.0f} s, behind 120 peers that say nothing, with 80 descriptors"


def one_address_has_so_many_connections():
    with resp_server("--per-peer", "3", "--maxmemory=1000000") as server, contextlib.ExitStack() as sockets:
        first, *others = [sockets.enter_context(connect(server.address)) for _ in range(3)]
        for client in (first, *others):
            require(ask(client, "ping") == b"+PONG\r\n", "not served")
        with connect(server.address) as surplus:
            refusal = read_answer(surplus)
            require(refusal == b"-ERR max number of clients reached\r\n" and is_gone(surplus), f"a fourth is told {refusal}")
        elsewhere = sockets.enter_context(socket.create_connection(server.address, WAIT_S, ("127.0.0.2", 0)))
        require(ask(elsewhere, "ping") == b"+PONG\r\n", "another address is not served")
        require(ask(first, "quit") == b"+OK\r\n" and is_gone(first), "it does not end")
        later = sockets.enter_context(connect(server.address))
        require(ask(later, "ping") == b"+PONG\r\n", "not served though one has left")
        require(all(ask(client, "ping") == b"+PONG\r\n" for client in others), "others were ended")
    with resp_server() as server, contextlib.ExitStack() as sockets:
        clients = [sockets.enter_context(connect(server.address)) for _ in range(200)]
        require(all(ask(client, "ping") == b"+PONG\r\n" for client in clients), "bounded though nobody asked for that")


def ends_cleanly(number):
    with resp_server() as server:
        with connect(server.address) as client:
            require(ask(client, "set", "a", "1", "ex", "1000") == b"+OK\r\n", "not set")
            require(server.end(number) == 0, "another exit code")
            require(is_gone(client), "not hung up")
        require(not server.errors, f"{server.errors}")
    for arguments in (["nonsense"], ["--maxmemory=x"], ["127.0.0.1:0", "again"], ["--maxmemory=-1"], ["--per-peer"],
                      ["--per-peer", "0"], ["127.0.0.1:0", "--per-peer", "x"]):
        done = subprocess.run([example("resp_server"), *arguments], capture_output=True, timeout=WAIT_S, check=False)
        require(done.returncode == 1 and done.stderr.count(b"\n") == 1 and not done.stdout, f"{arguments}: {done}")


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else STREAMS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    checks = Checks(LIMIT_S)
    checks.begin("silent peers do not keep the others out", silent_peers_do_not_keep_the_others_out)
    checks.begin("any stream of bytes: the same answers as redis-server's", same_answers, count, seed)
    checks.begin("redis-cli", redis_cli)
    checks.begin("redis-cli on a terminal", redis_cli_on_a_terminal)
    for version in "23":
        checks.begin(f"commands, as redis-server describes them, in RESP{version}", describes_commands_as_redis_does, version)
    checks.begin("redis-py", redis_py)
    checks.begin("redis-py with hiredis", hiredis)
    checks.begin("node-redis", node_redis)
    checks.begin("ioredis", ioredis)
    checks.begin("redis-benchmark", redis_benchmark)
    checks.begin("answers go out together", answers_go_out_together)
    checks.begin("requests and answers are bounded", requests_are_bounded)
    long = b"*5\r\n" + (b"$%d\r\n%s\r\n" % (BULK_BYTES_MAX - 1, b"p" * (BULK_BYTES_MAX - 1))) * 3
    tiny = b"*%d\r\n" % ARGUMENTS_MAX + b"$0\r\n\r\n" * (ARGUMENTS_MAX - 1)
    checks.begin("incomplete requests of long values are bounded, all together", incomplete_requests_are_bounded, long, 20)
    checks.begin("incomplete requests of empty values are bounded, all together", incomplete_requests_are_bounded, tiny, 60)
    checks.begin("--per-peer", one_address_has_so_many_connections)
    checks.begin("what is stored is bounded", stored_bytes_are_bounded)
    checks.begin("a client that does not read", a_client_that_does_not_read)
    checks.begin("keys expire", keys_expire)
    checks.begin("SIGINT, and arguments that are wrong", ends_cleanly, signal.SIGINT)
    checks.begin("SIGTERM", ends_cleanly, signal.SIGTERM)
    checks.finish()


if __name__ == "__main__":
    main()
