#!/usr/bin/env python3
"""The non-blocking accept that is retried every half second, and the same on readiness."""

import socket
import time

import harness
from harness import Checks, Server, Trace, connect, echoes, name_of, require

LIMIT_S = 120
TRY_EVERY_S = 0.5
ACCEPTS = "accept,accept4"
TRY = rb"try \d+.*"


def accept_retry(*arguments):
    return Server([harness.example("accept_retry"), *arguments, "127.0.0.1:0"])


def wait_for_try(server, number):
    server.wait_for_line(rb"try %d\b.*" % number, f"try {number}")


def greeting_of(client):
    """Returns the line that greets every client."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = client.recv(1)
        require(byte, f"no greeting but {bytes(line)!r}")
        line += byte
    require(line.strip(), "an empty greeting")
    return bytes(line)


def tries_every_half_second():
    with accept_retry() as server:
        wait_for_try(server, 1)
        begin = time.monotonic()
        wait_for_try(server, 6)
        took_s = time.monotonic() - begin
        # Five waits. The first line may have been noticed late, and on a busy machine the last one even later.
        require(4.4 * TRY_EVERY_S < took_s < 9 * TRY_EVERY_S, f"five waits took {took_s:.2f} s")
        numbers = [int(line.split()[1].rstrip(b":")) for line in server.lines if line.startswith(b"try ")]
        require(numbers == list(range(1, len(numbers) + 1)), f"tries {numbers}")

        with Trace(server.pid, ACCEPTS) as trace:
            cpu_s = server.cpu_s()
            harness.left_alone(4 * TRY_EVERY_S)
            cpu_s = server.cpu_s() - cpu_s
        accepts = sum(trace.counts().values())
        require(2 <= accepts <= 5, f"{accepts} accepts in {4 * TRY_EVERY_S} s")
        require(cpu_s <= 0.02, f"{cpu_s:.2f} s of CPU in {4 * TRY_EVERY_S} s")
        require(server.end() == 0, "another exit code than 0")
        return f"five waits took {took_s:.2f} s"


def serves_by_trying():
    with accept_retry() as server:
        wait_for_try(server, 2)
        with connect(server.address) as client:
            greeting = serve(server, client)
            # It may keep retrying for the next client at the same rate: at most five timers in two seconds.
            server.require_idle(seconds=2, polls_max=3 + 5)
            require(echoes(client, b"still there\n"), "no echo after a rest")
        require(server.end() == 0, "another exit code than 0")
        return repr(greeting)


def serves_by_readiness():
    with accept_retry("--ready") as server:
        with Trace(server.pid, ACCEPTS) as trace:
            harness.left_alone(3 * TRY_EVERY_S)
        require(not trace.counts(), f"{trace.counts()} with nobody there")
        require(server.count(TRY) <= 1, f"{server.count(TRY)} tries")
        server.require_idle()
        with connect(server.address) as client:
            serve(server, client)
            server.require_idle()
        require(server.count(TRY) <= 1, f"{server.count(TRY)} tries")
        require(server.end() == 0, "another exit code than 0")


def serve(server, client):
    server.wait_for_text(harness.GOT_CONNECTION.format(name_of(client)))
    greeting = greeting_of(client)
    require(echoes(client, b"hello\n"), "no echo")
    require(echoes(client, bytes(range(256))), "no echo of all bytes")
    return greeting


def comes_and_ends_between_two_tries(*arguments):
    """Sends and ends its half at once: when the server looks, data and end are there together."""
    with accept_retry(*arguments) as server:
        if not arguments:
            wait_for_try(server, 2)
        with connect(server.address) as client:
            client.sendall(b"hello and goodbye")
            client.shutdown(socket.SHUT_WR)
            greeting_of(client)
            rest = harness.receive(client, 1000)
            require(rest == b"hello and goodbye", f"echoed {rest!r}")
        require(server.end() == 0, "another exit code than 0")


def resets_between_two_tries():
    """The client is gone before the server looks: the server keeps running, and exits when asked to."""
    with accept_retry() as server:
        wait_for_try(server, 1)
        client = connect(server.address)
        name = name_of(client)
        client.sendall(b"never mind")
        harness.reset(client)
        # Either it is reported as a connection, or it is skipped and the tries continue.
        server.wait_for_line(rb"Got connection from %s|try 3\b.*" % name.encode())
        require(server.end() == 0, "another exit code than 0")


def main():
    checks = Checks(LIMIT_S)
    checks.run("tries every half second, and sleeps between", tries_every_half_second)
    checks.run("greets and echoes, at rest between the tries", serves_by_trying)
    checks.run("--ready waits without trying", serves_by_readiness)
    checks.run("a client that ends between two tries is served", comes_and_ends_between_two_tries)
    checks.run("--ready serves a client that ends at once", comes_and_ends_between_two_tries, "--ready")
    checks.run("a client that resets between two tries", resets_between_two_tries)
    checks.finish()


if __name__ == "__main__":
    main()
