"""Echo and fan-out on asyncio, or on uvloop: `asyncio_server.py [--uvloop] echo|fanout HOST:PORT|PATH`.

How it is written:
- Protocols, not streams: no future and no task for each message. On asyncio a BufferedProtocol, which lends one buffer
  of 64 KiB to every read, and copies out of it, since a transport may keep what it is handed to write: reads for a plain
  Protocol are of 256 KiB, memory that is mapped and unmapped again for every message, which takes twice as long in all.
  On uvloop a plain one, which has no such cost.
- The transport sends at once what the kernel takes, and keeps the rest; `pause_writing` stops reading until that
  has drained, so an echo keeps some 64 KiB and one read's bytes.
- At the peer's end of stream the transport sends what is left and closes, which is the default of `eof_received`.
- Fan-out: the lines of one pass of the loop are appended to each receiver's list, as if not everybody
  got the same lines; a `call_soon`, requested by the first line of the pass, joins each list and writes it in one piece. A
  member with 16 MiB of unsent output is dropped.
- Both loops set TCP_NODELAY by default.
"""

import argparse
import asyncio
import functools
import gc

BACKLOG = 4096
READ_BYTES = 64 * 1024
LINE_BYTES_MAX = 64 * 1024
OUTPUT_BYTES_MAX = 16 * 1024 * 1024


class Lending(asyncio.BufferedProtocol):
    """Adapts a Protocol to a read buffer that all connections share."""

    lent = memoryview(bytearray(READ_BYTES))

    def get_buffer(self, size_hint):
        return self.lent

    def buffer_updated(self, count):
        self.data_received(bytes(self.lent[:count]))


class Client:
    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Echo(Client):
    def data_received(self, data):
        self.transport.write(data)


class Room:
    """A room in which everybody gets every line."""

    def __init__(self, loop):
        self.loop = loop
        self.members = set()
        self.any_gathered = False

    def say(self, lines):
        if not self.any_gathered:
            self.any_gathered = True
            self.loop.call_soon(self.send)
        for member in self.members:
            member.gathered.append(lines)

    def send(self):
        self.any_gathered = False
        for member in list(self.members):
            member.send()


class Member(Client):
    def __init__(self, room):
        self.room = room
        self.begun = b""
        self.gathered = []

    def connection_made(self, transport):
        super().connection_made(transport)
        self.room.members.add(self)

    def data_received(self, data):
        whole = data.rfind(b"\n") + 1
        if whole:
            self.room.say(self.begun + data[:whole])
            self.begun = data[whole:]
        else:
            self.begun += data
            if len(self.begun) > LINE_BYTES_MAX:
                self.transport.abort()

    def send(self):
        self.transport.write(b"".join(self.gathered))
        self.gathered.clear()
        if self.transport.get_write_buffer_size() > OUTPUT_BYTES_MAX:
            self.transport.abort()

    def eof_received(self):  # Then the transport closes, perhaps in the same pass in which the last lines arrived.
        self.send()

    def connection_lost(self, error):
        self.room.members.discard(self)


async def serve(mode, address, base):
    loop = asyncio.get_running_loop()
    if mode == "echo":
        factory = type("Echo", (Echo, base), {})
    else:
        factory = functools.partial(type("Member", (Member, base), {}), Room(loop))
    if "/" in address:
        server = await loop.create_unix_server(factory, address, backlog=BACKLOG)
        print(f"listening on {address}", flush=True)
    else:
        host, port = address.rsplit(":", 1)
        server = await loop.create_server(factory, host, int(port), backlog=BACKLOG)
        print("listening on %s:%d" % server.sockets[0].getsockname()[:2], flush=True)
    gc.freeze()  # Loaded modules are not garbage, and need not be scanned again and again.
    await server.serve_forever()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("mode", choices=["echo", "fanout"])
    parser.add_argument("address")
    arguments = parser.parse_args()
    if arguments.uvloop:
        import uvloop

        run, base = uvloop.run, asyncio.Protocol
    else:
        run, base = asyncio.run, Lending
    try:
        run(serve(arguments.mode, arguments.address, base))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
