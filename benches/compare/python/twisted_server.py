"""Echo and fan-out on Twisted, with its epoll reactor: `twisted_server.py echo|fanout HOST:PORT|PATH`.

How it is written:
- A Protocol. Twisted keeps written data until the socket is writable, and then sends it in one piece; so a message
  costs two changes of registration and a poll more than elsewhere, and fan-out gathers by itself.
- The connection is registered as the producer of its own output: once 64 KiB wait, reading stops until they are gone.
- IHalfCloseableProtocol, without which the peer's end of stream would drop what has not been sent.
- Fan-out: the lines of one pass of the reactor are appended to each receiver's list, as if not everybody
  got the same lines; a `callLater(0, ...)`, requested by the first line of the pass, joins each list and writes it in one
  piece. A member with 16 MiB of unsent output is dropped.
"""

import os
import stat
import sys

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor  # noqa: E402 (the one installed above)
from twisted.internet.interfaces import IHalfCloseableProtocol  # noqa: E402
from twisted.internet.protocol import Factory, Protocol  # noqa: E402
from zope.interface import implementer  # noqa: E402

BACKLOG = 4096
LINE_BYTES_MAX = 64 * 1024
OUTPUT_BYTES_MAX = 16 * 1024 * 1024


@implementer(IHalfCloseableProtocol)
class FlowControl(Protocol):
    def connectionMade(self):
        if hasattr(self.transport, "setTcpNoDelay"):  # Unix streams have no delay to turn off.
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def pauseProducing(self):
        self.transport.pauseProducing()

    def resumeProducing(self):
        self.transport.resumeProducing()

    def stopProducing(self):
        self.transport.loseConnection()

    def readConnectionLost(self):
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self):
        pass


class Echo(FlowControl):
    def dataReceived(self, data):
        self.transport.write(data)


class Room:
    """A room in which everybody gets every line."""

    def __init__(self):
        self.members = set()
        self.any_gathered = False

    def say(self, lines):
        if not self.any_gathered:
            self.any_gathered = True
            reactor.callLater(0, self.send)
        for member in self.members:
            member.gathered.append(lines)

    def send(self):
        self.any_gathered = False
        for member in list(self.members):
            member.send()


class Member(FlowControl):
    def __init__(self, room):
        self.room = room
        self.begun = b""
        self.gathered = []
        self.behind_bytes = None  # Bytes written since output began to wait; None while none waits.

    def connectionMade(self):
        super().connectionMade()
        self.room.members.add(self)

    def dataReceived(self, data):
        whole = data.rfind(b"\n") + 1
        if whole:
            self.room.say(self.begun + data[:whole])
            self.begun = data[whole:]
        else:
            self.begun += data
            if len(self.begun) > LINE_BYTES_MAX:
                self.transport.abortConnection()

    def send(self):
        lines = b"".join(self.gathered)
        self.gathered.clear()
        self.transport.write(lines)
        if self.behind_bytes is not None:
            self.behind_bytes += len(lines)
            if self.behind_bytes > OUTPUT_BYTES_MAX:
                self.transport.abortConnection()

    def pauseProducing(self):  # It is called again after each write.
        super().pauseProducing()
        self.behind_bytes = self.behind_bytes or 0

    def resumeProducing(self):
        super().resumeProducing()
        self.behind_bytes = None

    def connectionLost(self, reason):
        self.room.members.discard(self)


def main():
    mode, address = sys.argv[1:]
    factory = Factory()
    if mode == "echo":
        factory.protocol = Echo
    elif mode == "fanout":
        room = Room()
        factory.protocol = lambda: Member(room)
    else:
        sys.exit(f"usage: {sys.argv[0]} echo|fanout HOST:PORT|PATH")
    factory.noisy = False
    if "/" in address:
        if os.path.exists(address) and stat.S_ISSOCK(os.lstat(address).st_mode):
            os.unlink(address)  # A stale path.
        reactor.listenUNIX(address, factory, backlog=BACKLOG)
        print(f"listening on {address}", flush=True)
    else:
        host, port = address.rsplit(":", 1)
        listener = reactor.listenTCP(int(port), factory, backlog=BACKLOG, interface=host)
        print(f"listening on {listener.getHost().host}:{listener.getHost().port}", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
