#!/usr/bin/env python3
"""Sends almost correct random requests, cut at random, to the HTTP server example and to Node's parser.

    python3 tests/real/http_against_node.py [COUNT [SEED]]

after `cargo build --examples --all-features`. Ours must not answer a request that Node rejects, and
if both accept one, both must start the next one at the same byte: bodies are full of text that looks like requests,
which a server that misplaces the end of a body would answer. Ours may reject more, but no correct request.

Three differences are intended. We answer methods that Node does not know (`is_of_method`). The others are in heads, and
Node is given heads without them (`for_node`): RFC 9112, section 2.2, allows a line of a head to end with LF alone,
which we accept, as nginx does, and Node does not. And whitespace around a value is not part of it (section 5.1), but
Node does not accept a tab after a transfer coding.
"""

import base64
import collections
import contextlib
import json
import random
import re
import socket
import subprocess
import sys

import harness
from harness import Checks, Server, connect, example, require

LIMIT_S = 120
COUNT = 4000
SEED = 15
REFUSALS = (400, 413, 414, 417, 431, 501, 505)

# Prints how Node parses each stream: what it would answer, and its final error. It is given the pieces one by one,
# without a socket, so that they are not merged on the way.
NODE = r"""
const http = require('http');
const { Duplex } = require('stream');
const server = http.createServer((request, response) => {
  const log = request.socket.log;
  request.on('error', () => {});
  request.on('end', () => {
    const known = request.method === 'GET' || request.method === 'HEAD';
    log.push(!known ? 405 : request.url === '/' ? 200 : 404);
    response.end();
  });
  request.resume();
});
server.on('clientError', (error, socket) => { socket.failure ??= [error.code, socket.seen + (error.bytesParsed ?? 0)]; });
const turn = () => new Promise(setImmediate);
async function take(pieces) {
  const socket = new Duplex({ read() {}, write(data, encoding, done) { done(); } });
  socket.on('error', () => {});
  socket.log = [];
  socket.seen = 0;
  server.emit('connection', socket);
  socket.on('data', (data) => { socket.seen += data.length; });  // Behind the server's listener: the pieces before this one.
  for (const piece of pieces) {
    if (socket.failure) break;
    socket.push(Buffer.from(piece, 'base64'));
    await turn();
  }
  if (!socket.failure) socket.push(null);
  for (let turns = 0; turns < 8; turns++) await turn();
  socket.destroy();
  const isCut = socket.failure?.[0] === 'HPE_INVALID_EOF_STATE';  // Which is no error.
  return [socket.log, isCut ? null : socket.failure ?? null];
}
(async () => {
  let text = '';
  for await (const data of process.stdin) text += data;
  for (const line of text.split('\n')) if (line) console.log(JSON.stringify(await take(JSON.parse(line))));
  process.exit(0);
})();
"""


def as_node(streams):
    """Returns, for each stream of pieces, the statuses, and the error and its position, or None."""
    lines = "".join(json.dumps([base64.b64encode(piece).decode() for piece in pieces]) + "\n" for pieces in streams)
    done = subprocess.run(["node", "-e", NODE], input=lines.encode(), capture_output=True, timeout=LIMIT_S, check=False)
    require(done.returncode == 0, f"node ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    require(len(found) == len(streams), f"node took {len(found)} of {len(streams)}")
    return found


def ours(address, pieces):
    """The same for the example."""
    received = bytearray()
    with connect(address) as client:
        with contextlib.suppress(OSError):  # It has closed the connection: what it sent before can still be read.
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(1 << 16):
                received += data
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) [A-Z]", received)]
    refusal = found.pop() if found and found[-1] in REFUSALS else None
    return found, refusal


# ------------------------------------------------------------------------------------------------------ the streams

HIDDEN = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n", b"0\r\n\r\n", b"x", b"5\r\n",
          b"\r\n0\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"]
EXTENSIONS = [b"", b"", b"", b";x", b";x=y", b';x="y"', b';x="a\\"b;c"', b";x;y=z", b";x=1"]
TRAILERS = [b"", b"", b"", b"X: y\r\n", b"X:\r\n", b"X: y\r\nZ: \xe9\r\n"]
HOSTS = [b"x", b"x", b"x.example:80", b"[::1]", b""]

# Half of the streams contain one of these somewhere; most of them are wrong there.
ODD = {
    "size": [b"", b" ", b"+%x", b"-%x", b"0x%x", b" %x", b"%x ", b"%x\t", b"%x\0", b"%x\n", b"%x\r", b"0" * 16 + b"%x", b"00%x", b"%x,",
             b"%x %x", b"%xh", b"\r\n%x", b"%x_", b"f" * 16, b"1" + b"0" * 16, b"x", b"\xef\xbc\x91"],
    "extension": [b";", b";;x", b";=y", b";x=", b";x=\"y", b";x=\"y\"z", b";x\n", b";x\r", b";x\0y", b";x\x01", b";x\x7f", b";\n0\r\n\r\n", b";x y",
                  b";x=\"\n\"", b";x=\"\r\n\"", b"; x", b" ;x", b";x ", b";x= y", b";\xe9", b";x=\xe9", b";" + b"x" * 2000, b";x\n\r\n"],
    "end of line": [b"\n", b"\r", b"\r\r\n", b"", b" \r\n", b"\r\n\r\n", b"\n\r", b"\r \n", b"\0\r\n", b"\x0b\r\n"],
    "trailer": [b"no colon\r\n", b"no-colon\r\n", b": y\r\n", b"X : y\r\n", b" X: y\r\n", b"X: y\r\n z\r\n", b"X: \0\r\n", b"X: y\n", b"\n",
                b"X: y\rZ: a\r\n", b"\r\r\n", b"X: \x7f\r\n", b"\xe9: y\r\n", HIDDEN[0], b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"],
    "field": [b"Content-Length: 0\r\n", b"Content-Length: 7\r\n", b"content-length:3\r\n", b"Content-Length: +3\r\n", b"Content-Length: 0x3\r\n",
              b"Content-Length: 3, 3\r\n", b"Content-Length:\r\n", b"Content-Length: 3 \r\n", b"Content-Length : 3\r\n", b"Content-Length: 3\n",
              b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: chunked, chunked\r\n",
              b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding:\tchunked\t\r\n",
              b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding: chunked\x0b\r\n", b"Transfer-Encoding:\r\n chunked\r\n",
              b"Transfer-Encoding: CHUNKED\r\n", b"Transfer-Encoding: \"chunked\"\r\n", b"Transfer-Encoding: chunked;q=1\r\n", b"Transfer-Encoding:\r\n",
              b"X: y\r\n z\r\n", b"X\r\n", b": y\r\n", b"X: \0\r\n", b"X: y\rContent-Length: 3\r\n", b" X: y\r\n", b"X\0: y\r\n", b"X\xe9: y\r\n",
              b"X: \xe9\r\n", b"Host: y\r\n", b"X: \x7f\r\n", b"X: y\n", b"Transfer-Encoding: chunked\n"],
    "byte": [bytes([byte]) for byte in b"\r\n\0 \t;:,=\"\\0a\x7f\xff"],
}
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n"


def for_node(head):
    head = re.sub(rb"(?<!\r)\n", b"\r\n", head)
    return re.sub(rb"(?i)(\ntransfer-encoding:)[ \t]*(chunked)[ \t]*\r", rb"\1 \2\r", head)


class Random:
    """Generates streams; each may be malformed in one or two places."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.odd = None

    def choose(self, kind, right):
        """Returns something malformed of this kind if it is its turn, otherwise something correct."""
        if self.odd == kind and self.rng.random() < 0.3:
            return self.rng.choice(ODD[kind])
        return right

    def end(self):
        return self.choose("end of line", b"\r\n")

    def data(self):
        return b"".join(self.rng.choice(HIDDEN) for _ in range(self.rng.randint(1, 3)))

    def chunk(self, data):
        size = self.choose("size", b"%x").replace(b"%x", b"%x" % len(data))
        return size + self.choose("extension", self.rng.choice(EXTENSIONS)) + self.end() + data

    def body(self):
        chunks = b"".join(self.chunk(self.data()) + self.end() for _ in range(self.rng.randint(0, 3)))
        return chunks + self.chunk(b"") + self.choose("trailer", self.rng.choice(TRAILERS)) + self.end()

    def request(self):
        rng = self.rng
        kind = rng.choice(["none", "length", "chunked", "chunked", "chunked"])
        line = rng.choice([b"GET /", b"GET /no", b"HEAD /", b"POST /", b"PUT /a?b"] if kind == "none" else [b"POST /", b"GET /", b"PUT /no"])
        body, fields = b"", [b"Host: " + rng.choice(HOSTS), b"X-Y: z"]
        if kind == "length":
            body = self.data()
            fields.append(b"Content-Length: %d" % len(body))
        elif kind == "chunked":
            body = self.body()
            fields.append(rng.choice([b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked"]))
        rng.shuffle(fields)
        head = b"".join(field + self.end() + self.choose("field", b"") for field in fields) + self.end()
        if self.odd == "byte" and rng.random() < 0.7:
            if rng.random() < 0.3 or not body:
                head = self.change_byte(head)
            else:
                body = self.change_byte(body)
        return line + b" HTTP/1.1\r\n" + head, body

    def change_byte(self, text):
        """Removes, replaces or inserts one byte."""
        place = self.rng.randrange(len(text))
        return text[:place] + self.rng.choice([b"", *ODD["byte"]]) + text[place + self.rng.randint(0, 1):]

    def cut(self, stream):
        cuts = sorted(self.rng.sample(range(1, len(stream)), self.rng.choice([0, 1, 2, 5])))
        return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)])]

    def stream(self):
        """Returns what is malformed, the pieces, and those that Node is given."""
        self.odd = self.rng.choice([None, *ODD, *ODD])
        ours, nodes = b"", b""
        for _ in range(self.rng.randint(1, 3)):
            head, body = self.request()
            behind = body + self.rng.choice([b"", b"", b"", b"\r\n"])
            ours += head + behind
            nodes += for_node(head) + behind
        return self.odd, self.cut(ours + LAST), self.cut(nodes + LAST)


# ------------------------------------------------------------------------------------------------------- the checks


def is_of_method(error, stream):
    """Returns whether Node merely does not know this method: what it sees as the next request has another one."""
    if not error or error[0] != "HPE_INVALID_METHOD":
        return False
    # It reports how far it got in the method, but not where that begins, which may be in the middle of a word.
    begins = range(error[1] - len(re.search(rb"[!-~]*$", stream[:error[1]])[0]), error[1] + 1)
    methods = [re.match(rb"([!-~]+) [/*]", stream[begin:]) for begin in begins]
    return any(method and method[1] not in (b"GET", b"HEAD", b"POST", b"PUT") for method in methods)


def same(count, seed):
    made = Random(seed)
    streams = [made.stream() for _ in range(count)]
    expected = as_node([pieces for *_, pieces in streams])
    outcomes = collections.Counter()
    with Server([example("http_server"), "127.0.0.1:0"]) as server:
        for (odd, pieces, nodes), (statuses, error) in zip(streams, expected):
            found, refusal = ours(server.address, pieces)
            stream = b"".join(pieces)
            said = f"{odd}: {stream}\n    ours: {found}, {refusal}; Node's: {statuses}, {error}"
            # Nothing that Node rejects is answered, and no request begins elsewhere.
            if is_of_method(error, b"".join(nodes)) and found[:len(statuses) + 1] == [*statuses, 405]:
                outcomes["with a method that Node does not know"] += 1
                continue
            require(found == statuses[:len(found)] and (refusal or len(found) == len(statuses)), said)
            require(odd or (refusal, error) == (None, None), said)
            outcomes[f"{'refused' if refusal else 'taken'} by us, {'refused' if error else 'taken'} by Node"] += 1
        server.require_quiet()
    require(len(outcomes) >= 3, f"only {outcomes}: it proves little")
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    checks = Checks(LIMIT_S if count <= COUNT else LIMIT_S * count // COUNT)
    checks.run(f"{count} streams of seed {seed}", same, count, seed)
    checks.finish()


if __name__ == "__main__":
    main()
