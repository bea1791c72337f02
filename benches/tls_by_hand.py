"""Records that Python's ssl does not send, such as key updates and empty ones, made with the keys of a handshake that it did.

Only with ChaCha20-Poly1305 (RFC 8439), which takes the fewest lines, and slowly: for records of a few bytes.
"""

import hashlib
import hmac
import struct

HANDSHAKE, ALERT, DATA = 22, 21, 23
WORD = 0xFFFFFFFF
QUARTERS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
            (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def block(key, counter, nonce):
    """64 bytes of the key stream of ChaCha20."""
    begin = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *struct.unpack("<8L", key), counter, *struct.unpack("<3L", nonce))
    state = list(begin)
    for _ in range(10):
        for a, b, c, d in QUARTERS:
            for add, turned, left in ((b, d, 16), (d, b, 12), (b, d, 8), (d, b, 7)):
                to = a if turned == d else c
                state[to] = (state[to] + state[add]) & WORD
                mixed = state[turned] ^ state[to]
                state[turned] = (mixed << left | mixed >> (32 - left)) & WORD
    return struct.pack("<16L", *((one + other) & WORD for one, other in zip(state, begin)))


def authenticator(key, data):
    """Poly1305."""
    factor = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at:at + 16] + b"\1", "little")) * factor % ((1 << 130) - 5)
    return ((total + int.from_bytes(key[16:], "little")) & ((1 << 128) - 1)).to_bytes(16, "little")


def sealed(key, nonce, plain, beside):
    stream = b"".join(block(key, 1 + number, nonce) for number in range(len(plain) // 64 + 1))
    text = bytes(one ^ other for one, other in zip(plain, stream))
    padded = b"".join(part + bytes(-len(part) % 16) for part in (beside, text))
    return text + authenticator(block(key, 0, nonce)[:32], padded + struct.pack("<QQ", len(beside), len(text)))


def expand(secret, label, count):
    """HKDF-Expand-Label (RFC 8446, 7.1), with an empty context, for as much as one hash."""
    info = struct.pack(">HB", count, 6 + len(label)) + b"tls13 " + label + b"\0\1"
    return hmac.digest(secret, info, hashlib.sha256)[:count]


def key_block(secret, seed, count):
    """The PRF of TLS 1.2 (RFC 5246, 5), for keys."""
    seed, made = b"key expansion" + seed, b""
    chained = seed
    while len(made) < count:
        chained = hmac.digest(secret, chained, hashlib.sha256)
        made += hmac.digest(secret, chained + seed, hashlib.sha256)
    return made[:count]


class Sender13:
    """Makes the records of one side of a connection with TLS 1.3, from its traffic secret."""

    def __init__(self, secret):
        self.secret, self.sent = secret, 0
        self.key, self.iv = expand(secret, b"key", 32), expand(secret, b"iv", 12)

    def record(self, kind, payload):
        nonce = (int.from_bytes(self.iv, "big") ^ self.sent).to_bytes(12, "big")
        self.sent += 1
        header = b"\x17\x03\x03" + struct.pack(">H", len(payload) + 1 + 16)
        return header + sealed(self.key, nonce, payload + bytes([kind]), header)

    def key_update(self):
        """Also asks for an update of the other side's keys."""
        record = self.record(HANDSHAKE, b"\x18\0\0\1\1")
        self.__init__(expand(self.secret, b"traffic upd", 32))
        return record


class Sender12:
    """The same for the client's side of TLS 1.2, from the master secret and the randoms of server and client."""

    def __init__(self, secret, randoms):
        keys = key_block(secret, randoms, 88)
        self.key, self.iv, self.sent = keys[:32], keys[64:76], 1  # Its Finished was the first.

    def record(self, kind, payload):
        nonce = (int.from_bytes(self.iv, "big") ^ self.sent).to_bytes(12, "big")
        beside = struct.pack(">QBHH", self.sent, kind, 0x0303, len(payload))
        self.sent += 1
        return struct.pack(">BHH", kind, 0x0303, len(payload) + 16) + sealed(self.key, nonce, payload, beside)
