"""Servers with peers that read slowly, or not at all: the slow ones get their complete answers, and those that do not
read do not affect the others.

    python3 tests/real/slow_peers.py

after `cargo build --examples --all-features`.  It takes half a minute, mostly waiting, with default limits.
"""

import socket
import threading
import time

from harness import Checks, Server, connect, example, others_meanwhile, require

# How long the slow ones are slow, in seconds; what is left then they read at once.  The close deadline is 5 s, in which they
# read 1 MB; Linux tells of room in its buffers when they have read 1.4 MB.
SLOW_S = 30
RATE = 200_000
ECHO_CLIENTS = 24
HOARDERS = 16
VALUE = 8 << 20


def read_slowly(client, rate, seconds):
    """Reads at this rate for this long, on a schedule that makes up for delays."""
    step, start, taken = 0.05, time.monotonic(), 0
    while (now := time.monotonic() - start) < seconds:
        due = int(now * rate) - taken
        if due > 0:
            data = client.recv(due)
            if not data:
                return taken, True
            taken += len(data)
        time.sleep(step)
    return taken, False


def read_rest(client, count):
    """Returns the total number of bytes, and how the stream ended: an end, or a reset."""
    while True:
        try:
            data = client.recv(1 << 20)
        except ConnectionResetError:
            return count, "a reset"
        if not data:
            return count, "an end"
        count += len(data)


def in_threads(tasks):
    """Runs tasks concurrently, and raises the exception of the first that failed."""
    errors = []

    def guarded(task):
        try:
            task()
        except Exception as error:  # Told by whoever waits.
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    with others_meanwhile():
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def reply(client, expected):
    got = b""
    while len(got) < len(expected):
        data = client.recv(len(expected) - len(got))
        require(data, f"the server has closed, after {got!r}")
        got += data
    require(got == expected, f"{got[:80]!r}, not {expected[:80]!r}")


def echo_to_slow_readers():
    """Clients that send megabytes, end their half, and read the echo slowly."""
    with Server([example("echo_server"), "127.0.0.1:0"]) as server:

        def slow(number):
            sent = 5_200_000 + number * 50_000
            with connect(server.address) as client:

                def send():
                    client.settimeout(None)
                    client.sendall(b"x" * sent)
                    client.shutdown(socket.SHUT_WR)

                sender = threading.Thread(target=send, daemon=True)
                sender.start()
                taken, ended = read_slowly(client, RATE, SLOW_S)
                taken, end = (taken, "an end") if ended else read_rest(client, taken)
                sender.join(10)
                require((taken, end) == (sent, "an end"), f"{taken} of {sent} bytes, {end}")

        in_threads([lambda number=number: slow(number) for number in range(ECHO_CLIENTS)])


def hoarders():
    """Clients that ask for 24 MiB each and read nothing, and others that are to be served meanwhile."""
    with Server([example("resp_server"), "127.0.0.1:0"]) as server:
        with connect(server.address) as client:
            client.sendall(command(b"SET", b"large", b"x" * VALUE))
            reply(client, b"+OK\r\n")
        kept = []
        for _ in range(3 * HOARDERS):
            client = connect(server.address)
            client.sendall(command(b"MGET", b"large", b"large", b"large"))
            kept.append(client)
            with connect(server.address) as other:
                start = time.monotonic()
                other.sendall(command(b"PING") + command(b"GET", b"large"))
                reply(other, b"+PONG\r\n$%d\r\n" % VALUE)
                for _ in range(64):
                    reply(other, b"x" * (VALUE // 64))
                reply(other, b"\r\n")
                taken_s = time.monotonic() - start
                require(taken_s < 5, f"an honest client waits for {taken_s:.1f} s")
        # Its cap for the whole loop, one answer over that, and the value itself.
        memory = server.memory_peak_mib()
        require(memory < 256 + 24 + 64, f"{memory} MiB at the most")
        for client in kept:
            client.close()


def main():
    checks = Checks(limit_s=150)
    checks.begin("an echo of 5 to 6 MB to clients that have ended their half and read 200 KB/s", echo_to_slow_readers)
    checks.begin("16 and more connections that ask for 24 MiB and read nothing, and others", hoarders)
    checks.finish()


if __name__ == "__main__":
    main()
