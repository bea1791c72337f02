#!/usr/bin/env python3
"""What the test kit captures, read by tcpdump: every checksum is right, and every byte of both streams is there."""

import os
import re
import subprocess
import tempfile

import harness
from harness import WAIT_S, Checks, require

LIMIT_S = 60
PROGRAM = ("capture", "cargo build --package outsider --examples")
LENGTH = 100_000


def tcpdump(file, *arguments):
    argv = ["tcpdump", "-nn", "-S", "-r", file, *arguments]
    process = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, check=True)
    return process.stdout


def captured(folder):
    program = harness.built(os.path.join("examples", PROGRAM[0]), PROGRAM[1])
    file = os.path.join(folder, "capture.pcap")
    process = subprocess.run([program, file, str(LENGTH)], capture_output=True, text=True, timeout=WAIT_S, check=True)
    return file, re.findall(r"port (\d+): (\d+) bytes", process.stdout)


def headers_are_right(file):
    told = tcpdump(file, "-vv")
    require(len(told.splitlines()) > 40, told[-400:])
    for wrong in ("incorrect", "bad ", "truncated", "[|"):
        require(wrong not in told, f"{wrong!r}: {[line for line in told.splitlines() if wrong in line][:3]}")
    require("(correct)" in told and "udp sum ok" in told, "checksums are not looked at")


def streams_are_whole(file, ports):
    """By the numbers of TCP: nothing is missing between the first byte and the end, and something was sent again."""
    again = 0
    require(len(ports) == 2, ports)
    for port, _ in ports:
        for direction in (f"src port {port}", f"dst port {port}"):
            seen = tcpdump(file, direction)
            parts = [(int(first), int(end)) for first, end in re.findall(r"seq (\d+):(\d+)", seen)]
            again += len(parts) - len(set(parts))
            reached = 1
            for first, end in sorted(set(parts)):
                require(first <= reached, f"a gap before {first} ({direction})")
                reached = max(reached, end)
            require(reached == LENGTH + 1, f"{reached - 1} bytes ({direction})")
            require(re.search(rf"Flags \[F\.\], seq {LENGTH + 1}", seen), f"no end ({direction})")
    require(again > 0, "nothing was lost")


def main():
    checks = Checks(LIMIT_S)
    with tempfile.TemporaryDirectory() as folder:
        file, ports = captured(folder)
        checks.run("headers are right", headers_are_right, file)
        checks.run("streams are whole", streams_are_whole, file, ports)
        checks.run("a datagram", lambda: require("UDP, length 9" in tcpdump(file), "none"))
        checks.run("resets", lambda: require(tcpdump(file).count("Flags [R") >= 2, "none"))
    checks.finish()


if __name__ == "__main__":
    main()
