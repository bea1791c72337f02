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
    """What a program prints until it ends, to what it is typed."""
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


# --------------------------------------------------------------------------------------------------- their servers
# Each is `with SERVER(path, greeting) as (address, heard)`, on a Unix path or, without, on a port.  With a greeting it
# says that to who comes and hears him to his end; without, it is an echo.  `heard()` is what each has said.


def listens_on(path):
    """Whether the kernel lists a Unix socket that listens on this path."""
    with open("/proc/net/unix", encoding="utf-8") as rows:
        return any(row.split()[3] == "00010000" and row.split()[-1] == path for row in rows if row.rstrip().endswith(path))


def listening(process, path):
    if path:
        return until(lambda: listens_on(path) and path, f"listens on {path}")
    return until(lambda: harness.listening_address(process.pid), "listens")


@contextlib.contextmanager
def netcat_server(path, greeting):
    """One client; it says what it is typed, and what it prints is what it has heard."""
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
    """A child for each client: an echo, or it greets and appends to a file what it hears."""
    with tempfile.TemporaryDirectory() as folder:
        heard_in = os.path.join(folder, "heard")
        open(heard_in, "wb").close()  # The first to hear something may be late.
        serves = "EXEC:cat" if greeting is None else f"SYSTEM:printf {greeting.decode()}; said=$(cat); echo $said >> {heard_in}"
        where = f"UNIX-LISTEN:{path},fork" if path else "TCP4-LISTEN:0,bind=127.0.0.1,fork"
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
    with kind(path or ("127.0.0.1", 0), Handler) as server:
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

    listen = asyncio.start_unix_server(serve, path) if path else asyncio.start_server(serve, "127.0.0.1", 0)
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


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()


@contextlib.contextmanager
def typed_datagram_server(*argv):
    """An echo by a pump between a program's output and its input, for one client."""
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
    # Our client is told of a refusal while nobody is there yet, and asks again: so the port may be one seen free before.
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
        "asyncio": asyncio_datagram_server,
    },
    "abstract": {"socat", "Python", "asyncio"},  # Who can connect to an abstract name.
}
