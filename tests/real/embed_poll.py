#!/usr/bin/env python3
"""Tests the example with two loops in one `poll(2)`: both serve their own clients at once, and neither spins; and the one
with a loop as a guest in calloop's."""

import contextlib
import os
import resource
import signal
import threading

import harness
from harness import Checks, Server, connect, echoes, end, receive, require

LIMIT_S = 60
CROWD = 1_500
DESCRIPTORS = 1_600
LISTENING = rb"listening on (\S+):(\d+)"


def counting_address(server):
    """The second line of output names the second loop's address."""
    server.wait(lambda: server.count(LISTENING) == 2, "two lines `listening on ADDR`")
    host, port = server.lines[1].split()[-1].rsplit(b":", 1)
    return host.decode(), int(port)


def both_serve(server):
    with connect(server.address) as talker, connect(counting_address(server)) as listener:
        require(receive(listener, 5) == b"0 s\r\n", "no greeting")
        for number in range(200):
            require(echoes(talker, b"%d" % number), f"no echo of {number}")
        large = bytes(range(256)) * 4096  # More than one turn reads: the rest is carried over and served without an event.
        sender = threading.Thread(target=talker.sendall, args=(large,))
        sender.start()
        require(receive(talker, len(large)) == large, "a large echo differs")
        sender.join(harness.WAIT_S)
        require(receive(listener, 5) == b"1 s\r\n", "no second line")
        require(echoes(talker, b"still here"), "no echo behind a timer")
        require(receive(listener, 5) == b"2 s\r\n", "no third line")


def more_than_a_poll_brings(server):
    """All are ready at once. One poll returns 1,024 of them, and the next must return the rest (rule L6)."""
    with contextlib.ExitStack() as sockets:
        clients = [sockets.enter_context(connect(server.address)) for _ in range(CROWD)]
        require(all(echoes(client, b"here") for client in clients), "no echo")
        os.kill(server.pid, signal.SIGSTOP)
        for client in clients:
            client.sendall(b"all at once")
        os.kill(server.pid, signal.SIGCONT)
        require(all(receive(client, 11) == b"all at once" for client in clients), "no echo")


def rests(server):
    harness.left_alone(1)  # The timer for the next second finds no connection.
    server.require_quiet()


def ends(number):
    with Server([harness.example("embed_poll"), "127.0.0.1:0"]) as server:
        with connect(server.address) as talker, connect(counting_address(server)) as listener:
            require(echoes(talker, b"x"), "no echo")
            require(receive(listener, 5) == b"0 s\r\n", "no greeting")
            require(end(server.process, number) == 0, "another exit code")
            require(talker.recv(1) == b"" and listener.recv(1) == b"", "no orderly end")


def guest_of_calloop():
    """The same crowd, and then a rest in which only the host's timer fires."""
    with Server([harness.outsider("in_calloop"), "127.0.0.1:0"]) as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(server.address)) for _ in range(200)]
            for number in range(10):
                for client in clients:
                    client.sendall(b"%05d" % number)
                require(all(receive(client, 5) == b"%05d" % number for client in clients), "no echo")
        server.wait_until(lambda: server.descriptors() == server.descriptors_at_start, "all descriptors are closed")
        # One wait a second for the host's timer, and one for ours.
        server.require_idle(seconds=2.0, polls_max=12)
        require(server.end(signal.SIGTERM) == 0, "another exit code")
        require(server.count(rb"[1-9]\d* s") == 1, f"the host's seconds were not counted{server.tail()}")


def main():
    checks = Checks(LIMIT_S)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most), most))
    with Server([harness.example("embed_poll"), "127.0.0.1:0"]) as server:
        counting_address(server)
        server.descriptors_at_start = server.descriptors()  # Both loops listen only from here on.
        checks.run("both loops serve", both_serve, server)
        if most < DESCRIPTORS:
            checks.skip(f"{CROWD} at once", f"descriptors are limited to {most}")
        else:
            checks.run(f"{CROWD} at once", more_than_a_poll_brings, server)
        checks.run("idle afterwards", rests, server)
    checks.run("a guest of calloop's loop", guest_of_calloop)
    for number in (signal.SIGINT, signal.SIGTERM):
        checks.run(f"{number.name} ends both, and their connections in order", ends, number)
    checks.finish()


if __name__ == "__main__":
    main()
