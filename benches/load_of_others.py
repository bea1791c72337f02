#!/usr/bin/env python3
"""Runs load generators that others wrote, redis-benchmark, wrk and h2load, on our examples and on Redis and nginx.

    python3 benches/load_of_others.py                   builds, measures, prints
    python3 benches/load_of_others.py --short           the same in a few seconds, to check that it works
    python3 benches/load_of_others.py --write-readme    also writes the table into benches/README.md, or the file named
    python3 benches/load_of_others.py --rounds 21 redis-benchmark    more rounds, and one of the loads only
    python3 benches/load_of_others.py --valkey PROGRAM  Valkey's server, too, which Debian does not package

Linux, two cores, with redis-server, redis-tools, wrk, nginx, nghttp2-client and util-linux installed. All servers run on one core, and who
loads them on the other.  redis-server does not save, nginx has one worker and no log, and each answers with the same
bytes as the corresponding example.  Turns are short and alternate; ratios are taken within a round, and their median is printed.

Requests a second depend on both cores: where the load takes more of its own than the servers of theirs, they come close to
each other whatever the servers take.  So the CPU time of the server for a request is printed too.
"""

import argparse
import contextlib
import datetime
import functools
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

import report
from report import ROOT

sys.path.insert(0, str(ROOT / "tests" / "real"))

import harness  # noqa: E402 (found by the line above)
import http_server  # noqa: E402
from harness import Failed, Server, require  # noqa: E402

LIMIT_S = 1_800
ROUNDS = 15
CLIENTS = 50
TESTS = ("ping_mbulk", "set", "get", "incr")
PIPELINED = (1, 16, 100)
HTTP_PIPELINED = (1, 16)
TURN_S = 0.5  # About, of redis-benchmark; wrk and h2load have whole seconds only.
PROBE_REQUESTS = 10_000
CPU_CLOCK = 2  # With the complement of a process number above its three bits: that process's (clock_getcpuclockid).
SHORT_REQUESTS = 2_000


class Under:
    """A server under load: its name, its address, and its processes."""

    def __init__(self, name, address, pid):
        self.name = name
        self.address = address
        self.pid = pid

    def cpu_s(self):
        """Returns the exact CPU time of all its threads so far, of those that have ended too."""
        return time.clock_gettime(~self.pid << 3 | CPU_CLOCK)


def pinned(core, *argv):
    return ["taskset", "--cpu-list", str(core), *argv]


def build(example):
    subprocess.run(["cargo", "build", "--quiet", "--profile", "bench", "--example", example], cwd=ROOT, check=True)
    return str(ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / example)


@contextlib.contextmanager
def ours(example, core):
    with Server(pinned(core, build(example), "127.0.0.1:0")) as server:
        yield Under("switchboard", server.address, server.pid)


@contextlib.contextmanager
def redis(core, name, program):
    with tempfile.TemporaryDirectory() as folder:
        # It cannot choose a port itself.
        with harness.socket.create_server(("127.0.0.1", 0)) as chosen:
            address = chosen.getsockname()
        argv = [program, "--bind", address[0], "--port", str(address[1]), "--save", "", "--appendonly", "no", "--dir", folder]
        process = harness.start(pinned(core, *argv), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + harness.WAIT_S
        while harness.refused(address):
            require(process.poll() is None and time.monotonic() < deadline, f"{program} does not listen")
            time.sleep(harness.POLL_S)
        try:
            yield Under(name, address, process.pid)
        finally:
            harness.end(process, harness.signal.SIGTERM)


@contextlib.contextmanager
def nginx(core):
    with http_server.nginx(*pinned(core)) as (address, process):
        yield Under("nginx", address, process.pid)


# ----------------------------------------------------------------------------------------------------------- the loads


def run(core, *argv):
    done = subprocess.run(pinned(core, *argv), capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(argv)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def redis_benchmark(core, under, test, pipelined, requests):
    """Returns the requests a second, and their number."""
    out = run(core, "redis-benchmark", "-h", under.address[0], "-p", str(under.address[1]), "-c", str(CLIENTS), "-n",
              str(requests), "-P", str(pipelined), "-t", test, "--csv")
    rows = re.findall(r'^"[A-Z_]+","([\d.]+)"', out, re.M)
    require(len(rows) == 1, f"redis-benchmark on {under.name} says {out}")
    return float(rows[0]), requests


def wrk(core, under, seconds):
    out = run(core, "wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "http://%s:%d/" % under.address)
    require("Socket errors" not in out and "Non-2xx" not in out, f"wrk on {under.name} says {out}")
    count = int(re.search(r"(\d+) requests in", out).group(1))
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), count


def h2load(core, under, pipelined, seconds):
    # By HTTP/1.1, which the example speaks.
    url = "http://%s:%d/" % under.address
    out = run(core, "h2load", "--h1", "-t1", f"-c{CLIENTS}", f"-m{pipelined}", f"-D{seconds}", url)
    done, failed, errored = map(int, re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out).groups())
    answered = int(re.search(r"status codes: (\d+) 2xx", out).group(1))
    require(done == answered > 0 and failed == errored == 0, f"h2load on {under.name} says {out}")
    return float(re.search(r"([\d.]+) req/s", out).group(1)), done


class Row:
    """Runs one load on two servers, ours first, and returns requests a second and CPU seconds a request for each round."""

    def __init__(self, what, servers):
        self.what = what
        self.servers = servers
        self.rates = {under: [] for under in servers}
        self.costs = {under: [] for under in servers}

    def measure(self, load, rounds, chance):
        for under in self.servers:
            load(under)  # The effects of the first one are not counted.
        for _ in range(rounds):
            for under in chance.sample(self.servers, len(self.servers)):
                before_s = under.cpu_s()
                rate, count = load(under)
                self.rates[under].append(rate)
                self.costs[under].append((under.cpu_s() - before_s) / count)

    def ratios(self, figures):
        ours, theirs = (figures[under] for under in self.servers)
        return [one / other for one, other in zip(ours, theirs)]

    def shown(self):
        (our_rate, their_rate), (our_us, their_us) = (
            [statistics.median(figures[under]) for under in self.servers] for figures in (self.rates, self.costs))
        return (f"| {self.what} | {our_rate:,.0f} | {their_rate:,.0f} | {spread(self.ratios(self.rates))} "
                f"| {1e6 * our_us:.2f} | {1e6 * their_us:.2f} | {spread(self.ratios(self.costs))} |")


def spread(ratios):
    """Formats the median, and the quartiles if there are enough values."""
    if len(ratios) < 4:
        return f"{statistics.median(ratios):.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}\N{EN DASH}{high:.2f})"


def of_redis(arguments, cores, chance):
    others = {"Redis": "redis-server", **({"Valkey": arguments.valkey} if arguments.valkey else {})}
    for name, program in others.items():
        with ours("resp_server", cores[0]) as server, redis(cores[0], name, program) as other:
            for pipelined in PIPELINED:
                for test in TESTS:
                    requests = SHORT_REQUESTS * pipelined  # It counts whole milliseconds.
                    if not arguments.short:
                        rate, _ = redis_benchmark(cores[1], other, test, pipelined, PROBE_REQUESTS)
                        requests = int(max(rate * TURN_S, PROBE_REQUESTS))
                    row = Row(f"`redis-benchmark -t {test} -P {pipelined}`, beside {name}", [server, other])
                    load = functools.partial(redis_benchmark, cores[1], test=test, pipelined=pipelined, requests=requests)
                    row.measure(load, arguments.rounds, chance)
                    yield row


def of_wrk(arguments, cores, chance):
    with ours("http_server", cores[0]) as server, nginx(cores[0]) as other:
        row = Row("`wrk`, beside nginx", [server, other])
        row.measure(lambda under: wrk(cores[1], under, 1), arguments.rounds, chance)
        yield row


def of_h2load(arguments, cores, chance):
    with ours("http_server", cores[0]) as server, nginx(cores[0]) as other:
        for pipelined in HTTP_PIPELINED:
            row = Row(f"`h2load --h1 -m{pipelined}`, beside nginx", [server, other])
            row.measure(lambda under: h2load(cores[1], under, pipelined, 1), arguments.rounds, chance)
            yield row


PARTS = {"redis-benchmark": of_redis, "wrk": of_wrk, "h2load": of_h2load}
HEAD = ("| load, 50 clients | requests/s | theirs | ratio | CPU, \N{MICRO SIGN}s a request | theirs | ratio |\n"
        "| --- | --- | --- | --- | --- | --- | --- |")


def version_of(program):
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"v=(\S+)", told).group(1)


def versions(valkey):
    more = f", Valkey {version_of(valkey)}" if valkey else ""
    program = http_server.shutil.which("nginx") or "/usr/sbin/nginx"
    server = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    nginx_server = re.search(r"nginx/(\S+)", server).group(1)
    generator = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True).stdout.split("/")[1].strip()
    return f"Redis {version_of('redis-server')}{more}, nginx {nginx_server}, h2load {generator}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="LOAD", help=f"of {', '.join(PARTS)}; all if none is given")
    parser.add_argument("--short", action="store_true", help="one round, of little load")
    parser.add_argument("--rounds", type=int, default=None, metavar="N", help=f"{ROUNDS} if not given")
    parser.add_argument("--valkey", metavar="PROGRAM", help="a valkey-server to compare with as well")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the order of turns")
    parser.add_argument("--write-readme", nargs="?", type=pathlib.Path, const=ROOT / "benches" / "README.md", metavar="FILE")
    arguments = parser.parse_args()
    if set(arguments.parts) - set(PARTS):
        parser.error(f"loads are {', '.join(PARTS)}")
    if arguments.write_readme and (arguments.parts or arguments.short):
        parser.error("the table has all of them, in full")
    arguments.rounds = arguments.rounds or (1 if arguments.short else ROUNDS)
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("two cores are needed: one for the servers, one for who loads them")
    harness.limit_time(LIMIT_S)
    print(f"{report.machine()}, {versions(arguments.valkey)}; {arguments.rounds} rounds, seed {arguments.seed}\n\n{HEAD}", flush=True)
    rows, chance = [], random.Random(arguments.seed)
    for part in arguments.parts or PARTS:
        for row in PARTS[part](arguments, cores, chance):
            rows.append(row.shown())
            print(rows[-1], flush=True)
    if arguments.write_readme:
        taken = (f"Measured on {datetime.date.today()} by `python3 benches/load_of_others.py{' --valkey PROGRAM' * bool(arguments.valkey)}`: {report.machine()}, "
                 f"{versions(arguments.valkey)}; medians of {arguments.rounds} rounds, quartiles in brackets.")
        report.write_between_marks(arguments.write_readme, "load of others", f"{taken}\n\n{HEAD}\n" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
