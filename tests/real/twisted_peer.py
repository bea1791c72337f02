"""Twisted as a client and as a server, for `peers.py --twisted`: its reactor runs in a thread of its own."""

import contextlib
import sys
import threading

try:
    from twisted.internet import defer, endpoints, interfaces, protocol, reactor, threads
    from zope.interface import implementer
except ImportError:
    sys.exit("no Twisted here: run this in a virtual environment with `pip install twisted`")

from harness import WAIT_S
from standard_peers import unix_name

threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False}, daemon=True).start()


def in_reactor(function, *arguments):
    """Calls a function on the reactor's thread, and waits for its result, even if it is a Deferred."""
    return threads.blockingCallFromThread(reactor, function, *arguments)


class Sends(protocol.Protocol):
    """Sends everything, ends its half, and keeps what it receives until the end."""

    def __init__(self, data):
        self.data, self.back, self.done = data, bytearray(), defer.Deferred()

    def connectionMade(self):
        self.transport.write(self.data)
        self.transport.loseWriteConnection()

    def dataReceived(self, data):
        self.back += data

    def connectionLost(self, _):
        self.done.callback(bytes(self.back))


def stream(server, data):
    def start():
        if isinstance(server, str):
            endpoint = endpoints.UNIXClientEndpoint(reactor, unix_name(server))
        else:
            endpoint = endpoints.TCP4ClientEndpoint(reactor, *server)
        client = endpoints.connectProtocol(endpoint, Sends(data))
        return client.addCallback(lambda sends: sends.done).addTimeout(WAIT_S, reactor)

    return in_reactor(start)


class Asks(protocol.DatagramProtocol):
    """Sends each datagram after the answer to the previous one."""

    def __init__(self, server, datagrams):
        self.server, self.left, self.back, self.done = server, list(datagrams), [], defer.Deferred()

    def startProtocol(self):
        self.transport.connect(*self.server)
        self.ask()

    def ask(self):
        if self.left:
            self.transport.write(self.left.pop(0))
        else:
            self.done.callback(self.back)

    def datagramReceived(self, data, _):
        self.back.append(data)
        self.ask()


def ask_datagrams(server, datagrams):
    def start():
        client = Asks(server, datagrams)
        port = reactor.listenUDP(0, client, interface="127.0.0.1", maxPacketSize=65536)
        return client.done.addTimeout(WAIT_S, reactor).addBoth(lambda result: (port.stopListening(), result)[1])

    return in_reactor(start)


@implementer(interfaces.IHalfCloseableProtocol)
class Serves(protocol.Protocol):
    """An echo, or a server that greets and reads.

    Without this interface Twisted takes the end of its input for the end of the connection, and drops unsent output.
    """

    def __init__(self, greeting, heard):
        self.greeting, self.heard, self.said = greeting, heard, b""

    def connectionMade(self):
        self.transport.write(self.greeting or b"")

    def dataReceived(self, data):
        self.said += data
        if self.greeting is None:
            self.transport.write(data)

    def readConnectionLost(self):
        self.transport.loseConnection()

    def writeConnectionLost(self):
        pass

    def connectionLost(self, _):
        self.heard.append(self.said)


@contextlib.contextmanager
def serve(path, greeting):
    heard = []
    factory = protocol.Factory.forProtocol(lambda: Serves(greeting, heard))
    if path:
        port = in_reactor(reactor.listenUNIX, unix_name(path), factory)
    else:
        port = in_reactor(lambda: reactor.listenTCP(0, factory, interface="127.0.0.1"))
    try:
        yield path or ("127.0.0.1", port.getHost().port), lambda: heard
    finally:
        in_reactor(port.stopListening)


class Answers(protocol.DatagramProtocol):
    def datagramReceived(self, data, address):
        self.transport.write(data, address)


@contextlib.contextmanager
def serve_datagrams():
    port = in_reactor(lambda: reactor.listenUDP(0, Answers(), interface="127.0.0.1"))
    try:
        yield "127.0.0.1", port.getHost().port
    finally:
        in_reactor(port.stopListening)


@contextlib.contextmanager
def sender(path):
    protocol_of_port = protocol.ConnectedDatagramProtocol()
    port = in_reactor(reactor.connectUNIXDatagram, unix_name(path), protocol_of_port)
    try:
        yield lambda datagram: in_reactor(protocol_of_port.transport.write, datagram)
    finally:
        in_reactor(port.stopListening)


class Hears(protocol.DatagramProtocol):
    def __init__(self):
        self.said = []

    def datagramReceived(self, data, _):
        self.said.append(data)


@contextlib.contextmanager
def hearer(path):
    hears = Hears()
    port = in_reactor(lambda: reactor.listenUNIXDatagram(unix_name(path), hears, maxPacketSize=65536))
    try:
        yield lambda: b"".join(hears.said)
    finally:
        in_reactor(port.stopListening)


PEERS = {
    "streams": {"Twisted": stream},
    "datagrams": {"Twisted": ask_datagrams},
    "servers": {"Twisted": serve},
    "datagram_servers": {"Twisted": serve_datagrams},
    "senders": {"Twisted": sender},
    "hearers": {"Twisted": hearer},
}
