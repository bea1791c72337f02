#!/usr/bin/env python3
"""Tests the examples that run over TLS: the mail server by STARTTLS, with smtplib, asyncio, OpenSSL's s_client, swaks and
curl; the select server with s_client and Python's ssl; the HTTP server with curl and http.client; and certificates that are
renewed at SIGHUP.

    python3 tests/real/tls_programs.py
    python3 tests/real/tls_programs.py --twisted    Twisted's mail client alone, which needs Twisted with its TLS

after `cargo build --package switchboard-tls --examples`.
"""

import asyncio
import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

import harness
from certificates import make_certificate, make_ec_certificate
from harness import WAIT_S, Checks, Server, connect, name_of, receive, require
from smtp_server import DOTS, Peer, body
from tls import exchange

LIMIT_S = 150
ANY_PORT = "127.0.0.1:0"
MEMORY_MAX_MIB = 60


def program(name):
    return harness.built(os.path.join("examples", name), "cargo build --package switchboard-tls --examples")


@contextlib.contextmanager
def serving(name, *options, files=None):
    """Starts a server with this certificate, or a new one, and yields it with a context for clients that trust it."""
    with tempfile.TemporaryDirectory(prefix="tls-") as folder:
        ca = files["cert"] if files else os.path.join(folder, "own.pem")
        certificate = ["--cert", ca, "--key", files["key"]] if files else ["--write-cert", ca]
        with Server([program(name), ANY_PORT, *certificate, *options]) as server:
            server.ca, server.trusting = ca, ssl.create_default_context(cafile=ca)
            yield server


@contextlib.contextmanager
def mail(*options, files=None):
    """Yields the mail server, and a function that returns what it has stored."""
    with tempfile.TemporaryDirectory(prefix="mail-") as folder:
        with serving("smtp_server_tls", "--maildir", folder, *options, files=files) as server:
            yield server, lambda: [path.read_bytes() for path in sorted(pathlib.Path(folder, "new").iterdir())]


@contextlib.contextmanager
def secure_client(server):
    with connect(server.address) as plain, server.trusting.wrap_socket(plain, server_hostname="localhost") as client:
        client.settimeout(WAIT_S)
        yield client


def ended_well(argv, **options):
    done = subprocess.run(argv, capture_output=True, timeout=WAIT_S, check=False, **options)
    require(done.returncode == 0, f"{argv[0]} ended with {done.returncode}: {done.stdout[-600:]!r} {done.stderr[-600:]!r}")
    return done.stdout


def is_one_secure_message(stored, content=DOTS):
    (message,) = stored()
    require(body(message) == content, f"stored: {message!r}")
    require(re.search(rb"\r\nReceived: from \S+ by localhost with ESMTPS; ", message), f"not over TLS: {message[:200]!r}")


# ------------------------------------------------------------------------------------------------------- STARTTLS


def by_smtplib():
    """STARTTLS is offered once, and what was said before it is forgotten; without it the session continues in plaintext."""
    with mail() as (server, stored):
        with smtplib.SMTP(*server.address, local_hostname="before.example", timeout=WAIT_S) as client:
            client.ehlo()
            require(client.has_extn("starttls"), f"not offered: {client.esmtp_features}")
            require(client.mail("a@example.org")[0] == 250, "no sender")
            client.starttls(context=server.trusting)
            refused = client.docmd("RCPT", "TO:<b@example.org>")
            require(refused[0] == 503, f"the sender of before stands: {refused}")
            refused = client.docmd("MAIL", "FROM:<a@example.org>")
            require(refused[0] == 503, f"the name of before stands: {refused}")
            client.local_hostname = "after.example"
            client.ehlo()
            require(not client.has_extn("starttls"), "offered once more")
            require(client.docmd("STARTTLS")[0] == 503, "done once more")
            require(client.sendmail("a@example.org", ["b@example.org"], DOTS) == {}, "one is refused")
        is_one_secure_message(stored)
        require(b"from after.example by" in stored()[0], f"another name: {stored()[0]!r}")
        with smtplib.SMTP(*server.address, timeout=WAIT_S) as client:
            client.sendmail("a@example.org", ["b@example.org"], b"plain\r\n")
        require(any(b" with ESMTP; " in message and body(message) == b"plain\r\n" for message in stored()), "in the clear")


def smtplib_trusts_no_other(files):
    """A client that does not trust the certificate leaves, which affects no other."""
    with mail() as (server, stored):
        with smtplib.SMTP(*server.address, timeout=WAIT_S) as client:
            try:
                client.starttls(context=ssl.create_default_context(cafile=files["cert"]))
                raise harness.Failed("it was trusted")
            except ssl.SSLCertVerificationError:
                client.close()
        with smtplib.SMTP(*server.address, timeout=WAIT_S) as client:
            client.starttls(context=server.trusting)
            client.sendmail("a@example.org", ["b@example.org"], DOTS)
        is_one_secure_message(stored)


class Secured(asyncio.Protocol):
    """Awaits the replies one by one, before and after `start_tls`."""

    def __init__(self):
        self.buffer, self.came = bytearray(), asyncio.Event()

    def data_received(self, data):
        self.buffer += data
        self.came.set()

    def connection_lost(self, _):
        self.came.set()

    async def reply(self, code):
        while not (found := re.match(rb"(?:\d{3}-[^\r\n]*\r\n)*(\d{3}) [^\r\n]*\r\n", self.buffer)):
            self.came.clear()
            await asyncio.wait_for(self.came.wait(), WAIT_S)
        require(found[1] == code, f"{bytes(self.buffer)!r}, and not {code!r}")
        del self.buffer[: found.end()]


async def asyncio_sends(server, number):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Secured, *server.address)
    await protocol.reply(b"220")
    for line, code in ((b"EHLO asyncio", b"250"), (b"STARTTLS", b"220")):
        transport.write(line + b"\r\n")
        await protocol.reply(code)
    transport = await loop.start_tls(transport, protocol, server.trusting, server_hostname="localhost")
    message = b"number %d\r\n" % number * 5000
    for line, code in ((b"EHLO asyncio", b"250"), (b"MAIL FROM:<a@b.example>", b"250"), (b"RCPT TO:<c@d.example>", b"250"),
                       (b"DATA", b"354"), (message + b".", b"250"), (b"QUIT", b"221")):
        transport.write(line + b"\r\n")
        await protocol.reply(code)
    transport.close()


def by_asyncio():
    """Many clients at once, each with its own message."""
    async def all_at_once(server):
        await asyncio.gather(*(asyncio_sends(server, number) for number in range(40)))

    with mail() as (server, stored):
        asyncio.run(all_at_once(server))
        require({body(text) for text in stored()} == {b"number %d\r\n" % number * 5000 for number in range(40)}, "stored")
        require(server.memory_peak_mib() < MEMORY_MAX_MIB, f"{server.memory_peak_mib():.0f} MiB")
        return f"{server.memory_peak_mib():.0f} MiB at the peak"


def by_s_client(version):
    with mail() as (server, stored):
        argv = ["openssl", "s_client", "-starttls", "smtp", "-connect", "%s:%d" % server.address, "-CAfile", server.ca,
                "-verify_return_error", "-verify_hostname", "localhost", "-quiet", "-tls" + version.replace(".", "_")]
        dotted = re.sub(rb"(?m)^\.", b"..", DOTS)
        session = b"EHLO s_client\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + dotted + b".\r\nQUIT\r\n"
        printed = ended_well(argv, input=session)
        codes = [line[:3] for line in printed.splitlines() if line[3:4] == b" "]
        require(codes[-6:] == [b"250", b"250", b"250", b"354", b"250", b"221"], f"{printed!r}")
        is_one_secure_message(stored)


def by_swaks():
    with mail() as (server, stored):
        host, port = server.address
        ended_well(["swaks", "--server", host, "--port", str(port), "--from", "a@example.org", "--to", "b@example.org", "--tls",
                    "--tls-verify", "--tls-ca-path", server.ca, "--body", "a\n.\nb\n", "--silent", "2"])
        (message,) = stored()
        require(b"\r\n\r\na\r\n.\r\nb\r\n" in message and b" with ESMTPS; " in message, f"stored: {message!r}")


def by_curl():
    with mail() as (server, stored):
        ended_well(["curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", server.ca, "--connect-to",
                    "localhost:%d:%s:%d" % (server.address[1], *server.address), f"smtp://localhost:{server.address[1]}/curl.example",
                    "--mail-from", "a@example.org", "--mail-rcpt", "b@example.org", "--upload-file", "-"], input=DOTS)
        is_one_secure_message(stored)


def injected():
    """Plaintext in the same segment after STARTTLS is not obeyed, neither in plaintext nor over TLS."""
    with mail() as (server, stored):
        for behind in (b"RSET\r\n", b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.org>\r\n", b"R"):
            with Peer(server) as peer:
                peer.socket.sendall(b"STARTTLS\r\n" + behind)
                rest = b""
                with contextlib.suppress(ConnectionResetError):
                    while piece := peer.socket.recv(65536):
                        rest += piece
                require(rest in (b"", b"220 2.0.0 begin TLS\r\n"), f"{rest!r} came")
        by_hand(server)
        is_one_secure_message(stored, b"by hand\r\n")


def by_hand(server):
    with Peer(server) as peer:
        peer.say(b"STARTTLS", b"220")
        with server.trusting.wrap_socket(peer.socket, server_hostname="localhost") as secure:
            secure.sendall(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nby hand\r\n.\r\nQUIT\r\n")
            replies = b""
            while piece := secure.recv(65536):
                replies += piece
            require(replies.endswith(b"\r\n221 2.0.0 goodbye\r\n"), f"{replies!r}")
            secure.unwrap()  # This fails unless it has sent close_notify.


def no_handshake():
    """A client that sends STARTTLS and then no TLS gets an alert and an end."""
    with mail() as (server, stored):
        with Peer(server) as peer:
            peer.say(b"STARTTLS", b"220")
            peer.socket.sendall(b"EHLO in.the.clear\r\n")
            answer = receive(peer.socket, 100)
            require(answer[:2] == b"\x15\x03" and len(answer) == 7, f"no alert alone: {answer!r}")
        for leave in (harness.reset, lambda client: client.shutdown(socket.SHUT_WR), lambda client: client.close()):
            with Peer(server) as peer:
                peer.say(b"STARTTLS", b"220")
                peer.socket.sendall(b"\x16\x03\x01")
                leave(peer.socket)
        by_hand(server)
        is_one_secure_message(stored, b"by hand\r\n")


def ends_in_order():
    """SIGTERM: a client over TLS gets the 421 reply and a proper end."""
    with mail() as (server, _), Peer(server) as peer:
        peer.say(b"STARTTLS", b"220")
        with server.trusting.wrap_socket(peer.socket, server_hostname="localhost") as secure:
            secure.sendall(b"EHLO x\r\n")
            require(b"250 ENHANCEDSTATUSCODES" in secure.recv(65536), "no greeting")
            server.process.send_signal(signal.SIGTERM)
            require(secure.recv(65536).startswith(b"421 "), "not told")
            require(secure.recv(1) == b"", "no end")  # SSLEOFError if there was no close_notify.
            secure.unwrap()
        require(server.process.wait(WAIT_S) == 0, "no clean end")


def no_threads():
    done = subprocess.run([program("smtp_server_tls"), ANY_PORT, "--threads", "2"], capture_output=True, timeout=WAIT_S, check=False)
    require(done.returncode == 1 and b"--threads has no TLS" in done.stderr, f"{done.returncode}: {done.stderr!r}")


def by_twisted():
    """Twisted's mail client, which requires TLS and checks the name."""
    from twisted.internet import reactor, ssl as twisted_ssl
    from twisted.internet.defer import Deferred
    from twisted.mail.smtp import ESMTPSenderFactory
    import io
    import twisted_peer

    with mail() as (server, stored):
        with open(server.ca, "rb") as file:
            trust = twisted_ssl.Certificate.loadPEM(file.read())
        options = twisted_ssl.optionsForClientTLS("localhost", trustRoot=trust)

        def send():
            done = Deferred()
            factory = ESMTPSenderFactory(None, None, b"a@example.org", b"b@example.org", io.BytesIO(DOTS.replace(b"\r\n", b"\n")), done,
                                         contextFactory=options, requireAuthentication=False, requireTransportSecurity=True,
                                         hostname=b"localhost")
            reactor.connectTCP(*server.address, factory)
            return done.addTimeout(WAIT_S, reactor)

        count, results = twisted_peer.in_reactor(send)
        require(count == 1 and results[0][1] == 250, f"{count}, {results}")
        is_one_secure_message(stored)


# -------------------------------------------------------------------------------------- the select and the HTTP server


def lines_by_s_client():
    """An interactive session: each line is printed when it arrives, and so is the end."""
    with serving("select_server_tls") as server:
        argv = ["openssl", "s_client", "-connect", "%s:%d" % server.address, "-CAfile", server.ca, "-verify_return_error",
                "-verify_hostname", "localhost", "-quiet", "-no_ign_eof"]
        person = harness.start(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with person.stdin, person.stderr:
            who = server.wait_for_line(rb"Got connection from \S+").split()[-1].decode()
            for line in ("hello", "over \x1b[2J TLS"):
                person.stdin.write(line.encode() + b"\n")
                person.stdin.flush()
                server.wait_for_text(f"{who}: " + line.replace("\x1b", "\\x1b"))
            person.stdin.close()
            require(person.wait(WAIT_S) == 0, f"{person.returncode}: {person.stderr.read()!r}")
        server.wait_for_text(f"{who} disconnected")


def halves_of_lines():
    """Lines that arrive in pieces, from many clients at once; an unfinished one is printed when its client leaves."""
    with serving("select_server_tls") as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(secure_client(server)) for _ in range(30)]
        names = [name_of(client) for client in clients]
        for piece in (b"a ", b"line ", b"of many\nun", b"finished"):
            for client in clients:
                client.sendall(piece)
        for client, name in zip(clients, names):
            client.unwrap()
            server.wait_for_text(f"{name} disconnected")
            # The number of lines depends on how long each has waited for its end.
            said = [line.split(b": ", 1)[1] for line in server.lines if line.startswith(name.encode() + b": ")]
            require(b"".join(said) == b"a line of manyunfinished" and len(said) >= 2, f"{said}")


def http_by_curl():
    """Connections are kept alive, and a body has the largest size."""
    with serving("http_server_tls") as server, tempfile.TemporaryDirectory() as folder:
        url = f"https://localhost:{server.address[1]}/"
        curl = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", server.ca, "--connect-to",
                "localhost:%d:%s:%d" % (server.address[1], *server.address), "--write-out", " %{http_code} %{num_connects}\n"]
        printed = ended_well([*curl, url, url, url])
        require(re.findall(rb" (\d+) (\d+)\n", printed) == [(b"200", b"1"), (b"200", b"0"), (b"200", b"0")], f"{printed!r}")
        path = os.path.join(folder, "body")
        for size, codes in ((1 << 20, b"200"), ((1 << 20) + 1, b"413")):
            with open(path, "wb") as file:
                file.write(os.urandom(size))
            printed = ended_well([*curl, "--request", "GET", "--data-binary", f"@{path}", url])
            require(printed.split()[-2] == codes, f"{size} bytes: {printed!r}")
        refused = subprocess.run([*curl[:5], url.replace("localhost", "127.0.0.1")], capture_output=True, timeout=WAIT_S, check=False)
        require(refused.returncode == 60, f"trusted by nobody, and yet: {refused}")


def http_by_python():
    """Two hundred requests on one connection, and then as many at once, pipelined."""
    with serving("http_server_tls") as server:
        client = http.client.HTTPSConnection(*server.address, timeout=WAIT_S, context=server.trusting)
        with contextlib.closing(client):
            for _ in range(200):
                client.request("GET", "/")
                with client.getresponse() as answer:
                    text = answer.read()
                    require(answer.status == 200 and text, f"{answer.status}")
        with secure_client(server) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 199 + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answers = bytearray()
            while piece := client.recv(65536):
                answers += piece
            client.unwrap()
            require(answers.count(b"HTTP/1.1 200 OK\r\n") == 200 and answers.count(text) == 200, f"{len(answers)} bytes")
        require(len([line for line in server.lines if b"listening" not in line]) == 0, "it prints")


# ----------------------------------------------------------------------------------------------------- renewed at SIGHUP


def shown(client):
    return hashlib.sha256(client.getpeercert(binary_form=True)).hexdigest()[:16]


def of_file(files):
    with open(files["cert"], encoding="ascii") as file:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(file.read())).hexdigest()[:16]


def reload(server, count=1):
    done = b"the certificate was reloaded"
    server.process.send_signal(signal.SIGHUP)
    server.wait(lambda: server.lines.count(done) == count, done)


def renewed(folder):
    """A later client sees the new certificate, an existing one keeps its own, and a bad certificate changes nothing."""
    old, new = make_ec_certificate(folder), make_certificate(folder, ["rsa:2048"])
    used = {name: os.path.join(folder, f"used-{name}.pem") for name in old}

    def use(files):
        for name, path in files.items():
            shutil.copy(path, used[name])

    use(old)
    with serving("tls_echo", files=used) as server, contextlib.ExitStack() as stack:
        server.trusting.load_verify_locations(new["cert"])
        first = stack.enter_context(secure_client(server))
        require(shown(first) == of_file(old), "another certificate")
        use(new)
        second = stack.enter_context(secure_client(server))
        require(shown(second) == of_file(old), "loaded before it was told to")
        reload(server)
        third = stack.enter_context(secure_client(server))
        require(shown(third) == of_file(new), "not the new one")
        shutil.copy(old["cert"], used["cert"])
        server.process.send_signal(signal.SIGHUP)
        server.wait(lambda: any(b"cannot reload the certificate: " in line and b"does not belong" in line
                                for line in server.errors), "told of a certificate without its key")
        fourth = stack.enter_context(secure_client(server))
        require(shown(fourth) == of_file(new), "no good one any more")
        for client, files in ((first, old), (second, old), (third, new), (fourth, new)):
            message = os.urandom(200_000)
            require(exchange(client, message) == message, "an echo differs")
            require(shown(client) == of_file(files), "its certificate has changed")
            client.unwrap()
        require(server.alive(), "it has ended")


def renewed_in_the_middle(folder):
    """A mail session that began before gets the new certificate at STARTTLS; and a self-made certificate is renewed too."""
    with mail() as (server, _), Peer(server) as peer:
        with open(server.ca, encoding="ascii") as file:
            before = file.read()
        reload(server)
        with open(server.ca, encoding="ascii") as file:
            require(file.read() != before, "the same one")
        peer.say(b"STARTTLS", b"220")
        context = ssl.create_default_context(cafile=server.ca)
        with context.wrap_socket(peer.socket, server_hostname="localhost") as secure:
            secure.sendall(b"QUIT\r\n")
            require(secure.recv(100).startswith(b"221 "), "no answer")
        shutil.copy(server.ca, os.path.join(folder, "own.pem"))


def main():
    checks = Checks(LIMIT_S)
    if "--twisted" in sys.argv:
        checks.run("STARTTLS: Twisted's mail client", by_twisted)
        checks.finish()
    with tempfile.TemporaryDirectory(prefix="tls-") as folder:
        other = make_ec_certificate(folder)
        checks.run("STARTTLS: smtplib", by_smtplib)
        checks.run("STARTTLS: smtplib trusts no other", smtplib_trusts_no_other, other)
        checks.run("STARTTLS: asyncio, 40 at once", by_asyncio)
        for version in ("1.2", "1.3"):
            checks.run(f"STARTTLS: openssl s_client, TLS {version}", by_s_client, version)
        if shutil.which("swaks"):
            checks.run("STARTTLS: swaks", by_swaks)
        else:
            checks.skip("STARTTLS: swaks", "apt-get install swaks libnet-ssleay-perl")
        checks.run("STARTTLS: curl", by_curl)
        checks.run("STARTTLS: what is said behind it in the clear", injected)
        checks.run("STARTTLS: and then no TLS", no_handshake)
        checks.run("STARTTLS: a clean end", ends_in_order)
        checks.run("STARTTLS: not by threads", no_threads)
        checks.run("lines: openssl s_client", lines_by_s_client)
        checks.run("lines: in pieces, from many", halves_of_lines)
        checks.run("HTTP: curl", http_by_curl)
        checks.run("HTTP: Python's http.client, and pipelined", http_by_python)
        checks.run("SIGHUP: a renewed certificate", renewed, folder)
        checks.run("SIGHUP: in the middle of a session", renewed_in_the_middle, folder)
    checks.finish()


if __name__ == "__main__":
    main()
