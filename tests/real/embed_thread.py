#!/usr/bin/env python3
"""Tests a loop in a thread of a program that reads lines: typed lines reach every client, and clients' lines are printed."""

import contextlib
import os
import signal
import socket
import subprocess
import time

import harness
from harness import Checks, Server, connect, require

LIMIT_S = 120


def embed_thread(**options):
    return Server([harness.example("embed_thread"), "127.0.0.1:0"], stdin=subprocess.PIPE, **options)


def enter(text, server):
    server.process.stdin.write(text)
    server.process.stdin.flush()


def arrive(server, stack, count):
    """Connects this many clients, and waits until the program has printed a line from each."""
    clients = [stack.enter_context(connect(server.address)) for _ in range(count)]
    for number, client in enumerate(clients):
        client.sendall(b"client %d is here" % number)
        server.wait_for_line(rb"c\d+\.\d+: client %d is here" % number)
    return clients


def a_typed_line_reaches_every_client_and_no_other():
    with embed_thread() as server, contextlib.ExitStack() as stack:
        clients = arrive(server, stack, 20)
        for gone in clients[:5]:
            gone.close()
        lines = [b"line %d" % number for number in range(200)]
        enter(b"\n".join(lines) + b"\n", server)
        expected = b"".join(line + b"\r\n" for line in lines)
        for client in clients[5:]:
            got = harness.receive(client, len(expected))
            require(got == expected, f"{got[:80]!r} came instead of the lines typed")
        server.require_idle()


def what_clients_send_is_printed_escaped():
    with embed_thread() as server, contextlib.ExitStack() as stack:
        client, = arrive(server, stack, 1)
        client.sendall(b"\x1b[2J\xff\r\nc9.9: forged\n")
        server.wait_for_line(rb"c\d+\.\d+: \\x1b\[2J\\xff\\r\\nc9\.9: forged\\n")


def the_end_of_the_input_ends_it():
    with embed_thread() as server, contextlib.ExitStack() as stack:
        client, = arrive(server, stack, 1)
        enter(b"the last line", server)
        server.process.stdin.close()
        require(server.process.wait(harness.WAIT_S) == 0, f"exit code {server.process.returncode}{server.tail()}")
        require(harness.receive(client, 100) == b"the last line\r\n", "the last line did not come before the end")


def a_signal_ends_it_though_nothing_is_typed(number):
    with embed_thread() as server, contextlib.ExitStack() as stack:
        client, = arrive(server, stack, 1)
        begin = time.monotonic()
        code = server.end(number)
        took_s = time.monotonic() - begin
        require(code == 0 and took_s < 3, f"exit code {code} after {took_s:.1f} s{server.tail()}")
        require(client.recv(1) == b"", "the client saw another end")


def a_flood_waits_when_nobody_takes_its_lines():
    """The program's output is blocked, and so is its main loop: the client must be throttled, and memory stays bounded."""
    read_end, write_end = os.pipe()
    argv = [harness.example("embed_thread"), "127.0.0.1:0"]
    process = harness.start(argv, stdin=subprocess.PIPE, stdout=write_end, stderr=subprocess.DEVNULL)
    os.close(write_end)
    try:
        line = os.read(read_end, 100).split()[-1].decode()
        host, port = line.rsplit(":", 1)
        with connect((host, int(port))) as client:
            client.settimeout(1)
            sent = 0
            with contextlib.suppress(socket.timeout):
                while sent < 100 << 20:
                    sent += client.send(b"x" * 65536)
        require(sent < 50 << 20, f"{sent >> 20} MiB were taken from a client whose lines nobody takes")
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            peak_kib = int(file.read().split("VmHWM:")[1].split()[0])
        require(peak_kib < 50 << 10, f"{peak_kib >> 10} MiB at the peak")
        return f"{sent >> 20} MiB sent, {peak_kib >> 10} MiB resident at the peak"
    finally:
        os.close(read_end)
        harness.end(process)


def cannot_listen(address):
    done = subprocess.run([harness.example("embed_thread"), address], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=harness.WAIT_S)
    require(done.returncode == 1 and done.stderr.count(b"\n") == 1, f"exit code {done.returncode}: {done.stderr!r}")


def cannot_start_a_thread(first):
    argv = harness.starting_fails([harness.example("embed_thread"), "127.0.0.1:0"], first)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=harness.WAIT_S)
    require(done.returncode == 1 and done.stderr.startswith(b"Error: cannot start a thread: "),
            f"exit code {done.returncode}: {done.stderr!r}")


def main():
    checks = Checks(LIMIT_S)
    checks.run("a typed line reaches every client", a_typed_line_reaches_every_client_and_no_other)
    checks.run("what clients send is printed escaped", what_clients_send_is_printed_escaped)
    checks.run("the end of the input ends it, after the last line", the_end_of_the_input_ends_it)
    checks.run("SIGINT ends it", a_signal_ends_it_though_nothing_is_typed, signal.SIGINT)
    checks.run("SIGTERM ends it", a_signal_ends_it_though_nothing_is_typed, signal.SIGTERM)
    checks.run("a flood waits when nobody takes its lines", a_flood_waits_when_nobody_takes_its_lines)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        checks.run("a port in use", cannot_listen, "%s:%d" % taken.getsockname())
    checks.run("a bad address", cannot_listen, "nonsense")
    for first in (1, 2):
        checks.run(f"no thread left for number {first}", cannot_start_a_thread, first)
    checks.finish()


if __name__ == "__main__":
    main()
