#!/usr/bin/env python3
"""The HTTP server example with curl, wget, BusyBox's wget and netcat: all that these clients can ask of it, what it serves
and what it refuses, and what they make of the answer.

    python3 tests/real/http_clients.py

after `cargo build --examples --all-features`. Debian: curl, wget, busybox, netcat-openbsd.
"""

import contextlib
import email.utils
import os
import re
import socket
import subprocess
import tempfile
import time

import harness
from harness import WAIT_S, Checks, Server, example, require
from http_server import BODY_BYTES_MAX, GET, HEAD_BYTES_MAX, REQUEST_TIMEOUT_S, TEXT, statuses

LIMIT_S = 150
TARGET_BYTES_MAX = 8 << 10
FIELDS_MAX = 100
NOT_FOUND, NOT_ALLOWED = b"404 Not Found\n", b"405 Method Not Allowed\n"
TOO_LARGE, BAD = b"413 Content Too Large\n", b"400 Bad Request\n"
IDLE_S = 1  # Of a server that closes what idles.

# Exit codes of curl, and of wget.
BAD_RANGE, REFUSED_TUNNEL = 33, 56
NO_HTTP2 = (16, 52, 55, 56)  # By how much of the answer has come when it sends more.
WGET_ERROR = 8


@contextlib.contextmanager
def serving(address="127.0.0.1:0", *flags):
    """Yields a server and an empty folder. At the end nothing is left of the clients in the server."""
    with Server([example("http_server"), *flags, address]) as server, tempfile.TemporaryDirectory(prefix="http-") as folder:
        yield server, folder
        server.wait_until(lambda: server.descriptors() == server.descriptors_at_start, "all connections are closed")
        require(server.alive() and not server.errors, f"it has complained: {server.errors}")


def url_of(server, path="/"):
    host, port = server.address
    return f"http://{host}:{port}{path}"


def run(argv, folder, stdin=b""):
    """Returns the exit code, what was printed, and what was complained."""
    environment = {**os.environ, "LC_ALL": "C", "HOME": folder}
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False, cwd=folder, timeout=4 * WAIT_S, env=environment)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


# ------------------------------------------------------------------------------------------------------------- curl


def curl(server, folder, *arguments, path="/", stdin=b"", code=0):
    """Returns what curl prints, and the status, the new connections and the version of each request.

    `code` is the exit code that it should have, or several of which it should have one.
    """
    argv = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(3 * WAIT_S), "--write-out", SHOW, *arguments]
    got, out, err = run([*argv, url_of(server, path)], folder, stdin)
    require(got in (code if isinstance(code, tuple) else (code,)), f"curl {arguments}: exit code {got}, {err}")
    return out, re.findall(r"<(\d+ \d+ [\d.]+)>", err)


SHOW = "%{stderr}<%{http_code} %{num_connects} %{http_version}>"
FRESH = ["200 1 1.1"]


def curl_versions():
    """HTTP/1.0 and 1.1; an upgrade to HTTP/2 is not taken up, and HTTP/2 without an upgrade is refused."""
    with serving() as (server, folder):
        require(curl(server, folder, "--http1.0") == (TEXT, FRESH), "another answer to HTTP/1.0")
        require(curl(server, folder, "--http2") == (TEXT, FRESH), "another answer to an upgrade")
        curl(server, folder, "--http2-prior-knowledge", code=NO_HTTP2)
        require(curl(server, folder, "--http0.9") == (TEXT, FRESH), "another answer to one that takes HTTP/0.9")
        out, _ = curl(server, folder, "--http1.0", "--header", "Connection: keep-alive", "--include")
        require(b"\r\nConnection: keep-alive\r\n" in out, f"{out}")
        out, _ = curl(server, folder, "--http1.0", "--include")
        require(b"\r\nConnection: close\r\n" in out, f"{out}")
        require(curl(server, folder, "--haproxy-protocol") == (BAD, ["400 1 1.1"]), "another answer to a PROXY header")


def curl_connections():
    """What is kept open, and what is not."""
    with serving() as (server, folder):
        url = url_of(server)
        again = ["--next", "--silent", "--write-out", SHOW]
        out, found = curl(server, folder, url, url + "no", *again, "--head", url, *again, "--data", "x")
        require(found == ["200 1 1.1", "404 0 1.1", "200 0 1.1", "405 0 1.1"], f"{found}")
        require(out.startswith(TEXT + NOT_FOUND + b"HTTP/1.1 200 OK\r\n") and out.endswith(b"\r\n\r\n" + NOT_ALLOWED), f"{out}")
        _, found = curl(server, folder, "--header", "Connection: close", url, url)
        require(found == FRESH * 3, f"{found}")
        _, found = curl(server, folder, "--http1.0", url, url)
        require(found == FRESH * 3, f"{found}")
        # A refusal of a request whose end is known keeps the connection, another one does not.
        _, found = curl(server, folder, "--request", "BREW", url, url)
        require(found == ["405 1 1.1", "405 0 1.1", "405 0 1.1"], f"{found}")
        _, found = curl(server, folder, "--header", "Host: x y", url)
        require(found == ["400 1 1.1"] * 2, f"{found}")
        out, found = curl(server, folder, "--parallel", "--parallel-max", "50", *[url] * 299)
        require(out == TEXT * 300 and {each.split()[0] for each in found} == {"200"}, f"{found}")


def curl_methods():
    """GET and HEAD are answered, the others are refused by a list of these two, whatever their target is."""
    with serving() as (server, folder):
        for method in ("OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "BREW", "get"):
            out, found = curl(server, folder, "--request", method, "--include")
            require(found == ["405 1 1.1"] and b"\r\nAllow: GET, HEAD\r\n" in out and out.endswith(NOT_ALLOWED), f"{method}: {out}")
        require(curl(server, folder, "--request", "OPTIONS", "--request-target", "*")[1] == ["405 1 1.1"], "another one to *")
        curl(server, folder, "--proxytunnel", "--proxy", url_of(server), "--noproxy", "", "http://x:81/", code=REFUSED_TUNNEL)
        for path, length in (("/", len(TEXT)), ("/no", len(NOT_FOUND))):
            out, _ = curl(server, folder, "--head", path=path)
            require(f"\r\nContent-Length: {length}\r\n".encode() in out and out.endswith(b"\r\n\r\n"), f"{out}")
        date = re.search(rb"Date: (.* GMT)\r\n", out).group(1).decode()
        require(abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time()) < 5, f"it is {date}")
        require(curl(server, folder, "--get", "--data", "a=b&c=d") == (TEXT, FRESH), "another answer to a query")


def curl_targets():
    """One page is there; paths are compared as they are."""
    with serving() as (server, folder):
        for path in ("/no", "//", "/../", "/.", "/%2f", "/%00", "/index.html", "/;x", "/\u00e9"):
            got = curl(server, folder, "--path-as-is", path=path)
            require(got == (NOT_FOUND, ["404 1 1.1"]), f"{path}: {got}")
        for path in ("/?", "/?q=/x", "/?" + "x" * (TARGET_BYTES_MAX - 2)):
            require(curl(server, folder, path=path) == (TEXT, FRESH), f"{path[:20]}")
        got = curl(server, folder, path="/?" + "x" * (TARGET_BYTES_MAX - 1))
        require(got == (b"414 URI Too Long\n", ["414 1 1.1"]), f"{got}")
        require(curl(server, folder, "--proxy", url_of(server), "--noproxy", "") == (TEXT, FRESH), "a URL as a target")
        resolved = "example.org:80:%s:%d" % server.address
        got = curl(server, folder, "--connect-to", resolved, "--output", "-", "http://example.org/")
        require(got == (TEXT * 2, FRESH * 2), f"{got}")


def curl_fields():
    """What a server may ignore, it ignores; heads are bounded, in bytes and in fields."""
    with serving() as (server, folder):
        for ignored in (["--compressed"], ["--range", "0-4"], ["--user", "a:b"], ["--cookie", "a=b"],
                        ["--time-cond", "2020-01-01"], ["--referer", "http://x/"], ["--user-agent", "x" * 1000],
                        ["--header", "X;"], ["--header", "X: \u00e9"]):
            require(curl(server, folder, *ignored) == (TEXT, FRESH), f"{ignored}")
        with open(os.path.join(folder, "half"), "wb") as file:
            file.write(TEXT[:5])
        curl(server, folder, "--continue-at", "-", "--output", "half", code=BAD_RANGE)
        for bad in ("Host:", "Host: x y", "Content-Length: x", "Transfer-Encoding: chunked\r\nContent-Length: 3"):
            require(curl(server, folder, "--header", bad) == (BAD, ["400 1 1.1"]), bad)
        require(curl(server, folder, "--header", "Transfer-Encoding: gzip")[1] == ["501 1 1.1"], "a coding")
        require(curl(server, folder, "--header", "Expect: tea")[1] == ["417 1 1.1"], "an expectation")
        # It sends Host, User-Agent and Accept itself.
        for count, status in ((FIELDS_MAX - 3, "200 1 1.1"), (FIELDS_MAX - 2, "431 1 1.1")):
            fields = [word for number in range(count) for word in ("--header", f"X{number}: y")]
            require(curl(server, folder, *fields)[1] == [status], f"{count} fields")
        for length, status in ((HEAD_BYTES_MAX - 500, "200 1 1.1"), (HEAD_BYTES_MAX, "431 1 1.1")):
            require(curl(server, folder, "--header", "X: " + "y" * length)[1] == [status], f"a head of {length} bytes")


def curl_bodies():
    """Bodies with a length and in chunks, with and without `Expect: 100-continue`: read and discarded, up to a limit."""
    chunked, expects, expects_not = (["--header", field] for field in
                                     ("Transfer-Encoding: chunked", "Expect: 100-continue", "Expect:"))
    with serving() as (server, folder):
        url = url_of(server)
        for size in (0, 1, 100_000, BODY_BYTES_MAX):
            for more in ([], chunked, expects, expects_not, chunked + expects):
                if size == 0 and more == chunked + expects:
                    continue  # Told to go on, curl 7.88 does not send the last chunk if it is the only one.
                if size == BODY_BYTES_MAX and chunked[1] in more:
                    continue  # What is around the chunks counts, too.
                # The connection is used again, so the end of the body was found. The last URL belongs to the second part.
                got = curl(server, folder, "--data-binary", "@-", *more, url, "--next", "--silent", "--write-out", SHOW,
                           stdin=os.urandom(size))
                require(got == (NOT_ALLOWED + TEXT, ["405 1 1.1", "200 0 1.1"]), f"{size}, {more}: {got}")
        for more in ([], chunked, expects, chunked + expects):
            got = curl(server, folder, "--data-binary", "@-", *more, stdin=os.urandom(BODY_BYTES_MAX + 1))
            require(got == (TOO_LARGE, ["413 1 1.1"]), f"{more}: {got}")
        require(curl(server, folder, "--upload-file", "-", stdin=b"x" * 3000) == (NOT_ALLOWED, ["405 1 1.1"]), "an upload in chunks")
        require(curl(server, folder, "--form", "a=b", "--form", "c=@-", stdin=b"x" * 3000)[1] == ["405 1 1.1"], "a form")
        # The client waits for 100 Continue, and is told at once that its body is too long.
        trace = ["--trace-ascii", "trace", "--expect100-timeout", "60"]
        curl(server, folder, *trace, *expects, "--data-binary", "@-", stdin=b"x" * 3000)
        with open(os.path.join(folder, "trace"), encoding="ascii") as file:
            require("HTTP/1.1 100 Continue" in file.read(), "it was not told to go on")
        curl(server, folder, *trace, *expects, "--data-binary", "@-", stdin=b"x" * (BODY_BYTES_MAX + 1))
        with open(os.path.join(folder, "trace"), encoding="ascii") as file:
            text = file.read()
        is_told_to = "Continue" in text.split("<= Recv", 1)[1]
        require("HTTP/1.1 413" in text and not is_told_to and "Send data" not in text, "it has sent its body")


def curl_is_too_slow():
    """An upload that takes longer than a request may is answered with 408."""
    with serving() as (server, folder), harness.others_meanwhile():
        rate = 3000 // (2 * REQUEST_TIMEOUT_S)
        got = curl(server, folder, "--limit-rate", str(rate), "--data-binary", "@-", "--header", "Expect:", stdin=b"x" * 200_000)
        require(got == (b"408 Request Timeout\n", ["408 1 1.1"]), f"{got}")


def curl_finds_its_connection_closed():
    """A connection that was kept open for too long is closed meanwhile: curl opens another one, and loses no answer."""
    with serving("127.0.0.1:0", "--timeout", str(IDLE_S)) as (server, folder), harness.others_meanwhile():
        url = url_of(server)
        got = curl(server, folder, "--rate", f"{60 // (IDLE_S + 1)}/m", url, url)
        require(got == (TEXT * 3, FRESH * 3), f"{got}")


def curl_over_ipv6():
    with serving("[::1]:0") as (server, folder):
        require(curl(server, folder, "--globoff") == (TEXT, FRESH), "another answer")
        require(wget(server, folder, "--output-document=-")[0] == TEXT, "another answer to wget")


# ------------------------------------------------------------------------------------------------------------- wget


def wget(server, folder, *arguments, path="/", code=0, stdin=b""):
    """Returns what wget prints, and what it tells on the way."""
    argv = ["wget", "--no-config", "--tries=1", f"--timeout={WAIT_S}", *arguments]
    got, out, err = run([*argv, url_of(server, path)], folder, stdin)
    require(got == code, f"wget {arguments}: exit code {got}, {err}")
    return out, err


def saved(folder, name="index.html"):
    with open(os.path.join(folder, name), "rb") as file:
        return file.read()


def wget_pages():
    """Pages that are there and are not, several over one connection, and HEAD."""
    with serving() as (server, folder):
        url, to_stdout = url_of(server), "--output-document=-"
        require(wget(server, folder, to_stdout)[0] == TEXT, "another answer")
        require(wget(server, folder)[0] == b"" and saved(folder) == TEXT, "another file")
        out, told = wget(server, folder, to_stdout, url, url + "no", url, code=WGET_ERROR)
        require(out == TEXT * 3 and told.count("Reusing existing connection") == 3 and "ERROR 404" in told, told)
        out, told = wget(server, folder, to_stdout, "--no-http-keep-alive", "--server-response", url)
        require(out == TEXT * 2 and "Reusing" not in told and told.count("Connection: close") == 2, told)
        out, _ = wget(server, folder, to_stdout, "--input-file=-", stdin=f"{url}\n".encode() * 20)
        require(out == TEXT * 21, f"{out}")
        require(wget(server, folder, to_stdout, "--content-on-error", path="/no", code=WGET_ERROR)[0] == NOT_FOUND, "no content")
        told = wget(server, folder, "--spider", "--server-response")[1]
        require("Remote file exists" in told and "Content-Length: 14" in told, told)
        require("broken link" in wget(server, folder, "--spider", path="/no", code=WGET_ERROR)[1], "it has followed it")
        proxied = ["--execute", "use_proxy=yes", "--execute", f"http_proxy={url}"]
        out = run(["wget", "--no-config", "--quiet", to_stdout, *proxied, "http://example.org/"], folder)[1]
        require(out == TEXT, "another answer to a proxy's request")


def wget_follows():
    """Recursion, which finds no link in plain text; conditional and continued downloads, of which the server knows nothing."""
    with serving() as (server, folder):
        wget(server, folder, "--recursive", "--page-requisites", "--no-host-directories", "--directory-prefix=all")
        require(os.listdir(os.path.join(folder, "all")) == ["index.html"] and saved(folder, "all/index.html") == TEXT, "other files")
        for number, arguments in enumerate((["--timestamping"], ["--compression=auto"], ["--limit-rate=100"])):
            wget(server, folder, *arguments, f"--directory-prefix={number}")
            require(saved(folder, f"{number}/index.html") == TEXT, f"{arguments}")
        # The answer is the whole again: wget leaves out what it has.
        with open(os.path.join(folder, "index.html"), "wb") as file:
            file.write(b"Hallo")
        wget(server, folder, "--continue")
        require(saved(folder) == b"Hallo" + TEXT[5:], f"{saved(folder)}")
        require(wget(server, folder, "--output-document=-", "--start-pos=5")[0] == TEXT[5:], "it has skipped otherwise")


def wget_sends():
    """Bodies are read, and refused; of one that is too long it is told why."""
    with serving() as (server, folder):
        # wget reads nothing before it has sent all, so the server has to read what it does not want.
        for name, size in (("small", 3000), ("long", BODY_BYTES_MAX + 1), ("longer", 4 * BODY_BYTES_MAX)):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(os.urandom(size))
        for sends, status in ((["--post-data=a=b"], 405), (["--post-file=small"], 405), (["--method=PUT", "--body-file=small"], 405),
                              (["--method=DELETE"], 405), (["--method=OPTIONS"], 405), (["--post-file=long"], 413),
                              (["--post-file=longer"], 413)):
            told = wget(server, folder, *sends, code=WGET_ERROR)[1]
            require(f"ERROR {status}" in told, f"{sends}: {told}")
        for field, status in (("X: " + "y" * HEAD_BYTES_MAX, 431), ("Transfer-Encoding: gzip", 501), ("Expect: tea", 417)):
            require(f"ERROR {status}" in wget(server, folder, "--header", field, code=WGET_ERROR)[1], f"{field[:30]}")
        require("ERROR 414" in wget(server, folder, path="/" + "x" * TARGET_BYTES_MAX, code=WGET_ERROR)[1], "a long target")


def busybox_wget():
    with serving() as (server, folder):
        url = url_of(server)
        busybox = ["busybox", "wget"]  # With Debian's, `-T` ends in a segmentation fault.
        for arguments, code, out in ((["-q", "-O", "-", url], 0, TEXT), (["--spider", url], 0, b""), (["--spider", url + "no"], 1, b""),
                                     (["-O", "-", "--post-data", "a=b", url], 1, b""), (["-O", "-", url + "no"], 1, b"")):
            got = run([*busybox, *arguments], folder)
            require(got[:2] == (code, out), f"{arguments}: {got}")
        with open(os.path.join(folder, "index.html"), "wb") as file:
            file.write(TEXT[:5])
        got = run([*busybox, "-c", url], folder)
        require(got[0] == 0 and saved(folder) == TEXT, f"{got}, {saved(folder)}")


# ---------------------------------------------------------------------------------------------------------- by hand


def netcat(server, folder, stream):
    """Sends this, then the end of the stream, and returns what was received until the server's end."""
    code, out, err = run(["nc", "-N", "-w", str(int(WAIT_S)), *map(str, server.address)], folder, stream)
    require(code == 0, f"nc: {code}, {err}")
    return out


def typed_into_netcat():
    """Requests as people type them: pipelined, with bare line feeds, of HTTP/0.9, of a TLS client, and cut short."""
    close = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with serving() as (server, folder):
        for stream, expected in ((GET, [200]), (GET * 300, [200] * 300), (close + GET, [200]), (GET.replace(b"\r\n", b"\n"), [200]),
                                 (b"\r\n\r\n" + GET, [200]), (b"GET /\r\n", [400]), (b"GET / HTTP/1.1\r\n\r\n", [400]),
                                 (b"GET / HTTP/3.0\r\n\r\n", [505]), (b"\x16\x03\x01\x02\x00", [400]), (b"", []), (GET[:-2], []),
                                 (GET + b"HELO x\r\n", [200, 400]), (b"GET / HTTP/1.0\r\n\r\n" + GET, [200])):
            out = netcat(server, folder, stream)
            require(statuses(out) == expected, f"{stream[:60]}: {out}")
            require(out.count(b"\r\n\r\n" + TEXT) == expected.count(200), f"{stream[:60]}: {out}")


def has_ipv6():
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def main():
    checks = Checks(LIMIT_S)
    checks.begin("curl: a slow upload", curl_is_too_slow)  # It waits: the others run meanwhile.
    checks.begin("curl: an idle connection", curl_finds_its_connection_closed)
    checks.begin("curl: versions", curl_versions)
    checks.begin("curl: connections", curl_connections)
    checks.begin("curl: methods", curl_methods)
    checks.begin("curl: targets", curl_targets)
    checks.begin("curl: fields", curl_fields)
    checks.begin("curl: bodies", curl_bodies)
    if has_ipv6():
        checks.begin("curl and wget over IPv6", curl_over_ipv6)
    else:
        checks.skip("curl and wget over IPv6", "this system has no IPv6")
    checks.begin("wget: pages", wget_pages)
    checks.begin("wget: recursion and continued downloads", wget_follows)
    checks.begin("wget: bodies", wget_sends)
    checks.begin("BusyBox's wget", busybox_wget)
    checks.begin("netcat", typed_into_netcat)
    checks.finish()


if __name__ == "__main__":
    main()
