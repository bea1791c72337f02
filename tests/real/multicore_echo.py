#!/usr/bin/env python3
"""The echo server on several cores: both loops serve, idle, and end together on signals."""

import contextlib
import os
import re
import signal
import subprocess
import threading

import harness
from harness import Checks, Server, connect, end, receive, refused, require

LIMIT_S = 60
CLIENTS = 40


def server():
    return Server([harness.example("multicore_echo"), "127.0.0.1:0", "2"])


def loop_of(client):
    """Returns which loop answers this client."""
    client.sendall(b"hello")
    answer = receive(client, 8)
    require(re.fullmatch(rb"[01]: hello", answer), f"it answers {answer!r}")
    return answer[:1]


def both_serve(running):
    threads = harness.threads(running.pid)
    require({"echo-0", "echo-1"} <= set(threads), f"its threads are {threads}")
    with contextlib.ExitStack() as sockets:
        clients = [sockets.enter_context(connect(running.address)) for _ in range(CLIENTS)]
        loops = [loop_of(client) for client in clients]
        # The kernel distributes them by a hash: one loop gets none once in 2^39 runs.
        require(set(loops) == {b"0", b"1"}, "one loop got all of them")
        require([loop_of(client) for client in clients] == loops, "a client has changed its loop")


def rests(running):
    running.require_quiet()


def ends(number):
    with server() as running, contextlib.ExitStack() as sockets:
        clients = [sockets.enter_context(connect(running.address)) for _ in range(CLIENTS)]
        for client in clients:
            loop_of(client)
        require(end(running.process, number) == 0, "another exit code")
        require(all(client.recv(1) == b"" for client in clients), "no orderly end")
        running.wait_for_text(f"{CLIENTS} connections served")


def flood(client):
    """Sends until nothing more is taken."""
    with contextlib.suppress(OSError):
        while True:
            client.sendall(bytes(65536))


def second_signal_ends_at_once():
    """Unsent output delays the server's exit for five seconds, and a second signal ends it without that wait."""
    with server() as running, connect(running.address) as stuck:
        loop_of(stuck)
        sender = threading.Thread(target=flood, args=(stuck,), daemon=True)
        sender.start()
        running.wait_until(lambda: output_waits(running.pid, stuck), "output that waits")
        running.process.send_signal(signal.SIGTERM)
        # The listeners are closed: it is shutting down.
        running.wait_until(lambda: refused(running.address), "a closed listener")
        require(running.alive(), "the first signal does not wait for output")
        require(end(running.process, signal.SIGTERM, limit_s=4) == 0, "another exit code")


def a_thread_that_cannot_be_started(first):
    """The first two threads are the loops', the third is for signals."""
    argv = harness.starting_fails([harness.example("multicore_echo"), "127.0.0.1:0", "2"], first)
    done = subprocess.run(argv, capture_output=True, timeout=harness.WAIT_S)
    require(done.returncode == 1 and re.fullmatch(rb"Error: .*cannot start a thread: .*\n", done.stderr),
            f"exit code {done.returncode}: {done.stderr!r}")
    require(b"listening" not in done.stdout, f"it says {done.stdout!r}")


def output_waits(pid, client):
    """Returns whether the kernel holds bytes from the server that this client has not read."""
    port = client.getsockname()[1]
    with open(f"/proc/{pid}/net/tcp", encoding="utf-8") as file:
        for row in list(file)[1:]:
            fields = row.split()
            if int(fields[2].rpartition(":")[2], 16) == port and int(fields[4].partition(":")[0], 16) > 0:
                return True
    return False


def main():
    checks = Checks(LIMIT_S)
    with server() as running:
        checks.run("both loops serve", both_serve, running)
        checks.run("idle afterwards", rests, running)
    for number in (signal.SIGINT, signal.SIGTERM):
        checks.run(f"{number.name} ends all loops, and their connections in order", ends, number)
    checks.run("a second signal ends at once", second_signal_ends_at_once)
    for first in (1, 2, 3):
        checks.run(f"no thread left for number {first}", a_thread_that_cannot_be_started, first)
    checks.finish()


if __name__ == "__main__":
    main()
