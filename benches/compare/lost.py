#!/usr/bin/env python3
"""Counts the answers that servers lose: to clients that read late, end their stream, read slowly, or are beside some that reset.

    python3 benches/compare/lost.py                     all servers: some 10 minutes
    python3 benches/compare/lost.py http_server hyper   some of them
    python3 benches/compare/lost.py --write-readme      all of them, into the pages; or some, beside others of the same day
    python3 benches/compare/lost.py --short             ours, in a few seconds: fails if they lose one or take too much memory

A client pipelines 120,000 requests, as far as the server takes them, and reads as the scenario says. Answers count as far
as they are whole and in order. A server loses those that it has not sent when it ends or resets the connection, or has
slept for three seconds. Each scenario has a server of its own, which must serve a new client afterwards; its memory is the
peak of what was resident.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import json
import pathlib
import select
import socket
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "tests" / "real")]

import harness  # noqa: E402 (found by the line above)
import servers as table  # noqa: E402
import tables  # noqa: E402
from harness import Failed, require  # noqa: E402
from loser import LOSSES  # noqa: E402
from peers import Peer  # noqa: E402
from report import machine, write_between_marks  # noqa: E402

REQUESTS = 120_000
LATE_S, SHORT_LATE_S = 2, 0.4
SLOW_S, SHORT_SLOW_S = 4, 1
TICK_S = 0.01
READ_BYTES = 256 * 1024
QUIET_S = 0.2  # Who reads late begins when nothing has moved for so long: the server takes no more, or has taken all.
# The receive buffer of clients that read late or slowly: the server has to keep the answers, not the kernel.
BUFFER_BYTES = 64 * 1024
SILENT_S = 3  # A server that neither takes nor sends anything and sleeps for this long is silent.
DEADLINE_S = 60
BUILT_S, LIMIT_S, SHORT_LIMIT_S = 900, 3_600, 120
GROWTH_MIB_MAX = 2  # Ours took 0.5 more at the peak than at rest.
FOUND = HERE / "lost.json"  # The last results.

RUDE_AT_ONCE = 10
RUDE_REQUESTS = 500
RUDE_FIRST = 20  # Resets before the honest client begins.
RUDE_MOST = 5_000
RUDE_WAIT_S = 1

ALL, SILENT, END, RESET, WRONG, LATE = "all", "silent", "end", "reset", "wrong", "too late"


# ---------------------------------------------------------------------------------------------------- the client


class Client:
    """A client that pipelines. It reads from `late_s` on, `slow_s` long if that is not 0, and may end its own stream.

    `requests` are all it has to ask, and `reader` knows what it must hear.
    """

    def __init__(self, address, requests, reader, *, late_s=0, slow_s=0, half_closes=False):
        self.unsent = memoryview(requests)
        self.reader = reader
        self.half_closes = half_closes
        self.rate = reader.all_bytes / slow_s if slow_s else None
        self.received = 0
        self.socket = socket.socket()
        if slow_s or late_s:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.socket.settimeout(harness.WAIT_S)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.begun = time.monotonic()
        self.late_s = late_s
        self.reads_from = None if late_s else self.begun
        self.ended_before_reading = False
        self.was_reset = False

    def run(self, count, server):
        """Returns the word for how it has ended."""
        moved = stirred = self.begun  # When bytes have moved, and when that or the server's threads have.
        while self.reader.answers < count:
            now = time.monotonic()
            if self.reads_from is None and now > max(self.begun + self.late_s, moved + QUIET_S):
                self.reads_from = stirred = now
            if now > self.begun + DEADLINE_S:
                return LATE
            if now > stirred + SILENT_S and self.reads_from is not None:
                return SILENT
            try:
                if self.step(now):
                    moved = stirred = time.monotonic()
                elif not sleeps(server.pid):
                    stirred = time.monotonic()
            except EOFError:
                return RESET if self.was_reset else END
            except ConnectionError:
                return RESET
            if self.reader.wrong:
                return WRONG
        return ALL

    def step(self, now):
        """Waits a moment, sends and receives what it may, and returns whether anything has moved."""
        allowed = self.allowed(now)
        poller = select.poll()
        # Errors are reported without being asked for, and would be forever, so they are read at once.
        poller.register(self.socket, (select.POLLIN if allowed else 0) | (select.POLLOUT if self.unsent else 0))
        events = dict(poller.poll(1000 * TICK_S)).get(self.socket.fileno(), 0)
        moved = False
        if events & select.POLLOUT and self.unsent:
            moved = self.send()
        if allowed and events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            moved |= self.receive(allowed)
        elif events & (select.POLLHUP | select.POLLERR):
            time.sleep(TICK_S)  # It may not read yet.
        return moved

    def allowed(self, now):
        """Returns how many bytes it may read now."""
        if self.reads_from is None:
            return 0
        if self.rate is None:
            return READ_BYTES
        return max(0, min(READ_BYTES, int(self.rate * (now - self.reads_from)) - self.received))

    def send(self):
        try:
            sent = self.socket.send(self.unsent[:READ_BYTES])
        except BlockingIOError:
            return False
        except ConnectionError as error:
            # Nobody hears it any more; what was said before can still be read. The system reports a reset only once.
            self.unsent = self.unsent[:0]
            self.was_reset |= isinstance(error, ConnectionResetError)
            return False
        self.unsent = self.unsent[sent:]
        if not self.unsent and self.half_closes:
            self.ended_before_reading = self.reads_from is None
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
        return True

    def receive(self, allowed):
        try:
            piece = self.socket.recv(allowed)
        except BlockingIOError:
            return False
        if not piece:
            raise EOFError
        self.received += len(piece)
        self.reader.feed(piece)
        return True


def sleeps(pid):
    """Returns whether all threads of a process sleep; those that merely wait for a processor do not."""
    with contextlib.suppress(FileNotFoundError):  # A thread that has ended, or the process.
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            if (task / "stat").read_text().rpartition(")")[2].split()[0] in "RD":
                return False
    return True


class Rude:
    """Clients that ask, hear the beginning of an answer, and reset; ten at a time, until they are told to stop."""

    def __init__(self, address, requests):
        self.address = address
        self.requests = requests
        self.resets = 0
        self.unheard = 0
        self.enough = threading.Event()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        self.enough.wait(harness.WAIT_S)
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(DEADLINE_S)

    def run(self):
        while self.resets < RUDE_MOST and not self.stopping.is_set():
            with contextlib.ExitStack() as sockets:
                clients = []
                for _ in range(RUDE_AT_ONCE):
                    with contextlib.suppress(OSError):
                        clients.append(sockets.enter_context(socket.create_connection(self.address, RUDE_WAIT_S)))
                        clients[-1].sendall(self.requests)
                self.unheard += self.hear(clients)
                for client in clients:
                    harness.reset(client)
                    self.resets += 1
            if self.resets >= RUDE_FIRST:
                self.enough.set()
        self.enough.set()

    def hear(self, clients):
        """Waits until each has been sent something, a second in all, and returns how many have not."""
        deadline = time.monotonic() + RUDE_WAIT_S
        waiting = set(clients)
        while waiting and (left_s := deadline - time.monotonic()) > 0 and not self.stopping.is_set():
            waiting -= set(select.select(waiting, [], [], min(left_s, 0.1))[0])
        return len(waiting)


# ----------------------------------------------------------------------------------------------------- scenarios


class Plan:
    def __init__(self, short):
        self.short = short
        self.requests = REQUESTS
        self.late_s = SHORT_LATE_S if short else LATE_S
        self.slow_s = SHORT_SLOW_S if short else SLOW_S


def ask(server, dialect, plan, **how):
    client = Client(server.address, dialect.requests(plan.requests), dialect.reader(plan.requests), **how)
    with client.socket:
        ended = client.run(plan.requests, server)
    return {
        "sent": plan.requests,
        "received": client.reader.answers,
        "ended": ended,
        "ended_before_reading": client.ended_before_reading,
    }


def reads_late(server, dialect, plan):
    return ask(server, dialect, plan, late_s=plan.late_s)


def ends_and_reads_late(server, dialect, plan):
    return ask(server, dialect, plan, late_s=plan.late_s, half_closes=True)


def reads_slowly(server, dialect, plan):
    return ask(server, dialect, plan, slow_s=plan.slow_s)


def beside_resets(server, dialect, plan):
    with Rude(server.address, dialect.requests(RUDE_REQUESTS)) as rude:
        found = ask(server, dialect, plan)
    return found | {"resets": rude.resets, "resets_unheard": rude.unheard}


SCENARIOS = {
    "late": ("reads after 2 s", reads_late),
    "ended": ("ends its stream, reads after 2 s", ends_and_reads_late),
    "slow": ("reads slowly, for 4 s", reads_slowly),
    "resets": ("beside clients that reset", beside_resets),
}


def still_serves(server, dialect):
    """Returns whether a new client is answered."""
    if not server.alive():
        return False
    try:
        dialect.prepare(server)
    except (Failed, OSError):
        return False
    return True


def observe(asked, name, plan, folder):
    """Runs one scenario on a server of its own."""
    _, scenario = SCENARIOS[name]
    dialect = asked.dialect()
    with asked.start(folder) as server:
        dialect.prepare(server)
        at_rest = server.memory_peak_mib()
        found = scenario(server, dialect, plan)
        peak = server.memory_peak_mib() if server.alive() else None
        serves = (plan.short and found["ended"] != ALL) or still_serves(server, dialect)
        return found | {"serves": serves, "at_rest_mib": at_rest, "peak_mib": peak}


def in_words(name, scenario, found):
    line = f"{name:18} {scenario:6} {found['received']:>8,} of {found['sent']:,}"
    line += "" if found["ended"] == ALL else f", then {found['ended']}"
    line += "" if found["serves"] else ", serves nobody any more"
    line += f"; at the peak {found['peak_mib'] or 0:.1f} MiB, at rest {found['at_rest_mib']:.1f}"
    line += ", ended before reading" if found["ended_before_reading"] else ""
    return line + (f", {found['resets']:,} resets ({found['resets_unheard']} unheard)" if "resets" in found else "")


def observe_all(asked, plan):
    """Returns what was found in each scenario."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="lost-") as folder:
        for scenario in SCENARIOS:
            found[scenario] = observe(asked, scenario, plan, folder)
            print(in_words(asked.name, scenario, found[scenario]), flush=True)
    return {"dialect": asked.dialect.name, "version": asked.version(), "scenarios": found}


# --------------------------------------------------------------------------------------------------- the short form


def check_ours(asked, plan):
    """Fails if a server of ours loses an answer, or lets its memory grow."""
    for scenario, found in observe_all(asked, plan)["scenarios"].items():
        if wrong := complaint(found):
            raise Failed(f"{asked.name}, {scenario}: {wrong}")


def complaint(found):
    """Returns what is wrong with what was found, or None."""
    if found["ended"] != ALL:
        return f"{found['received']:,} of {found['sent']:,} answers, then {found['ended']}"
    if not found["serves"]:
        return "it serves nobody any more"
    grown = found["peak_mib"] - found["at_rest_mib"]
    return f"its memory grew by {grown:.1f} MiB" if grown > GROWTH_MIB_MAX else None


def check_that_losses_are_found(plan):
    """Each server that loses answers in its own way must be found out."""
    with concurrent.futures.ThreadPoolExecutor(len(LOSSES)) as pool:
        list(pool.map(lambda loss: check_loss(loss, plan), LOSSES))
    print(f"{len(LOSSES)} servers that lose answers were found out", flush=True)


def check_loss(loss, plan):
    scenario, words = LOSSES[loss]
    loser = Peer(f"the loser ({loss})", "python", [sys.executable, HERE / "loser.py", loss], "loses")
    asked = table.speaking(loser, "echo", table.Echo, table.build_nothing, table.of_repository)
    said = complaint(observe(asked, scenario, plan, None))
    require(said, f"nobody has found that a server loses answers: {loss}")
    require(words in said, f"{loss}: it is said that {said}")


# -------------------------------------------------------------------------------------------------------- all of it


def arguments_given():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", metavar="SERVER", help="by its name; all if none is given")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also writes what was found there")
    parser.add_argument("--write-readme", action="store_true")
    arguments = parser.parse_args()
    if arguments.servers and arguments.short:
        parser.error("--short has its own servers")
    return arguments


def main():
    arguments = arguments_given()
    harness.limit_time(BUILT_S)
    earlier = earlier_of_today() if arguments.servers and arguments.write_readme else {}
    chosen = [asked for asked in table.chosen(arguments.servers) if asked.is_ours or not arguments.short]
    for asked in chosen:
        asked.build()
    harness.limit_time(SHORT_LIMIT_S if arguments.short else LIMIT_S)
    plan, start = Plan(arguments.short), time.monotonic()
    if arguments.short:
        check_that_losses_are_found(plan)
        with concurrent.futures.ThreadPoolExecutor(len(chosen)) as pool:
            list(pool.map(lambda asked: check_ours(asked, plan), chosen))
        print(f"{time.monotonic() - start:.0f} s")
        return
    found = {
        "date": str(datetime.date.today()),
        "machine": machine(),
        "requests": plan.requests,
        "scenarios": {name: label for name, (label, _) in SCENARIOS.items()},
        "servers": {asked.name: observe_all(asked, plan) for asked in chosen},
    }
    print(f"{time.monotonic() - start:.0f} s\n\n{tables.lost(found)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.write_readme:
        known = earlier | found["servers"]
        found["servers"] = {name: known[name] for name in table.all_servers() if name in known}
        write_pages(found)


def earlier_of_today():
    """Returns what the pages have. They state one day and one machine."""
    found = json.loads(FOUND.read_text())
    if (found["date"], found["machine"]) != (str(datetime.date.today()), machine()):
        sys.exit(f"the other rows are of {found['date']}, {found['machine']}: --write-readme needs all servers")
    return found["servers"]


def write_pages(found):
    FOUND.write_text(json.dumps(found, indent=1) + "\n")
    write_between_marks(HERE / "README.md", "lost", tables.lost_for_readme(found))
    compared = json.loads((HERE / "results.json").read_text())
    write_between_marks(ROOT / "README.md", "summary", tables.summary(compared, "benches/compared.svg", found))


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
