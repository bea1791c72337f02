"""An echo server that loses answers, to check that lost.py finds each kind of loss.

    loser.py LOSS MODE ADDRESS      LOSS is one of LOSSES; MODE is not looked at

Where it loses nothing it does as it should: it takes no more from a client while that has not taken its answers.
"""

import selectors
import socket
import sys

LINE_BYTES = 128
READ_BYTES = 65536
HONEST_BYTES = 50_000 * LINE_BYTES  # Before the loss.

# What it does wrong, the scenario in which, and how lost.py reports it.
LOSSES = {
    "a-line": ("slow", "then wrong"),  # One answer in the middle is left out.
    "order": ("slow", "then wrong"),  # Two change places.
    "the-last": ("ended", "then end"),  # The last answer is left out, at the end of the stream.
    "at-the-end": ("ended", "then end"),  # What is unsent at the end of the stream is forgotten.
    "wakeup": ("late", "then silent"),  # What the system did not take at once is never sent.
    "reset": ("late", "then reset"),  # A client that does not take its answers is reset.
    "others": ("resets", "then silent"),  # After a reset of one client, nobody is served.
    "memory": ("late", "its memory grew"),  # It takes whatever it is sent.
}


class Client:
    def __init__(self, server, stream):
        self.server = server
        self.stream = stream
        self.unsent = b""
        self.taken = 0
        self.reads = True
        stream.setblocking(False)
        server.selector.register(stream, selectors.EVENT_READ, self)

    def ready(self, events):
        try:
            if events & selectors.EVENT_READ:
                self.receive()
            self.send()
        except ConnectionError:
            self.server.is_lost = self.server.loss == "others"
            self.close()

    def receive(self):
        data = self.stream.recv(READ_BYTES)
        if not data:
            self.reads = False
            self.unsent = {"at-the-end": b"", "the-last": self.unsent[:-LINE_BYTES]}.get(self.server.loss, self.unsent)
        self.unsent += self.changed(data)

    def changed(self, data):
        """Returns what is answered; once, with the loss."""
        at = -self.taken % LINE_BYTES  # Where the first whole line begins.
        self.taken += len(data)
        is_due = self.server.loss in ("a-line", "order") and self.taken > HONEST_BYTES and not self.server.done
        if not is_due or len(data) < at + 2 * LINE_BYTES:
            return data
        self.server.done = True
        one, other = (data[at + n * LINE_BYTES : at + (n + 1) * LINE_BYTES] for n in range(2))
        rest = data[at + 2 * LINE_BYTES :]
        return data[:at] + (other if self.server.loss == "a-line" else other + one) + rest

    def send(self):
        if self.unsent:
            try:
                self.unsent = self.unsent[self.stream.send(self.unsent) :]
            except BlockingIOError:
                if self.server.loss == "reset":
                    self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    return self.close()
        if not self.unsent and not self.reads:
            return self.close()
        self.wait()

    def wait(self):
        loss = self.server.loss
        reads = self.reads and (not self.unsent or loss in ("memory", "at-the-end", "the-last", "reset"))
        writes = self.unsent and loss != "wakeup"
        events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)
        if self.stream in self.server.selector.get_map():
            self.server.selector.unregister(self.stream)
        if events:
            self.server.selector.register(self.stream, events, self)

    def close(self):
        if self.stream in self.server.selector.get_map():
            self.server.selector.unregister(self.stream)
        self.stream.close()


class Server:
    def __init__(self, loss, address):
        self.loss = loss
        self.is_lost = self.done = False
        self.selector = selectors.DefaultSelector()
        host, port = address.rsplit(":", 1)
        self.listener = socket.create_server((host, int(port)), backlog=1024)
        self.selector.register(self.listener, selectors.EVENT_READ)
        print("listening on %s:%d" % self.listener.getsockname(), flush=True)

    def run(self):
        while True:
            for key, events in self.selector.select():
                if self.is_lost:
                    self.selector.close()
                    self.selector = selectors.DefaultSelector()
                    break
                if key.fileobj is self.listener:
                    Client(self, self.listener.accept()[0])
                else:
                    key.data.ready(events)


if __name__ == "__main__":
    Server(sys.argv[1], sys.argv[3]).run()
