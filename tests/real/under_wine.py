#!/usr/bin/env python3
"""Tests the select server and the echo server as Windows programs under Wine, with Linux clients: `under_wine.py FOLDER`.

The folder has `select_server.exe` and `echo_server.exe`, as .ci/platforms builds them; Wine's own settings are in the
environment. Wine's sockets are Linux sockets underneath, so a client may see something else from a real Windows.
"""

import pathlib
import socket
import sys

import harness
from harness import Checks, Server, connect, echoes, name_of, printed_of, receive, require, reset

LIMIT_S = 120
CLIENTS = 60
MANY_BYTES = 4 << 20


def program(name):
    return Server(["wine", str(pathlib.Path(sys.argv[1]) / f"{name}.exe"), "127.0.0.1:0"])


def prints_what_each_client_does():
    with program("select_server") as server:
        clients = [connect(server.address) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            client.sendall(b"number %d\r\nand more\n" % number)
        names = [name_of(client) for client in clients]
        for number, name in enumerate(names):
            server.wait_for_text(harness.GOT_CONNECTION.format(name))
            server.wait(lambda name=name: len(printed_of(server, name)) == 2, f"two lines of {name}")
            require(printed_of(server, name)[0].startswith(b"number %d" % number), printed_of(server, name))
        for number, client in enumerate(clients):
            if number % 2:
                client.shutdown(socket.SHUT_WR)
                require(receive(client, 1) == b"", "something was sent to a client that ended")
                client.close()
            else:
                reset(client)
        for name in names:
            server.wait_for_text(harness.DISCONNECTED.format(name))
        with connect(server.address) as client:
            client.sendall(b"still there?\n")
            server.wait_for_line(rb".*still there\?.*")
        return f"{CLIENTS} clients, half of them reset"


def sends_everything_back():
    message = bytes(range(256)) * (MANY_BYTES // 256)
    with program("echo_server") as server:
        clients = [connect(server.address) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            require(echoes(client, b"number %d" % number), "wrong echo")
        # One reads nothing meanwhile, and the others are still served.
        idle, busy = clients[:2]
        idle.setblocking(False)
        sent = 0
        try:
            while sent < MANY_BYTES:
                sent += idle.send(message[sent:])
        except BlockingIOError:
            pass
        busy.settimeout(harness.WAIT_S)
        received = 0
        for begin in range(0, len(message), 65536):
            piece = message[begin : begin + 65536]
            require(echoes(busy, piece), f"another echo behind {begin} bytes")
            received += len(piece)
        idle.settimeout(harness.WAIT_S)
        require(receive(idle, sent) == message[:sent], "another echo to the one that did not read")
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            require(receive(client, 1) == b"", "something behind the echo")
        return f"{received} bytes in pieces of 64 KiB, {sent} to one that read late"


def main():
    checks = Checks(LIMIT_S)
    checks.run("the select server prints what each client does", prints_what_each_client_does)
    checks.run("the echo server sends everything back", sends_everything_back)
    checks.finish()


if __name__ == "__main__":
    main()
