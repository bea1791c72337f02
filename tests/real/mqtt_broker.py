"""The broker of `tests/outsider` with real clients: mosquitto's, 500 of paho-mqtt at once, and raw ones that break the protocol.

    python3 tests/real/mqtt_broker.py

after `cargo build --package outsider --examples`.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import time

import harness
from harness import (WAIT_S, Checks, Failed, Server, connect, others_meanwhile, outsider, receive, require, reset,
                     still_connected)
from libraries import python_with_paho

CLIENTS = 500
MEMORY_MIB = 260  # The sum of all limits of the broker and of its loop, plus the program itself.
CONNECT_TIMEOUT_S = 10
KEEP_ALIVE_S = 2


def broker():
    return Server([outsider("mqtt_broker"), "127.0.0.1:0"])


# --------------------------------------------------------------------------------------------------- packets, by hand


def packet(head, *parts):
    body = b"".join(parts)
    length, digits = len(body), bytearray()
    while length >= 0x80:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([head, *digits, length]) + body


def text(of):
    of = of.encode() if isinstance(of, str) else of
    return struct.pack(">H", len(of)) + of


def hello(name, *, clean=True, keep_alive_s=60, will=None, level=4):
    """CONNECT; a will is a pair of topic and message, at QoS 1."""
    flags = 2 * clean | (0x0C if will else 0)
    parts = [text(part) for part in will or ()]
    return packet(0x10, text("MQTT"), bytes([level, flags]), struct.pack(">H", keep_alive_s), text(name), *parts)


def subscribe(*filters, number=1, qos=1):
    return packet(0x82, struct.pack(">H", number), *(text(one) + bytes([qos]) for one in filters))


def publish(topic, payload, *, qos=0, number=1, flags=0):
    number = struct.pack(">H", number) if qos else b""
    return packet(0x30 | qos << 1 | flags, text(topic), number, payload)


class Client:
    """A raw client that has connected and received CONNACK."""

    def __init__(self, server, name, *filters, present=0, **options):
        self.socket = connect(server.address)
        self.send(hello(name, **options))
        self.expect(bytes([0x20, 2, present, 0]))
        if filters:
            self.send(subscribe(*filters))
            self.expect(packet(0x90, b"\0\1", b"\1" * len(filters)))

    def send(self, data):
        self.socket.sendall(data)

    def expect(self, data):
        got = receive(self.socket, len(data))
        require(got == data, f"{got[:60]!r}, not {data[:60]!r}")

    def is_served(self):
        self.send(b"\xc0\0")
        self.expect(b"\xd0\0")


def ends(client, limit_s=WAIT_S):
    """Returns whether the connection ends, and what was received before that."""
    client.settimeout(limit_s)
    heard = b""
    try:
        while data := client.recv(65536):
            heard += data
    except ConnectionError:
        pass
    return heard


# ------------------------------------------------------------------------------------------------ mosquitto's clients


def mosquitto(name, server, *arguments):
    host, port = server.address
    return [f"mosquitto_{name}", "-h", host, "-p", str(port), *arguments]


def run(command, data=None):
    done = subprocess.run(command, input=data, capture_output=True, timeout=WAIT_S, check=False)
    return done.returncode, done.stdout, done.stderr


def sent(server, *arguments, data=None):
    code, _, errors = run(mosquitto("pub", server, *arguments), data)
    require(code == 0, f"mosquitto_pub {arguments}: {code}, {errors!r}")


@contextlib.contextmanager
def listening(server, count, *arguments):
    """Runs mosquitto_sub, and yields a function that returns all messages once so many have arrived."""
    command = mosquitto("sub", server, "-d", "-W", str(int(WAIT_S)), "-C", str(count), *arguments)
    process = harness.start(["stdbuf", "-oL", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    early = b""
    while b"received SUBACK" not in early:
        line = process.stdout.readline()
        require(line, f"mosquitto_sub has ended: {early!r}")
        early += line

    def heard():
        rest = process.communicate()[0]
        require(process.returncode == 0, f"mosquitto_sub ended with {process.returncode}: {rest!r}")
        return [line for line in rest.split(b"\n") if line and not line.startswith((b"Client ", b"Subscribed"))]

    try:
        yield heard
    finally:
        harness.end(process)
        process.stdout.close()


def mosquittos_clients():
    with broker() as server:
        for qos in ("0", "1"):
            with listening(server, 2, "-q", qos, "-v", "-t", "a/+/c", "-t", "x/#") as heard:
                for topic in ("a/c", "a/b/c/d", "y/x", "a/b/c", "x"):
                    sent(server, "-q", qos, "-t", topic, "-m", f"to {topic}")
                require(heard() == [b"a/b/c to a/b/c", b"x to x"], "other messages have come")
        with listening(server, 1, "-q", "2", "-t", "#") as heard:
            sent(server, "-q", "1", "-t", "a", "-m", "granted 1")
            require(heard() == [b"granted 1"], "QoS 2 was asked for")
        large = b"0123456789" * 20_000
        with listening(server, 1, "-q", "1", "-t", "large") as heard:
            sent(server, "-q", "1", "-t", "large", "-s", data=large)
            require(heard() == [large], "a large one is another one")
        require(run(mosquitto("sub", server, "-t", "$SYS/#", "-C", "1", "-W", "5"))[1].startswith(b"mqtt_broker"), "$SYS")


def other_versions():
    with broker() as server:
        for version in ("mqttv31", "mqttv5"):
            code, _, errors = run(mosquitto("pub", server, "-V", version, "-t", "a", "-m", "b"))
            require(code != 0 and b"onnection" in errors, f"{version}: {code}, {errors!r}")
        sent(server, "-V", "mqttv311", "-t", "a", "-m", "b")


def retained_messages():
    with broker() as server:
        for topic, message in (("r/1", "old"), ("r/1", "new"), ("r/2", "gone")):
            sent(server, "-r", "-q", "1", "-t", topic, "-m", message)
        sent(server, "-r", "-n", "-t", "r/2")
        with listening(server, 2, "-F", "%r %t %p", "-t", "r/+") as heard:
            sent(server, "-r", "-t", "r/3", "-m", "live")
            require(heard() == [b"1 r/1 new", b"0 r/3 live"], "other messages have come")


# ------------------------------------------------------------------------------------------------------------ sessions


def sessions_that_stay():
    with broker() as server:
        code, _, _ = run(mosquitto("sub", server, "-i", "stays", "-c", "-q", "1", "-t", "s", "-E"))
        require(code == 0, "it has not subscribed")
        for number in range(50):
            sent(server, "-q", "1", "-t", "s", "-m", str(number))
        code, heard, _ = run(mosquitto("sub", server, "-i", "stays", "-c", "-q", "1", "-t", "s", "-C", "50", "-W", "5"))
        require(heard.split() == [b"%d" % number for number in range(50)], f"it heard {heard!r}")


def redelivery():
    with broker() as server:
        first, sender = Client(server, "r", "t", clean=False), Client(server, "s")
        for number in (1, 2):
            sender.send(publish("t", b"message %d" % number, qos=1, number=number))
            sender.expect(packet(0x40, struct.pack(">H", number)))
            first.expect(publish("t", b"message %d" % number, qos=1, number=number))
        first.send(packet(0x40, b"\0\1"))
        first.is_served()
        reset(first.socket)
        sender.send(publish("t", b"meanwhile", qos=1, number=3))
        sender.expect(packet(0x40, b"\0\3"))
        second = Client(server, "r", clean=False, present=1)
        second.expect(publish("t", b"message 2", qos=1, number=2, flags=8) + publish("t", b"meanwhile", qos=1, number=3))
        third = Client(server, "r", clean=True)
        require(ends(second.socket) == b"", "the connection that was taken over")
        third.is_served()
        Client(server, "r", clean=False, present=0)


def wills():
    with broker() as server:
        watcher = Client(server, "watcher", "wills/#")
        for name in ("reset", "ended", "broken"):
            client = Client(server, name, will=(f"wills/{name}", "gone"))
            if name == "reset":
                reset(client.socket)
            elif name == "ended":
                client.socket.close()
            else:
                client.send(b"\xff\0")
        heard = receive(watcher.socket, 3 * len(publish("wills/reset", b"gone", qos=1)) + 1)
        require(all(heard.count(b"wills/" + name + b"\0") == 1 for name in (b"reset", b"ended", b"broken")), f"{heard!r}")
        polite = Client(server, "polite", will=("wills/polite", "gone"))
        polite.send(b"\xe0\0")
        require(ends(polite.socket) == b"", "DISCONNECT")
        watcher.is_served()


def keep_alive():
    with broker() as server:
        watcher = Client(server, "watcher", "wills/#", keep_alive_s=0)
        silent, live = (Client(server, name, keep_alive_s=KEEP_ALIVE_S, will=(f"wills/{name}", "")) for name in ("silent", "live"))
        silent.send(b"\x30\x7fhalf a packet")
        begun = time.monotonic()
        while time.monotonic() - begun < 3 * KEEP_ALIVE_S:
            live.is_served()
            if select.select([watcher.socket], [], [], 0.2)[0]:
                break
        took_s = time.monotonic() - begun
        watcher.expect(publish("wills/silent", b"", qos=1))
        require(took_s > 1.5 * KEEP_ALIVE_S - 0.1, f"it ended after {took_s:.1f} s")
        require(ends(silent.socket) == b"", "the silent one")
        live.is_served()
        return f"after {took_s:.2f} s"


def silence_before_connect():
    with broker() as server:
        halves = [connect(server.address) for _ in range(3)]
        halves[1].sendall(hello("half")[:9])
        halves[2].sendall(b"\x10")
        begun = time.monotonic()
        with others_meanwhile():
            for half in halves:
                require(ends(half, 2 * CONNECT_TIMEOUT_S) == b"", "it was answered")
        took_s = time.monotonic() - begun
        require(took_s > CONNECT_TIMEOUT_S - 0.5, f"they ended after {took_s:.1f} s")


# ----------------------------------------------------------------------------------------------------------- many, bad


def many_of_paho():
    with broker() as server:
        program = [python_with_paho(), os.path.join(harness.HERE, "paho_clients.py"), *map(str, server.address), str(CLIENTS)]
        done = subprocess.run(program, capture_output=True, timeout=6 * WAIT_S, check=False)
        require(done.returncode == 0, f"{done.stderr.decode(errors='replace')[-400:]}{server.tail()}")
        return f"{int(done.stdout):,} messages, {server.memory_peak_mib():.0f} MiB"


def bad_input():
    """Input that ends a connection, after a correct CONNECT or instead of it."""
    whole, many = hello("bad"), b"a/" * 200
    yield "268,435,455 bytes announced before CONNECT", b"\x10\xff\xff\xff\x7f" + b"x" * 1000
    yield "a CONNECT that is too long", packet(0x10, b"x" * 5000)
    yield "PINGREQ first", b"\xc0\0"
    yield "PUBLISH first", publish("a", b"")
    yield "HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: mqtt\r\nAccept: text/html\r\n\r\n"
    yield "TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 600
    yield "another protocol's name", packet(0x10, text("MQTX"), b"\x04\x02\0\0", text("a"))
    yield "a reserved flag of CONNECT", packet(0x10, text("MQTT"), b"\x04\x03\0\0", text("a"))
    yield "a will of QoS 3", packet(0x10, text("MQTT"), b"\x04\x1e\0\0", text("a"), text("t"), text("m"))
    yield "a will's topic with wildcards", packet(0x10, text("MQTT"), b"\x04\x06\0\0", text("a"), text("#"), text("m"))
    yield "a name that is not UTF-8", hello(b"\xff\xfe")
    yield "268,435,455 bytes announced", whole + b"\x30\xff\xff\xff\x7f" + b"x" * 1000
    yield "a length of five bytes", whole + b"\x30\x80\x80\x80\x80\x01"
    yield "CONNECT twice", whole + whole
    for topic in ("a/#", "+", "a/+/b", "", "$SYS/a", b"\xc3\x28", b"\xed\xa0\x80", "a\0b", many):
        yield f"PUBLISH to {topic[:9]!r}", whole + publish(topic, b"x")
        yield f"PUBLISH at QoS 1 to {topic[:9]!r}", whole + publish(topic, b"x", qos=1)
    for wanted in ("a/#/b", "a#", "+a", "a/b+", "##", "", b"\xff", many):
        yield f"SUBSCRIBE to {wanted[:9]!r}", whole + subscribe("right", wanted)
    yield "SUBSCRIBE at QoS 3", whole + subscribe("a", qos=3)
    yield "SUBSCRIBE to nothing", whole + subscribe()
    yield "SUBSCRIBE with the identifier 0", whole + subscribe("a", number=0)
    yield "SUBSCRIBE cut short", whole + packet(0x82, b"\0\1", text("a"))
    yield "PUBLISH at QoS 2", whole + publish("a", b"", qos=2)
    yield "PUBLISH at QoS 3", whole + publish("a", b"", qos=3)
    yield "PUBLISH at QoS 0, again", whole + publish("a", b"", flags=8)
    yield "PUBLISH with a topic that is longer than it", whole + packet(0x30, b"\0\x09short")
    for head in (0x00, 0x20, 0x41, 0x50, 0x60, 0x62, 0x70, 0x80, 0x90, 0xA0, 0xB0, 0xC1, 0xD0, 0xE1, 0xF0):
        yield f"a packet that begins with {head:#x}", whole + packet(head, b"\0\1")
    yield "PINGREQ with a body", whole + b"\xc0\x01x"


def broken_protocols():
    with broker() as server:
        other = Client(server, "other", "b")
        count = 0
        for what, data in bad_input():
            client = connect(server.address)
            with contextlib.suppress(ConnectionError):
                client.sendall(data)
            try:
                heard = ends(client, 3)
            except TimeoutError:
                raise Failed(f"{what} does not end the connection") from None
            answer = b"\x20\2\0\0" if data.startswith(hello("bad")) else b""
            require(heard.startswith(answer) and len(heard) < 20, f"{what}: {heard!r}")
            client.close()
            count += 1
        other.is_served()
        sent(server, "-q", "1", "-t", "b", "-m", "served")
        other.expect(publish("b", b"served", qos=1))
        require(server.memory_peak_mib() < 20, f"{server.memory_peak_mib():.0f} MiB")
        return f"{count}, {server.memory_peak_mib():.0f} MiB"


def announced_and_not_sent():
    """Many clients announce the maximum packet size, and send half of it."""
    with broker() as server:
        others = [Client(server, f"announces {number}") for number in range(200)]
        for other in others:
            other.send(publish("a", b"x" * 250_000)[:125_000])
        live = Client(server, "live")
        live.is_served()
        require(all(still_connected(other.socket) for other in others), "they were cut off")
        require(server.memory_peak_mib() < 100, f"{server.memory_peak_mib():.0f} MiB")


def many_subscriptions():
    with broker() as server:
        live, many = Client(server, "live", "f/#"), Client(server, "many")
        for first in range(0, 10_000, 500):
            many.send(subscribe(*(f"f/{first + number}" for number in range(500))))
            answer = receive(many.socket, 505)
            granted = answer[5:].count(1)
            require(granted == (100 if first == 0 else 0) and answer[5:].count(0x80) == 500 - granted, f"{first}: {granted}")
        # Subscribing again to the same filter is granted.
        many.send(subscribe("f/99"))
        many.expect(packet(0x90, b"\0\1\1"))
        live.is_served()
        sent(server, "-q", "1", "-t", "f/99", "-m", "x")
        many.expect(publish("f/99", b"x", qos=1))
        require(server.memory_peak_mib() < 20, f"{server.memory_peak_mib():.0f} MiB")


def who_never_reads():
    """At QoS 0 messages are dropped; at QoS 1 the session with the most queued ends.  Readers get everything."""
    with broker() as server:
        message, answer = b"x" * 100_000, packet(0x40, b"\0\1")
        for qos, count in ((0, 1500), (1, 1500)):
            deaf = Client(server, f"deaf {qos}")
            deaf.send(subscribe("n", qos=qos))
            away = Client(server, f"away {qos}", "n", clean=False)
            away.socket.close()
            live, sender = Client(server, f"live {qos}", "n"), Client(server, f"sender {qos}")
            for _ in range(count):
                sender.send(publish("n", message, qos=1))
                sender.expect(answer)
                head = receive(live.socket, 4 + 3 + 2)
                require(head[4:7] == text("n"), f"{head!r}")
                require(receive(live.socket, len(message)) == message, "another message")
                live.send(packet(0x40, head[7:]))
            if qos == 0:
                require(len(ends_not(deaf.socket)) > 100_000, "it was told nothing")
            deaf.socket.close()
        require(server.memory_peak_mib() < MEMORY_MIB, f"{server.memory_peak_mib():.0f} MiB")
        Client(server, "away 0", clean=False, present=0)
        return f"{server.memory_peak_mib():.0f} MiB"


def ends_not(client):
    """Returns what can be read by now from a connection that stays open."""
    require(still_connected(client), "it was cut off")
    return receive(client, 200_000)


def floods():
    """Endless PUBLISH by a client that does not read the answers, endless SUBSCRIBE to all retained messages."""
    with broker() as server:
        keeper, live = Client(server, "keeper"), Client(server, "live", "other")
        keeper.send(b"".join(publish(f"k/{number}", b"x" * 50, flags=1) for number in range(5000)))
        keeper.is_served()
        floods_of = {"SUBSCRIBE": subscribe("#", "+/+", "k/1") * 2000, "PUBLISH": publish("other/x", b"", qos=1) * 5000}
        slowest_s = 0.0
        for name, data in floods_of.items():
            flood = Client(server, f"flood of {name}")
            flood.socket.setblocking(False)
            begun = time.monotonic()
            while time.monotonic() - begun < 2:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    flood.socket.send(data)
                asked = time.monotonic()
                live.is_served()
                slowest_s = max(slowest_s, time.monotonic() - asked)
            flood.socket.close()
        require(slowest_s < 2, f"others waited for {slowest_s:.2f} s")
        require(server.memory_peak_mib() < MEMORY_MIB, f"{server.memory_peak_mib():.0f} MiB")
        return f"others waited for {slowest_s * 1000:.0f} ms at most, {server.memory_peak_mib():.0f} MiB"


# ----------------------------------------------------------------------------------------------------------- its end


def ends_on_signals():
    for number in (signal.SIGINT, signal.SIGTERM):
        with broker() as server:
            watcher, other = Client(server, "watcher", "wills/#"), Client(server, "other", will=("wills/other", ""))
            before = connect(server.address)
            before.sendall(hello("half")[:5])
            watcher.is_served()
            require(server.end(number) == 0, "another exit code")
            require([ends(one) for one in (watcher.socket, other.socket, before)] == [b""] * 3, "they were told something")


def at_rest():
    with broker() as server:
        clients = [Client(server, f"one {number}", "a/#") for number in range(20)]
        sent(server, "-q", "1", "-t", "a/b", "-m", "c")
        for client in clients:
            client.expect(publish("a/b", b"c", qos=1))
            client.socket.close()
        server.require_quiet()


def main():
    checks = Checks(limit_s=150)
    checks.begin("half a CONNECT, and silence", silence_before_connect)
    checks.run("mosquitto_pub and mosquitto_sub: QoS, wildcards, large messages", mosquittos_clients)
    checks.run("other versions are told so", other_versions)
    checks.run("retained messages", retained_messages)
    checks.run("sessions that outlast their connections", sessions_that_stay)
    checks.run("what was not acknowledged is sent again, and sessions are taken over", redelivery)
    checks.run("wills, on a reset, an end and a broken packet", wills)
    checks.run("keep-alive", keep_alive)
    checks.run(f"{CLIENTS} clients of paho-mqtt, all messages at QoS 1", many_of_paho)
    checks.run("what breaks the protocol ends its connection", broken_protocols)
    checks.run("large packets that are not sent to their ends", announced_and_not_sent)
    checks.run("10,000 subscriptions", many_subscriptions)
    checks.run("subscribers that never read", who_never_reads)
    checks.run("floods", floods)
    checks.run("SIGINT and SIGTERM", ends_on_signals)
    checks.run("at rest", at_rest)
    checks.finish()


if __name__ == "__main__":
    main()
