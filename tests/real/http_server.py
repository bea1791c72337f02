#!/usr/bin/env python3
"""The HTTP server example with Python's http.client and wrk, with malformed requests, and compared with nginx.

    python3 tests/real/http_server.py

after `cargo build --examples --all-features`.
"""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import harness
from harness import WAIT_S, Checks, Server, Trace, connect, example, receive, require

LIMIT_S = 200
TEXT = b"Hello, World!\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD_BYTES_MAX = 16 << 10
BODY_BYTES_MAX = 1 << 20
REQUEST_TIMEOUT_S = 10


def http_server():
    return Server([example("http_server"), "127.0.0.1:0"])


def answers_to(address, *pieces):
    """Returns everything received until the server closes, which it does at our end of stream at the latest."""
    with connect(address) as client:
        with contextlib.suppress(OSError):  # It has closed the connection: what it sent before can still be read.
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(1 << 20):
                received += data
        return bytes(received)


def statuses(answers):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) [A-Z]", answers)]


def read_answer(client, is_head=False):
    """Reads the status, the fields and the body of one answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        require(byte, f"the server has closed, after {head!r}")
        head += byte
    lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    length = 0 if is_head else int(fields["content-length"])
    body = receive(client, length)
    require(len(body) == length, "half a body")
    return int(lines[0].split()[1]), fields, body


# ---------------------------------------------------------------------------------------------------------- the clients


def with_http_client():
    with http_server() as server:
        client = http.client.HTTPConnection(*server.address, timeout=WAIT_S)
        for n in range(100):
            method, path, body, status, text = [
                ("GET", "/", None, 200, TEXT), ("HEAD", "/", None, 200, b""), ("GET", "/no", None, 404, b"404 Not Found\n"),
                ("POST", "/", b"x" * 3000, 405, b"405 Method Not Allowed\n"),
                ("PUT", "/", iter([b"a" * 3000, b"b"]), 405, b"405 Method Not Allowed\n")][n % 5]
            before = client.sock
            client.request(method, path, body)  # A body from an iterator is sent chunked.
            answer = client.getresponse()
            require((answer.status, answer.read()) == (status, text), f"{method} {path}: {answer.status}")
            require(before in (None, client.sock), "it was not kept alive")
        client.request("GET", "/", headers={"Connection": "close"})
        answer = client.getresponse()
        require(answer.read() == TEXT and answer.getheader("Connection") == "close", "not closed")
        client.close()
        with connect(server.address) as client:
            client.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
            for _ in range(2):
                require(read_answer(client)[1]["connection"] == "keep-alive", "not kept alive")
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            require(read_answer(client)[1]["connection"] == "close" and client.recv(1) == b"", "not closed")


def with_wrk():
    with http_server() as server:
        done = subprocess.run(["wrk", "-t1", "-c50", "-d2s", "http://%s:%d/" % server.address], capture_output=True, timeout=60,
                              check=False)
        out = done.stdout.decode()
        require(done.returncode == 0 and "Socket errors" not in out and "Non-2xx" not in out, f"{out} {done.stderr}")
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
        require(rate > 100, f"{rate} requests a second")
        server.require_quiet()


def pipelined():
    with http_server() as server, connect(server.address) as client:
        client.sendall(GET)
        require(read_answer(client)[2] == TEXT, "another answer")
        with Trace(server.pid) as trace:
            client.sendall((GET + GET.replace(b"GET", b"HEAD")) * 500)
            for _ in range(500):
                require(read_answer(client)[2] == TEXT and read_answer(client, is_head=True)[0] == 200, "another answer")
        counts = trace.counts()
        reads, writes = (sum(counts.get(name, 0) for name in names) for names in (("recvfrom", "read"), ("sendto", "sendmsg", "write")))
        require(1 <= writes <= 100 and reads <= 100, f"{writes} writes and {reads} reads")
        # Data after the last request of a connection is not a request.
        got = answers_to(server.address, GET + GET.replace(b"x\r\n", b"x\r\nConnection: close\r\n") + GET)
        require(statuses(got) == [200, 200], f"{statuses(got)}")
        return f"{reads} reads and {writes} writes for 1,000 requests"


def in_any_pieces():
    """Requests of all kinds, byte by byte: the same answers."""
    stream = (GET + b"\r\n" + b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nGET / HTTP/" + b"HEAD / HTTP/1.1\nHost: x\n\n"
              + b"PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: u\r\n\r\n" + GET
              + b"GET /no HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab" + GET)
    with http_server() as server:
        for pieces in ([stream], [stream[n:n + 1] for n in range(len(stream))], [stream[n:n + 7] for n in range(0, len(stream), 7)]):
            got = statuses(answers_to(server.address, *pieces))
            require(got == [200, 405, 200, 405, 200, 100, 404, 200], f"{got} in {len(pieces)} pieces")


# ------------------------------------------------------------------------------------------------------- bad requests

H = b"Host: x\r\n"
REFUSED = {  # What follows it must not be answered.
    400: [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + H + H + b"\r\n",
          b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
          b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
          b"GET / HTTP/1.1\r\n" + H + b"Content-Length: x\r\n\r\n", b"GET / HTTP/1.1\r\n" + H + b"Content-Length: -1\r\n\r\n",
          b"GET / HTTP/1.1\r\n" + H + b"Content-Length : 3\r\n\r\n", b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n",
          b"GET / HTTP/1.1\r\n" + H + b"No field\r\n\r\n", b"GET / HTTP/1.1\r\n" + H + b": none\r\n\r\n", b"GET / x HTTP/1.1\r\n" + H + b"\r\n",
          b"GET / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
          b"GET / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", b"GET x HTTP/1.1\r\n" + H + b"\r\n",
          b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET / HTTP/1.1\r\n" + H + b"X: \0\r\n\r\n"],
    413: [b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1048577\r\n\r\n",
          b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n"],
    414: [b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n" + H + b"\r\n", b"GET /" + b"x" * 100_000],
    417: [b"GET / HTTP/1.1\r\n" + H + b"Expect: tea\r\n\r\n"],
    431: [b"GET / HTTP/1.1\r\n" + H + b"X: " + b"y" * 20_000 + b"\r\n\r\n", b"GET / HTTP/1.1\r\n" + H + b"X: y\r\n" * 101 + b"\r\n",
          b"GET / HTTP/1.1\r\n" + H + b"X: " + b"y" * 100_000],
    501: [b"GET / HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip\r\n\r\n", b"GET / HTTP/1.1\r\n" + H + b"Transfer-Encoding: x, chunked\r\n\r\n"],
    505: [b"GET / HTTP/2.0\r\n" + H + b"\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
}

C = b"GET / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
# Accepted by nginx, but not by Node or not by RFC 9112.
STRICTER = {
    400: [*(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n" for host in (b"x, y", b"u@x", b"[::1", b"x y", b":80", b"x:y", b"x/")),
          b"GET http://u@x/ HTTP/1.1\r\n" + H + b"\r\n", b"GET http://[::1/ HTTP/1.1\r\n" + H + b"\r\n",
          *(C + size + b"\r\n\r\n" for size in (b"", b";x", b" ", b"0;", b"0;=x", b"0;x\n", b"0;x\0", b"0 ", b"0" * 17, b"0;" + b"x" * 1021)),
          *(C + b"0\r\n" + trailer + b"\r\n" for trailer in (b"no colon\r\n", b"X : y\r\n", b"X: y\r\n z\r\n", b"X: y\n", b"X: y\rZ: a\r\n",
                                                        b"X: \0\r\n", b"Content-Length: 3\r\n"))],
}


def bad_requests():
    with http_server() as server:
        for status, requests in [*REFUSED.items(), *STRICTER.items()]:
            for request in requests:
                with connect(server.address) as client:
                    with contextlib.suppress(OSError):
                        client.sendall(GET + request + GET)  # Our half stays open: it is the server that closes.
                    require(read_answer(client)[0] == 200, "no answer to what was before")
                    got, fields, _ = read_answer(client)
                    require(got == status and fields["connection"] == "close", f"{got} to {request[:100]}")
                    with contextlib.suppress(ConnectionResetError):
                        require(client.recv(100) == b"", f"something behind {request[:100]}")
        server.require_quiet()
    return f"{sum(len(requests) for kinds in (REFUSED, STRICTER) for requests in kinds.values())} kinds"


# Those that nginx treats as we do; it checks targets differently, and has other limits.
AS_NGINX = [GET, GET * 3, b"HEAD / HTTP/1.1\r\n" + H + b"\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET /no HTTP/1.1\r\n" + H + b"\r\n" + GET,
            b"\r\n" + GET, GET.replace(b"\r\n", b"\n"), b"GET http://x/ HTTP/1.1\r\n" + H + b"\r\n", b"GET /?a=b HTTP/1.1\r\n" + H + b"\r\n",
            b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\n\r\nabc" + GET,
            b"GET / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: u\r\n\r\n" + GET,
            b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc" + GET,
            b"GET / HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n" + GET, b"GET / HTTP/1.1\r\nhOsT:x\r\n\r\n",
            # Except those that it takes for HTTP/0.9, and HTTP/2 without TLS, which it may support.
            *(request + GET for status in (400, 501, 505) for request in REFUSED[status]
              if request != b"GET /\r\n\r\n" and not request.startswith(b"PRI "))]


NGINX = """
daemon off; master_process off; pid {scratch}/pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; default_type text/plain;
  client_body_temp_path {scratch}/a; proxy_temp_path {scratch}/b; fastcgi_temp_path {scratch}/c;
  uwsgi_temp_path {scratch}/d; scgi_temp_path {scratch}/e;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = / {{ return 200 "Hello, World!\\n"; }}
    location / {{ return 404; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(*prefix):
    """Yields the address and the process of an nginx with one worker that gives the same answers as ours."""
    with tempfile.TemporaryDirectory() as scratch:
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            address = chosen.getsockname()
        path = os.path.join(scratch, "nginx.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(NGINX.format(scratch=scratch, port=address[1]))
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        server = harness.start([*prefix, program, "-p", scratch, "-c", path], stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + WAIT_S
            while harness.refused(address):
                require(server.poll() is None and time.monotonic() < deadline, "nginx does not listen")
                time.sleep(harness.POLL_S)
            yield address, server
        finally:
            code = harness.end(server, signal.SIGTERM)
            server.stderr.close()
        require(code == 0, f"nginx ended otherwise: {code}")


def as_nginx():
    differ = []
    with http_server() as server, nginx() as (address, _):
        for request in AS_NGINX:
            expected, got = (statuses(answers_to(asked, request)) for asked in (address, server.address))
            if got != expected:
                differ.append((request[:80], got, expected))
    require(not differ, "\n    ".join(["", *map(str, differ)]))
    return f"{len(AS_NGINX)} streams"


# ----------------------------------------------------------------------------------------------------------- the bounds


def slow_requests_are_ended():
    """A slow or incomplete request gets an answer after ten seconds; a connection waiting between requests does not."""
    parts = [b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
             b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf", GET + b"GET"]
    with http_server() as server, contextlib.ExitStack() as sockets:
        idle, asking, dripping = (sockets.enter_context(connect(server.address)) for _ in range(3))
        clients = [sockets.enter_context(connect(server.address)) for _ in range(50 * len(parts))]
        begin = time.monotonic()
        for n, client in enumerate(clients):
            client.sendall(parts[n % len(parts)])
        ended = threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                dripping.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
                while not ended.wait(0.2):
                    dripping.sendall(b"y")

        dripper = threading.Thread(target=drip, daemon=True)
        dripper.start()
        with harness.others_meanwhile():
            while time.monotonic() < begin + REQUEST_TIMEOUT_S - 1:  # Others are served for longer than that.
                asking.sendall(GET)
                require(read_answer(asking)[0] == 200, "not served")
                harness.left_alone(0.5)
            for n, client in [*enumerate(clients), (0, dripping)]:
                client.settimeout(REQUEST_TIMEOUT_S + WAIT_S)
                if n % len(parts) == 4:
                    require(read_answer(client)[0] == 200, "no answer to what was whole")
                require(read_answer(client)[0] == 408 and client.recv(1) == b"", "not ended")
                took_s = time.monotonic() - begin
                require(REQUEST_TIMEOUT_S - 0.1 <= took_s, f"ended after {took_s:.2f} s")
        ended.set()
        dripper.join(WAIT_S)
        for client in (asking, idle):
            client.sendall(GET)
            require(read_answer(client)[0] == 200, "ended, though there was no request")
        return f"{len(clients) + 1} of them after {took_s:.1f} s"


def one_who_does_not_read():
    """A client pipelines 300,000 requests without reading: the server holds them back, and serves others meanwhile."""
    count = 300_000
    with http_server() as server, connect(server.address) as client, connect(server.address) as other:
        client.settimeout(LIMIT_S)  # The timeout of the whole `sendall`.
        sender = threading.Thread(target=client.sendall, args=(GET * count,), daemon=True)
        sender.start()
        seen = -1
        while seen != (seen := server.cpu_s()) or not server.is_asleep():
            harness.left_alone(0.3)
        require(sender.is_alive(), "all was taken")
        other.sendall(GET)
        require(read_answer(other)[0] == 200, "not served")
        server.require_idle()
        left = count
        buffered = b""
        while left:
            data = client.recv(1 << 20)
            require(data, f"the server has closed, {left} answers before the end")
            buffered += data
            whole = buffered.count(TEXT)
            left -= whole
            buffered = buffered[buffered.rfind(TEXT) + len(TEXT):] if whole else buffered
        sender.join(WAIT_S)
        peak_mib = server.memory_peak_mib()
        require(peak_mib < 32, f"{peak_mib:.0f} MiB at the peak")
        return f"{peak_mib:.0f} MiB at the peak"


def ends_cleanly(number):
    with http_server() as server:
        with connect(server.address) as client:
            client.sendall(GET)
            require(read_answer(client)[0] == 200, "not served")
            require(server.end(number) == 0, "another exit code")
        require(not server.errors, f"{server.errors}")


def main():
    checks = Checks(LIMIT_S)
    checks.begin("slow requests are ended", slow_requests_are_ended)  # The longest check: the others run meanwhile.
    checks.begin("Python's http.client", with_http_client)
    checks.begin("wrk", with_wrk)
    checks.begin("pipelined: answers go out together", pipelined)
    checks.begin("in any pieces", in_any_pieces)
    checks.begin("bad requests, and nothing behind them", bad_requests)
    checks.begin("as nginx", as_nginx)
    checks.begin("one who does not read", one_who_does_not_read)
    checks.begin("SIGINT", ends_cleanly, signal.SIGINT)
    checks.begin("SIGTERM", ends_cleanly, signal.SIGTERM)
    checks.finish()


if __name__ == "__main__":
    main()
