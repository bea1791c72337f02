#!/usr/bin/env python3
"""Where the processor time of the examples goes under load: in the kernel, in the crate, in the example, in libraries.

    python3 benches/shares.py               builds, loads each example for three seconds, prints
    python3 benches/shares.py http chat     only rows with one of these words in their names
    python3 benches/shares.py --write       also writes the table into benches/NOTES.md

Linux, two cores, with perf (Debian: linux-perf). Each example runs on one core, and what loads it on the other: the load
generator of benches/compare, or a few lines below, which are slower than most of the servers, so that a server with little
to do wakes up for little. perf takes a sample of the process every half millisecond. Other load on the machine changes how
much is ready at each poll, but little of the shares.
"""

import argparse
import collections
import contextlib
import datetime
import os
import pathlib
import re
import smtplib
import socket
import subprocess
import sys
import tempfile
import threading
import time

from report import ROOT, machine, write_between_marks

sys.path.insert(0, str(ROOT / "tests" / "real"))

import harness  # noqa: E402 (found by the line above)
from harness import Server, require  # noqa: E402

LOAD_S = 3
WARM_UP_S = 0.3
SAMPLES_A_SECOND = 2000
SAMPLES_MIN = 300
LIMIT_S = 600
CLIENTS = 50
COMPARE = ROOT / "benches" / "compare"
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
LOAD = COMPARE / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "load"
TOP = 2


# --------------------------------------------------------------------------------------------------------- the loads


def generator(*options):
    """A load of the generator of benches/compare."""

    def load(server, until):
        address = server.address if isinstance(server.address, str) else "%s:%d" % server.address
        seconds = str(max(until - time.monotonic(), 0.1))
        subprocess.run([LOAD, *options[:1], address, *options[1:], "--seconds", seconds], check=True, stdout=subprocess.DEVNULL)

    return load


def connections(server, count, stack):
    return [stack.enter_context(harness.connect(server.address)) for _ in range(count)]


def lines(server, until):
    """Lines, to which nothing is answered."""
    with contextlib.ExitStack() as stack:
        clients = connections(server, CLIENTS, stack)
        while time.monotonic() < until:
            for client in clients:
                client.sendall(b"a line of some thirty characters\n" * 16)


def room(server, until):
    """Twenty members, of which each says a line in turn."""
    with contextlib.ExitStack() as stack:
        members = connections(server, 20, stack)
        for number, member in enumerate(members):
            member.sendall(b"member %d\n" % number)
        while time.monotonic() < until:
            for member in members:
                member.sendall(b"a line of some thirty characters\n")
            for member in members:
                member.recv(1 << 16)


def datagrams(server, until):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(server.address)
        client.settimeout(harness.WAIT_S)
        while time.monotonic() < until:
            for _ in range(16):
                client.send(b"x" * 64)
            for _ in range(16):
                client.recv(100)


def answered_lines(server, until):
    """A client of each of four handlers, which are blocking."""

    def talk():
        with harness.connect(server.address) as client, client.makefile("rb") as answers:
            while time.monotonic() < until:
                client.sendall(b"a line\n")
                answers.readline()

    clients = [threading.Thread(target=talk) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def mail(server, until):
    with smtplib.SMTP(*server.address) as client:
        while time.monotonic() < until:
            client.sendmail("a@example.org", ["b@example.org"], "Subject: x\r\n\r\n" + "A line of a mail.\r\n" * 100)


class Row:
    def __init__(self, name, example, load, arguments=("127.0.0.1:0",), behind=None):
        self.name = name
        self.example = example
        self.load = load
        self.arguments = arguments
        self.behind = behind  # The example that it connects to.


ROWS = [
    Row("`echo_server`, 50 clients", "echo_server", generator("echo", "--clients", "50")),
    Row("`echo_server`, 50 clients, 16 deep", "echo_server", generator("pipelined")),
    Row("`echo_server`, connections of one message", "echo_server", generator("connect")),
    Row("`unix_echo`, 50 clients", "unix_echo", generator("echo", "--clients", "50"), arguments=("{folder}/socket",)),
    Row("`udp_echo`, 16 datagrams at once", "udp_echo", datagrams),
    Row("`select_server`, 16 lines at once", "select_server", lines),
    Row("`chat`, 20 members", "chat", room),
    Row("`http_server`, 50 clients", "http_server", generator("http")),
    Row("`http_server`, 50 clients, 16 deep", "http_server", generator("http", "--depth", "16")),
    Row("`resp_server`, 50 clients", "resp_server", generator("resp")),
    Row("`resp_server`, 50 clients, 16 deep", "resp_server", generator("resp", "--depth", "16")),
    Row("`relay`, in bulk both ways", "relay", generator("bulk"), arguments=("{behind}", "127.0.0.1:0"), behind="echo_server"),
    Row("`socket_server --echo --threads=4`", "socket_server", answered_lines, arguments=("--echo", "--threads=4", "127.0.0.1:0")),
    Row("`smtp_server`, mails of 2 KB", "smtp_server", mail),
]


# -------------------------------------------------------------------------------------------------------- the samples


class Shares:
    """How many samples fell where."""

    def __init__(self, example, text):
        self.by_kind, self.by_function = collections.Counter(), collections.Counter()
        for symbol, image in re.findall(r"^\s*[0-9a-f]+ (.*) \((.*)\)$", text, re.M):
            kind = self.kind(example, symbol, image)
            self.by_kind[kind] += 1
            if kind != "kernel":
                self.by_function[shortened(symbol)] += 1
        self.total = sum(self.by_kind.values())

    @staticmethod
    def kind(example, symbol, image):
        if "kernel" in image:
            return "kernel"
        # Of `<a::B as c::D>::e` it is a's.
        crate = re.match(r"[<&]*(?:mut )?([a-z_0-9]+)::", symbol)
        return {"switchboard": "crate", example: "example"}.get(crate and crate.group(1), "libraries")

    def percent(self, count):
        return 100 * count / self.total

    def shown(self):
        kinds = [f"{self.percent(self.by_kind[kind]):.1f}" for kind in ("kernel", "crate", "example", "libraries")]
        top = [f"`{name}` {self.percent(count):.1f}" for name, count in self.by_function.most_common(TOP)]
        return " | ".join([*kinds, ", ".join(top)])


def shortened(symbol):
    """The last two parts of a path, without what it is generic over."""
    symbol = re.sub(r"\+0x[0-9a-f]+$", "", symbol)
    if of := re.match(r"<(.*?)(?: as .*)?>(::.*)$", symbol):
        symbol = of.group(1) + of.group(2)
    while (bare := re.sub(r"<[^<>]*>", "", symbol)) != symbol:
        symbol = bare
    return "::".join([part for part in symbol.split("::") if part and "{" not in part][-2:])


def sampled(row, folder, cores):
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(started(row.behind, ("127.0.0.1:0",), cores[1])) if row.behind else None
        filled = {"folder": folder, "behind": behind and "%s:%d" % behind.address}
        server = stack.enter_context(started(row.example, [each.format(**filled) for each in row.arguments], cores[0]))
        until = time.monotonic() + WARM_UP_S + LOAD_S
        failed = []
        load = threading.Thread(target=guarded, args=(row.load, server, until + WARM_UP_S, failed))
        load.start()
        time.sleep(WARM_UP_S)
        data = os.path.join(folder, "perf.data")
        subprocess.run(["perf", "record", "--quiet", "--event", "cpu-clock", "--freq", str(SAMPLES_A_SECOND), "--output", data,
                        "--pid", str(server.pid), "--", "sleep", str(LOAD_S)], check=True, stderr=subprocess.DEVNULL)
        load.join()
        require(not failed, f"{row.name}: {failed}")
    told = subprocess.run(["perf", "script", "--input", data, "--fields", "ip,sym,dso"], check=True, capture_output=True, text=True)
    shares = Shares(row.example, told.stdout)
    require(shares.total >= SAMPLES_MIN, f"{row.name}: {shares.total} samples only")
    return shares


def guarded(load, server, until, failed):
    try:
        load(server, until)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
        failed.append(repr(error))


def started(example, arguments, core):
    binary = str(TARGET / "release" / "examples" / example)
    # What it prints is read, and not kept.
    return Server(["taskset", "--cpu-list", str(core), binary, *arguments], on_line=lambda line: b"listening on" not in line)


HEAD = ("| under load | kernel, % | crate | example | libraries | most of it outside the kernel |\n"
        "| --- | --- | --- | --- | --- | --- |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if any(word in row.name for word in arguments.words or [""])]
    if not rows or arguments.write and arguments.words:
        sys.exit("no row has such a name, or only some are to be written")
    harness.limit_time(LIMIT_S)
    examples = sorted({each for row in rows for each in (row.example, row.behind) if each})
    flags = [flag for example in examples for flag in ("--example", example)]
    subprocess.run(["cargo", "build", "--quiet", "--profile", "bench", "--features", "server", *flags], cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", "--bin", "load"], cwd=COMPARE, check=True)
    cores = sorted(os.sched_getaffinity(0))[:2]
    require(len(cores) == 2, "two cores are needed")
    os.sched_setaffinity(0, {cores[1]})
    print(f"{machine()}\n\n{HEAD}", flush=True)
    shown = []
    with tempfile.TemporaryDirectory(prefix="shares-") as folder:
        for row in rows:
            shown.append(f"| {row.name} | {sampled(row, folder, cores).shown()} |")
            print(shown[-1], flush=True)
    if arguments.write:
        taken = f"Measured on {datetime.date.today()} by `python3 benches/shares.py`: {machine()}."
        write_between_marks(ROOT / "benches" / "NOTES.md", "shares", f"{taken}\n\n{HEAD}\n" + "\n".join(shown) + "\n")


if __name__ == "__main__":
    main()
