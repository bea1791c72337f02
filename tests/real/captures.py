#!/usr/bin/env python3
"""What the test kit captures, read by tcpdump and by Wireshark's tshark: every checksum is right,
every byte of both streams is present, and the expert information lists only what the program caused."""

import os
import re
import subprocess
import tempfile

import harness
from harness import WAIT_S, Checks, require

LIMIT_S = 60
PROGRAM = ("capture", "cargo build --package outsider --examples")
LENGTH = 100_000

# Verify checksums, which Wireshark does not do by default.
CHECKED = [option for protocol in ("ip", "tcp", "udp") for option in ("-o", f"{protocol}.check_checksum:TRUE")]
GOOD = "1"

# Expert information that is expected, apart from chat messages (values of `_ws.expert.severity`). The program loses
# packets, including acknowledgements, which are all retransmitted; it resets one connection; another is refused.
NOTE = 0x400000
RETRANSMISSION = "This frame is a (suspected) retransmission"
RESET = "Connection reset (RST)"
CLOSING = ["This frame initiates the connection closing", "This frame undergoes the connection closing"]
EXPECTED = [RETRANSMISSION, RESET, "Duplicate ACK (#1)", *CLOSING]


def tcpdump(file, *arguments):
    argv = ["tcpdump", "-nn", "-S", "-r", file, *arguments]
    process = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, check=True)
    return process.stdout


def tshark(file, *fields, only=None):
    """Returns the fields of each packet, as lists: a field may occur several times."""
    argv = ["tshark", "-n", *CHECKED, "-r", file, "-T", "fields", "-E", "separator=|", "-E", "aggregator=;"]
    argv += [argument for field in fields for argument in ("-e", field)] + (["-Y", only] if only else [])
    process = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, check=True)
    return [[field.split(";") if field else [] for field in line.split("|")] for line in process.stdout.splitlines()]


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
    """By sequence numbers, nothing is missing between the first byte and the end, and something was retransmitted."""
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


def the_expert_has_nothing_else_to_remark(file):
    packets = tshark(file, "ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "ipv6.version")
    require(len(packets) > 40, f"{len(packets)} packets")
    for ipv4, tcp, udp, ipv6 in packets:
        require(tcp + udp == [GOOD] and (ipv4 == [GOOD] or ipv6), f"a checksum: {ipv4} {tcp} {udp}")
    require(not tshark(file, "frame.number", only="_ws.malformed or _ws.short or _ws.unreassembled"), "malformed packets")
    remarks = [remark for each in tshark(file, "_ws.expert.severity", "_ws.expert.message")
               for severity, remark in zip(*each, strict=True) if int(severity) >= NOTE]
    others = [remark for remark in remarks if remark not in EXPECTED]
    require(not others, others)
    require(remarks.count(RESET) == 2 and RETRANSMISSION in remarks, remarks)


def main():
    checks = Checks(LIMIT_S)
    with tempfile.TemporaryDirectory() as folder:
        file, ports = captured(folder)
        checks.run("headers are right", headers_are_right, file)
        checks.run("streams are whole", streams_are_whole, file, ports)
        checks.run("the expert has nothing else to remark", the_expert_has_nothing_else_to_remark, file)
        checks.run("a datagram", lambda: require("UDP, length 9" in tcpdump(file), "none"))
        checks.run("resets", lambda: require(tcpdump(file).count("Flags [R") >= 2, "none"))
    checks.finish()


if __name__ == "__main__":
    main()
