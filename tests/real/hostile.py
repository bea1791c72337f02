#!/usr/bin/env python3
"""Hostile clients and systems, against the examples: nobody else is affected, and nothing is stranded.

After each scenario the idle server must sleep.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import harness
from harness import Checks, Server, Trace, connect, echoes, name_of, printed_of, require, reset

LIMIT_S = 300
ANY_PORT = "127.0.0.1:0"
EXAMPLES = (
    "select_server", "select_server_register", "select_server_mio", "accept_retry", "echo_server", "peek", "simple_logger",
    "line_logger",
)


def select_server(**options):
    return Server([harness.example("select_server"), ANY_PORT], **options)


def echo_server(**options):
    return Server([harness.example("echo_server"), ANY_PORT], **options)


def wait_until_met(server, client):
    server.wait_for_text(harness.GOT_CONNECTION.format(name_of(client)))


def wait_until_gone(server, name):
    server.wait_for_text(harness.DISCONNECTED.format(name))


def talk(server, client, text, limit_s=harness.WAIT_S):
    """Sends a line and waits until it is printed; returns how long that took."""
    begin = time.monotonic()
    client.sendall(text.encode() + b"\n")
    server.wait_for_text(f"{name_of(client)}: {text}", limit_s)
    return time.monotonic() - begin


def leave(server, *clients):
    names = [name_of(client) for client in clients]
    for client in clients:
        client.close()
    for name in names:
        wait_until_gone(server, name)


# --------------------------------------------------------------------------------------- descriptors have run out


def descriptors_run_out():
    descriptors_max, clients_count = 30, 60
    with select_server(descriptors_max=descriptors_max) as server, contextlib.ExitStack() as sockets:
        served_max = descriptors_max - server.descriptors_at_start
        clients = [sockets.enter_context(connect(server.address)) for _ in range(clients_count)]
        served, waiting = clients[:served_max], clients[served_max:]
        for client in served:
            wait_until_met(server, client)

        cpu_s = overloaded_at_rest(server)
        met = server.count(rb"Got connection from \S+")
        require(met == served_max, f"{met} clients served by {served_max} descriptors")
        for number, client in enumerate(served):
            talk(server, client, f"served, number {number}")

        wait_until_accept_has_failed(server)
        slowest_s = 0.0
        for number, client in enumerate(waiting):
            begin = time.monotonic()
            leave(server, served.pop(0))
            wait_until_met(server, client)
            slowest_s = max(slowest_s, time.monotonic() - begin)
            talk(server, client, f"waited, number {number}")
            served.append(client)
        require(slowest_s < 0.5, f"a waiting client was served {slowest_s:.1f} s after another had left")
        leave(server, *served)
        server.require_quiet()
        require(server.end() == 0, "another exit code than 0")
        return f"{served_max} served at once, {cpu_s:.2f} s of CPU in 2 s, the next one after {slowest_s * 1000:.0f} ms"


def overloaded_at_rest(server):
    """With clients that it cannot accept, the server retries occasionally and uses almost no CPU."""
    with harness.others_meanwhile(), Trace(server.pid, "accept,accept4") as trace:
        cpu_s = server.cpu_s()
        harness.left_alone(2)
        cpu_s = server.cpu_s() - cpu_s
    require(server.alive(), f"the server ended{server.tail()}")
    require(cpu_s <= 0.1, f"{cpu_s:.2f} s of CPU in 2 s of overload")
    tries = sum(trace.counts().values())
    require(tries <= 20, f"{tries} accepts in 2 s of overload")
    return cpu_s


def wait_until_accept_has_failed(server):
    """Right after a failed try, the next timed one is as far away as possible: up to a second by now.

    A client that is served sooner than that is served because another one left.
    """
    with Trace(server.pid, "accept,accept4") as trace:
        server.wait_until(lambda: any("EMFILE" in line for _, line in trace.calls()), "another try to accept")


def ended_while_overloaded():
    """Asks the server to end while clients wait that it cannot accept."""
    with select_server(descriptors_max=20) as server, contextlib.ExitStack() as sockets:
        served_max = 20 - server.descriptors_at_start
        clients = [sockets.enter_context(connect(server.address)) for _ in range(served_max + 5)]
        for client in clients[:served_max]:
            wait_until_met(server, client)
        require(server.end() == 0, "another exit code than 0")


# ------------------------------------------------------------------------------------------ clients of ill manners


def reset_before_accept():
    """The server is stopped while clients connect, send and reset: by the time it looks at them, it is too late."""
    with select_server() as server:
        with connect(server.address) as witness:
            wait_until_met(server, witness)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                names = []
                for number in range(20):
                    client = connect(server.address)
                    names.append(name_of(client))
                    if number % 2:
                        client.sendall(b"never mind\n")
                    reset(client)
                honest = connect(server.address)
            finally:
                os.kill(server.pid, signal.SIGCONT)
            with honest:
                talk(server, honest, "I am still here")
                talk(server, witness, "so am I")
                for name in names:
                    # An accept may report such a client or skip it, but it must not lose half of it.
                    met = server.count(harness.GOT_CONNECTION.format(name).encode())
                    if met:
                        wait_until_gone(server, name)
                    require(met <= 1, f"{name} was met {met} times")
                    require(server.count(harness.DISCONNECTED.format(name).encode()) == met, f"{name} left too often")
                    require(printed_of(server, name) in ([], [b"never mind"]), f"{name}: {printed_of(server, name)}")
                leave(server, honest, witness)
        server.require_quiet()


def flood_without_newline():
    flood_bytes, piece = 100 * 1024 * 1024, b"a" * 65536
    printed = {"bytes": 0, "lines": 0}

    def on_line(line):
        """Counts the flood instead of keeping it."""
        if not line.endswith(b"aaaaaaaa"):
            return False
        printed["lines"] += 1
        printed["bytes"] += line.count(b"a", line.index(b": "))
        return True

    with select_server(on_line=on_line) as server:
        with connect(server.address) as flooder, connect(server.address) as other:
            flooder.settimeout(60)
            name = name_of(flooder)
            wait_until_met(server, flooder)
            cut_off = threading.Event()

            def flood():
                try:
                    for _ in range(flood_bytes // len(piece)):
                        flooder.sendall(piece)
                except OSError:
                    cut_off.set()

            sender = threading.Thread(target=flood)
            sender.start()
            answers_s = []
            while sender.is_alive():
                answers_s.append(talk(server, other, f"meanwhile {len(answers_s)}", limit_s=5))
            sender.join()
            flooder.close()
            wait_until_gone(server, name)
            if not cut_off.is_set():
                require(printed["bytes"] == flood_bytes, f"{printed['bytes']} of {flood_bytes} bytes printed")
                require(len(answers_s) >= 3, f"only {len(answers_s)} lines of others during the flood")
            require(max(answers_s) < 1, f"a line of another client took {max(answers_s):.1f} s")
            talk(server, other, "quiet again")
            leave(server, other)
        peak_mib = server.memory_peak_mib()
        require(peak_mib < 64, f"{peak_mib:.0f} MiB of memory")
        server.require_quiet()
        slowest_ms = max(answers_s) * 1000
        return f"{printed['bytes']} bytes in {printed['lines']} lines, {peak_mib:.1f} MiB, others {slowest_ms:.0f} ms"


def never_reads():
    """Sends the echo server as much as the kernel takes, and reads nothing: the server's memory is bounded."""
    most_bytes = 256 * 1024 * 1024
    with echo_server() as server, connect(server.address) as other:
        require(echoes(other, b"hello"), "no echo")
        before_mib = server.memory_peak_mib()
        with connect(server.address) as client:
            sent = 0
            client.settimeout(0.5)  # If it takes no byte for this long, the server has stopped reading.
            with contextlib.suppress(TimeoutError):
                while sent < most_bytes:
                    sent += client.send(pattern(sent, 65536))
            require(sent < most_bytes, f"the server took {sent} bytes and can have sent none of them")
            for number in range(20):
                require(echoes(other, b"meanwhile %d" % number, limit_s=1), "no echo for others")
            grown_mib = server.memory_peak_mib() - before_mib
            require(grown_mib < 8, f"{grown_mib:.1f} MiB more memory")
            server.require_idle()

            # Now it reads after all: everything arrives, and the pause has stranded nothing.
            client.settimeout(harness.WAIT_S)
            client.shutdown(socket.SHUT_WR)
            received = 0
            while piece := client.recv(65536):
                require(piece == pattern(received, len(piece)), f"another byte after {received}")
                received += len(piece)
            require(received == sent, f"{received} of {sent} bytes came back")
        require(echoes(other, b"and still"), "no echo for others")
        other.close()
        server.require_quiet()
        return f"{sent} bytes taken, {grown_mib:.1f} MiB more memory"


def never_reads_and_resets():
    with echo_server() as server, connect(server.address) as other:
        for _ in range(5):
            client = connect(server.address)
            client.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while True:
                    client.send(pattern(0, 65536))
            reset(client)
            require(echoes(other, b"still here", limit_s=1), "no echo for others")
        other.close()
        server.require_quiet()


def little_memory():
    """All of this at once, under a memory limit that the default cap on a few connections' queues would exceed."""
    address_space = 64 << 20  # An allocation beyond it ends the process.
    argv = ["prlimit", f"--as={address_space}", harness.example("echo_server"), ANY_PORT]
    with Server(argv) as server, connect(server.address) as honest:
        greedy, dribblers = [], []
        for _ in range(60):
            greedy.append(connect(server.address))
            dribblers.append(connect(server.address))
            dribblers[-1].send(b"y")
            with connect(server.address) as gone:
                gone.send(b"z" * 65536)
                reset(gone)
        taken = send_what_is_taken(greedy)
        require(echoes(honest, b"still here"), "no echo for others")
        peak_mib = server.memory_peak_mib()
        for client in greedy + dribblers:
            reset(client)
        honest.close()
        server.require_quiet()
        return f"{taken >> 20} MiB taken from {len(greedy)} that read nothing, {peak_mib:.1f} MiB at most"


def send_what_is_taken(clients):
    """Every client sends and none reads until the server takes nothing for a while; returns the bytes taken."""
    taken, last_s = 0, time.monotonic()
    for client in clients:
        client.setblocking(False)
    while time.monotonic() < last_s + 0.5:
        for client in clients:
            with contextlib.suppress(BlockingIOError):
                taken += client.send(b"x" * 65536)
                last_s = time.monotonic()
    return taken


def pattern(offset, count):
    """Returns part of an endless stream in which a lost or duplicated byte is detected."""
    period = bytes(range(251))
    begin = offset % 251
    return (period * (count // 251 + 2))[begin : begin + count]


def urgent_data_in_lines():
    with select_server() as server:
        with connect(server.address) as client, connect(server.address) as other:
            name = name_of(client)
            sent = b""
            for number in range(20):
                for data, flags in ((b"before ", 0), (b"!", socket.MSG_OOB), (b" after %d\n" % number, 0)):
                    client.send(data, flags)
                    sent += data
            wait_for_bytes(server, name, sent)
            talk(server, other, "unmoved")
            # The last byte before a pause is urgent: a server must not spin on it.
            client.send(b"?", socket.MSG_OOB)
            sent += b"?"
            wait_for_bytes(server, name, sent)
            server.require_idle()
            client.send(b"the end\n")
            wait_for_bytes(server, name, sent + b"the end\n")
            leave(server, client, other)
        server.require_quiet()


def wait_for_bytes(server, name, sent):
    """Waits for all bytes of a client, in order, wherever the printed lines end."""
    wanted = sent.replace(b"\n", b"")
    server.wait(lambda: b"".join(printed_of(server, name)) == wanted, f"{wanted!r} from {name}")


def urgent_data_echoed():
    with echo_server() as server:
        with connect(server.address) as client:
            for number in range(20):
                expected = b"before ! after %d" % number
                client.send(b"before ")
                client.send(b"!", socket.MSG_OOB)
                client.send(b" after %d" % number)
                received = harness.receive(client, len(expected))
                require(received == expected, f"{received!r} for {expected!r}")
            client.send(b"?", socket.MSG_OOB)
            require(harness.receive(client, 1) == b"?", "no echo of a last urgent byte")
            server.require_idle()
            require(echoes(client, b"the end"), "no echo after it")
        server.require_quiet()


def many_that_send_one_byte_at_a_time():
    with select_server() as server, contextlib.ExitStack() as sockets:
        clients = [sockets.enter_context(connect(server.address)) for _ in range(20)]
        text = b"a byte at a time\r\n"
        for index in range(len(text)):
            for client in clients:
                client.sendall(text[index : index + 1])
        for client in clients:
            wait_for_bytes(server, name_of(client), text.replace(b"\r", b""))
        leave(server, *clients)
        server.require_quiet()


# --------------------------------------------------------------------------------------------- nowhere to print to


def output_is(kind):
    """Output fails: clients stay connected and are still read, and others can still connect."""
    with select_server(stdout=kind) as server:
        with connect(server.address) as first:
            for _ in range(3):
                first.sendall(b"a line\nand a part")
                wait_until_read(server, first)
            with connect(server.address) as second:
                second.sendall(b"hello\n")
                wait_until_read(server, second)
                first.sendall(b"\nmore\n")
                wait_until_read(server, first)
                require(harness.still_connected(first), "the first client was disconnected")
                require(harness.still_connected(second), "the second client was disconnected")
        server.require_quiet()
        code = server.end()
        require(code == 0, f"exit code {code} on SIGTERM{server.tail()}")


def nobody_reads_the_output(example, number, is_terminal):
    """A full pipe or a stopped terminal: clients are still read, others can connect, and a signal ends the server."""
    with contextlib.ExitStack() as stack:
        ours, theirs = os.openpty() if is_terminal else os.pipe()
        stack.callback(os.close, ours)
        # Both of its outputs, and more log than fits.
        argv = [harness.example(example), ANY_PORT]
        process = harness.start(argv, stdout=theirs, stderr=theirs, env={**os.environ, "RUST_LOG": "debug"})
        os.close(theirs)
        stack.callback(harness.end, process)
        begin = time.monotonic()
        while not (address := harness.listening_address(process.pid)):
            require(time.monotonic() < begin + harness.WAIT_S, "it does not listen")
            time.sleep(harness.POLL_S)
        server = argparse.Namespace(address=address)

        def wait_for(client):
            begin = time.monotonic()
            while not harness.accepted_and_read(server, client):
                require(time.monotonic() < begin + harness.WAIT_S, "a client is not read")
                time.sleep(harness.POLL_S)

        first = stack.enter_context(connect(address))
        for _ in range(100):
            first.sendall(b"a line that fills what the output holds\n" * 100)
            wait_for(first)
        second = stack.enter_context(connect(address))
        second.sendall(b"hello\n")
        wait_for(second)
        begin = time.monotonic()
        code = harness.end(process, number)
        took_s = time.monotonic() - begin
        require(code == 0 and took_s < 8, f"exit code {code} after {took_s:.1f} s")


def lost_lines_are_counted():
    """Once the output is read again, it continues, with a line that says how many lines are missing."""
    with contextlib.ExitStack() as stack:
        process = harness.start([harness.example("select_server"), ANY_PORT], stdout=subprocess.PIPE)
        stack.callback(harness.end, process)
        host, port = process.stdout.readline().split()[-1].decode().rsplit(":", 1)
        client = stack.enter_context(connect((host, int(port))))
        server = argparse.Namespace(address=(host, int(port)))
        line, count = b"x" * 1000 + b"\n", 3000
        client.sendall(line * count)
        begin = time.monotonic()
        while not harness.accepted_and_read(server, client):
            require(time.monotonic() < begin + harness.WAIT_S, "it is not read")
            time.sleep(harness.POLL_S)
        printed = lost = 0
        # Lines that it has read but not yet processed can be lost again.
        while printed + lost < count:
            found = process.stdout.readline()
            require(found, "its output has ended")
            if b"lines were lost" in found:
                lost += int(found.split()[0].removeprefix(b"("))
            printed += found.endswith(line)
        require(lost > 0 and printed + lost == count, f"{printed} printed and {lost} lost are not {count}")
        client.sendall(b"again\n")
        require(process.stdout.readline().endswith(b": again\n"), "it does not go on")


def wait_until_read(server, client):
    server.wait_until(lambda: harness.accepted_and_read(server, client), f"{name_of(client)} accepted and read")


# -------------------------------------------------------------------------------------------------------- the end


def ends_on(number, example, with_client):
    with Server([harness.example(example), ANY_PORT]) as server:
        with contextlib.ExitStack() as sockets:
            if with_client:
                client = sockets.enter_context(connect(server.address))
                client.sendall(b"hello\n")
                wait_until_read(server, client)
            begin = time.monotonic()
            code = server.end(number)
            took_s = time.monotonic() - begin
            require(code == 0, f"exit code {code}{server.tail()}")
            require(took_s < 3, f"took {took_s:.1f} s")
            if with_client:
                while client.recv(4096):
                    pass  # The stream ends with an end, not a reset, after the data in flight.


# ------------------------------------------------------------------------------------------------- addresses, bad


def refused(argv, **options):
    """A program that cannot start prints one line on stderr and exits with 1."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=harness.WAIT_S, **options)
    require(done.returncode == 1, f"exit code {done.returncode}: {done.stderr!r}")
    require(done.stderr.count(b"\n") == 1 and done.stderr.endswith(b"\n"), f"not one line: {done.stderr!r}")
    require(len(done.stderr) > 10, f"says nothing: {done.stderr!r}")
    require(b"panicked" not in done.stderr, f"panicked: {done.stderr!r}")
    require(not done.stdout, f"printed {done.stdout!r}")
    return done.stderr.decode().strip()


def port_in_use(example):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return refused([harness.example(example), "%s:%d" % taken.getsockname()])


def bad_address(example, address):
    return refused([harness.example(example), address])


def privileged_port(example, port):
    """Run as an unprivileged user, from a folder that everybody can read."""
    if os.geteuid() != 0:
        return refused([harness.example(example), f"127.0.0.1:{port}"])
    with tempfile.TemporaryDirectory(prefix="examples-") as directory:
        os.chmod(directory, 0o755)
        binary = shutil.copy(harness.example(example), directory)
        os.chmod(binary, 0o755)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        return refused([*nobody, binary, f"127.0.0.1:{port}"])


def first_unprivileged_port():
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="utf-8") as file:
        return int(file.read())


# ----------------------------------------------------------------------------------------------------------- main


def main():
    checks = Checks(LIMIT_S)
    checks.begin("30 descriptors, 60 clients", descriptors_run_out)
    checks.begin("SIGTERM while overloaded", ended_while_overloaded)
    checks.begin("clients that reset before they are accepted", reset_before_accept)
    checks.begin("100 MB without a newline", flood_without_newline)
    checks.begin("a client that never reads", never_reads)
    checks.begin("clients that never read, then reset", never_reads_and_resets)
    checks.begin("a crowd of them, and little memory", little_memory)
    checks.begin("urgent data within lines", urgent_data_in_lines)
    checks.begin("urgent data, echoed", urgent_data_echoed)
    checks.begin("20 clients, a byte at a time", many_that_send_one_byte_at_a_time)
    for kind, name in (("closed", "closed stdout"), ("full", "full stdout"), ("broken", "stdout nobody reads")):
        checks.begin(name, output_is, kind)
    for example in ("select_server", "select_server_register", "select_server_mio"):
        for number in (signal.SIGINT, signal.SIGTERM):
            checks.run(f"{example}, a full pipe, {number.name}", nobody_reads_the_output, example, number, False)
    checks.run("a terminal that nobody reads", nobody_reads_the_output, "select_server", signal.SIGTERM, True)
    checks.run("lost lines are counted", lost_lines_are_counted)
    for example in EXAMPLES:
        for number in (signal.SIGINT, signal.SIGTERM):
            checks.begin(f"{example} ends on {number.name}", ends_on, number, example, False)
            checks.begin(f"{example} with a client ends on {number.name}", ends_on, number, example, True)
    unprivileged = first_unprivileged_port()
    for example in EXAMPLES:
        checks.begin(f"{example} on a port in use", port_in_use, example)
        for address in ("nonsense", "localhost:1234", "127.0.0.1", "127.0.0.1:99999"):
            checks.begin(f"{example} {address}", bad_address, example, address)
        if unprivileged > 1:
            checks.begin(f"{example} on a privileged port", privileged_port, example, min(unprivileged - 1, 80))
        else:
            checks.skip(f"{example} on a privileged port", "no port is privileged on this system")
    checks.finish()


if __name__ == "__main__":
    main()
