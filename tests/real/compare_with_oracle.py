#!/usr/bin/env python3
"""Random clients against our select servers and against the Python one: per client the same bytes, the same events.

A seed determines a script: up to six clients that connect, send pieces, shut down, close and reset in turns.  The same
script runs against both servers.  One script in three runs in lockstep (each step waits until it is printed, so that
the order among the clients is checked too), one in three waits occasionally, and one in three never waits.

What is compared, and why timing cannot make it fail:
- The Python server prints what each recv returned: joined, this must equal what was sent.
- Ours prints lines.  Each must be a complete line of the input, or a part that ends at the end of a piece: our server
  prints a partial line after a timeout, so on a slow machine any piece may end a printed line; but if the script
  waited for a partial line to appear, the printed line must end there, and never inside a piece.
- A reset may overtake data sent just before it: then the output may stop early, but not before the last byte that the
  script has seen printed.

    compare_with_oracle.py [FIRST_SEED [COUNT]]
"""

import ast
import concurrent.futures
import random
import re
import socket
import sys
import threading

import harness
from harness import Checks, Failed, Server, require

SEEDS = 90
CLIENTS_MAX = 6
WORKERS = 6
LIMIT_S = 240

# ------------------------------------------------------------------------------------------------------- scripts

FORGERIES = (
    b"Got connection from 127.0.0.1:1",
    b"127.0.0.1:1 disconnected",
    b"127.0.0.1:1: somebody else's words",
    b"\x1b]0;a new title\x07\x1b[2J\x1b[1;1H",
    b"\\x41 \\n \\u{202e} \\\\",
)
TEXTS = (
    "plain words, 1 2 3",
    "tab\there",
    "caf\u00e9 \u4f60\u597d \U0001f980",
    "left \u202e right \u2066 isolate \u200f mark",
    "next line \u0085 and \u2028 separator, zero\u0000byte",
)
ENDS = (b"\n", b"\r\n")


def random_line(rng):
    """A line without its end: words, forgeries, or bytes of any value."""
    kind = rng.randrange(8)
    if kind == 0:
        return b""
    if kind == 1:
        return rng.choice(FORGERIES)
    if kind == 2:
        return rng.choice(TEXTS).encode()
    if kind == 3:
        # A cut inside a character leaves invalid UTF-8.
        text = rng.choice(TEXTS).encode()
        return text[: rng.randrange(1, len(text))]
    if kind == 4:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(1, 64)))
    if kind == 5:
        # Longer than one recv of the Python server.
        return b"long " * rng.randrange(220, 400)
    return b"word " * rng.randrange(1, 5)


def random_piece(rng):
    lines = [random_line(rng) + rng.choice(ENDS) for _ in range(rng.choice((0, 1, 1, 1, 2, 5)))]
    if not lines or rng.random() < 0.35:
        lines.append(random_line(rng) or b"partial")
    return b"".join(lines)


def make_script(seed):
    """(mode, steps); a step is (what, client index, bytes or None)."""
    rng = random.Random(seed)
    mode = ("lockstep", "mixed", "free")[seed % 3]
    waits = {"lockstep": 1.0, "mixed": 0.4, "free": 0.0}[mode]
    pending = [_one_client(rng) for _ in range(rng.randint(1, CLIENTS_MAX))]
    steps = []
    while any(pending):
        index = rng.choice([index for index, left in enumerate(pending) if left])
        what, data = pending[index].pop(0)
        steps.append((what, index, data))
        if what != "leave" and rng.random() < waits:
            steps.append(("wait", index, None))
    return mode, steps


def _one_client(rng):
    """The steps of one client.  `leave` closes a socket whose end the server has already seen."""
    steps = [("connect", None)]
    steps += [("send", random_piece(rng)) for _ in range(rng.choice((0, 1, 2, 3, 5)))]
    way_out = rng.choice(("close", "close", "shutdown", "shutdown", "reset"))
    steps.append((way_out, None))
    if way_out == "shutdown":
        steps.append(("leave", None))
    return steps


class Sent:
    """What one client has sent so far, and which output that allows."""

    def __init__(self):
        self.data = b""
        self.ends_of_pieces = set()
        self.seen = 0  # How much of it was waited for, and so was certainly printed.
        self.flushed = set()  # Where the script waited for a partial line: a printed line ends here.
        self.gone = False  # Its end has been sent.
        self.may_lose = False  # Reset before everything was seen.

    def step(self, what, data):
        """Records one step of the script; a wait counts once it is over."""
        if what == "send":
            self.data += data
            self.ends_of_pieces.add(len(self.data))
        elif what == "wait":
            if not self.may_lose:
                self.seen = len(self.data)
                self.flushed.add(self.seen)
        elif what in ("close", "shutdown", "reset"):
            self.gone = True
            self.may_lose = what == "reset" and self.seen < len(self.data)

    def enough(self):
        """The printed bytes after which the client's transcript is complete."""
        return self.seen if self.may_lose else len(self.data)


def plan(steps):
    clients = {}
    for what, index, data in steps:
        clients.setdefault(index, Sent()).step(what, data)
    return clients


# --------------------------------------------------------------------------------------------------- transcripts

ADDRESS = r"\d+\.\d+\.\d+\.\d+:\d+"


def parse_ours(line):
    """(client, event, bytes) of a line that our server printed."""
    text = line.decode("utf-8")
    data = re.fullmatch(rf"({ADDRESS}):(?: (.*))?", text, re.DOTALL)
    if data:
        return data.group(1), "data", harness.unescape(data.group(2) or "")
    return _parse_event(text)


def parse_oracle(line):
    text = line.decode("utf-8")
    data = re.fullmatch(rf"({ADDRESS}) (b['\"].*)", text)
    if data:
        return data.group(1), "data", ast.literal_eval(data.group(2))
    return _parse_event(text)


def _parse_event(text):
    event = re.fullmatch(rf"Got connection from ({ADDRESS})|({ADDRESS}) disconnected", text)
    require(event, f"not a line of a transcript: {text!r}")
    if event.group(1):
        return event.group(1), "connection", b""
    return event.group(2), "disconnected", b""


class Transcript:
    """All that a server printed, sorted by client; one that went wrong stays wrong."""

    def __init__(self, parse):
        self.parse = parse
        self.by_client = {}
        self.wrong = None

    def take(self, line):
        if line.startswith(b"listening on "):
            return
        try:
            name, event, data = self.parse(line)
        except (Failed, ValueError, SyntaxError) as error:
            self.wrong = self.wrong or f"{line[:120]!r}: {error}"
            return
        self.by_client.setdefault(name, []).append((event, data))

    def of(self, name):
        return self.by_client.get(name, [])


def reached_by_lines(lines, sent):
    """Returns all possible counts of sent bytes that these printed lines may cover; none if the lines are wrong.

    A printed line is a complete line without its end, or a part of one up to the end of a piece.  If that part is
    all of a line except its end, the end then prints an empty line.
    """
    positions = {0}
    for line in lines:
        positions = {after for begin in positions for after in _after_line(line, begin, sent)}
    return positions


def _after_line(line, begin, sent):
    stop = begin + len(line)
    # No line extends past a point where the script saw a partial line printed.
    passes = any(begin < place < stop for place in sent.flushed)
    if passes or sent.data[begin:stop] != line or b"\n" in line:
        return
    if sent.data.startswith(b"\r\n", stop):
        yield stop + 2
    elif sent.data.startswith(b"\n", stop) and not line.endswith(b"\r"):
        yield stop + 1
    if line and stop in sent.ends_of_pieces:
        yield stop


def in_order(events):
    kinds = [event for event, _ in events]
    return kinds == ["connection", *["data"] * kinds.count("data"), "disconnected"]


def problems_of_client(sent, ours, oracle):
    """Returns what is wrong with one client's two transcripts, given what it sent: an empty list if nothing is."""
    found = [
        f"{name}: events in the order {[event for event, _ in events]}"
        for name, events in (("ours", ours), ("the oracle's", oracle))
        if not in_order(events)
    ]
    joined = b"".join(data for _, data in oracle)
    if not sent.data.startswith(joined) or len(joined) < sent.enough():
        found.append(f"the oracle's: {joined!r} of {sent.data!r}")
    lines = [data for event, data in ours if event == "data"]
    reached = reached_by_lines(lines, sent)
    if not reached or max(reached) < sent.enough():
        found.append(f"ours: {lines!r} of {sent.data!r} (printed at {sorted(sent.flushed)}, reaches {reached})")
    return found


# ------------------------------------------------------------------------------------------------ running scripts

_used_names = {}
_used_names_lock = threading.Lock()


def new_client(server):
    """Connects a client whose name this server has not seen before: otherwise two transcripts would be merged."""
    while True:
        client = socket.socket()
        client.bind(("127.0.0.1", 0))
        name = harness.name_of(client)
        with _used_names_lock:
            used = _used_names.setdefault(server.address, set())
            if name not in used:
                used.add(name)
                break
        client.close()
    client.settimeout(harness.WAIT_S)
    client.connect(server.address)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return name, client


def run_script(steps, server, transcript):
    """Runs the script against one server until it has printed everything; returns the clients' names by index."""
    sent, sockets, names = {}, {}, {}
    try:
        for what, index, data in steps:
            if what == "connect":
                names[index], sockets[index] = new_client(server)
                sent[index] = Sent()
            elif what == "send":
                sockets[index].sendall(data)
            elif what == "shutdown":
                sockets[index].shutdown(socket.SHUT_WR)
            elif what in ("close", "leave"):
                sockets[index].close()
            elif what == "reset":
                harness.reset(sockets[index])
            elif what == "wait":
                wait_for_client(server, transcript, names[index], sent[index])
            sent[index].step(what, data)
        for index, name in names.items():
            wait_for_client(server, transcript, name, sent[index])
    finally:
        for client in sockets.values():
            client.close()
    return names


def wait_for_client(server, transcript, name, sent):
    """Waits until the server has printed everything that this client has done so far."""

    def complete():
        require(not transcript.wrong, transcript.wrong)
        events = transcript.of(name)
        last = events[-1][0] if events else None
        if sent.gone:
            return last == "disconnected"
        if transcript.parse is parse_ours:
            printed = max(reached_by_lines([data for event, data in events if event == "data"], sent), default=0)
        else:
            printed = sum(len(data) for _, data in events)
        return last and printed == len(sent.data)

    try:
        server.wait(complete, f"all of {name}, that sent {sent.data!r}")
    except Failed as error:
        raise Failed(f"{error}\n  of this client: {transcript.of(name)!r}") from None


def check_seed(seed, ours, oracle):
    """Runs one seed against both; returns the problems found, and both outputs (to check the check itself)."""
    mode, steps = make_script(seed)
    sent = plan(steps)
    found = {}
    names = {}
    for key, (server, transcript) in (("ours", ours), ("oracle", oracle)):
        names[key] = run_script(steps, server, transcript)
        found[key] = {index: list(transcript.of(name)) for index, name in names[key].items()}
    problems = [
        f"seed {seed} ({mode}), client {index}: {problem}"
        for index in sent
        for problem in problems_of_client(sent[index], found["ours"][index], found["oracle"][index])
    ]
    return problems, sent, found


# -------------------------------------------------------------------------------------------- checks of the check


def wrong_versions(sent, events):
    """Returns wrong versions of one client's right transcript, each of which the comparison must reject."""
    connection, *lines, disconnected = events
    yield "no connection", [*lines, disconnected]
    yield "no end", [connection, *lines]
    yield "two ends", [*events, disconnected]
    if not lines:
        return
    *others, (_, last) = lines
    yield "a line after the end", [connection, *others, disconnected, lines[-1]]
    if sent.may_lose:
        return
    spoilt = {
        "a line more": [last, b"more"],
        "a byte changed": [last[:-1] + bytes([last[-1] ^ 1]) if last else b"x"],
    }
    if last:
        spoilt["the last line missing"] = []
        spoilt["the last line cut short"] = [last[:-1]]
    if len(last) > 1 and len(sent.ends_of_pieces) == 1 and not last.endswith(b"\r"):
        spoilt["a line in two, inside a piece"] = [last[:1], last[1:]]
    for what, ending in spoilt.items():
        yield what, [connection, *others, *(("data", line) for line in ending), disconnected]
    if others and others[-1][1] + last not in sent.data:
        yield "two lines as one", [connection, *others[:-1], ("data", others[-1][1] + last), disconnected]


def refuse_wrong_transcripts(sent, found):
    """Corrupts every client's right transcript in several ways; returns how many wrong ones were rejected."""
    refused = 0
    for index, client in sent.items():
        ours, oracle = found["ours"][index], found["oracle"][index]
        for what, wrong in wrong_versions(client, ours):
            require(problems_of_client(client, wrong, oracle), f"passed with {what}: {wrong!r}")
            refused += 1
        too_much = ("data", client.data + b"x")
        for what, wrong in (("no end", oracle[:-1]), ("a piece more", [*oracle[:-1], too_much, oracle[-1]])):
            require(problems_of_client(client, ours, wrong), f"passed with the oracle's {what}: {wrong!r}")
            refused += 1
    return refused


def one_client(*pieces, wait_after=(), way_out="close"):
    sent = Sent()
    for number, piece in enumerate(pieces):
        sent.step("send", piece)
        if number in wait_after:
            sent.step("wait", None)
    sent.step(way_out, None)
    return sent


def verdict(sent, *lines):
    """Returns whether our server may print these lines (as text, as printed) for what was sent."""
    name = "127.0.0.1:9"
    ours, oracle = Transcript(parse_ours), Transcript(parse_oracle)
    for line in (f"Got connection from {name}", *(f"{name}: {line}" for line in lines), f"{name} disconnected"):
        ours.take(line.encode())
    for line in (f"Got connection from {name}", f"{name} {sent.data!r}", f"{name} disconnected"):
        oracle.take(line.encode())
    return not (ours.wrong or oracle.wrong or problems_of_client(sent, ours.of(name), oracle.of(name)))


def check_verdicts():
    """Checks the comparison with hand-written transcripts: right ones pass, wrong ones do not."""
    whole = one_client(b"one\r\ntwo\n\nthree")
    parts = one_client(b"ab", b"cd\nef", b"\r", b"\n")
    seen = one_client(b"ab", b"cd\n", wait_after=(0,))
    lost = one_client(b"ab\n", b"cd\n", wait_after=(0,), way_out="reset")
    odd = one_client(b"a\\b\x1b\xff\n")
    right = [
        (whole, "one", "two", "", "three"),
        (parts, "abcd", "ef"),
        (parts, "ab", "cd", "ef"),
        (parts, "ab", "cd", "ef", ""),
        (parts, "ab", "cd", "ef\\r", ""),
        (seen, "ab", "cd"),
        (lost, "ab"),
        (lost, "ab", "cd"),
        (odd, "a\\\\b\\x1b\\xff"),
        (odd, "a\\\\b\\u{1b}\\xff"),
    ]
    wrong = [
        (whole, "one", "two", "three"),
        (whole, "one", "two", ""),
        (whole, "one", "two", "", "", "three"),
        (whole, "onetwo", "", "three"),
        (whole, "one", "two", "", "thr", "ee"),
        (whole, "one\\r", "two", "", "three"),
        (whole, "two", "one", "", "three"),
        (whole,),
        (parts, "a", "bcd", "ef"),
        (parts, "ab", "cd", "e", "f"),
        (parts, "ab", "cdef"),
        (parts, "ab", "cd", "ef", "", ""),
        (seen, "abcd"),
        (seen, "ab"),
        (lost,),
        (lost, "cd"),
        (odd, "a\\b\\x1b\\xff"),
        (odd, "a\\\\b\x1b\\xff"),
        (odd, "a\\\\b\\x1b\u00ff"),
        (odd, "\\x61\\\\b\\x1b\\xff"),
    ]
    for sent, *lines in right:
        require(verdict(sent, *lines), f"refused {lines} of {sent.data!r}")
    for sent, *lines in wrong:
        require(not verdict(sent, *lines), f"passed {lines} of {sent.data!r}")
    return f"{len(right)} right and {len(wrong)} wrong transcripts"


# ----------------------------------------------------------------------------------------------------------- main


# The same server three times; the seeds of each.
SERVERS = {"select_server": SEEDS, "select_server_register": SEEDS // 3, "select_server_mio": SEEDS // 3}


def main():
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    checks = Checks(LIMIT_S)
    checks.run("the comparison tells right transcripts from wrong ones", check_verdicts)
    for name, seeds in SERVERS.items():
        compare(checks, name, range(first, first + (int(sys.argv[2]) if len(sys.argv) > 2 else seeds)))
    checks.finish()


def compare(checks, name, seeds):
    """Compares one of our servers with the oracle, and checks its state afterwards."""
    our_transcript, oracle_transcript = Transcript(parse_ours), Transcript(parse_oracle)
    our_argv = [harness.example(name), "127.0.0.1:0"]
    oracle_argv = [sys.executable, f"{harness.HERE}/oracle_select_server.py", "127.0.0.1:0"]
    our_server = Server(our_argv, on_line=our_transcript.take)
    oracle_server = Server(oracle_argv, on_line=oracle_transcript.take)
    with our_server, oracle_server, concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        ours, oracle = (our_server, our_transcript), (oracle_server, oracle_transcript)
        for server in (our_server, oracle_server):
            _used_names.pop(server.address, None)  # An earlier one may have had the same port.
        results = [pool.submit(check_seed, seed, ours, oracle) for seed in seeds]
        for seed, result in zip(seeds, results):
            checks.run(f"{name}, seed {seed}", lambda result=result: judge(result))
        checks.run(f"{name} is idle afterwards", our_server.require_quiet)
        checks.run(f"{name} ends with 0", lambda: require(our_server.end() == 0, "another exit code"))
    checks.run(f"{name} heard of nobody else, and of nobody after the end", nothing_else, our_server, our_transcript)


def nothing_else(server, transcript):
    """Checks the whole output again, now that no more can arrive."""
    require(not transcript.wrong, transcript.wrong)
    require(set(transcript.by_client) == _used_names.get(server.address, set()), "other clients than there were")
    for name, events in transcript.by_client.items():
        require(in_order(events), f"{name}: {events}")


def judge(result):
    problems, sent, found = result.result()
    require(not problems, "\n  ".join(problems))
    refused = refuse_wrong_transcripts(sent, found)
    pieces = sum(len(client.ends_of_pieces) for client in sent.values())
    return f"{len(sent)} clients, {pieces} pieces, {refused} wrong versions refused"


if __name__ == "__main__":
    main()
