#!/usr/bin/env python3
"""Tests the examples about a single subject: framings, options, reconnecting, rates, files, multicast, a raw socket, the
simulated network."""

import os
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import harness
from clients import private_kib
from harness import WAIT_S, Checks, Failed, Server, connect, receive, require

LIMIT_S = 240


def run(name, *arguments):
    """Runs an example to its end, and returns its exit code, the lines that it printed, and its error output."""
    done = subprocess.run([harness.example(name), *arguments], capture_output=True, timeout=WAIT_S, check=False)
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode()


def at(address):
    return "%s:%d" % address


def talk(address, said, piece_bytes):
    """Sends this in pieces of that size, and returns the server's answer."""
    with connect(address) as client:
        sender = threading.Thread(target=send, args=(client, said, piece_bytes), daemon=True)
        sender.start()
        heard = bytearray()
        try:
            while data := client.recv(65536):
                heard += data
        except ConnectionResetError:
            heard += b"<reset>"
        sender.join(WAIT_S)
        return bytes(heard)


def send(client, said, piece_bytes):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for start in range(0, len(said), piece_bytes):
            client.sendall(said[start : start + piece_bytes])
        client.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # It was disconnected because of what it sent.


# ---------------------------------------------------------------------------------------------------- framings


def lengths(*messages):
    return b"".join(struct.pack(">H", len(message)) + message for message in messages)


def netstrings(*messages):
    return b"".join(b"%d:%s," % (len(message), message) for message in messages)


MESSAGES = [b"hello", b"", b"a;b", bytes(range(256)), b"y" * 4096]
FRAMINGS = {
    "--length": (lengths(*MESSAGES), MESSAGES),
    "--netstring": (netstrings(*MESSAGES), MESSAGES),
    "--delimiter=<>": (b"hello<><>a<b><>", [b"hello", b"", b"a<b>"]),
    "--fixed=3": (b"abc\r\n\0", [b"abc", b"\r\n\0"]),
}


def frames(flag):
    said, messages = FRAMINGS[flag]
    # After the last frame comes the start of another one, which is never delivered.
    with Server([harness.example("framings"), flag, "127.0.0.1:0"]) as server:
        for piece_bytes in (len(said), 1):
            heard = talk(server.address, said, piece_bytes)
            require(heard == said, f"{piece_bytes} at a time: {heard[:100]!r}")
            is_frame = lambda line: line.startswith(b"a frame of ")
            server.wait(lambda: sum(map(is_frame, server.lines)) == len(messages), "all frames")
            lines = list(filter(is_frame, server.lines))
            expected = [b"a frame of %d bytes: " % len(message) for message in messages]
            found = [line[: len(begin)] for line, begin in zip(lines, expected)]
            require(found == expected and len(lines) == len(expected), f"{lines}")
            server.lines.clear()


def breaks_a_framing():
    """What came before the error is answered; after it, nothing is, except among lines."""
    broken = rb"the framing is broken: .+"
    for flag, said, answered, line in [
        ("--netstring", b"5:hello,x5:hello,", b"5:hello,", broken),
        ("--netstring", b"4097:hello", b"", broken),
        ("--length", lengths(b"hello") + b"\xff\xff" + lengths(b"hello"), lengths(b"hello"), broken),
        ("--delimiter=;", b"hello;" + b"y" * 5000 + b";hello;", b"hello;", broken),
        ("--lines", b"hello\n" + b"y" * 5000 + b"\nbye\n", b"hello\r\ntoo long\r\nbye\r\n", rb"a line is too long"),
    ]:
        with Server([harness.example("framings"), flag, "127.0.0.1:0"]) as server:
            heard = talk(server.address, said, len(said)).replace(b"<reset>", b"")
            server.wait_for_line(line)
            require(heard == answered, f"{flag}: {heard!r}")


def raw_among_lines():
    raw = b"\n\0\r\nraw 5\n"
    said = b"hello\r\nraw %d\n%sbye\nraw 0\nraw x\n" % (len(raw), raw)
    with Server([harness.example("framings"), "127.0.0.1:0"]) as server:
        for piece_bytes in (len(said), 1):
            heard = talk(server.address, said, piece_bytes)
            require(heard == b"hello\r\n" + raw + b"bye\r\nraw x\r\n", f"{piece_bytes} at a time: {heard!r}")
        server.wait_for_text("10 raw bytes: \\n\\x00\\r\\nraw 5\\n")
        require(talk(server.address, b"raw 5000\nhello\n", 99).replace(b"<reset>", b"") == b"", "5000 raw bytes are taken")
    for flags in (["--fixed=0"], ["--fixed=x"], ["--delimiter="], ["--nothing"], ["--lines", "--length"]):
        require(run("framings", *flags)[0] == 1, f"{flags} are taken")


# ----------------------------------------------------------------------------------------------------- options


def options_are_read_back():
    """The kernel reports the options' new values too, such as the hop limit of the packets."""
    with Server([harness.example("echo_server"), "127.0.0.1:0"]) as server:
        code, lines, complaint = run("options", at(server.address))
        require((code, complaint) == (0, ""), f"{code}, {complaint!r}")
    found = {line.split(":")[0]: line.split(": ", 1)[1] for line in lines}
    require(list(found) == ["SO_SNDBUF", "SO_RCVBUF", "IP_TTL", "TCP_NODELAY", "SO_KEEPALIVE", "SO_LINGER", "came back"], f"{lines}")
    for name, expected in [("SO_SNDBUF", r"\d+, asked for 65535, now 131070"), ("SO_RCVBUF", r"\d+, asked for 65535, now 131070"),
                           ("IP_TTL", r"64, asked for 32, now 32"), ("TCP_NODELAY", "true, asked for false, now false"),
                           ("SO_KEEPALIVE", "false, asked for true, now true"), ("SO_LINGER", r"None, asked for Some\(3s\), now Some\(3s\)"),
                           ("came back", "before ! behind")]:
        require(re.fullmatch(expected, found[name]), f"{name}: {found[name]}")


def urgent_data_is_urgent():
    """A Python server receives it where the system puts it: separately, by MSG_OOB, and not in the stream."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen = []

        def serve():
            with listener.accept()[0] as client:
                client.settimeout(WAIT_S)
                client.sendall(client.recv(100))
                select.select([], [], [client], WAIT_S)
                seen.append(client.recv(1, socket.MSG_OOB))
                stream = bytearray()
                while data := client.recv(100):
                    stream += data
                    client.sendall(data)
                seen.append(bytes(stream))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        code, lines, _ = run("options", at(listener.getsockname()))
        thread.join(WAIT_S)
        require(seen == [b"!", b" behind"], f"{seen}")
        require(code == 0 and lines[-1] == "came back: before  behind", f"{code}, {lines}")


# ------------------------------------------------------------------------------------------------ reconnecting


class Client:
    """Runs `reconnect`, and collects what it prints."""

    def __init__(self, *arguments):
        self.process = harness.start([harness.example("reconnect"), *arguments], stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        harness.end(self.process)
        self.process.stdout.close()

    def reads(self, pattern):
        line = self.process.stdout.readline().decode().removesuffix("\n")
        require(re.fullmatch(pattern, line), f"printed {line!r}")


def stays_connected():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        address = listener.getsockname()
        with Client("--silence=0.3", at(address)) as client:
            times = []
            for end in ("in order", "by a reset", "by silence"):
                with listener.accept()[0] as peer:
                    times.append(time.monotonic())
                    client.reads(f"connected to {at(address)}")
                    peer.sendall(b"news\r\n\x1b[2J\n")
                    client.reads("news")
                    client.reads(r"\\x1b\[2J")
                    if end == "by silence":
                        client.reads("disconnected: silent for too long")
                    elif end == "by a reset":
                        harness.reset(peer)
                        client.reads("disconnected: reset by the peer")
                    else:
                        peer.close()
                        client.reads("disconnected: .*")
            # Each attempt waits longer than the one before, give or take a fifth.
            listener.close()
            client.reads("cannot connect: .*refused.*")
            require(times[1] - times[0] >= 0.2 and times[2] - times[1] > 0.3, f"called at {times}")
            with socket.socket() as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                again.bind(address)
                again.listen()
                again.settimeout(2 * WAIT_S)
                again.accept()[0].close()
            require(harness.end(client.process, signal.SIGTERM) == 0, "another exit code than 0")


def looks_up_by_its_own_file():
    """Of a name's two addresses the second one answers; later, the file lists another address."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        hosts = os.path.join(folder, "hosts")

        def write(*lines):
            with open(hosts, "w", encoding="utf-8") as file:
                file.write("\n".join(lines))

        write("# ours", "127.0.0.3 news  # nobody listens", "127.0.0.1 other News")
        with socket.create_server(("127.0.0.2", port)) as second, Client(f"--hosts={hosts}", f"news:{port}") as client:
            first.settimeout(WAIT_S)
            second.settimeout(WAIT_S)
            peer = first.accept()[0]
            client.reads(f"connected to 127.0.0.1:{port}")
            write("127.0.0.2 news")
            peer.close()
            client.reads("disconnected: .*")
            second.accept()[0].close()
            client.reads(f"connected to 127.0.0.2:{port}")
            require(harness.end(client.process, signal.SIGINT) == 0, "another exit code than 0")
        # A name that is not in the file is looked up by the system.
        with Client(f"--hosts={hosts}", f"localhost:{port}") as client:
            first.accept()[0].close()
            client.reads(r"connected to .*")


# ------------------------------------------------------------------------------------------------------- rates


def fletcher(data):
    one = two = 0
    for byte in data:
        one = (one + byte) % 65535
        two = (two + one) % 65535
    return two << 16 | one


def upload(address, data, took):
    with connect(address) as client:
        begin = time.monotonic()
        client.settimeout(3 * WAIT_S)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = receive_all(client)
        took.append(time.monotonic() - begin)
        expected = b"%d bytes, sum %08x\n" % (len(data), fletcher(data))
        took.append(answer == expected)


def receive_all(client):
    heard = bytearray()
    while data := client.recv(65536):
        heard += data
    return bytes(heard)


def is_held_to_rates():
    """One client keeps to its own rate, two to a rate that they share. Faster is wrong; slower may be due to a busy machine."""
    data = os.urandom(600_001)
    burst = 64 << 10
    for flags, clients, bytes_per_s in [([], 1, None), (["--each=400000"], 1, 400_000), (["--each=400000", "--all", "500000"], 2, 250_000)]:
        with Server([harness.example("uploads"), *flags, "127.0.0.1:0"]) as server:
            tooks = [[] for _ in range(clients)]
            threads = [threading.Thread(target=upload, args=(server.address, data, took), daemon=True) for took in tooks]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(3 * WAIT_S)
            require(all(took and took[1] for took in tooks), f"{flags}: another answer: {tooks}")
            least_s = (len(data) - burst) / bytes_per_s if bytes_per_s else 0
            longest = max(took[0] for took in tooks)
            require(longest >= 0.9 * least_s, f"{flags}: {longest:.2f} s, where {least_s:.2f} s were due")
            # Every block but the last is complete; then come the loop's own figures.
            for _ in range(clients):
                server.wait_for_line(rb"127\.0\.0\.1:\d+ sent 600001 bytes, 36 whole blocks, in [\d.]+ s: .+")
            server.wait_for_line(rb"%d bytes in all; the longest callback took [\d.]+\S+ \(\w+\), the longest turn .+, \d+ were slow"
                                 % (clients * len(data)))
            server.require_idle()


# ------------------------------------------------------------------------------------------------------- files

WAYS = {"pieces": [], "shared": ["--shared"], "threads": ["--threads=2"]}


def gives_files(way):
    # More than the system's buffers hold for a client that does not read; less where the whole file is kept in memory.
    data = os.urandom(((8 if way == "shared" else 40) << 20) + 1)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        with open(path, "wb") as file:
            file.write(data)
        with Server([harness.example("files"), *WAYS[way], path, "127.0.0.1:0"]) as server:
            before = private_kib(server.pid)
            with connect(server.address) as silent, connect(server.address) as slow:
                # One client reads nothing at first. The other is served completely meanwhile, even though it has sent something.
                slow.sendall(b"GET all of it\n")
                slow.shutdown(socket.SHUT_WR)
                require(receive_all(slow) == data, "another file")
                # Its main thread, and those that copy.
                threads = harness.threads(server.pid)
                require(len(threads) == (3 if way == "threads" else 1), f"its threads are {threads}")
                kept = private_kib(server.pid) - before
                require(kept < (9 << 10 if way == "shared" else 2 << 10), f"{kept} KiB are kept for who reads nothing")
                require(receive_all(silent) == data, "another file for the one who waited")
            how = rb"copied by a thread" if way == "threads" else rb"closed"
            server.wait(lambda: server.count(rb"%d bytes for \S+: %s.*" % (len(data), how)) == 2, "two files given")
            # Half a file must not look complete: a transfer that is cut short ends in a reset.
            with connect(server.address) as half:
                half.recv(1)
                require(harness.end(server.process, signal.SIGINT if way == "pieces" else signal.SIGKILL) is not None, "alive")
        if way == "shared":
            with open(path, "ab") as file:
                file.truncate((16 << 20) + 1)
            code, _, complaint = run("files", "--shared", path)
            require(code == 1 and "more than 16777216 bytes" in complaint, f"{code}, {complaint!r}")
    for arguments in ([], [*WAYS[way], "/no/such"], [*WAYS[way], "/"], ["--threads=0", "/etc/hostname"]):
        require(run("files", *arguments)[0] == 1, f"{arguments} are taken")


# --------------------------------------------------------------------------------------------------- multicast


def members_find_each_other():
    group = "239.255.77.9"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.bind((group, 0))
        port = ours.getsockname()[1]
        ours.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        ours.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton("127.0.0.1"))
        ours.settimeout(WAIT_S)
        argv = [harness.example("multicast"), "--interface=127.0.0.1", f"{group}:{port}"]
        with Server([*argv, "--name=ada"]) as ada:
            require(ours.recv(100) == b"hello ada", "no hello")
            with Server([*argv, "--name=bob"]) as bob:
                require(sorted(ours.recv(100) for _ in range(2)) == [b"hello bob", b"here ada"], "other words")
                ada.wait_for_line(rb"bob is there, at 127\.0\.0\.1:%d" % port)
                bob.wait_for_line(rb"ada is there, at 127\.0\.0\.1:%d" % port)
                # A repeated message is printed once; unknown messages and terminal escapes do no harm.
                for said in (b"hello \x1b[2J", b"here bob", b"", b"hello", b"what ada", b"\xff" * 1000):
                    ours.sendto(said, (group, port))
                ada.wait_for_text("\\x1b[2J is there, at 127.0.0.1:%d" % port)
                # A hello is answered at once, not only by the announcement that each sends every two seconds.
                deadline, answers = time.monotonic() + WAIT_S, 0
                for _ in range(20):
                    ours.sendto(b"hello carol", (group, port))
                while answers < 20:
                    require(time.monotonic() < deadline, f"{answers} answers to 20")
                    answers += ours.recv(1000) == b"here ada"
                require(bob.end(signal.SIGTERM) == 0, "another exit code than 0")
            ada.wait_for_text("bob has left")
            require(ada.count(rb"bob is there.*") == 1, "told twice")
            require(ada.end() == 0, "another exit code than 0")
    for argument in ("192.0.2.1:5", "nothing", "--interface=x", "--what=x"):
        require(run("multicast", argument)[0] == 1, f"{argument} is taken")


# ------------------------------------------------------------------------------------------------ a raw socket


def asks_by_icmp():
    """The machine answers at each of its addresses, and other packets do no harm."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as other:
        other.bind(("127.0.0.3", 0))
        process = harness.start([harness.example("ping"), "--count=2", "127.0.0.3"], stdout=subprocess.PIPE)
        try:
            first = process.stdout.readline()
            # An unsolicited answer, and a truncated one.
            for packet in (b"\0" * 8, b"\0\0\xff\xff" + struct.pack(">HH", process.pid & 0xFFFF, 7), b"\0\0"):
                other.sendto(packet, ("127.0.0.1", 0))
            # Its packets have the right checksum, or the machine would not answer.
            printed = (first + process.communicate(timeout=WAIT_S)[0]).decode().splitlines()
        finally:
            harness.end(process)
    expected = [rf"8 bytes from 127\.0\.0\.3: number {number}, after [\d.]+[µm]?s" for number in (0, 1)]
    require(len(printed) == 3 and all(map(re.fullmatch, [*expected, "2 of 2 were answered"], printed)), f"{printed}")
    require(process.returncode == 0, f"{process.returncode}")
    for argument in ("--count=0", "localhost", "::1"):
        require(run("ping", argument)[0] == 1, f"{argument} is taken")


# --------------------------------------------------------------------------------------------------- simulated


def an_hour_is_always_the_same():
    runs = {seed: [run("simulated", *seed) for _ in range(2)] for seed in ((), ("2",))}
    for seed, (one, two) in runs.items():
        require(one == two and one[0] == 0, f"seed {seed} is another one the second time")
        lines = one[1]
        require(sum("the network is cut" in line for line in lines) == 3, f"{lines}")
        require(sum("has lost its connection: silent for too long" in line for line in lines) == 4, f"{lines}")
        found = re.fullmatch(r"(\d+) lines by 5 connections, and (\d+) connects that failed", lines[-2])
        # One line a second for an hour, except for four silences of about a minute.
        require(found and 3200 < int(found[1]) < 3400 and int(found[2]) > 4, f"{lines[-2]}")
    require(runs[()][0] != runs[("2",)][0], "the seed decides nothing")
    require(run("simulated", "x")[0] == 1, "x is a seed")


def main():
    checks = Checks(LIMIT_S)
    for flag in FRAMINGS:
        checks.run(f"framings: {flag}", frames, flag)
    checks.run("framings that are broken", breaks_a_framing)
    checks.run("raw bytes among lines", raw_among_lines)
    checks.run("options, set and read back", options_are_read_back)
    checks.run("urgent data is urgent", urgent_data_is_urgent)
    checks.run("stays connected", stays_connected)
    checks.run("names from a file of its own", looks_up_by_its_own_file)
    checks.run("uploads are held to their rates", is_held_to_rates)
    for way in WAYS:
        checks.run(f"files: {way}", gives_files, way)
    checks.run("members of a group find each other", members_find_each_other)
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except PermissionError as error:
        checks.skip("asks by ICMP", error)
    else:
        checks.run("asks by ICMP", asks_by_icmp)
    checks.run("an hour of a bad network", an_hour_is_always_the_same)
    checks.finish()


if __name__ == "__main__":
    main()
