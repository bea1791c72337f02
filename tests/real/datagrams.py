#!/usr/bin/env python3
"""Datagrams between the examples and real peers: Python's sockets and netcat, over UDP and Unix sockets."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import harness
from harness import WAIT_S, Checks, Server, Trace, require

LIMIT_S = 150


def udp_echo():
    return Server([harness.example("udp_echo"), "127.0.0.1:0"])


def client_of(server):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(WAIT_S)
    client.connect(server.address)
    return client


def echoes(client, data):
    client.send(data)
    require(client.recv(65536) == data, f"no echo of {len(data)} bytes")


def every_length_comes_back():
    with udp_echo() as server:
        with client_of(server) as client:
            for length in (0, 1, 1471, 1472, 1473, 9000, 65_506, 65_507):
                echoes(client, os.urandom(length))
            # They are answered one by one, each to its sender.
            with client_of(server) as other:
                for number in range(100):
                    echoes(client, b"%d" % number)
                    echoes(other, b"other %d" % number)
        server.require_idle()
        require(server.end() == 0, "another exit code than 0")


def netcat_is_answered():
    with udp_echo() as server:
        host, port = server.address
        netcat = harness.start(["nc", "-u", host, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        netcat.stdin.write(b"hello over netcat\n")
        netcat.stdin.flush()
        answer = netcat.stdout.readline()
        harness.end(netcat)
        require(answer == b"hello over netcat\n", f"netcat was answered {answer!r}")
        require(server.end() == 0, "another exit code than 0")


def a_client_that_is_gone_is_nobody_s_trouble():
    with udp_echo() as server:
        for _ in range(50):
            with client_of(server) as gone:
                gone.send(b"do not wait for me")
        with client_of(server) as client:
            echoes(client, b"still there?")
        server.require_idle()
        require(server.end(signal.SIGINT) == 0, "another exit code than 0")


def a_flood_is_outlived():
    with udp_echo() as server:
        with client_of(server) as flooder, client_of(server) as client:
            flooder.setblocking(False)
            for _ in range(100_000):
                try:
                    flooder.send(b"x" * 100)
                except BlockingIOError:
                    pass
            for _ in range(3):
                try:
                    echoes(client, b"who gets through?")
                    break
                except socket.timeout:
                    pass  # It may have found the server's queue full.
            else:
                require(False, "nobody gets through")
        peak_mib = server.memory_peak_mib()
        require(peak_mib < 32, f"{peak_mib:.0f} MiB")
        server.require_idle()
        require(server.end() == 0, "another exit code than 0")
        return f"{peak_mib:.1f} MiB at most"


def three_calls_a_datagram():
    with udp_echo() as server, client_of(server) as client:
        echoes(client, b"first")
        with Trace(server.pid) as trace:
            for number in range(100):
                echoes(client, b"%d" % number)
        counts = trace.counts()
        total = sum(counts.values())
        # A wait, a receive, a send, and the receive that finds nothing more.
        require(total <= 4 * 100 + 8, f"{total} calls for 100 datagrams: {counts}")
        return f"{total} calls for 100 datagrams"


def our_client_asks_a_python_server():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(WAIT_S)
        host, port = server.getsockname()
        argv = [harness.example("udp_client"), f"{host}:{port}"]
        client = harness.start(argv, stdout=subprocess.PIPE)
        for number in range(1, 4):
            question, asker = server.recvfrom(1000)
            require(question == b"question %d" % number, f"asked {question!r}")
            server.sendto(b"answer\x1b %d" % number, asker)
            line = client.stdout.readline()
            require(line == b"%s:%d answers: answer\\x1b %d\n" % (host.encode(), port, number), f"printed {line!r}")
        require(client.wait(WAIT_S) == 0, "another exit code than 0")


def our_client_asks_by_name_and_tells_of_no_answer():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(WAIT_S)
        argv = [harness.example("udp_client"), "localhost:%d" % server.getsockname()[1]]
        client = harness.start(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        require(server.recvfrom(1000)[0] == b"question 1", "not asked")
        code = harness.end(client, signal.SIGTERM)
        complaint = client.stderr.read()
        require(code == 1 and b"no answer" in complaint, f"without an answer it ends with {code}, {complaint!r}")
    for wrong in ("nothing", "no.such.name.invalid:1"):
        done = subprocess.run([harness.example("udp_client"), wrong], capture_output=True, timeout=WAIT_S, check=False)
        found = done.returncode == 1 and wrong.encode() in done.stderr and b"listen" not in done.stderr
        require(found, f"of {wrong!r} it says {done.stderr!r}")


def our_client_outlives_a_refusal():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        host, port = server.getsockname()
    client = harness.start([harness.example("udp_client"), f"{host}:{port}"], stdout=subprocess.PIPE)
    line = client.stdout.readline()
    require(b"refused" in line, f"printed {line!r}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((host, port))
        server.settimeout(WAIT_S)
        question, asker = server.recvfrom(1000)
        server.sendto(question, asker)
        while b"answers" not in line:
            line = client.stdout.readline()
            require(line, "it has ended")
    require(harness.end(client, signal.SIGTERM) == 0, "another exit code than 0")


def our_client_broadcasts():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 0))
        server.settimeout(WAIT_S)
        port = server.getsockname()[1]
        argv = [harness.example("udp_client"), "--broadcast", f"127.255.255.255:{port}"]
        client = harness.start(argv, stdout=subprocess.PIPE)
        _, asker = server.recvfrom(1000)
        server.sendto(b"here", asker)
        line = client.stdout.readline()
        require(line.endswith(b" answers: here\n"), f"printed {line!r}")
        require(harness.end(client, signal.SIGINT) == 0, "another exit code than 0")


def unix_lines_are_collected():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "collector")
        collector = harness.start([harness.example("unix_datagram"), path], stdout=subprocess.PIPE)
        line = collector.stdout.readline()
        require(line == b"listening on unix:%s\n" % path.encode(), f"printed {line!r}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"no name\n", path)
            require(collector.stdout.readline() == b"unix:(unnamed): no name\n", "an unnamed one")
            sender.bind(os.path.join(folder, "sender"))
            sender.sendto(b"a name, and \x1b[2J", path)
            wanted = b"unix:%s/sender: a name, and \\x1b[2J\n" % folder.encode()
            line = collector.stdout.readline()
            require(line == wanted, f"printed {line!r}")
            sender.sendto(b"x" * 70_000, path)
            require(b"more than 65535 bytes" in collector.stdout.readline(), "a long one")
        if shutil.which("nc"):
            subprocess.run(["nc", "-uU", "-w", "1", path], input=b"over netcat\n", timeout=WAIT_S, check=False)
            require(b"over netcat" in collector.stdout.readline(), "netcat's")
        second = subprocess.run([harness.example("unix_datagram"), path], capture_output=True, timeout=WAIT_S, check=False)
        require(second.returncode == 1 and b"in use" in second.stderr, f"a second one says {second.stderr!r}")
        require(harness.end(collector, signal.SIGTERM) == 0, "another exit code than 0")
        require(not os.path.exists(path), "its path is still there")


def a_receive_that_goes_on_failing_is_tried_now_and_then():
    """On UDP and Unix sockets; datagrams that have arrived are delivered once the kernel has memory again."""
    with udp_echo() as server:
        with client_of(server) as client:
            echoes(client, b"before")
            with Trace(server.pid, "recvfrom", fails="ENOMEM") as trace:
                client.send(b"meanwhile")
                time.sleep(2)
            tries = trace.counts()["recvfrom"]
            require(5 <= tries <= 12, f"{tries} receives in 2 s")
            told = [line for line in server.lines if b"Cannot allocate memory" in line]
            require(len(told) == tries, f"{tries} receives failed, and {len(told)} lines tell of it")
            require(client.recv(100) == b"meanwhile", "no echo of what came meanwhile")
            echoes(client, b"after")
        require(server.end() == 0, "another exit code than 0")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "collector")
        collector = harness.start([harness.example("unix_datagram"), path], stdout=subprocess.PIPE)
        require(collector.stdout.readline().startswith(b"listening"), "it does not listen")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            with Trace(collector.pid, "recvfrom", fails="ENOBUFS") as trace:
                sender.sendto(b"meanwhile", path)
                time.sleep(1)
            tries = trace.counts()["recvfrom"]
            require(4 <= tries <= 11, f"{tries} receives in 1 s")
            require(b"meanwhile" in collector.stdout.readline(), "what came meanwhile is lost")
        require(harness.end(collector, signal.SIGTERM) == 0, "another exit code than 0")


def lines_that_nobody_takes_are_counted():
    """A collector that reads nothing, one that starts late, and one that exits: no line is lost silently."""
    lines = [f"line {number}" for number in range(500)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "collector")
        argv = [harness.example("unix_datagram"), path, *lines]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as collector:
            collector.bind(path)
            with harness.others_meanwhile():
                sender = subprocess.run(argv, capture_output=True, timeout=2 * WAIT_S, check=False)
            collector.setblocking(False)
            arrived = 0
            with contextlib.suppress(BlockingIOError):
                while collector.recv(1000):
                    arrived += 1
            said = b"%d of 500 lines were not sent" % (500 - arrived)
            require(arrived < 500, "the system takes them all: that shows nothing")
            require(sender.returncode == 1 and said in sender.stderr, f"{arrived} arrived, it says {sender.stderr!r}")
            # The queue is full before the collector reads, and empty at the end.
            late = harness.start(argv, stderr=subprocess.PIPE)
            collector.settimeout(WAIT_S)
            heard = [collector.recv(1000).decode() for _ in lines]
            require(late.wait(WAIT_S) == 0 and heard == lines, f"{late.returncode}: {late.stderr.read()!r}")
            gone = harness.start(argv, stderr=subprocess.PIPE)
            require(collector.recv(1000) == b"line 0", "another line")
            collector.close()
            errors = gone.stderr.read()
            require(gone.wait(WAIT_S) == 1 and b" of 500 lines were not sent" in errors, f"it says {errors[-200:]!r}")


def main():
    checks = Checks(LIMIT_S)
    checks.run("datagrams of every length come back", every_length_comes_back)
    if shutil.which("nc"):
        checks.run("netcat is answered", netcat_is_answered)
    else:
        checks.skip("netcat is answered", "there is no nc")
    checks.run("clients that are gone do not concern the others", a_client_that_is_gone_is_nobody_s_trouble)
    checks.run("a flood is outlived", a_flood_is_outlived)
    checks.run("system calls of a datagram", three_calls_a_datagram)
    checks.run("udp_client asks a Python server", our_client_asks_a_python_server)
    checks.run("udp_client asks by name", our_client_asks_by_name_and_tells_of_no_answer)
    checks.run("udp_client outlives a refusal", our_client_outlives_a_refusal)
    checks.run("udp_client broadcasts", our_client_broadcasts)
    checks.run("unix_datagram collects lines", unix_lines_are_collected)
    checks.run("a receive that goes on failing", a_receive_that_goes_on_failing_is_tried_now_and_then)
    checks.run("unix_datagram counts the lines that nobody takes", lines_that_nobody_takes_are_counted)
    checks.finish()


if __name__ == "__main__":
    main()
