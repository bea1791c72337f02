#!/usr/bin/env python3
"""The examples that connect, against the examples that listen and against Python's sockets."""

import os
import signal
import socket
import subprocess
import tempfile
import threading

import harness
from harness import WAIT_S, Checks, Server, connect, require

LIMIT_S = 300
OFFERED_BYTES = 1 << 30
KEPT_KIB_MAX = 8 * 1024  # What a relay may grow by, while that is offered to a peer that does not read.


def run(name, *arguments):
    """Runs an example to its end: its exit code, what it printed, what it complained of."""
    command = [harness.example(name), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def at(address):
    return "%s:%d" % address


def greets():
    with Server([harness.example("greeting_server"), "127.0.0.1:0"]) as server:
        code, printed, _ = run("greeting_client", at(server.address))
        require((code, printed) == (0, "the data received is byebye\n"), f"{code}, {printed!r}")
        server.wait_for_line(rb"hihi", "the answer")
        server.wait_for_line(rb"got connected from 127.0.0.1:\d+", "the peer")
        code, printed, _ = run("two_sockets_client", f"localhost:{server.address[1]}")
        greetings = {f"{name}: the data received is byebye" for name in ("sock1", "sock2")}
        require(code == 0 and set(printed.splitlines()) == greetings, f"{code}, {printed!r}")
        server.wait_for_line(rb"hihi I am client", "the first answer")
        server.wait_for_line(rb"client send use sock2", "the second answer")


def python_greets():
    """Our client, Python's server: the tutorial's own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers = []

        def serve():
            with listener.accept()[0] as client:
                client.sendall(b"byebye")
                answers.append(client.recv(512))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        code, printed, _ = run("greeting_client", at(listener.getsockname()))
        thread.join(WAIT_S)
        require((code, answers) == (0, [b"hihi"]) and "byebye" in printed, f"{code}, {answers}, {printed!r}")


def fails():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        code, _, complaint = run("greeting_client", at(nobody.getsockname()))
        require(code == 1 and "refused" in complaint, f"{code}, {complaint!r}")
    code, _, complaint = run("greeting_client", "no such server")
    require(code == 1 and complaint.count("\n") == 1, f"{code}, {complaint!r}")


def echoes_over_unix():
    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, "echo.sock"), f"@switchboard-{os.getpid()}"]
        for name in names:
            server = harness.start([harness.example("unix_echo"), name], stdout=subprocess.PIPE)
            require(b"listening on unix:" in server.stdout.readline(), "it does not listen")
            code, printed, _ = run("unix_echo", name, "hello \x1b[2J")
            require((code, printed) == (0, "hello \\x1b[2J\n"), f"{code}, {printed!r}")
            # What is more than the client keeps is no empty answer.
            code, printed, complaint = run("unix_echo", name, "x" * 100_000)
            require(code == 1 and not printed and "too much input" in complaint, f"{code}, {len(printed)}, {complaint!r}")
            number = signal.SIGINT if name.startswith("@") else signal.SIGTERM
            require(harness.end(server, number) == 0, "another exit code than 0")
            server.stdout.close()
        require(not os.path.exists(names[0]), "the path is left")
        code, _, complaint = run("unix_echo", names[0], "is anybody there?")
        require(code == 1 and complaint.count("\n") == 1, f"{code}, {complaint!r}")
        server = harness.start([harness.example("unix_echo"), names[0]], stdout=subprocess.PIPE)
        require(b"listening" in server.stdout.readline(), "it does not listen")
        require(os.stat(names[0]).st_mode & 0o777 == 0o600, "another mode")
        harness.end(server)
        server.stdout.close()
        # It was killed: the path is stale, and the next server takes it.
        server = harness.start([harness.example("unix_echo"), names[0]], stdout=subprocess.PIPE)
        require(b"listening" in server.stdout.readline(), "a stale path is not replaced")
        again = run("unix_echo", names[0])
        require(again[0] == 1 and "in use" in again[2], f"{again}")
        harness.end(server)
        server.stdout.close()


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def relay_to(address):
    return Server([harness.example("relay"), at(address), "127.0.0.1:0"])


def relays_an_echo():
    with Server([harness.example("echo_server"), "127.0.0.1:0"]) as server, relay_to(server.address) as relay:
        message = os.urandom(1 << 20)
        with connect(relay.address) as client:
            sender = threading.Thread(target=lambda: (client.sendall(message), client.shutdown(socket.SHUT_WR)))
            sender.start()
            back = bytearray()
            while data := client.recv(1 << 16):
                back += data
            sender.join(WAIT_S)
        require(back == message, f"{len(back)} bytes came back")
        require(relay.end() == 0, "another exit code than 0")


def relay_is_bounded():
    """A peer that does not read holds up its sender, not the relay's memory; and goes on when it reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener, relay_to(listener.getsockname()) as relay:
        before = resident_kib(relay.pid)
        chunk = bytes(range(256)) * 4096
        with connect(relay.address) as sender:
            reader = listener.accept()[0]
            reader.settimeout(WAIT_S)
            sender.settimeout(0.5)
            sent = 0
            try:
                while sent < OFFERED_BYTES:
                    sent += sender.send(chunk[sent % len(chunk):])
            except TimeoutError:
                pass
            require(sent < OFFERED_BYTES // 4, f"{sent} bytes were taken though nobody reads")
            grown = resident_kib(relay.pid) - before
            require(grown < KEPT_KIB_MAX, f"it has grown by {grown} KiB")
            relay.require_idle()
            most = grown

            def send_the_rest():
                nonlocal sent
                sender.settimeout(WAIT_S)
                while sent < OFFERED_BYTES:
                    sent += sender.send(chunk[sent % len(chunk):][:OFFERED_BYTES - sent])
                sender.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=send_the_rest)
            thread.start()
            got = 0
            while data := reader.recv(1 << 20):
                start = got % len(chunk)
                require(data == (chunk[start:] + chunk)[:len(data)], f"another byte behind {got}")
                got += len(data)
                if got % 97 == 0:
                    most = max(most, resident_kib(relay.pid) - before)
            thread.join(WAIT_S)
            reader.close()
        require(got == OFFERED_BYTES, f"{got} bytes arrived")
        most = max(most, resident_kib(relay.pid) - before)
        require(most < KEPT_KIB_MAX, f"it has grown by {most} KiB")
        return f"{got >> 20} MiB through, {most} KiB more"


def relay_passes_failures_on():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with relay_to(nobody.getsockname()) as relay:
            try:
                # The reset may come before the connect has returned.
                with connect(relay.address) as client:
                    require(client.recv(1) == b"never", "an end in order, though nobody was reached")
            except ConnectionResetError:
                pass


def main():
    checks = Checks(LIMIT_S)
    checks.run("byebye and hihi, one socket and two", greets)
    checks.run("our client, the tutorial's server", python_greets)
    checks.run("a refused connect and a bad address end with code 1", fails)
    checks.run("echo over Unix sockets, by path and abstract, stale and alive", echoes_over_unix)
    checks.run("an echo through the relay", relays_an_echo)
    checks.run("the relay's memory is bounded", relay_is_bounded)
    checks.run("the relay resets whom it cannot connect on", relay_passes_failures_on)
    checks.finish()


if __name__ == "__main__":
    main()
