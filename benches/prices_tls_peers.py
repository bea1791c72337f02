"""The hostile peers of prices.py that speak TLS, or do as if: generators, as in prices_peers.py.

Python's ssl does the handshakes and what else it can; the other records are made by hand, with its keys.
"""

import atexit
import contextlib
import functools
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile

from certificates import make_ec_certificate
from harness import require, reset
from prices_peers import KERNEL_BYTES, LARGE, PIECE, READY, Kind, Peer, until_refused
from tls_by_hand import ALERT, DATA, HANDSHAKE, Sender12, Sender13

CONNECTIONS = 8  # Of a peer whose attack is to connect.
RECORDS = 40
RECORD_BYTES_MAX = 16384
HELLO_BYTES_MAX = 65535  # Of a handshake message, for rustls.
KEY_OF_ED25519 = bytes.fromhex("302a300506032b6570032100")  # What comes before it in a certificate.
RANDOM = slice(11, 43)  # Of a hello, behind the head of its record, that of its message, and its version.
KEY_SHARE, UNKNOWN_GROUP = b"\x00\x33", b"\x01\x00"


@functools.cache
def folder():
    made = tempfile.mkdtemp(prefix="prices-tls-")
    atexit.register(shutil.rmtree, made)
    return made


@functools.cache
def context(name):
    """A client that trusts everybody; listeners that ask get a certificate from it, with many more behind that."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.keylog_filename = os.path.join(folder(), "keys")
    if name.startswith("asking"):
        made.load_cert_chain(*many_certificates())
    return made


def secret_of(peer, label):
    """Returns the secret of a peer's handshake. Others have theirs at the same time."""
    with open(os.path.join(folder(), "keys"), encoding="ascii") as file:
        return bytes.fromhex(re.search(rf"^{label} {peer.random.hex()} (\w+)$", file.read(), re.M).group(1))


class TlsPeer(Peer):
    """One that has not sent anything yet."""

    def __init__(self, server, stack, name="tls", kernel_bytes=None, session=None):
        super().__init__(server, name, stack, kernel_bytes)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context(name).wrap_bio(self.incoming, self.outgoing, server_hostname="localhost", session=session)
        self.heard = self.unsent = self.random = b""

    def hello(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def hear(self):
        """Returns whether there was something to hear."""
        with contextlib.suppress(BlockingIOError):
            heard = self.socket.recv(1 << 20)
            self.heard += heard
            self.incoming.write(heard)
            return bool(heard)
        return False

    def shake(self):
        """Does a handshake, and yields whenever the server is to turn."""
        is_done = False
        while not is_done:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                is_done = True
            flight = self.outgoing.read()
            self.random = self.random or flight[RANDOM]
            self.send(flight)
            yield 0
            self.hear()

    def session(self):
        """Returns what resumes it, with the tickets that have come."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.read(1)
        return self.tls.session

    def data(self, data):
        self.tls.write(data)
        return self.outgoing.read()

    def push(self, data):
        """Sends as much as the kernel takes of a record, and the rest before the next one. Returns how much was sent."""
        self.unsent = self.unsent or self.data(data)
        sent = self.send(self.unsent)
        self.unsent = self.unsent[sent:]
        return sent

    def is_ended(self):
        """Returns whether the server has ended the connection. What came before is dropped."""
        try:
            while self.socket.recv(1 << 20):
                pass
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
        return True


def established(server, stack, name="tls", kernel_bytes=None):
    peer = TlsPeer(server, stack, name, kernel_bytes)
    for _ in peer.shake():
        server.command(b"t")
    return peer


def sender(peer, name):
    """Makes the next records of one that has just done its handshake."""
    if name == "tls":
        return Sender13(secret_of(peer, "CLIENT_TRAFFIC_SECRET_0"))
    return Sender12(secret_of(peer, "CLIENT_RANDOM"), peer.heard[RANDOM] + peer.random)


# ------------------------------------------------------------------------------------------------------ connecting


def connections(act, count=CONNECTIONS):
    """Returns a peer that does this with one connection behind the other."""

    @functools.wraps(act)
    def attack(server, stack):
        yield READY
        for _ in range(count):
            yield from act(server, stack)
            yield 1

    return attack


def until_heard(peer):
    while not peer.hear():
        yield 0


@connections
def no_handshake(server, stack):
    peer = Peer(server, "tls", stack)
    peer.send(b"x" * PIECE)
    yield 0
    yield 0
    peer.socket.close()


@connections
def half_hello(server, stack):
    peer = TlsPeer(server, stack)
    hello = peer.hello()
    peer.send(hello[:len(hello) // 2])
    yield 0
    yield 0
    reset(peer.socket)


def answered_hello(name):
    @connections
    def stops_when_it_is_answered(server, stack):
        peer = TlsPeer(server, stack, name)
        peer.send(peer.hello())
        yield from until_heard(peer)
        reset(peer.socket)

    return stops_when_it_is_answered


@connections
def stops_behind_its_key(server, stack):
    """Of the second flight of TLS 1.2 it sends the first record, from which the server computes the keys."""
    peer = TlsPeer(server, stack, "tls12")
    peer.send(peer.hello())
    yield from until_heard(peer)
    flight = peer.hello()
    peer.send(flight[:5 + int.from_bytes(flight[3:5], "big")])
    yield 0
    reset(peer.socket)


@connections
def asks_for_a_retry(server, stack):
    """Its hello has no share of a group that the server has, which asks for one; the second hello has it."""
    peer = TlsPeer(server, stack)
    hello = peer.hello()
    # The extension, its length, that of the shares, and the group of the first.
    at = re.search(re.escape(KEY_SHARE) + rb"..\x00.\x00\x1d\x00\x20", hello, re.S).start() + 6
    peer.send(hello[:at] + UNKNOWN_GROUP + hello[at + 2:])
    yield from until_heard(peer)
    peer.send(hello)
    yield from until_heard(peer)
    reset(peer.socket)


def handshakes(name, ends):
    @connections
    def shakes_hands(server, stack):
        peer = TlsPeer(server, stack, name)
        yield from peer.shake()
        ends(peer)
        yield 0
        peer.socket.close()

    return shakes_hands


def truncates(peer):
    peer.socket.shutdown(socket.SHUT_WR)


def closes(peer):
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.unwrap()
    peer.send(peer.outgoing.read())


def resumes(server, stack):
    first = established(server, stack)
    session = first.session()
    reset(first.socket)
    server.command(b"t")
    yield READY
    for _ in range(CONNECTIONS):
        peer = TlsPeer(server, stack, session=session)
        yield from peer.shake()
        require(peer.tls.session_reused, "it was not resumed")
        session = peer.session()
        reset(peer.socket)
        yield 1


def many_certificates():
    """Returns the files of a chain that is as long as may be sent, and of the key of its first certificate.

    Each of the others has the name of the first one's issuer, and of its own, and a key that no other has: a path from the
    first to an authority may lead through any of them, in any order.
    """
    files = make_ec_certificate(folder())
    authority, key = (os.path.join(folder(), name) for name in ("authority.pem", "authority-key.pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "basicConstraints = critical, CA:TRUE", "-keyout", key, "-out", authority], check=True, capture_output=True)
    with open(authority, encoding="ascii") as file:
        plain = ssl.PEM_cert_to_DER_cert(file.read())
    at = plain.index(KEY_OF_ED25519) + len(KEY_OF_ED25519)
    count = (HELLO_BYTES_MAX - 1000) // (len(plain) + 5)
    with open(files["cert"], "a", encoding="ascii") as file:
        for number in range(count):
            file.write(ssl.DER_cert_to_PEM_cert(plain[:at] + number.to_bytes(32, "big") + plain[at + 32:]))
    return files["cert"], files["key"]


def sends_certificates(name):
    def is_asked(server, stack):
        peer = TlsPeer(server, stack, name)
        yield from peer.shake()
        while not peer.is_ended():
            yield 0
        peer.socket.close()

    return connections(is_asked, 1)


# ----------------------------------------------------------------------------------------------------------- hellos


def hello_a_byte_at_a_time(server, stack):
    peer = TlsPeer(server, stack)
    hello = peer.hello()
    yield READY
    for byte in hello[:-1]:
        yield peer.send(bytes([byte]))


def records_of_a_byte(message):
    return [b"\x16\x03\x01\0\1" + message[at:at + 1] for at in range(len(message))]


def hello_in_records_of_a_byte(server, stack):
    peer = TlsPeer(server, stack)
    records = records_of_a_byte(peer.hello()[5:-1])
    yield READY
    for record in records:
        peer.send(record)
        yield 1


def long_hello(hello):
    """A hello with as many extensions as it can have, of types that nobody knows."""
    at = 5 + 4 + 2 + 32  # The headers, the version and the random are followed by an id, suites and compressions.
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at:at + 2], "big")
    at += 1 + hello[at]
    more = (HELLO_BYTES_MAX - len(hello)) // 4
    extensions = hello[at + 2:] + b"".join(struct.pack(">HH", 0x2000 + number, 0) for number in range(more))
    body = hello[9:at] + struct.pack(">H", len(extensions)) + extensions
    return b"\1" + len(body).to_bytes(3, "big") + body


def hello_of_extensions(server, stack):
    peer = TlsPeer(server, stack)
    message = long_hello(peer.hello())
    yield READY
    for at in range(0, len(message), RECORD_BYTES_MAX):
        part = message[at:at + RECORD_BYTES_MAX]
        yield peer.send(b"\x16\x03\x01" + struct.pack(">H", len(part)) + part)
    for _ in until_heard(peer):
        yield 0


def long_hello_in_records_of_a_byte(server, stack):
    """Only the last of its records are counted, so that what is kept of those before would show."""
    peer = TlsPeer(server, stack)
    records = records_of_a_byte(long_hello(peer.hello())[:30_000])
    before, last = b"".join(records[:-200]), records[-200:]
    while before:
        before = before[peer.send(before[:LARGE]):]
        server.command(b"t")
    yield READY
    for record in last:
        peer.send(record)
        yield 1


# ---------------------------------------------------------------------------------------------------------- records


def pieces(data, count, unit):
    """Returns a peer that sends this again and again, a record for as much as one may have."""

    def sends_records(server, stack):
        peer = established(server, stack)
        yield READY
        for _ in range(count):
            sent = peer.send(peer.data(data))
            yield unit or sent
            peer.drop()

    return sends_records


def record_a_byte_at_a_time(server, stack):
    """Only the last of its bytes are counted, so that what is kept of those before would show."""
    peer = established(server, stack)
    record = peer.data(b"x" * RECORD_BYTES_MAX)
    peer.send(record[:-401])
    server.command(b"t")
    yield READY
    for byte in record[-401:-1]:
        yield peer.send(bytes([byte]))


def never_reads(server, stack):
    peer = established(server, stack, kernel_bytes=KERNEL_BYTES)
    yield READY
    yield from until_refused(lambda: peer.push(b"x" * LARGE))


def reads_a_byte_at_a_time(server, stack):
    peer = established(server, stack, kernel_bytes=KERNEL_BYTES)
    peer.narrow()
    for _ in until_refused(lambda: peer.push(b"x" * LARGE)):
        server.command(b"t")
    yield READY
    yield from peer.read_bytes()


def floods(name, make, never_ends=False):
    """Returns a peer that sends what `make` makes of a sender, until its connection ends."""

    def floods_with_records(server, stack):
        peer = established(server, stack, name)
        by_hand = sender(peer, name)
        yield READY
        for _ in range(RECORDS):
            with contextlib.suppress(ConnectionError):
                peer.send(make(by_hand))
            yield 1
            if peer.is_ended():
                return
        require(never_ends, "nothing ends it")

    return floods_with_records


def key_change(by_hand):
    return by_hand.key_update() + by_hand.record(DATA, b"x")


def renegotiation(by_hand):
    """The hello of a client of TLS 1.2, with one suite and no extensions."""
    hello = b"\3\3" + b"x" * 32 + b"\0" + b"\0\2\xcc\xa9" + b"\1\0"
    return by_hand.record(HANDSHAKE, b"\1" + len(hello).to_bytes(3, "big") + hello)


KINDS = [
    Kind("tls_no_handshake", "over TLS: connects, and sends 4,096 bytes of something else", "connection", no_handshake),
    Kind("tls_half_hello", "over TLS: half a hello, and resets", "connection", half_hello),
    Kind("tls_hello", "over TLS 1.3: a hello, and resets when it is answered", "connection", answered_hello("tls")),
    Kind("tls_retry", "the same, with a key share of another group first", "connection", asks_for_a_retry),
    Kind("tls12_hello", "over TLS 1.2: a hello, and resets when it is answered", "connection", answered_hello("tls12")),
    Kind("tls12_key", "over TLS 1.2: a hello and a key, and resets", "connection", stops_behind_its_key),
    Kind("tls_handshakes", "over TLS 1.3: a handshake, and ends without close_notify", "connection",
         handshakes("tls", truncates)),
    Kind("tls12_handshakes", "the same, over TLS 1.2", "connection", handshakes("tls12", truncates)),
    Kind("tls_closes", "over TLS 1.3: a handshake and close_notify", "connection", handshakes("tls", closes)),
    Kind("tls_resumes", "over TLS 1.3: a session that is resumed, and resets", "connection", resumes),
    Kind("tls_certificates", "over TLS 1.3: a handshake, with 64 KB of certificates that were asked for", "connection",
         sends_certificates("asking"), few=True),
    Kind("tls_certificates_without_bound", "the same, without `short_chains`", "connection",
         sends_certificates("asking_all"), few=True),
    Kind("tls_hello_a_byte_at_a_time", "over TLS: a hello, a byte at a time", "byte", hello_a_byte_at_a_time),
    Kind("tls_hello_in_records_of_a_byte", "over TLS: a hello in records of a byte, one at a time", "record",
         hello_in_records_of_a_byte),
    Kind("tls_long_hello_in_records_of_a_byte", "the last of 30,000 such records", "record",
         long_hello_in_records_of_a_byte, few=True),
    Kind("tls_hello_of_extensions", "over TLS: a hello of 64 KB, of unknown extensions", "byte", hello_of_extensions),
    Kind("tls_records_of_a_byte", "over TLS 1.3: records of a byte, one at a time, each echoed", "record", pieces(b"x", 100, 1)),
    Kind("tls_record_a_byte_at_a_time", "over TLS 1.3: the last bytes of a record of 16 KiB, one at a time", "byte",
         record_a_byte_at_a_time),
    Kind("tls_flood", "over TLS 1.3: 64 KiB at a time, echoed", "byte", pieces(b"x" * LARGE, 16, None)),
    Kind("tls_never_reads", "the same, and reads nothing", "byte", never_reads, few=True),
    Kind("tls_reads_a_byte_at_a_time", "the same, and then reads a byte at a time", "byte it reads", reads_a_byte_at_a_time,
         few=True),
    Kind("tls_key_changes", "over TLS 1.3: a change of both keys and a byte, echoed", "change",
         floods("tls", key_change, never_ends=True), few=True),
    Kind("tls_key_updates", "over TLS 1.3: changes of both keys, until its connection ends", "change",
         floods("tls", Sender13.key_update), few=True),
    Kind("tls_empty_records", "over TLS 1.3: empty records, until its connection ends", "record",
         floods("tls", lambda by_hand: by_hand.record(DATA, b"")), few=True),
    Kind("tls_warnings", "over TLS 1.3: warnings, until its connection ends", "record",
         floods("tls", lambda by_hand: by_hand.record(ALERT, b"\1\x5a")), few=True),
    Kind("tls12_warnings", "over TLS 1.2: warnings, until its connection ends", "record",
         floods("tls12", lambda by_hand: by_hand.record(ALERT, b"\1\x64")), few=True),
    Kind("tls12_renegotiations", "over TLS 1.2: renegotiations, until its connection ends", "record",
         floods("tls12", renegotiation), few=True),
    Kind("tls_unknown_records", "over TLS 1.3: a record of an unknown type, which ends its connection", "record",
         floods("tls", lambda by_hand: by_hand.record(77, b"x")), few=True),
    Kind("tls_forged_records", "over TLS 1.3: a record that is not sealed with the keys, which does, too", "record",
         floods("tls", lambda _: b"\x17\x03\x03\0\x20" + b"x" * 32), few=True),
]
