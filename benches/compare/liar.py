"""A server that lies once, to check that the load generator finds each kind of lie.

    liar.py LIE MODE ADDRESS        LIE is one of LIES for that MODE, or "none"

It is honest for a while, since a weaker check would find a lie at the first byte.
"""

import os
import selectors
import signal
import socket
import sys

HONEST = 150  # Messages or lines before the lie.
READ_BYTES = 65536
# The date, which is not compared, is not in its middle.
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\nContent-Type: text/plain\r\nConnection: keep-alive\r\n"
    b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nHello, World!\n"
)

# What a server of each mode can do wrong, and how the load generator reports it.
OF_STREAMS = {
    "wrong-byte": "is wrong",
    "lost-byte": "is wrong",
    "extra-byte": "is wrong|too many",
    "crossed": "is wrong|too many",
    "closes": "the server closed connection",
    "silent": "messages are unanswered|have not ended",
    "never-ends": "are not closed by the server|have not ended",
}
LIES = {
    "echo": OF_STREAMS,
    "http": OF_STREAMS,
    "fanout": {
        "wrong-byte": "what nobody has sent",
        "lost-line": "members miss lines",
        "doubled-line": "twice",
        "old-line": "what nobody has sent",
        "silent": "members miss lines",
        "never-ends": "are not closed by the server",
    },
}


class Server:
    def __init__(self, lie, mode, address):
        self.lie = lie
        self.mode = mode
        self.answered = 0
        self.lied = False
        self.clients = []
        self.old = b""
        self.selector = selectors.DefaultSelector()
        if "/" in address:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(address)
            self.listener.listen(1024)
        else:
            host, port = address.rsplit(":", 1)
            self.listener = socket.create_server((host, int(port)), backlog=1024)
            address = "%s:%d" % self.listener.getsockname()
        self.selector.register(self.listener, selectors.EVENT_READ)
        print(f"listening on {address}", flush=True)

    def run(self):
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self.accept()
                else:
                    self.serve(key.fileobj)

    def accept(self):
        client, _ = self.listener.accept()
        self.clients.append(client)
        self.selector.register(client, selectors.EVENT_READ)

    def leave(self, client):
        self.selector.unregister(client)
        self.clients.remove(client)
        client.close()

    def serve(self, client):
        data = client.recv(READ_BYTES)
        if not data:
            if self.lie == "never-ends":
                self.selector.unregister(client)
            else:
                self.leave(client)
            return
        self.answered += 1
        if self.lie == "silent" and self.answered > HONEST:
            return
        getattr(self, self.mode)(client, data)

    def due(self, lie):
        """Returns whether it is time for this lie. Only one is told."""
        if self.lie == lie and self.answered > HONEST and not self.lied:
            self.lied = True
            return True
        return False

    def changed(self, data):
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if self.due("wrong-byte") else data

    def echo(self, client, data):
        data = self.changed(data)
        if self.due("lost-byte"):
            data = data[1:]
        if self.due("extra-byte"):
            data += data[-1:]
        if self.due("crossed"):
            client = next((other for other in self.clients if other is not client), client)
        if self.due("closes"):
            self.leave(client)
            return
        client.sendall(data)

    def http(self, client, data):
        self.echo(client, ANSWER * data.count(b"\r\n\r\n"))

    def fanout(self, _, data):
        right = data
        for nth, member in enumerate(list(self.clients)):
            data = right if nth else self.changed(right)
            if self.due("lost-line"):
                continue
            if self.due("doubled-line"):
                data += data
            if self.due("old-line"):
                data = self.old
            member.sendall(data)
        self.old = self.old or right


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    lie, mode, address = sys.argv[1:]
    if lie not in ("none", *LIES[mode]):
        sys.exit(f"no such lie: {lie}")
    Server(lie, mode, address).run()


if __name__ == "__main__":
    main()
