#!/usr/bin/env python3
"""The select server of the old Python tutorials, written for today's Python; our example is compared with it.

    oracle_select_server.py [HOST:PORT]

It prints `listening on`, `Got connection from`, each piece that it receives as a Python bytes literal, and
`disconnected`.  How many pieces one client's bytes make depends on timing; the joined bytes and the order do not.
"""

import select
import socket
import sys


def open_listener(address):
    host, port = address.rsplit(":", 1)
    listener = socket.create_server((host, int(port)), backlog=128)
    listener.setblocking(False)
    return listener


def receive(client):
    """Returns the next piece of input; empty when the client has left in any way."""
    try:
        return client.recv(1024)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def serve(listener):
    # The name is stored at accept: getpeername fails on a socket that was reset.
    names = {}
    while True:
        readable, _, _ = select.select([listener, *names], [], [])
        for ready in readable:
            if ready is listener:
                client, address = listener.accept()
                client.setblocking(False)
                names[client] = "%s:%d" % address
                say("Got connection from", names[client])
                continue
            piece = receive(ready)
            if piece:
                say(names[ready], repr(piece))
            elif piece is not None:
                say(names.pop(ready), "disconnected")
                ready.close()


def say(*words):
    print(*words, flush=True)


def main():
    listener = open_listener(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:1234")
    say("listening on %s:%d" % listener.getsockname())
    serve(listener)


if __name__ == "__main__":
    main()
