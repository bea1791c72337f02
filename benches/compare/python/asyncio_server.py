"""Echo and fan-out on asyncio, or on uvloop: `asyncio_server.py [--uvloop] echo|fanout HOST:PORT|PATH`.

How it is written:
- A Protocol, not streams: no future and no task for each message.
- The transport sends at once what the kernel takes, and keeps the rest; `pause_writing` stops the reading until that has
  drained, so an echo keeps some 64 KiB and one read's bytes.
- At the peer's end of stream the transport sends what is left and closes: what `eof_received` does if left alone.
- Fan-out: what came in one pass of the loop is joined once, by a `call_soon` that the first line of the pass asks for,
  and written to each member once. A member that lets 16 MiB wait is dropped.
- TCP_NODELAY is what both loops set by themselves.
"""

import argparse
import asyncio
import gc

BACKLOG = 4096
LINE_BYTES_MAX = 64 * 1024
OUTPUT_BYTES_MAX = 16 * 1024 * 1024


class FlowControl(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Echo(FlowControl):
    def data_received(self, data):
        self.transport.write(data)


class Room:
    """Where everybody hears what anybody says."""

    def __init__(self, loop):
        self.loop = loop
        self.members = set()
        self.gathered = []

    def say(self, lines):
        if not self.gathered:
            self.loop.call_soon(self.send)
        self.gathered.append(lines)

    def send(self):
        lines = b"".join(self.gathered)
        self.gathered.clear()
        for transport in list(self.members):
            transport.write(lines)
            if transport.get_write_buffer_size() > OUTPUT_BYTES_MAX:
                transport.abort()


class Member(FlowControl):
    def __init__(self, room):
        self.room = room
        self.begun = b""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.room.members.add(transport)

    def data_received(self, data):
        whole = data.rfind(b"\n") + 1
        if not whole:
            self.begun += data
            if len(self.begun) > LINE_BYTES_MAX:
                self.transport.abort()
            return
        self.room.say(self.begun + data[:whole])
        self.begun = data[whole:]

    def connection_lost(self, error):
        self.room.members.discard(self.transport)


async def serve(mode, address):
    loop = asyncio.get_running_loop()
    room = Room(loop)
    factory = Echo if mode == "echo" else lambda: Member(room)
    if "/" in address:
        server = await loop.create_unix_server(factory, address, backlog=BACKLOG)
        print(f"listening on {address}", flush=True)
    else:
        host, port = address.rsplit(":", 1)
        server = await loop.create_server(factory, host, int(port), backlog=BACKLOG)
        print("listening on %s:%d" % server.sockets[0].getsockname()[:2], flush=True)
    gc.freeze()  # What has been loaded is no garbage, and is not to be looked through again and again.
    await server.serve_forever()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("mode", choices=["echo", "fanout"])
    parser.add_argument("address")
    arguments = parser.parse_args()
    if arguments.uvloop:
        import uvloop

        run = uvloop.run
    else:
        run = asyncio.run
    try:
        run(serve(arguments.mode, arguments.address))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
