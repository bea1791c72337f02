#!/usr/bin/env python3
"""Counts the system calls of the echo server: one read and one write a message, a shared poll, and no others.

Two windows with different numbers of messages are traced and subtracted, so that what attaching and detaching a tracer
adds to each cancels out.
"""

import contextlib

import harness
from harness import Checks, Server, Trace, connect, echoes, require

LIMIT_S = 180
CLIENTS = 50
ROUNDS = (10, 50)
MESSAGE = b"sixty-four bytes, as the measurements of such loops have them.\r\n"

KINDS = {
    "read": ("read", "readv", "recv", "recvfrom", "recvmsg"),
    "write": ("write", "writev", "send", "sendto", "sendmsg"),
    "poll": ("epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll"),
    "accept": ("accept", "accept4"),
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}


def by_kind(trace):
    """Returns the number of calls of each kind; a call that belongs to no kind counts under its own name."""
    counts = {}
    for name, count in trace.counts().items():
        kind = KIND_OF.get(name, name)
        counts[kind] = counts.get(kind, 0) + count
    return counts


def rounds_of_echoes(clients, rounds):
    """All clients send and then all read, so that several are ready at each poll."""
    for _ in range(rounds):
        for client in clients:
            client.sendall(MESSAGE)
        for client in clients:
            require(harness.receive(client, len(MESSAGE)) == MESSAGE, "not an echo")


def traced_rounds(server, clients, rounds):
    with Trace(server.pid) as trace:
        rounds_of_echoes(clients, rounds)
    return by_kind(trace)


def steady_state(server):
    with contextlib.ExitStack() as sockets:
        clients = [sockets.enter_context(connect(server.address)) for _ in range(CLIENTS)]
        rounds_of_echoes(clients, 2)
        few, many = (traced_rounds(server, clients, rounds) for rounds in ROUNDS)
    messages = (ROUNDS[1] - ROUNDS[0]) * CLIENTS
    calls = {kind: many.get(kind, 0) - few.get(kind, 0) for kind in {*few, *many}}
    per_message = {kind: round(count / messages, 3) for kind, count in calls.items() if count}
    require(calls.get("read") == messages, f"{calls.get('read')} reads for {messages} messages: {calls}")
    require(calls.get("write") == messages, f"{calls.get('write')} writes for {messages} messages: {calls}")
    # On a busy machine more messages are ready at each poll: the longer window can have fewer polls than the short one.
    require(few.get("poll", 0) > 0 and many.get("poll", 0) > 0, f"a window without a poll: {few}, {many}")
    require(calls["poll"] <= messages, f"{calls['poll']} polls for {messages} messages: {calls}")
    others = {kind: count for kind, count in calls.items() if kind not in ("read", "write", "poll") and count}
    require(not others, f"other calls in {messages} messages: {others}")
    return f"a message costs {per_message}"


def a_life(server):
    """Connects, echoes and leaves: one registration a connection, and no deregistration, since closing does that."""
    all_closed = lambda: server.descriptors() == server.descriptors_at_start
    server.wait_until(all_closed, "no connection left")
    with Trace(server.pid) as trace:
        for _ in range(CLIENTS):
            with connect(server.address) as client:
                require(echoes(client, MESSAGE), "no echo")
        server.wait_until(all_closed, "all connections closed")
    registrations = [line for name, line in trace.calls() if name == "epoll_ctl"]
    added = [line for line in registrations if "EPOLL_CTL_ADD" in line]
    require(len(added) == CLIENTS, f"{len(added)} registrations for {CLIENTS} connections")
    require(registrations == added, f"changed later: {[line for line in registrations if line not in added][:3]}")
    per_connection = {kind: round(count / CLIENTS, 2) for kind, count in sorted(by_kind(trace).items())}
    return f"a connection costs {per_connection}"


def main():
    checks = Checks(LIMIT_S)
    with Server([harness.example("echo_server"), "127.0.0.1:0"]) as server:
        checks.run(f"{CLIENTS} clients echo: one read, one write, at most one poll a message", steady_state, server)
        checks.run("one epoll_ctl a connection", a_life, server)
        checks.run("idle afterwards", server.require_quiet)
        checks.run("ends with 0", lambda: require(server.end() == 0, "another exit code"))
    checks.finish()


if __name__ == "__main__":
    main()
