#!/usr/bin/env python3
"""Compares TLS with rustls driven by hand, tokio-rustls and nginx: what the same load costs each server.

    python3 benches/compare/tls.py                              all servers, all workloads: some 5 minutes
    python3 benches/compare/tls.py switchboard --workloads 'echo-*' handshake-full
    python3 benches/compare/tls.py --write-readme               all, into companions/tls/README.md
    python3 benches/compare/tls.py --short                      checks that all of it works, not how fast

As in compare.py: all servers on one core, the load on the other, turns in random order and in reverse, CPU time of
the server within a round. TLS 1.3 everywhere, one certificate (ECDSA, P-256) that is made for the run. The servers in Rust share
one configuration of rustls with ring. nginx has OpenSSL and, since it cannot echo by itself, passes decrypted data on
to a plain echo server, whose CPU time is not counted: its figures give an order of magnitude, not an exact comparison.
It needs what compare.py needs, the openssl command, and nginx with its stream module (skipped if it is missing).
"""

import argparse
import contextlib
import fnmatch
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import compare
import peers as table
import tables
from compare import ROOT, Cores, Plan, Session, Workload, harness, machine, one_round, require, write_between_marks
from harness import Failed, Server

LOAD = table.TARGET / "release" / "load_tls"
README = ROOT / "companions" / "tls" / "README.md"
COMMAND = "python3 benches/compare/tls.py"
YARDSTICK = "rustls"
SERVERS = {
    "rustls": "rustls by hand on epoll, unbuffered",
    "rustls_buffered": "the same, buffered",
    "switchboard": "this crate",
    "tokio": "tokio-rustls, one thread",
    "nginx": "nginx, passing on to an echo",
}
ROUNDS = 20
LIMIT_S, LONG_LIMIT_S = 600, 1_800
IDLE = (500, 2_500)


class TlsWorkload(Workload):
    """A workload over TLS."""

    load = LOAD

    def on(self, name, certificate):
        """Puts this workload on this server, which has this certificate."""
        more = ["--ca", certificate, *(["--cut-ends"] if name == "nginx" else [])]
        return TlsWorkload(self.name, self.label, self.kind, *self.options, *more, unit=self.unit)


def workloads():
    yield TlsWorkload("echo-1", "echo, 1 client", "echo", "--clients", 1)
    yield TlsWorkload("echo-50", "echo, 50 clients", "echo", "--clients", 50)
    yield TlsWorkload("echo-50-deep", "echo, 50 clients, 16 deep", "echo", "--clients", 50, "--depth", 16)
    yield TlsWorkload("bulk", "bulk both ways, 4 clients", "echo", "--clients", 4, "--bytes", 65536, "--depth", 4, unit="64 KiB")
    yield TlsWorkload("handshake-full", "connect, full handshake, echo, close", "full", unit="connection")
    yield TlsWorkload("handshake-resumed", "connect, resumed handshake, echo, close", "resumed", unit="connection")


# -------------------------------------------------------------------------------------------------- servers


def make_certificate(folder):
    """Makes a self-signed certificate, which signs nothing else, and its key."""
    chain, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr crit; {modules}
events {{ worker_connections 16384; multi_accept on; }}
stream {{
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; tcp_nodelay on;
        proxy_buffer_size 64k; proxy_pass {behind};
    }}
}}
"""


class Nginx(Server):
    """nginx with one process, in front of our plain echo server. It prints nothing, so it is given a port that was free."""

    def __init__(self, chain, key, folder, behind):
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        module = next(pathlib.Path("/").glob("usr/lib/nginx/modules/ngx_stream_module.so"), None)
        modules = f"load_module {module};" if module else ""
        text = NGINX.format(folder=folder, modules=modules, port=self.port, chain=chain, key=key, behind="%s:%d" % behind)
        (folder / "nginx.conf").write_text(text)
        super().__init__(["nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")])

    def _listening_address(self, printed):
        address = ("127.0.0.1", self.port)
        self.wait_until(lambda: self._is_up(address), "nginx listens")
        return address

    @staticmethod
    def _is_up(address):
        with contextlib.suppress(OSError):
            harness.connect(address).close()
            return True
        return False


def start_servers(names, chain, key, folder, cores, stack):
    """Returns the servers by name."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.server})
    release, servers = table.TARGET / "release", {}
    flags = {"rustls": ["tls_epoll"], "rustls_buffered": ["tls_epoll", "--buffered"], "switchboard": ["tls_switchboard"], "tokio": ["tls_tokio"]}
    try:
        for name in names:
            if name == "nginx":
                behind = stack.enter_context(Server([str(release / "epoll"), "echo", "127.0.0.1:0"]))
                servers[name] = stack.enter_context(Nginx(chain, key, folder, behind.address))
            else:
                program, *more = flags[name]
                argv = [str(release / program), str(chain), str(key), "127.0.0.1:0", *more]
                servers[name] = stack.enter_context(Server(argv))
    finally:
        os.sched_setaffinity(0, before)
    return servers


# ------------------------------------------------------------------------------------------------- measuring


def measure(workload, servers, chain, cores, plan, numbers, chance):
    """Runs the rounds with these numbers, and returns the turns by server."""
    with contextlib.ExitStack() as stack:
        sessions = {}
        for name, server in servers.items():
            sessions[name] = stack.enter_context(Session(workload.on(name, chain), name, server, cores))
            if plan.passes:
                sessions[name].turn(compare.WARM_UP_S)
        rounds = [one_round(sessions, plan.passes, plan, chance) for _ in numbers]
        for session in sessions.values():
            session.finish()
    return rounds


def resident_bytes(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return 1024 * int(re.search(r"^Rss:\s+(\d+) kB", file.read(), re.M).group(1))


def idle_bytes(server, name, chain, cores, counts):
    """Returns the server's own memory for an idle connection, from the difference of two numbers, each echoed to once."""
    found = []
    for count in counts:
        workload = TlsWorkload("idle", "", "echo", "--clients", count).on(name, chain)
        with Session(workload, name, server, cores) as session:
            found.append(resident_bytes(server.pid))
            session.finish()
    return (found[1] - found[0]) / (counts[1] - counts[0])


def measure_all(names, wanted, cores, plan, seed):
    chance = random.Random(seed)
    rounds, rows, idle = {workload.name: [] for workload in wanted}, [], {}
    with tempfile.TemporaryDirectory(prefix="tls-") as folder:
        folder = pathlib.Path(folder)
        chain, key = make_certificate(folder)
        for numbers in plan.numbers():
            with contextlib.ExitStack() as stack:
                servers = start_servers(names, chain, key, folder, cores, stack)
                for workload in wanted:
                    rounds[workload.name] += measure(workload, servers, chain, cores, plan, numbers, chance)
                    if len(rounds[workload.name]) == plan.rounds:
                        rows.append(tables.row(workload, rounds[workload.name], YARDSTICK))
                        print(tables.in_words(rows[-1]), flush=True)
        with contextlib.ExitStack() as stack:
            # From servers that have had no other load, whose leftovers would be counted for the connections.
            for name, server in start_servers(names, chain, key, folder, cores, stack).items():
                idle[name] = idle_bytes(server, name, chain, cores, IDLE if plan.passes else [10, 50])
    return {"peers": {name: SERVERS[name] for name in names}, "yardstick": YARDSTICK, "workloads": rows, "idle": idle}


# ------------------------------------------------------------------------------------------------------ all


def shown(found, plan):
    """Returns a table: the cost of the handwritten loop, the others as ratios to it, and the throughput of each."""
    names = list(found["peers"])
    head = ["CPU time of the server", *(f"{found['peers'][name]}{', µs' if name == YARDSTICK else ''}" for name in names)]
    rows = []
    for row in found["workloads"]:
        of = row["peers"]
        rows.append([f"{row['label']}, per {row['unit']}", *(tables.cost(of[name], name, found) for name in names)])
    idle = ["an idle connection, KiB of the process", *(f"{found['idle'][name] / 1024:.1f}" for name in names)]
    speeds = [[f"{row['label']}", *(tables.rate(row["peers"][name]["messages_per_s"]) for name in names)] for row in found["workloads"]]
    taken = f"Measured on {time.strftime('%Y-%m-%d')} by `{COMMAND} --rounds {plan.rounds} --write-readme`: {machine()}; {plan.rounds} rounds, all started {plan.starts} times."
    return (
        f"{taken} Medians over rounds, for this crate with quartiles; ratios within a round.\n\n"
        f"{tables.markdown(head, [*rows, idle])}\n"
        f"{tables.markdown(['each second', *(found['peers'][name] for name in names)], speeds)}"
    )


def arguments_given():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=f"of {', '.join(SERVERS)}; all if none is given; always {YARDSTICK}")
    parser.add_argument("--workloads", nargs="+", metavar="PATTERN", help="by their names, as a shell matches files")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"{ROUNDS} if not given")
    parser.add_argument("--seed", type=int, metavar="N", help="of the order in a round; drawn and printed if not given")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also writes the results there")
    parser.add_argument("--write-readme", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.servers:
        if name not in SERVERS:
            parser.error(f"no such server: {name}")
    if arguments.write_readme and (arguments.servers or arguments.workloads or arguments.short):
        parser.error("the table in the README has all servers and workloads, in full")
    arguments.pair = False
    arguments.rounds = arguments.rounds or (None if arguments.short else ROUNDS)
    return arguments


def main():
    arguments = arguments_given()
    harness.limit_time(LIMIT_S if arguments.short else LONG_LIMIT_S)
    cores, plan = Cores(), Plan(arguments)
    compare.idle_connections(True)  # Raises the limit on descriptors.
    wanted = [w for w in workloads() if any(fnmatch.fnmatchcase(w.name, pattern) for pattern in arguments.workloads or ["*"])]
    names = [name for name in SERVERS if not arguments.servers or name in [*arguments.servers, YARDSTICK]]
    if "nginx" in names and not shutil.which("nginx"):
        print("there is no nginx: left out", flush=True)
        names.remove("nginx")
    bins = ["tls_epoll", "tls_switchboard", "tls_tokio", "load_tls", "epoll"]
    table.run(["cargo", "build", "--quiet", "--release", "--locked", "--features", "tls", *(part for name in bins for part in ("--bin", name))])
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"{machine()}; seed {seed}; load average {os.getloadavg()[0]:.1f}", flush=True)
    found = measure_all(names, wanted, cores, plan, seed)
    text = shown(found, plan)
    print(f"\n{text}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.write_readme:
        write_between_marks(README, "compared", text)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
