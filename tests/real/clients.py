#!/usr/bin/env python3
"""The examples that connect, against the examples that listen and against Python's sockets."""

import hashlib
import itertools
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import WAIT_S, Checks, Server, connect, require

LIMIT_S = 300
OFFERED_BYTES = 1 << 30
CHUNKS = 512  # Of 64 KiB, which is three times what two kernels' buffers hold.
OFFERED_S = 3.0  # How long data is offered, without success, to a peer that does not read.
# What examples/relay.rs states for a pair: 64 KiB and one read (64 KiB) in each direction; plus what the allocator may
# keep, since a growing buffer is copied, and freed memory is not returned to the system at once.
KEPT_KIB_MAX = 2 * (64 + 64) + 512


def run(name, *arguments):
    """Runs an example until it exits, and returns its exit code, stdout and stderr."""
    command = [harness.example(name), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def at(address):
    return "%s:%d" % address


def greets():
    with Server([harness.example("greeting_server"), "127.0.0.1:0"]) as server:
        code, printed, _ = run("greeting_client", at(server.address))
        require((code, printed) == (0, "the data received is byebye\n"), f"{code}, {printed!r}")
        server.wait_for_line(rb"hihi", "the answer")
        server.wait_for_line(rb"got connected from 127.0.0.1:\d+", "the peer")
        code, printed, _ = run("two_sockets_client", f"localhost:{server.address[1]}")
        greetings = {f"{name}: the data received is byebye" for name in ("sock1", "sock2")}
        require(code == 0 and set(printed.splitlines()) == greetings, f"{code}, {printed!r}")
        server.wait_for_line(rb"hihi I am client", "the first answer")
        server.wait_for_line(rb"client send use sock2", "the second answer")


def python_greets():
    """Our client with Python's server from the tutorial."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers = []

        def serve():
            with listener.accept()[0] as client:
                client.sendall(b"byebye")
                answers.append(client.recv(512))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        code, printed, _ = run("greeting_client", at(listener.getsockname()))
        thread.join(WAIT_S)
        require((code, answers) == (0, [b"hihi"]) and "byebye" in printed, f"{code}, {answers}, {printed!r}")


def fails():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        code, _, complaint = run("greeting_client", at(nobody.getsockname()))
        require(code == 1 and "refused" in complaint, f"{code}, {complaint!r}")
    code, _, complaint = run("greeting_client", "no such server")
    require(code == 1 and complaint.count("\n") == 1, f"{code}, {complaint!r}")


def tells_of_no_answer():
    """A server that accepts, sends nothing and closes the connection is reported as a failure."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        path = os.path.join(folder, "silent.sock")
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(path)
            unix.listen()

            def hang_up(listening, clients):
                for _ in range(clients):
                    client = listening.accept()[0]
                    client.settimeout(WAIT_S)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(1000):
                        pass
                    client.close()

            for name, arguments, listening, complaints in [
                ("greeting_client", [at(listener.getsockname())], listener, 1),
                ("two_sockets_client", [at(listener.getsockname())], listener, 2),
                ("unix_echo", [path, "hello"], unix, 1),
            ]:
                server = threading.Thread(target=hang_up, args=(listening, complaints), daemon=True)
                server.start()
                code, printed, complaint = run(name, *arguments)
                server.join(WAIT_S)
                found = code == 1 and printed == "" and complaint.count("\n") == complaints
                require(found, f"{name} ends with {code}, {printed!r}, {complaint!r}")


def sends_all():
    """16 MiB in one write, to a server that starts reading late and reads little at a time: each send is partial."""
    message = bytes(range(251)) * ((16 << 20) // 251 + 1)
    message = message[: 16 << 20]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        client = harness.start([harness.example("send_all"), at(listener.getsockname())], stdout=subprocess.PIPE)
        with listener.accept()[0] as reader:
            reader.settimeout(WAIT_S)
            first = client.stdout.readline()  # Nothing is read yet.
            taken = int(first.split()[0])
            require(taken < len(message) and first.endswith(b" of %d bytes are sent\n" % len(message)), f"printed {first!r}")
            with harness.Trace(client.pid, "sendto,sendmsg") as trace:
                got = bytearray()
                while data := reader.recv(10_000):
                    got += data
        rest = client.communicate(timeout=WAIT_S)[0].splitlines()
        require(got == message, f"{len(got)} bytes, or others")
        require(client.returncode == 0 and rest[-1] == b"all %d bytes are sent" % len(message), f"printed {rest[-1:]}")
        sends = sum(trace.counts().values())
        require(sends > 10, f"{sends} sends")
        # A connection closed in the middle is an error, not a silent half answer.
        client = harness.start(
            [harness.example("send_all"), at(listener.getsockname())], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with listener.accept()[0] as reader:
            reader.recv(10_000)
        _, complaint = client.communicate(timeout=WAIT_S)
        require((client.returncode, complaint) == (1, b"reset by the peer\n"), f"{client.returncode}, {complaint!r}")
        return f"{taken >> 10} KiB taken at first, {sends} further sends"


def echoes_over_unix():
    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, "echo.sock"), f"@switchboard-{os.getpid()}"]
        for name in names:
            server = harness.start([harness.example("unix_echo"), name], stdout=subprocess.PIPE)
            require(b"listening on unix:" in server.stdout.readline(), "it does not listen")
            code, printed, _ = run("unix_echo", name, "hello \x1b[2J")
            require((code, printed) == (0, "hello \\x1b[2J\n"), f"{code}, {printed!r}")
            # An answer longer than the client's limit is not reported as empty.
            code, printed, complaint = run("unix_echo", name, "x" * 100_000)
            require(code == 1 and not printed and "too much input" in complaint, f"{code}, {len(printed)}, {complaint!r}")
            number = signal.SIGINT if name.startswith("@") else signal.SIGTERM
            require(harness.end(server, number) == 0, "another exit code than 0")
            server.stdout.close()
        require(not os.path.exists(names[0]), "the path is left")
        code, _, complaint = run("unix_echo", names[0], "is anybody there?")
        require(code == 1 and complaint.count("\n") == 1, f"{code}, {complaint!r}")
        server = harness.start([harness.example("unix_echo"), names[0]], stdout=subprocess.PIPE)
        require(b"listening" in server.stdout.readline(), "it does not listen")
        require(os.stat(names[0]).st_mode & 0o777 == 0o600, "another mode")
        harness.end(server)
        server.stdout.close()
        # It was killed: the path is stale, and the next server takes it.
        server = harness.start([harness.example("unix_echo"), names[0]], stdout=subprocess.PIPE)
        require(b"listening" in server.stdout.readline(), "a stale path is not replaced")
        again = run("unix_echo", names[0])
        require(again[0] == 1 and "in use" in again[2], f"{again}")
        harness.end(server)
        server.stdout.close()


def an_answer_waits_for_a_slow_reader():
    """More output than a pipe holds reaches a reader that takes nothing at first."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "echo.sock")
        message = "\1" * 60_000
        with Server([harness.example("unix_echo"), path]):
            process = harness.start([harness.example("unix_echo"), path, message], stdout=subprocess.PIPE)
            try:
                time.sleep(0.5)  # That is how slow the reader is.
                got, _ = process.communicate(timeout=WAIT_S)
                expected = b"\\x01" * 60_000 + b"\n"
                require((process.returncode, len(got)) == (0, len(expected)), f"{process.returncode}, {len(got)} bytes")
                require(got == expected, "another answer")
            finally:
                harness.end(process)


def echoes_what_the_tutorial_says():
    """Program 5: the handler that prints what it receives, one request, and its client."""
    with Server([harness.example("socket_server"), "--echo", "--once", "127.0.0.1:0"]) as server:
        code, printed, _ = run("echo_client", at(server.address))
        require((code, printed) == (0, "Hello!\nI like Tuesdays!\n"), f"{code}, {printed!r}")
        require(server.process.wait(WAIT_S) == 0, "it has not ended after one request")
        heard = [line for line in server.lines if not line.startswith(b"listening")]
        peer = heard[0].removeprefix(b"Got connection from ")
        require(heard[1:] == [b"Received: Hello!", b"Received: I like Tuesdays!",
                              b"Done with connection from " + peer + b": 22 bytes"], f"{heard}")
    # An answer in two halves counts as one answer, and a different one is rejected.
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(*pieces):
            with listener.accept()[0] as client:
                require(client.recv(1000) == b"x\x1b", "other words")
                for piece in pieces:
                    client.sendall(piece)
                    harness.left_alone(0.1)  # So that each is read separately.

        for pieces, code, printed in [((b"x", b"\x1b"), 0, "x\\x1b\n"), ((b"y", b"z"), 1, "yz\n"), ((b"x",), 1, "")]:
            thread = threading.Thread(target=answer, args=pieces, daemon=True)
            thread.start()
            done = run("echo_client", at(listener.getsockname()), "x\x1b")
            thread.join(WAIT_S)
            require(done[:2] == (code, printed), f"{pieces}: {done}")


def typing(*arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE):
    return harness.start([harness.example("line_client"), *arguments], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)


def ended(client):
    """Returns the exit code and stderr of a client that exits by itself."""
    try:
        code = client.wait(WAIT_S)
        return code, client.stderr.read().decode()
    finally:
        harness.end(client)
        for stream in (client.stdin, client.stdout, client.stderr):
            if stream:
                stream.close()


def types_into(kind):
    """What is typed is echoed line by line; the end of the input ends the sending, and the rest still arrives."""
    with Server([harness.example("echo_server"), "127.0.0.1:0"]) as server, tempfile.TemporaryDirectory() as folder:
        if kind in ("file", "/dev/null"):
            path = os.path.join(folder, "typed") if kind == "file" else kind
            said = b"one\ntwo\n" * 100_000 if kind == "file" else b""
            if kind == "file":
                with open(path, "wb") as file:
                    file.write(said)
            with open(path, "rb") as file:
                client = typing(at(server.address), stdin=file)
                printed = client.stdout.read()
            require(printed == said, f"{len(printed)} bytes of {len(said)}")
        elif kind == "pipe":
            client = typing(at(server.address))
            for line in (b"hello\n", b"caf\xc3\xa9 \x1b[2J\n"):
                client.stdin.write(line)
                client.stdin.flush()
                printed = client.stdout.readline()
                require(printed == line.replace(b"\x1b", b"\\x1b"), f"{printed!r}")
            client.stdin.close()
            client.stdin = None
            require(client.stdout.read() == b"", "more")
        else:
            parent, child = pty.openpty()
            client = typing(at(server.address), stdin=child)
            os.close(child)
            # Two lines at once, of which a terminal gives one for each read.
            os.write(parent, b"one\ntwo\n")
            printed = [client.stdout.readline() for _ in range(2)]
            require(printed == [b"one\n", b"two\n"], f"{printed}")
            os.write(parent, b"half\x04")
            require(client.stdout.read(4) == b"half", "half a line is not sent by the key for the end of input")
            os.write(parent, b"\x04")
            require(client.stdout.read() == b"", "more")
        require(ended(client) == (0, ""), "another exit code than 0")
        if kind == "terminal":
            os.close(parent)


def prints_as_told():
    """Line ends, characters that arrive in halves, terminal control sequences, bytes that are not text."""
    pieces = [b"a\r", b"\nb\rc\n", b"\xe2\x82", b"\xac \xf0\x9f\x98", b"\x80 \x1b[2J\\ \xff\n", b"last\xc3"]
    shown = "a\nb\\rc\n\N{EURO SIGN} \N{GRINNING FACE} \\x1b[2J\\\\ \\xff\nlast\\xc3".encode()
    for flags, expected in ([], shown), (["--raw"], b"".join(pieces)):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(WAIT_S)
            client = typing(*flags, "--crlf", at(listener.getsockname()))
            with listener.accept()[0] as peer:
                client.stdin.write(b"one\ntwo")
                client.stdin.close()
                client.stdin = None
                said = b"".join(iter(lambda: peer.recv(100), b""))
                require(said == b"one\r\ntwo", f"sent {said!r}")
                # Its write side is closed, and it still prints what it receives, each piece as soon as it can be shown.
                for piece in pieces:
                    peer.sendall(piece)
                    harness.left_alone(0.05)
            printed = client.stdout.read()
            require(printed == expected, f"{flags}: {printed!r}")
            require(ended(client) == (0, ""), "another exit code than 0")


def types_no_faster_than_it_is_read():
    """A server that reads nothing blocks the input, from a pipe or a file; a blocked stdout holds back the server."""
    chunk = bytes(range(256)) * 256
    with tempfile.TemporaryFile() as file:
        for _ in range(CHUNKS):
            file.write(chunk)
        file.flush()
        for kind in ("pipe", "file"):
            file.seek(0)
            stdin = subprocess.PIPE if kind == "pipe" else file
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.settimeout(WAIT_S)
                client = typing("--raw", at(listener.getsockname()), stdin=stdin)
                with listener.accept()[0] as peer:
                    if kind == "pipe":
                        feeder = threading.Thread(target=lambda: feed(client, chunk), daemon=True)
                        feeder.start()
                    settle = [-1]
                    peak = lambda: private_kib(client.pid)
                    while settle[-1] != settle[0] or len(settle) < 20:  # Its memory does not grow.
                        settle = [*settle[-19:], peak()]
                        harness.left_alone(0.02)
                    require(peak() < 4096, f"{peak()} KiB are kept of what nobody reads")
                    got = bytearray()
                    peer.settimeout(WAIT_S)
                    while data := peer.recv(1 << 20):
                        got += data
                    require(got == chunk * CHUNKS, f"{kind}: {len(got)} bytes, or others")
                    # And the other way round: nobody reads its output.
                    peer.settimeout(0.5)
                    sent = 0
                    try:
                        while sent < 64 << 20:
                            sent += peer.send(chunk)
                    except TimeoutError:
                        pass
                    require(sent < 64 << 20, "all was taken, though nobody reads it")
                    require(peak() < 4096, f"{peak()} KiB are kept of what is not printed")
                    peer.close()
                printed = 0
                while data := os.read(client.stdout.fileno(), 1 << 20):
                    printed += len(data)
                require(printed == sent, f"{printed} of {sent} bytes are printed")
                require(ended(client) == (0, ""), "another exit code than 0")


def feed(client, chunk):
    for _ in range(CHUNKS):
        client.stdin.write(chunk)
    client.stdin.close()
    client.stdin = None


def typing_ends():
    """The client ends on a signal, when the server ends, if nobody listens, and if stdout is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        for number in (signal.SIGINT, signal.SIGTERM):
            client = typing(at(listener.getsockname()))
            with listener.accept()[0] as peer:
                peer.sendall(b"hello\n")
                require(client.stdout.readline() == b"hello\n", "not printed")
                client.send_signal(number)
                peer.settimeout(WAIT_S)
                require(peer.recv(1) == b"", "no end in order")
                peer.close()
            require(ended(client) == (0, ""), f"another exit code than 0 after signal {number}")
        client = typing(at(listener.getsockname()))
        with listener.accept()[0] as peer:
            peer.sendall(b"bye\n")
        require(client.stdout.read() == b"bye\n", "not printed")
        require(ended(client) == (0, ""), "another exit code than 0, though the server has hung up in order")
        client = typing(at(listener.getsockname()))
        with listener.accept()[0] as peer:
            client.stdout.close()
            client.stdout = None
            peer.sendall(b"hello\n")
            code, complaint = ended(client)
            require(code == 1 and complaint.startswith("cannot write: Broken pipe"), f"{code}, {complaint!r}")
        address = at(listener.getsockname())
    code, complaint = ended(typing(address))
    require(code == 1 and "refused" in complaint, f"{code}, {complaint!r}")
    code, complaint = ended(typing())
    require(code == 1 and "usage" in complaint, f"{code}, {complaint!r}")


def private_kib(pid):
    """Returns the private dirty memory of a process, without the pages of its program."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as rows:
        return sum(int(row.split()[1]) for row in rows if row.startswith(("Private_Dirty:", "Swap:")))


def relay_to(address):
    return Server([harness.example("relay"), at(address), "127.0.0.1:0"])


def relays_to_a_name():
    with Server([harness.example("echo_server"), "127.0.0.1:0"]) as server:
        with relay_to(("localhost", server.address[1])) as relay, connect(relay.address) as client:
            require(harness.echoes(client, b"by name"), "no echo")
    code, _, complaint = run("relay", "nothing", "127.0.0.1:0")
    require(code == 1 and "a port" in complaint and complaint.count("\n") == 1, f"{code}, {complaint!r}")


def relays_an_echo():
    with Server([harness.example("echo_server"), "127.0.0.1:0"]) as server, relay_to(server.address) as relay:
        message = os.urandom(1 << 20)
        with connect(relay.address) as client:
            sender = threading.Thread(target=lambda: (client.sendall(message), client.shutdown(socket.SHUT_WR)))
            sender.start()
            back = bytearray()
            while data := client.recv(1 << 16):
                back += data
            sender.join(WAIT_S)
        require(back == message, f"{len(back)} bytes came back")
        require(relay.end() == 0, "another exit code than 0")


def through(relay, listener, byte_count, before_reading=lambda sent: None, at_each_read=lambda: None):
    """Sends data through the relay to a second socket, which must receive all of it, in order."""
    chunk = random.Random(byte_count).randbytes((1 << 20) + 1)  # Not a multiple of any buffer's size.
    sent, given, taken = [0], hashlib.sha256(), hashlib.sha256()

    def offer(sender):
        view = memoryview(chunk)
        while sent[0] < byte_count:
            count = sender.send(view[sent[0] % len(chunk) :][: byte_count - sent[0]])
            start = sent[0] % len(chunk)
            given.update(view[start : start + count])
            sent[0] += count
        sender.shutdown(socket.SHUT_WR)

    with connect(relay.address) as sender, listener.accept()[0] as reader:
        sender.settimeout(OFFERED_S + 3 * WAIT_S)
        reader.settimeout(WAIT_S)
        thread = threading.Thread(target=offer, args=(sender,), daemon=True)
        thread.start()
        before_reading(lambda: sent[0])
        got = 0
        while data := reader.recv(1 << 20):
            taken.update(data)
            got += len(data)
            at_each_read()
        thread.join(WAIT_S)
        reader.close()
        require(sender.recv(1) == b"", "no end in order")
    require((got, taken.digest()) == (byte_count, given.digest()), f"{got} of {byte_count} bytes, or others")


def relay_is_bounded():
    """A peer that does not read holds back its sender in bounded memory; the transfer resumes when it reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener, relay_to(listener.getsockname()) as relay:
        through(relay, listener, 16 << 20)  # By then the loop has made its one-time allocations.
        before = private_kib(relay.pid)
        most = taken = 0

        def sample():
            nonlocal most
            most = max(most, private_kib(relay.pid) - before)

        def nobody_reads(sent):
            """Its sender keeps trying: the data waits in front of the relay."""
            nonlocal taken
            end = time.monotonic() + OFFERED_S
            while time.monotonic() < end:
                sample()
                if sent() != taken:
                    taken, end = sent(), time.monotonic() + OFFERED_S
                time.sleep(harness.POLL_S)
            relay.require_idle()
            sample()
            require(sent() == taken < OFFERED_BYTES // 4, f"{sent()} bytes were taken, {taken} before, though nobody reads")

        reads = itertools.count()
        through(relay, listener, OFFERED_BYTES, nobody_reads, lambda: next(reads) % 64 == 0 and sample())
        sample()
        require(most <= KEPT_KIB_MAX, f"it has grown by {most} KiB, more than {KEPT_KIB_MAX}")
        return f"{taken >> 10} KiB taken, then {OFFERED_BYTES >> 20} MiB through; {most} KiB more at most"


def relay_passes_failures_on():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with relay_to(nobody.getsockname()) as relay:
            try:
                # The reset may arrive before the connect has returned.
                with connect(relay.address) as client:
                    require(client.recv(1) == b"never", "an end in order, though nobody was reached")
            except ConnectionResetError:
                pass


FEW_PORTS = "--few-ports"  # Runs only the check that needs its own network namespace.
PORTS = (40000, 40001)  # All the ports that outgoing connections may use there.


def in_a_network_of_few_ports():
    """Runs this script again, in its own network namespace."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    set_up = "ip link set lo up && echo %d %d >/proc/sys/net/ipv4/ip_local_port_range" % PORTS
    command = ["unshare", *as_root, "--net", "sh", "-c", set_up + ' && exec "$0" "$@"']
    own = [sys.executable, os.path.abspath(__file__), FEW_PORTS]
    told = {**os.environ, "RUST_LOG": "warn"}
    done = subprocess.run([*command, *own], env=told, capture_output=True, text=True, timeout=3 * WAIT_S, check=False)
    require(done.returncode == 0, f"{done.stdout}{done.stderr}")


def without_a_port():
    """With all ports to one server in use, the relay resets its client, waits, and resumes once a port is free."""
    relay = [harness.example("relay"), "127.0.0.1:20000", "127.0.0.1:20001"]
    with socket.create_server(("127.0.0.1", 20000)) as upstream, Server(relay) as relay:
        holders = [socket.create_connection(upstream.getsockname(), WAIT_S) for _ in PORTS]
        require({holder.getsockname()[1] for holder in holders} == set(PORTS), "other ports")
        theirs = [upstream.accept()[0] for _ in PORTS]
        try:
            with connect(relay.address) as client:
                require(client.recv(1) == b"never", "an end in order, though nobody was reached")
        except ConnectionResetError:
            pass
        relay.wait(lambda: any(b"cannot connect" in line and b"os error 99" in line for line in relay.errors), "why")
        relay.require_idle(1.0)
        harness.reset(holders.pop())
        with connect(relay.address) as client, upstream.accept()[0] as served:
            client.sendall(b"there is one")
            served.settimeout(WAIT_S)
            require(served.recv(64) == b"there is one", "what was sent")
        for one in [*holders, *theirs]:
            one.close()


def main():
    checks = Checks(LIMIT_S)
    if sys.argv[1:] == [FEW_PORTS]:
        checks.run("no port", without_a_port)
        checks.finish()
    checks.run("byebye and hihi, one socket and two", greets)
    checks.run("our client, the tutorial's server", python_greets)
    checks.run("a refused connect and a bad address end with code 1", fails)
    checks.run("no answer ends with code 1", tells_of_no_answer)
    checks.run("16 MiB in one write, each send partial", sends_all)
    checks.run("echo over Unix sockets, by path and abstract, stale and alive", echoes_over_unix)
    checks.run("an answer and a slow reader", an_answer_waits_for_a_slow_reader)
    checks.run("what the tutorial's echo handler and its client say", echoes_what_the_tutorial_says)
    for kind in ("terminal", "pipe", "file", "/dev/null"):
        checks.run(f"what one types: {kind}", types_into, kind)
    checks.run("what comes, escaped and raw", prints_as_told)
    checks.run("neither side of what one types is read faster than the other takes it", types_no_faster_than_it_is_read)
    checks.run("typing ends", typing_ends)
    checks.run("an echo through the relay", relays_an_echo)
    checks.run("the relay connects to a name", relays_to_a_name)
    checks.run("the relay's memory is bounded", relay_is_bounded)
    checks.run("the relay resets whom it cannot connect on", relay_passes_failures_on)
    checks.run("no port is left for the relay's connects", in_a_network_of_few_ports)
    checks.finish()


if __name__ == "__main__":
    main()
