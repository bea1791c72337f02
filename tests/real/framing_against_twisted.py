"""The framing adapters against Twisted's, on random inputs cut at random: with the same frames and the same ends.

    python3 tests/real/framing_against_twisted.py [INPUTS [SEED]]

after `cargo build --package framing_driver`; by default 10,000 inputs for lines and as many for other frames.  Run it
with a Python that has Twisted (`pip install twisted`, in a virtual environment).

Both are given the same pieces: ours through a real loop and a real socket each, Twisted's through its test transport.
The check compares the frames, in order; whether there was an error; and, if there was none and Twisted keeps it in one
place, the unconsumed rest.  Intended differences, and how they are handled:

- Twisted's LineReceiver has one delimiter, CRLF by default.  Ours accepts both CRLF and LF by default, since people
  type either; here it is set to accept CRLF alone, or LF alone, as Twisted's is.
- Twisted passes `lineLengthExceeded` everything that it has read, so its argument depends on how the bytes were cut;
  our `line_too_long` gets no data.  The check compares that it was called, and after which lines.
- An Int32StringReceiver's `lengthLimitExceeded` and our `framing_error` depend on the prefix alone, in both; Twisted's
  default maximum is 99,999 for all of them, ours is given explicitly.
- A netstring longer than the maximum is an error for us at the first digit that exceeds it.  Twisted waits for the
  colon, unless there are more digits than any allowed length has.  So if the input ends before that colon, ours has
  failed and Twisted's has not: it is then given the colon, and must agree.
- Twisted's netstrings do not distinguish errors; ours are compared only as errors, whichever they are.
"""

import random
import subprocess
import sys

try:
    from twisted.internet.testing import StringTransport
    from twisted.protocols import basic
except ImportError:
    sys.exit("no Twisted here: run this in a virtual environment with `pip install twisted`")

from harness import Checks, package, require, start

LINE_LETTERS = [b"\r\n", b"\n", b"\r", b"a", b"bc", b"\0", b"\xff", b"\r\r\n", b"longer than that"]
NETSTRING_LETTERS = [b"0:,", b"1:a,", b"3:abc,", b"12:abcdefghijkl,", b"12:", b"0", b"1", b":", b",", b"9", b"x"]
INT_LETTERS = [b"\0\0\0", b"\0", b"\1", b"\2", b"\5", b"abc", b"\xff", b"\0\0\0\2ab", b"\0\1x"]


class Noting:
    """What all receivers record."""

    def __init__(self):
        self.callbacks = []

    def frame(self, data):
        self.callbacks.append("frame:" + data.hex())

    lineReceived = stringReceived = frame

    def lineLengthExceeded(self, _):
        self.callbacks.append("too-long")
        self.transport.loseConnection()

    def lengthLimitExceeded(self, _):
        self.callbacks.append("too-long")
        self.transport.loseConnection()


class CrLf(Noting, basic.LineReceiver):
    pass


class Lf(Noting, basic.LineReceiver):
    delimiter = b"\n"


class Netstring(Noting, basic.NetstringReceiver):
    pass


class Int32(Noting, basic.Int32StringReceiver):
    pass


class Int16(Noting, basic.Int16StringReceiver):
    pass


class Int8(Noting, basic.Int8StringReceiver):
    pass


RECEIVERS = {
    "crlf": (CrLf, LINE_LETTERS),
    "lf": (Lf, LINE_LETTERS),
    "netstring": (Netstring, NETSTRING_LETTERS),
    "int32": (Int32, INT_LETTERS),
    "int16": (Int16, INT_LETTERS),
    "int8": (Int8, INT_LETTERS),
}


LINES = ("crlf", "lf")
FRAMES = tuple(framing for framing in RECEIVERS if framing not in LINES)


def random_case(dice, framings):
    framing = dice.choice(framings)
    letters = RECEIVERS[framing][1]
    # An 8-bit length has no other maximum.
    bytes_max = 255 if framing == "int8" else dice.choice([3, 12, 13, 40])
    data = b"".join(dice.choice(letters) for _ in range(dice.randrange(1, 30)))
    longest = dice.choice([1, 3, 20, 1000])
    pieces = []
    while data:
        size = dice.randint(1, min(longest, len(data)))
        pieces.append(data[:size])
        data = data[size:]
    return framing, bytes_max, pieces


def twisted_outcome(framing, bytes_max, pieces):
    """Returns (frames, whether it ended in an error, the rest or None, the receiver)."""
    receiver = RECEIVERS[framing][0]()
    receiver.MAX_LENGTH = bytes_max
    transport = StringTransport()
    receiver.makeConnection(transport)
    for piece in pieces:
        receiver.dataReceived(piece)
        if transport.disconnecting:
            break
    frames = [callback for callback in receiver.callbacks if callback != "too-long"]
    rest = None
    if framing in LINES:
        rest = receiver.clearLineBuffer()
    elif framing != "netstring":
        rest = receiver.recvd
    return frames, transport.disconnecting, rest, receiver


def compare(case, answer):
    framing, _, _ = case
    frames, failed, rest, receiver = twisted_outcome(*case)
    ours = answer.split()
    our_frames = [word for word in ours if word.startswith("frame:")]
    our_failure = any(word in ("too-long", "broken") for word in ours)
    require(our_frames == frames, f"{case}: {ours}, Twisted's: {frames}")
    if framing == "netstring" and our_failure and not failed:
        receiver.dataReceived(b":")
        failed = receiver.transport.disconnecting
    require(our_failure == failed, f"{case}: {ours}, Twisted's failed: {failed}")
    if not failed and rest is not None:
        require(f"rest:{rest.hex()}" in ours, f"{case}: {ours}, Twisted's left: {rest!r}")
    return our_failure


def agree(framings, count, seed):
    dice = random.Random(seed)
    cases = [random_case(dice, framings) for _ in range(count)]
    lines = [" ".join([framing, str(most), *(piece.hex() for piece in pieces)]) for framing, most, pieces in cases]
    driver = start([package("framing_driver")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    output, _ = driver.communicate("".join(line + "\n" for line in lines), timeout=240)
    answers = output.splitlines()
    require(driver.returncode == 0, f"the driver ended with {driver.returncode}")
    require(len(answers) == count, f"{len(answers)} answers to {count} inputs")
    failures = sum(compare(case, answer) for case, answer in zip(cases, answers, strict=True))
    frames = sum(answer.count("frame:") for answer in answers)
    require(frames > count and failures > count // 20, "the inputs are no good")
    return f"{frames} frames, {failures} inputs that break their framing"


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    checks = Checks(limit_s=300)
    for what, framings in (("lines", LINES), ("other frames", FRAMES)):
        checks.run(f"{what}: {count} random inputs cut at random, seed {seed}", agree, framings, count, seed)
    checks.finish()


if __name__ == "__main__":
    main()
