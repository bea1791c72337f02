#!/usr/bin/env python3
"""Lets every system call of a session fail once, with each error that it can have, and looks at what comes of it.

    python3 tests/real/sweep.py                  a sample of some sessions, by the date
    python3 tests/real/sweep.py echo_server      every call, every error and every k of that session
    python3 tests/real/sweep.py --long           the same for all sessions

A session starts an example under `strace`, talks to it over several connections, and ends it by SIGTERM.  A clean
session tells which calls are made; then each is made to fail, the k-th of its name, in a session of its own.  `strace`
counts by thread, so where there are several threads or processes, the k-th call of each of them fails; what cannot
happen to all of those calls is left out, and counted.  The client compares every byte, and what is printed is compared
too.  A session ends in one of these verdicts, of which the first that applies counts:

    crashed   the process ended by a signal, or panicked
    silent    it ended with another code than 0 and said nothing
    died      it ended with a code and a message
    wrong     a client received something else than it should, or that was printed
    hung      it answers nobody, does not end when told to, or has left a client waiting
    spun      it uses the CPU while nobody wants anything
    leaked    it has more descriptors or children than at its start, though all clients are gone
    short     a client saw an orderly end before all of its bytes
    many      clients were cut off whose connections no failing call was about, and more than one
    torn      `short`, but the failing call was about this client's connection, and either says that it is gone already
              (the kernel would send nothing more on it), or it is a Unix socket, which knows no reset
    ended     those clients were cut off by an error that the failing calls were about; or one was, or one datagram was
              lost and that was told, where the calls were about none; all others are served
    stayed    another process was to take over, and could not; that was told, and the first one has gone on
    lost      one line was not printed, since the pipe for it has failed
    exact     as if nothing had failed

Which of them are allowed is in `allowed`.
"""

import concurrent.futures
import datetime
import random
import re
import sys
import tempfile

from harness import Checks, require
from sweep_calls import INTERRUPTED, MEMORY, Trace, errors_of
from sweep_sessions import SESSIONS, Session

LIMIT_S = 330
LIMIT_LONG_S = 7200
SAMPLED = 4  # How many sessions are tried in the short form, and how many failures of each.
SAMPLE = 20
AT_ONCE = 2
TRIES = 3  # Which thread does what may vary, and with it whether a call can fail in this way.

# ------------------------------------------------------------------------------------------ which verdicts are allowed

LOST = {"exact", "ended"}
TOLD = {"exact", "died"}
GONE = ("ECONNRESET", "EPIPE")


def allowed(stage, call, descriptor, error):
    """Returns the verdicts that are allowed for this failure."""
    if stage == "before":  # The dynamic loader and the standard library may end the process as they like.
        return {"exact", "died", "silent", "crashed", "ended"}
    if call in MEMORY:  # The allocator aborts; a stack for signals is the standard library's affair.
        return {"exact", "ended", "died", "silent", "crashed", "many"}
    if error in INTERRUPTED:  # Nobody notices a signal, whichever call it interrupts.
        return {"exact"}
    if descriptor.startswith("pipe"):  # Where lines are printed.
        return {"exact", "lost"}
    if stage == "start":
        return TOLD
    is_stream = "->" in descriptor
    torn = {"torn"} if is_stream and error in GONE else set()
    if stage in ("child", "thread"):
        # A handler is told of an error, as by any blocking socket, and its client is reset, if there are resets. If the
        # call is about none of the clients, each handler meets the same.
        no_reset = {"torn"} if descriptor.startswith("UNIX") else set()
        return {*LOST, *torn, *no_reset, *(() if is_stream else ("many",))}
    if re.match("accept", call):  # The connection stays in the backlog, and the loop tries again.
        return {"exact"}
    if call in ("sendto", "write", "writev", "sendmsg") and error in ("ENOBUFS", "ENOMEM") and descriptor[:3] != "UDP":
        return {"exact"}  # The loop tries again, by time.
    if stage == "end":  # All answers are out: what fails now may be told in the exit code.
        return {"exact", "ended", "died", *torn}
    return {*LOST, *torn}


def allowed_if_it_restarts(stage, error):
    """Returns what is allowed beside that where another process takes over: it may fail to, and then the first one stays.
    Its whole life counts as a child's, so that it may also end by an error, with a message."""
    if error in INTERRUPTED:
        return set()
    return {"stayed", "died"} if stage == "child" else {"stayed"}


def judged(session, verdict, trace, error):
    """Returns the verdict with what the trace tells about it: which clients the failing calls were about."""
    hit, cut = trace.hit(), session.cut_off("short", "ended")
    if verdict == "short":
        short = session.cut_off("short")
        is_unix = "unix" in session.kind.sockets
        verdict = "torn" if short <= hit and (error in GONE or is_unix) else "short"
    if verdict in ("torn", "ended") and not cut <= hit and (hit or len(cut) > 1):
        verdict = "many"
    return verdict


# ------------------------------------------------------------------------------------------------------ the sweep


def clean(name):
    """Returns the calls of a session in which nothing fails."""
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        session = Session(name, folder)
        verdict = session.run()
        require(verdict == "exact", f"{verdict} without a failure: {session.verdicts} {session.wrong}")
        return Trace(session.trace).calls(len(session.kind.sockets))


class Failure:
    """A call that can fail: which one, with which error, the verdicts that are allowed, and whether it is a child's."""

    def __init__(self, call, error, k, verdicts, of_child):
        self.call, self.error, self.k, self.verdicts, self.of_child = call, error, k, verdicts, of_child


def failures_of(name):
    """Returns everything that can fail, and how many failures are left out because another thread's k-th call cannot
    have them."""
    failures, impossible = [], set()
    by_k = {}
    for call in clean(name):
        if call.name != "execve" or call.stage == "child":  # Else it is the start of the program itself.
            by_k.setdefault((call.name, call.k), []).append(call)
    for (call, k), calls in sorted(by_k.items()):
        errors = [errors_of(call, each.descriptor) for each in calls]
        for error in sorted({error for of in errors for error in of}):
            if all(error in of for of in errors):
                verdicts = set().union(*(allowed(each.stage, call, each.descriptor, error) for each in calls))
                if SESSIONS[name].restarts:
                    verdicts = verdicts.union(*(allowed_if_it_restarts(each.stage, error) for each in calls))
                failures.append(Failure(call, error, k, verdicts, any(each.stage == "child" for each in calls)))
            else:
                impossible.add((call, error, k))
    return failures, len(impossible)


def tried(name, failure):
    """Returns the verdict of a session with this failure, the line of its call, if it has come about, and what was
    found wrong."""
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
            session = Session(name, folder, failure.call, failure.error, failure.k, failure.of_child)
            verdict = session.run()
            trace = Trace(session.trace)
            failed = trace.failed()
            if not failed:
                return verdict, None, session.wrong
            if trace.is_possible(failure.error):
                return judged(session, verdict, trace, failure.error), failed[0], session.wrong
    return "exact", None, ""


def sweep(name, sample):
    failures, left_out = failures_of(name)
    chosen = failures
    if sample:
        chosen = random.Random(f"{datetime.date.today()} {name}").sample(failures, min(sample, len(failures)))
    counts, wrong, missed = {}, [], 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for failure, (verdict, line, what) in zip(chosen, pool.map(lambda each: tried(name, each), chosen)):
            missed += line is None
            counts[verdict] = counts.get(verdict, 0) + 1
            if verdict not in (failure.verdicts if line else {"exact"}):
                at = (line or "not reached")[:150]
                wrong.append(f"{verdict}: {failure.error} of {failure.call} {failure.k}: {at} {what}")
    # Timing decides how many reads and waits there are: a few of the last ones may not come.
    require(missed * 5 <= len(chosen), f"{missed} of {len(chosen)} calls were not reached")
    for each in wrong:
        print(f"  {each}", flush=True)
    found = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    require(not wrong, f"{len(wrong)} of {len(chosen)} end otherwise than they may; all: {found}")
    return f"{len(chosen)} of {len(failures)} failures: {found}; {missed} were not reached, {left_out} left out"


def main():
    names = [name for name in sys.argv[1:] if name in SESSIONS]
    is_long = "--long" in sys.argv or bool(names)
    if not is_long:
        names = random.Random(str(datetime.date.today())).sample(sorted(SESSIONS), SAMPLED)
    checks = Checks(LIMIT_LONG_S if is_long else LIMIT_S)
    for name in names or SESSIONS:
        checks.run(f"{name}: each call that fails has an outcome that is allowed", sweep, name, 0 if is_long else SAMPLE)
    checks.finish()


if __name__ == "__main__":
    main()
