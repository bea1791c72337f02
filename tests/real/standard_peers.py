"""Netcat, socat, Python's sockets and asyncio as clients and as servers, for `peers.py`."""

import asyncio
import contextlib
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import WAIT_S, require

if missing := [tool for tool in ("nc", "socat") if not shutil.which(tool)]:
    sys.exit(f"{' and '.join(missing)} missing: install netcat-openbsd and socat")


def at(address):
    return "%s:%d" % address


def until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        require(time.monotonic() < deadline, f"after {WAIT_S} s still not: {what}")
        time.sleep(harness.POLL_S)
    return found


# ------------------------------------------------------------------------------- their clients: bytes in, bytes out
# Each sends all, ends its half, and reads to the end.  A server is (host, port), the path of a Unix socket, or @ and an
# abstract name.


def talk(argv, data):
    """Types this into a program, and returns what it prints until it exits."""
    process = harness.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        return process.communicate(data, timeout=WAIT_S)[0]
    finally:
        harness.end(process)


def netcat(server, data):
    where = ["-U", server] if isinstance(server, str) else [server[0], str(server[1])]
    return talk(["nc", "-N", *where], data)


def socat_address(server):
    if not isinstance(server, str):
        return f"TCP4:{at(server)}"
    return f"ABSTRACT-CONNECT:{server[1:]}" if server.startswith("@") else f"UNIX-CONNECT:{server}"


def socat(server, data):
    # `-t` is how long it waits for the other direction once one has ended.
    return talk(["socat", "-t", str(WAIT_S), "-", socat_address(server)], data)


def unix_name(server):
    return "\0" + server[1:] if server.startswith("@") else server


def python(server, data):
    unix = isinstance(server, str)
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as client:
        client.settimeout(WAIT_S)
        client.connect(unix_name(server) if unix else server)
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)), daemon=True)
        sender.start()
        back = bytearray()
        while piece := client.recv(1 << 16):
            back += piece
        sender.join(WAIT_S)
        return bytes(back)


def with_asyncio(server, data):
    async def client():
        if isinstance(server, str):
            reader, writer = await asyncio.open_unix_connection(unix_name(server))
        else:
            reader, writer = await asyncio.open_connection(*server)

        async def send():
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        _, back = await asyncio.gather(send(), reader.read())
        writer.close()
        await writer.wait_closed()
        return back

    return asyncio.run(asyncio.wait_for(client(), WAIT_S))


# ------------------------------------------------------------- their clients: datagrams, each sent after the last answer


def type_datagrams(argv, datagrams):
    process = harness.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    back = []
    for datagram in datagrams:
        process.stdin.write(datagram)
        process.stdin.flush()
        back.append(process.stdout.read(len(datagram)))
    harness.end(process)
    return back


def netcat_datagrams(server, datagrams):
    return type_datagrams(["nc", "-u", server[0], str(server[1])], datagrams)


def socat_datagrams(server, datagrams):
    return type_datagrams(["socat", "-b", "65536", "-", f"UDP4:{at(server)}"], datagrams)


def python_datagrams(server, datagrams):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(WAIT_S)
        client.connect(server)
        back = []
        for datagram in [b"", *datagrams]:
            client.send(datagram)
            back.append(client.recv(1 << 16))
        return back[1:]


class Queueing(asyncio.DatagramProtocol):
    def __init__(self):
        self.queue = asyncio.Queue()

    def datagram_received(self, data, addr):
        self.queue.put_nowait(data)


def asyncio_datagrams(server, datagrams):
    async def client():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(Queueing, remote_addr=server)
        back = []
        for datagram in datagrams:
            transport.sendto(datagram)
            back.append(await protocol.queue.get())
        transport.close()
        return back

    return asyncio.run(asyncio.wait_for(client(), WAIT_S))


# ------------------------------------------------------------------------------------- their senders of Unix datagrams
# Each is `with SENDER(path) as send`: nobody answers.


@contextlib.contextmanager
def typing(argv):
    process = harness.start(argv, stdin=subprocess.PIPE)

    def send(datagram):
        process.stdin.write(datagram)
        process.stdin.flush()

    try:
        yield send
    finally:
        harness.end(process)


def netcat_sender(path):
    return typing(["nc", "-u", "-U", path])


def socat_sender(path):
    where = f"ABSTRACT-SENDTO:{path[1:]}" if path.startswith("@") else f"UNIX-SENDTO:{path}"
    return typing(["socat", "-b", "65536", "-", where])


@contextlib.contextmanager
def python_sender(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(unix_name(path))
        yield sender.send


@contextlib.contextmanager
def asyncio_sender(path):
    async def send(datagram):
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=unix_name(path), family=socket.AF_UNIX
        )
        transport.sendto(datagram)
        transport.close()

    yield lambda datagram: asyncio.run(asyncio.wait_for(send(datagram), WAIT_S))


# --------------------------------------------------------------------------------------------------- their servers
# Each is `with SERVER(path, greeting) as (address, heard)`, on a Unix path or @ and an abstract name or, without, a port.  With a greeting it
# sends that to each client and reads to its end; without, it is an echo.  `heard()` is what each client has sent.


def listens_on(path, kind="0001"):
    """Returns whether the kernel lists a Unix socket listening on this path, or bound to it, for datagrams (0002)."""
    flags = "00010000" if kind == "0001" else "00000000"
    with open("/proc/net/unix", encoding="utf-8") as rows:
        found = [row.split() for row in rows if row.rstrip().endswith(" " + path)]
    return any(row[3] == flags and row[4] == kind for row in found)


def listening(process, path):
    if path:
        return until(lambda: listens_on(path) and path, f"listens on {path}")
    return until(lambda: harness.listening_address(process.pid), "listens")


@contextlib.contextmanager
def netcat_server(path, greeting):
    """Serves one client: it sends what is typed, and prints what it receives."""
    where = ["-U", path] if path else ["127.0.0.1", "0"]
    process = harness.start(["nc", "-l", "-N", *where], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        address = listening(process, path)
        process.stdin.write(greeting)
        process.stdin.flush()
        yield address, lambda: [process.communicate(timeout=WAIT_S)[0]]
    finally:
        harness.end(process)


@contextlib.contextmanager
def socat_server(path, greeting):
    """Starts a child for each client: it echoes, or greets and appends what it receives to a file."""
    with tempfile.TemporaryDirectory() as folder:
        heard_in = os.path.join(folder, "heard")
        open(heard_in, "wb").close()  # The first child to receive something may be late.
        serves = "EXEC:cat" if greeting is None else f"SYSTEM:printf {greeting.decode()}; said=$(cat); echo $said >> {heard_in}"
        where = "TCP4-LISTEN:0,bind=127.0.0.1,fork"
        if path:
            where = f"ABSTRACT-LISTEN:{path[1:]},fork" if path.startswith("@") else f"UNIX-LISTEN:{path},fork"
        process = harness.start(["socat", "-t", str(WAIT_S), where, serves])

        def heard():
            with open(heard_in, "rb") as file:
                return file.read().splitlines()

        try:
            yield listening(process, path), heard
        finally:
            harness.end(process)


@contextlib.contextmanager
def python_server(path, greeting):
    """A thread for each client, with plain blocking calls."""
    heard = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.settimeout(WAIT_S)
            self.request.sendall(greeting or b"")
            said = b""
            while data := self.request.recv(1 << 16):
                if greeting is None:
                    self.request.sendall(data)
                said += data
            heard.append(said)

    kind = socketserver.ThreadingUnixStreamServer if path else socketserver.ThreadingTCPServer
    with kind(unix_name(path) if path else ("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(harness.POLL_S,), daemon=True)
        thread.start()
        yield path or server.server_address, lambda: heard
        server.shutdown()


@contextlib.contextmanager
def in_asyncio(main):
    """Runs `main(ready)` on a loop in a thread, until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(main, loop).result(WAIT_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)


@contextlib.contextmanager
def asyncio_server(path, greeting):
    heard = []

    async def serve(reader, writer):
        writer.write(greeting or b"")
        said = b""
        while data := await reader.read(1 << 16):
            if greeting is None:
                writer.write(data)
                await writer.drain()
            said += data
        heard.append(said)
        writer.close()

    if path:
        listen = asyncio.start_unix_server(serve, unix_name(path))
    else:
        listen = asyncio.start_server(serve, "127.0.0.1", 0)
    with in_asyncio(listen) as server:
        yield path or server.sockets[0].getsockname(), lambda: heard


class Answering(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


@contextlib.contextmanager
def asyncio_datagram_server():
    async def listen():
        return await asyncio.get_running_loop().create_datagram_endpoint(Answering, local_addr=("127.0.0.1", 0))

    with in_asyncio(listen()) as (transport, _):
        yield transport.get_extra_info("sockname")


@contextlib.contextmanager
def python_datagram_server():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve():
            while True:
                data, asker = server.recvfrom(1 << 16)
                if data == b"end":
                    return
                server.sendto(data, asker)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", server.getsockname())
        thread.join(WAIT_S)


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()


@contextlib.contextmanager
def typed_datagram_server(*argv):
    """Serves one client with an echo, by copying a program's output to its input."""
    process = harness.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def pump():
        while data := os.read(process.stdout.fileno(), 1 << 16):
            os.write(process.stdin.fileno(), data)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    try:
        yield
    finally:
        harness.end(process)
        thread.join(WAIT_S)


@contextlib.contextmanager
def netcat_datagram_server():
    # Our client is refused until the server listens, and tries again, so a port that was seen free will do.
    host, port = free_udp_port()
    with typed_datagram_server("nc", "-l", "-u", host, str(port)):
        yield host, port


@contextlib.contextmanager
def socat_datagram_server():
    host, port = free_udp_port()
    process = harness.start(["socat", f"UDP4-RECVFROM:{port},bind={host},fork", "EXEC:cat"])
    try:
        yield host, port
    finally:
        harness.end(process)


# ------------------------------------------------------------------------------------- their receivers of Unix datagrams
# Each is `with HEARER(path) as heard`, which is what has arrived, concatenated.


@contextlib.contextmanager
def printing(argv, path):
    with tempfile.TemporaryFile() as printed:
        process = harness.start(argv, stdin=subprocess.DEVNULL, stdout=printed)
        try:
            until(lambda: listens_on(path, "0002"), f"is bound to {path}")
            yield lambda: os.pread(printed.fileno(), 1 << 20, 0)
        finally:
            harness.end(process)


def netcat_hearer(path):
    return printing(["nc", "-l", "-k", "-u", "-U", path], path)


def socat_hearer(path):
    where = f"ABSTRACT-RECV:{path[1:]}" if path.startswith("@") else f"UNIX-RECV:{path}"
    return printing(["socat", "-u", "-b", "65536", where, "-"], path)


@contextlib.contextmanager
def python_hearer(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearer:
        hearer.bind(unix_name(path))
        hearer.setblocking(False)
        said = bytearray()

        def heard():
            with contextlib.suppress(BlockingIOError):
                while True:
                    said.extend(hearer.recv(1 << 16))
            return bytes(said)

        yield heard


class Hearing(asyncio.DatagramProtocol):
    def __init__(self, said):
        self.said = said

    def datagram_received(self, data, addr):
        self.said.append(data)


@contextlib.contextmanager
def asyncio_hearer(path):
    said = []

    async def listen():
        return await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Hearing(said), local_addr=unix_name(path), family=socket.AF_UNIX
        )

    with in_asyncio(listen()):
        yield lambda: b"".join(said)


PEERS = {
    "streams": {"nc": netcat, "socat": socat, "Python": python, "asyncio": with_asyncio},
    "datagrams": {
        "nc": netcat_datagrams,
        "socat": socat_datagrams,
        "Python": python_datagrams,
        "asyncio": asyncio_datagrams,
    },
    "servers": {"socat": socat_server, "Python": python_server, "asyncio": asyncio_server},
    "datagram_servers": {
        "nc": netcat_datagram_server,
        "socat": socat_datagram_server,
        "Python": python_datagram_server,
        "asyncio": asyncio_datagram_server,
    },
    "senders": {"nc": netcat_sender, "socat": socat_sender, "Python": python_sender, "asyncio": asyncio_sender},
    "hearers": {"nc": netcat_hearer, "socat": socat_hearer, "Python": python_hearer, "asyncio": asyncio_hearer},
}
