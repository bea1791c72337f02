#!/usr/bin/env python3
"""Tests TLS against other implementations: the echo server of companions/tls with OpenSSL's s_client, Python's ssl and
gnutls-cli, and its client with OpenSSL's s_server and Python's ssl.  Both versions, resumption, names, ends with
close_notify and without.

    python3 tests/real/tls.py          these
    python3 tests/real/tls.py --long   those that take minutes: handshakes that never finish, testssl.sh, a browser
"""

import contextlib
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import harness
import tls_attacks
from certificates import make_certificate, make_ec_certificate, server_context
from harness import WAIT_S, Checks, Server, connect, name_of, receive, require

LIMIT_S = 150
LONG_LIMIT_S = 900
PROGRAM = ("tls_echo", "cargo build --package switchboard-tls --examples")
LARGE = bytes(range(256)) * 4096
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
CUT_OFF = "the stream was truncated"


def program():
    return harness.built(os.path.join("examples", PROGRAM[0]), PROGRAM[1])


# --------------------------------------------------------------------------------------------- clients of others


def context_for(ca, version):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


@contextlib.contextmanager
def python_client(server, ca, version, name="localhost", session=None, context=None):
    context = context or context_for(ca, version)
    with connect(server.address) as plain:
        with context.wrap_socket(plain, server_hostname=name, session=session) as client:
            yield client


def exchange(client, data):
    """Sends this while receiving as many bytes, in one thread: OpenSSL must not be called from two for one connection, and
    before 3.13 Python did not prevent that (with Python's own server, 15 of 150 echoes by two threads were cut short).
    """
    received, rest = bytearray(), memoryview(data)
    client.setblocking(False)
    while len(received) < len(data):
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            rest = rest[client.send(rest):] if rest else rest
        try:
            piece = client.recv(65536)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            ready = select.select([client], [client] if rest else [], [], WAIT_S)
            require(any(ready), f"nothing for {WAIT_S} s behind {len(received)} bytes")
            continue
        if not piece:
            break
        received += piece
    client.settimeout(WAIT_S)
    return bytes(received)


def is_gone(server, who, reason):
    server.wait_for_text(f"{who} is gone: {reason}")


def python_echoes(server, ca, version):
    """The echo is complete, and both sides send close_notify: `unwrap` fails if the other side does not."""
    with python_client(server, ca, version) as client:
        who = name_of(client)
        require(exchange(client, LARGE) == LARGE, "an echo differs")
        client.unwrap()
        server.wait_for_line(re.escape(f"{who} has Some(TLSv{version.replace('.', '_')}), ").encode() +
                             rb'Some\(TLS\w+\), asks for Some\("localhost"\), new')
    is_gone(server, who, "closed by the peer")


def python_is_cut_off(server, ca, version):
    """A socket that is closed without close_notify is distinguished from a proper end."""
    with python_client(server, ca, version) as client:
        who = name_of(client)
        client.sendall(b"half")
        require(receive(client, 4) == b"half", "no echo")
        if version == "1.3":
            client.setblocking(False)
            with contextlib.suppress(ssl.SSLWantReadError):
                client.recv(1)  # Session tickets: unread, they would turn the close into a reset.
        client.shutdown(socket.SHUT_WR)
        is_gone(server, who, CUT_OFF)


def python_resumes(server, ca, version):
    context, session = context_for(ca, version), None
    for kind in ("new", "resumed", "resumed"):
        with python_client(server, ca, version, session=session, context=context) as client:
            who = name_of(client)
            client.sendall(b"x")
            require(receive(client, 1) == b"x", "no echo")
            require(client.session_reused == (kind == "resumed"), f"not {kind}")
            session = client.session
            server.wait_for_line(re.escape(who).encode() + rb" has .*, " + kind.encode())
            client.unwrap()
        is_gone(server, who, "closed by the peer")


def python_refuses(server, ca, version, name, why):
    """The server reports a client that does not trust its certificate."""
    before = len(server.errors)
    try:
        with python_client(server, ca, version, name):
            raise harness.Failed("it was trusted")
    except ssl.SSLCertVerificationError as error:
        require(why in str(error), f"another reason: {error}")
    server.wait(lambda: [line for line in server.errors[before:] if b"failed: " in line], "told on stderr")


def openssl(*arguments, stdin=b"", ends=True):
    """Returns what it prints for this input, and how it ends."""
    process = harness.start(["openssl", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)
    try:
        return process.communicate(stdin if ends else None, timeout=WAIT_S)[0].decode(errors="replace")
    finally:
        harness.end(process)


def s_client(server, ca, *arguments, stdin=b""):
    host, port = server.address
    common = ["-connect", f"{host}:{port}", "-CAfile", ca, "-verify_return_error", "-verify_hostname", "localhost"]
    return openssl("s_client", *common, *arguments, stdin=stdin)


def openssl_connects(server, ca, version):
    flag = "-tls" + version.replace(".", "_")
    printed = s_client(server, ca, flag, "-servername", "Example.ORG")
    require("Verify return code: 0 (ok)" in printed, printed[-400:])
    require(f"TLSv{version}, Cipher is " in printed, printed[-400:])
    server.wait_for_line(rb'.* asks for Some\("example.org"\), new')


def openssl_echoes(server, ca, version):
    """The client waits for the echo: with `-quiet` it does not exit when its input ends."""
    host, port = server.address
    argv = ["openssl", "s_client", "-connect", f"{host}:{port}", "-CAfile", ca, "-quiet", "-verify_return_error",
            "-tls" + version.replace(".", "_")]
    process = harness.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with process.stdin, process.stdout:
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        require(process.stdout.readline() == b"hello\n", "no echo")
        count = len(server.lines)
        harness.end(process)  # Killed, so that the kernel ends the stream without a close_notify.
        server.wait(lambda: any(line.endswith(b"is gone: " + CUT_OFF.encode()) or b"reset" in line
                                for line in server.lines[count:]), "cut off or reset")


def openssl_reconnects(server, ca):
    """Makes five more connections, each resuming the first one's session."""
    printed = s_client(server, ca, "-tls1_2", "-reconnect")
    require(printed.count("Reused, TLSv1.2") == 5, f"{printed.count('Reused, TLSv1.2')} were resumed")


def openssl_does_not_renegotiate(server, ca):
    """`R` requests a renegotiation: the server refuses it with an alert and keeps running; the connection may end."""
    printed = s_client(server, ca, "-tls1_2", stdin=b"R\n")
    require("RENEGOTIATING" in printed, printed[-400:])
    require("verify return:1\ndepth" not in printed.split("RENEGOTIATING")[1], "it was done")


def gnutls_echoes(server, ca, version):
    host, port = server.address
    argv = ["gnutls-cli", "--x509cafile", ca, "--port", str(port), "--sni-hostname", "localhost", "--verify-hostname",
            "localhost", "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}", host]
    process = harness.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        printed = process.communicate(b"hello gnutls\n", timeout=WAIT_S)[0].decode(errors="replace")
    finally:
        harness.end(process)
    require("Status: The certificate is trusted" in printed, printed[-400:])
    require("hello gnutls" in printed, printed[-400:])


def plain_is_refused(server):
    """Plain HTTP gets an alert and an end, and is reported."""
    before = len(server.errors)
    with connect(server.address) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = receive(client, 100)
        require(answer[:2] == b"\x15\x03", f"no alert: {answer!r}")
    server.wait(lambda: [line for line in server.errors[before:] if b"InvalidContentType" in line], "told on stderr")


def leave_in_the_middle(server, ca):
    """Clients that send part of a hello and leave in every way, or stay and are closed, affect no others."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = context_for(ca, "1.3").wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    hello = outgoing.read()
    for cut in range(0, len(hello) + 1, 7):
        for leave in (lambda client: client.close(), harness.reset, lambda client: client.shutdown(socket.SHUT_WR)):
            with connect(server.address) as client:
                client.sendall(hello[:cut])
                leave(client)
    python_echoes(server, ca, "1.3")


# --------------------------------------------------------------------------------------------- servers of others


def our_client(address, ca, *arguments, stdin=b""):
    """Returns our client's output and its error output."""
    argv = [program(), "--connect", "%s:%d" % address, "--ca", ca, *arguments]
    process = harness.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        printed, errors = process.communicate(stdin, timeout=WAIT_S)
    finally:
        harness.end(process)
    return printed, errors.decode()


def with_s_server(files, version):
    """The server sends each line back reversed."""
    argv = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", files["cert"], "-key", files["key"], "-rev",
            "-tls" + version.replace(".", "_")]
    process = harness.start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for line in process.stdout:
            if line.startswith(b"ACCEPT "):
                break
        port = int(line.rsplit(b":", 1)[1])
        printed, errors = our_client(("127.0.0.1", port), files["cert"], "--name", "localhost", stdin=b"hello\nmany\n")
        require(printed == b"olleh\nynam\n", f"{printed!r}, {errors}")
    finally:
        harness.end(process)
        process.stdout.close()


def with_python(files, version, act, stdin=b"hello"):
    """Runs our client against a Python server that calls `act` with its connection."""
    context = server_context(files)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    failures = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)

        def serve():
            try:
                plain, _ = listener.accept()
                plain.settimeout(WAIT_S)
                with plain, context.wrap_socket(plain, server_side=True) as server:
                    act(server)
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        result = our_client(listener.getsockname(), files["cert"], "--name", "localhost", stdin=stdin)
        thread.join()
    require(not failures, f"the server: {failures}")
    return result


def ends_both_ways(files, version):
    def act(server):
        received = bytearray()
        while piece := server.recv(65536):
            received += piece
        server.sendall(received)
        server.unwrap()

    printed, errors = with_python(files, version, act, stdin=LARGE[:300_000])
    require(printed == LARGE[:300_000], f"{len(printed)} bytes")
    require("the connection is over: closed by the peer" in errors, errors)


def hears_of_a_cut(files, version):
    def act(server):
        require(receive(server, 5) == b"hello", "another thing")
        server.sendall(b"half")
        socket.socket.shutdown(server, socket.SHUT_WR)
        time.sleep(0.2)

    printed, errors = with_python(files, version, act)
    require(printed == b"half", f"{printed!r}")
    require(CUT_OFF in errors, errors)


def refuses_what_it_does_not_trust(files, ca):
    """The server presents another server's certificate."""
    with Server([program(), "127.0.0.1:0"]) as server:
        _, errors = our_client(server.address, ca, "--name", "localhost")
        require("the handshake failed: protocol error: invalid peer certificate" in errors, errors)
        _, errors = our_client(server.address, ca, "--name", "other.example")
        require("the handshake failed: protocol error: invalid peer certificate" in errors, errors)
    with Server([harness.example("echo_server"), "127.0.0.1:0"]) as server:
        _, errors = our_client(server.address, files["cert"], "--name", "localhost")
        require("the handshake failed: protocol error: " in errors, errors)


# -------------------------------------------------------------------------------------------------- all together


def starting_fails(arguments, why):
    process = subprocess.run([program(), *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False)
    require(process.returncode == 1 and why in process.stderr, f"{process.returncode}: {process.stderr}")


def says_goodbye(server, ca):
    """A server that is terminated sends close_notify to its clients."""
    with python_client(server, ca, "1.3") as client:
        client.sendall(b"x")
        require(receive(client, 1) == b"x", "no echo")
        ended = threading.Thread(target=server.end)
        ended.start()
        require(client.recv(1) == b"", "no end")  # SSLEOFError if there was no close_notify.
        client.unwrap()
        ended.join()
    require(server.process.returncode == 0, "another exit code")


def check_clients(checks, server, ca, how):
    for version in VERSIONS:
        checks.run(f"Python's ssl, TLS {version}, {how}", python_echoes, server, ca, version)
        checks.run(f"Python's ssl is cut off, TLS {version}, {how}", python_is_cut_off, server, ca, version)
        checks.run(f"Python's ssl resumes, TLS {version}, {how}", python_resumes, server, ca, version)
        checks.run(f"openssl s_client, TLS {version}, {how}", openssl_connects, server, ca, version)
        checks.run(f"openssl s_client is killed, TLS {version}, {how}", openssl_echoes, server, ca, version)
        if shutil.which("gnutls-cli"):
            checks.run(f"gnutls-cli, TLS {version}, {how}", gnutls_echoes, server, ca, version)
        else:
            checks.skip(f"gnutls-cli, TLS {version}, {how}", "apt-get install gnutls-bin")
    checks.run(f"openssl s_client -reconnect, {how}", openssl_reconnects, server, ca)
    checks.run(f"openssl s_client asks for a renegotiation, {how}", openssl_does_not_renegotiate, server, ca)


def python_is_served(server, ca):
    """Echoes once and closes, with descriptors above 1,023 too."""
    with python_client(server, ca, "1.3") as client:
        client.sendall(b"hello")
        require(receive(client, 5) == b"hello", "no echo")
        client.unwrap()


def check_at_length():
    checks = Checks(LONG_LIMIT_S)
    with tempfile.TemporaryDirectory(prefix="tls-") as folder:
        ec = make_certificate(folder, ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        tls_attacks.check(
            checks, lambda: Server([program(), "127.0.0.1:0", "--cert", ec["cert"], "--key", ec["key"]]), ec["cert"], folder,
            context_for(ec["cert"], "1.3"), lambda server: python_is_served(server, ec["cert"]))
    checks.finish()


def main():
    if sys.argv[1:] == ["--long"]:
        check_at_length()
        return
    checks = Checks(LIMIT_S)
    with tempfile.TemporaryDirectory(prefix="tls-") as folder:
        own = os.path.join(folder, "own.pem")
        ec = make_ec_certificate(folder)
        rsa = make_certificate(folder, ["rsa:2048"])
        with Server([program(), "127.0.0.1:0", "--write-cert", own]) as server:
            check_clients(checks, server, own, "its own certificate")
            for version in VERSIONS:
                checks.run(f"an untrusted certificate, TLS {version}", python_refuses, server, ec["cert"], version,
                           "localhost", "self-signed certificate")
                time.sleep(1.1)  # The owner is told at most once a second.
                checks.run(f"a wrong name, TLS {version}", python_refuses, server, own, version, "other.example",
                           "Hostname mismatch")
                time.sleep(1.1)
            checks.run("plain HTTP", plain_is_refused, server)
            checks.run("clients that leave in the middle", leave_in_the_middle, server, own)
            checks.run("idle afterwards", server.require_quiet)
            checks.run("a clean end", says_goodbye, server, own)
        with Server([program(), "127.0.0.1:0", "--cert", rsa["cert"], "--key", rsa["key"]]) as server:
            check_clients(checks, server, rsa["cert"], "RSA")
            checks.run("idle afterwards, RSA", server.require_quiet)
        for version in VERSIONS:
            checks.run(f"our client with s_server, TLS {version}", with_s_server, ec, version)
            checks.run(f"our client with Python's ssl, TLS {version}", ends_both_ways, rsa, version)
            checks.run(f"our client is cut off, TLS {version}", hears_of_a_cut, ec, version)
        checks.run("our client trusts no other", refuses_what_it_does_not_trust, rsa, ec["cert"])
        checks.run("a key of another certificate", starting_fails, ["127.0.0.1:0", "--cert", ec["cert"], "--key", rsa["key"]],
                   "does not belong to the private key in ")
        checks.run("a file that is not there", starting_fails, ["127.0.0.1:0", "--cert", "/no/such.pem"], "cannot read ")
        checks.run("a file without a key", starting_fails, ["127.0.0.1:0", "--cert", own], "no private key in ")
    checks.finish()


if __name__ == "__main__":
    main()
