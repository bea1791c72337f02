#!/usr/bin/env python3
"""The program that fetches (`cargo build --package fetch`), against Python's http.server, nginx and a
scripted server; its results are compared with those of `curl` and Python's urllib."""

import array
import contextlib
import fcntl
import functools
import http.server
import os
import pty
import random
import re
import resource
import shutil
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import tempfile
import termios
import threading
import time
import urllib.parse
import urllib.request

import harness
from certificates import make_ec_certificate, server_context
from harness import WAIT_S, Checks, require

LIMIT_S = 300
HEAD_BYTES_MAX = 32 << 10
BIG = random.Random(7).randbytes(3_000_001)
PAGE = b"""<!doctype html><title>a &lt;a href=title></title>
<a href="one.html">first</a> <A HREF='/two?x=1&amp;y=2#z'>second</A>
<script>var s = '<a href="script">no</a>';</script><!-- <a href="comment">no</a> -->
<area href=//other.example/three><a name="no">none</a><a href="mailto:a@b.example">mail</a>
<a href="  four  ">spaces</a><a href="\xff\x1b[2J">odd</a><a href="http://[bad">bad</a><a href="">itself</a>"""
LINKS = ["one.html", "/two?x=1&y=2#z", "//other.example/three", "mailto:a@b.example", "four", "%EF%BF%BD[2J", ""]


def run(*arguments, first_to_fail=None, **options):
    """Runs it until it exits, and returns its exit code, stdout and stderr."""
    argv = [harness.package("fetch"), *arguments]
    if first_to_fail:
        argv = harness.starting_fails(argv, first_to_fail)
    done = subprocess.run(argv, capture_output=True, timeout=4 * WAIT_S, check=False, **options)
    return done.returncode, done.stdout, done.stderr.decode()


def gives(expected, *arguments):
    code, got, complaint = run(*arguments)
    require((code, complaint) == (0, ""), f"exit code {code}: {complaint!r}")
    require(got == expected, f"{len(got)} bytes, and not the {len(expected)} that are right: {got[:60]!r}")


def fails(pattern, *arguments, partial=None, first_to_fail=None):
    """One line on stderr, exit code 1."""
    code, got, complaint = run(*arguments, first_to_fail=first_to_fail)
    require(code == 1 and re.fullmatch(rf"(?:{pattern})\n", complaint), f"exit code {code}: {complaint!r}")
    require(partial is None or got == partial, f"{got[:60]!r} on stdout")


def same_as_others(url, ca=None):
    """We get what curl and urllib get, on stdout and in a file."""
    trusting = ["--cacert", ca] if ca else []
    curl = subprocess.run(["curl", "--silent", "--fail", "--location", "--noproxy", "*", *trusting, url], capture_output=True,
                          timeout=WAIT_S, check=True).stdout
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(
        context=ssl.create_default_context(cafile=ca)))
    trusting = [f"--ca={ca}"] if ca else []
    with opener.open(url, timeout=WAIT_S) as answer:
        require(answer.read() == curl, "curl and urllib disagree")
    gives(curl, *trusting, url)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "saved")
        gives(b"", *trusting, url, path)
        with open(path, "rb") as file:
            require(file.read() == curl, "another file")
        umask = os.umask(0)
        os.umask(umask)
        require(os.stat(path).st_mode & 0o777 == 0o666 & ~umask, "another mode")
        require(os.listdir(folder) == ["saved"], f"left over: {os.listdir(folder)}")
    return f"{len(curl)} bytes"


# ----------------------------------------------------------------------------------------------------- the servers


@contextlib.contextmanager
def site():
    """A folder with something to fetch in it."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "sub"))
        for name, content in {"big.bin": BIG, "empty": b"", "sub/page.html": PAGE, "two words": b"2"}.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        # nginx's workers run as an unprivileged user.
        os.chmod(folder, 0o755)
        yield folder


@contextlib.contextmanager
def python_server(folder, files=None):
    """With certificate files it uses TLS: each connection only in the thread that serves it."""
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=folder)
    with (over_tls(files) if files else http.server.ThreadingHTTPServer)(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # A client that has read enough closes the connection.
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{'https' if files else 'http'}://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def over_tls(files):
    """Returns a class of servers that present this certificate and send close_notify."""
    context = server_context(files)

    class Server(http.server.ThreadingHTTPServer):
        def finish_request(self, request, client_address):
            request.settimeout(WAIT_S)
            with context.wrap_socket(request, server_side=True) as connection:
                super().finish_request(connection, client_address)
                with contextlib.suppress(OSError):  # Some clients do not wait for it.
                    connection.unwrap()

    return Server


NGINX = """
daemon off; master_process off; pid {scratch}/pid; error_log stderr;
events {{}}
http {{
  access_log off; root {folder}; types {{}} default_type text/plain;
  client_body_temp_path {scratch}/a; proxy_temp_path {scratch}/b; fastcgi_temp_path {scratch}/c;
  uwsgi_temp_path {scratch}/d; scgi_temp_path {scratch}/e;
  server {{
    listen 127.0.0.1:{port}{secure};
    location /moved {{ return 302 /sub/page.html; }}
    location /away {{ return 301 file:///etc/hostname; }}
    location = /sub {{ return 308 http://$host:$server_port/sub/page.html; }}
    # Server-side includes have no length that is known before: they come chunked.
    location /chunked {{ ssi on; ssi_types text/plain; alias {folder}/big.bin; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(folder, files=None):
    with tempfile.TemporaryDirectory() as scratch:
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            port = chosen.getsockname()[1]
        path = os.path.join(scratch, "nginx.conf")
        with open(path, "w", encoding="utf-8") as file:
            secure = " ssl; ssl_certificate {cert}; ssl_certificate_key {key}".format(**files) if files else ""
            file.write(NGINX.format(scratch=scratch, folder=folder, port=port, secure=secure))
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        server = harness.start([program, "-p", scratch, "-c", path], stderr=subprocess.PIPE)
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise harness.Failed(f"nginx does not listen: {server.stderr.read()}") from None
                time.sleep(harness.POLL_S)
        try:
            yield f"{'https' if files else 'http'}://127.0.0.1:{port}"
        finally:
            require(harness.end(server, signal.SIGTERM) == 0, "nginx ended otherwise")
            server.stderr.close()


class Scripted(socketserver.ThreadingTCPServer):
    """Answers each path as scripted: with bytes, or by a function that is given the connection and the server. With
    certificate files it uses TLS, and does not send close_notify by itself.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answers=None, files=None):
        self.answers = answers or {}
        self.context = server_context(files) if files else None
        self.requests = []
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), None)
        self.url = f"{'https' if files else 'http'}://127.0.0.1:{self.server_address[1]}"

    def finish_request(self, request, client_address):
        request.settimeout(WAIT_S)
        with contextlib.suppress(OSError):  # Clients that do not trust it leave, as do those without TLS.
            self.answer(self.context.wrap_socket(request, server_side=True) if self.context else request)

    def answer(self, request):
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = request.recv(4096)
            if not data:
                return
            head += data
        self.requests.append(head)
        answer = self.answers[head.split()[1].decode()]
        with contextlib.suppress(ConnectionError):
            if callable(answer):
                answer(request, self)
            else:
                request.sendall(answer)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self.shutdown()
        self.server_close()


def with_length(body, *fields, length=None):
    fields = "".join(f"{field}\r\n" for field in fields)
    return f"HTTP/1.1 200 OK\r\n{fields}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def redirect_to(location, status=302):
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = CHUNKED_HEAD + b"4\r\nWiki\r\n5;x=\"y\"\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0\r\nTrailer: t\r\n\r\n"
CHUNKED_BODY = b"Wikipedia in\r\n\r\nchunks."


def in_pieces(data, cuts):
    """Sends each piece as a separate segment, only once the other side's kernel has the previous one."""

    def send(connection, _):
        for start, end in zip([0, *cuts], [*cuts, len(data)]):
            connection.sendall(data[start:end])
            deadline = time.monotonic() + WAIT_S
            # SIOCOUTQ: unacknowledged bytes.
            while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0]:
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return  # It has read enough.
                require(time.monotonic() < deadline, "not acknowledged")
                time.sleep(0.0002)

    return send


def and_then_hangs(data):
    def send(connection, server):
        connection.sendall(data)
        server.released.wait(4 * WAIT_S)

    return send


def endless(head, piece):
    def send(connection, server):
        connection.sendall(head)
        with contextlib.suppress(OSError):
            while not server.released.is_set():
                connection.sendall(piece)

    return send


# ------------------------------------------------------------------------------------------------------ the checks


def fetches_from(server):
    with site() as folder, server(folder) as base:
        found = [same_as_others(f"{base}/{name}") for name in ("big.bin", "empty", "sub/page.html", "two%20words")]
        gives(BIG, base.replace("127.0.0.1", "localhost") + "/big.bin")
        fails(r"the server answered 404 .*", f"{base}/nothing", partial=b"")
        return ", ".join(found)


def nginx_chunks_and_redirects():
    with site() as folder, nginx(folder) as base:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{base}/chunked") as answer:
            require(answer.headers["Transfer-Encoding"] == "chunked", "it is not chunked")
        same_as_others(f"{base}/chunked")
        same_as_others(f"{base}/moved")
        same_as_others(f"{base}/sub")
        fails(r"a redirect to file:///etc/hostname is not followed: only http: and https: are", f"{base}/away", partial=b"")


def fetches_over_tls(server):
    with site() as folder, tempfile.TemporaryDirectory() as secrets:
        files = make_ec_certificate(secrets, "IP:127.0.0.1")
        with server(folder, files) as base:
            names = ("big.bin", "empty", "sub/page.html", "two%20words")
            found = [same_as_others(f"{base}/{name}", files["cert"]) for name in names]
            fails(r".*invalid peer certificate: .*", f"{base}/big.bin", partial=b"")
            fails(r".*invalid peer certificate: .*", f"--ca={files['cert']}", base.replace("127.0.0.1", "localhost"), partial=b"")
            environment = {**os.environ, "SSL_CERT_FILE": files["cert"]}
            code, got, complaint = run(f"{base}/big.bin", env=environment)
            require((code, got) == (0, BIG), f"not trusted as the system's: {complaint}")
            return ", ".join(found)


def speaks_no_tls():
    """Returns the URL of a server that answers one client in plain text, whatever it sends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        with listener, listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    return "https://127.0.0.1:%d/" % listener.getsockname()[1]


def what_is_cut_off_over_tls():
    """A page of unknown length needs close_notify; one of known length is complete without it; half of it never is."""
    def said(connection, _):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nwhole")
        connection.unwrap()

    def half(connection, _):
        connection.sendall(with_length(b"half", length=8))
        connection.unwrap()

    def cut(data):
        """Ends the stream without a close_notify."""
        def send(connection, _):
            connection.sendall(data)
            socket.socket.shutdown(connection, socket.SHUT_WR)
        return send

    answers = {"/said": said, "/half": half, "/length": cut(with_length(b"whole")), "/chunks": cut(CHUNKED),
               "/cut": cut(b"HTTP/1.1 200 OK\r\n\r\nhalf"), "/none": cut(b""), "/away": redirect_to("http://127.0.0.1:1/"),
               "/on": redirect_to("/length")}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as secrets:
        files = make_ec_certificate(secrets, "IP:127.0.0.1")
        trusting, path = f"--ca={files['cert']}", os.path.join(folder, "x")
        with Scripted(answers, files) as server, Scripted({"/to": redirect_to(f"{server.url}/on")}) as plain:
            gives(b"whole", trusting, f"{server.url}/said")
            gives(b"whole", trusting, f"{server.url}/length")
            gives(CHUNKED_BODY, trusting, f"{server.url}/chunks")
            gives(b"whole", trusting, f"{plain.url}/to")
            fails("the server hung up in the middle, after 4 bytes", trusting, f"{server.url}/half", path)
            fails("the stream was truncated", trusting, f"{server.url}/cut", path)
            fails("the stream was truncated", trusting, f"{server.url}/none", path)
            fails("a redirect to http://127.0.0.1:1/ is not followed: it leaves https:", trusting, f"{server.url}/away", path)
        fails(".*the handshake failed: .*", speaks_no_tls(), path)
        require(os.listdir(folder) == [], f"left over: {os.listdir(folder)}")


def reads_files():
    with site() as folder:
        same_as = {"big.bin": BIG, "empty": b"", "two%20words": b"2"}
        for name, content in same_as.items():
            gives(content, f"file://{folder}/{name}")
            gives(content, f"file:{folder}/{name}")
        path = os.path.join(folder, "copy")
        gives(b"", f"file://{folder}/big.bin", path)
        with open(path, "rb") as file:
            require(file.read() == BIG, "another copy")
        fails(r"more than 1000 bytes", "--max-bytes=1000", f"file://{folder}/big.bin", partial=b"")
        fails(r"cannot read .*: Is a directory.*", f"file://{folder}")
        fails(r"cannot read .*: No such file.*", f"file://{folder}/nothing")
        fails(r"the URL names no local file", "file://elsewhere.example/etc/hostname")
        require(sorted(os.listdir(folder)) == ["big.bin", "copy", "empty", "sub", "two words"], "left over")


def links_wait_for_a_slow_reader():
    """More output than a pipe holds reaches a late reader, and a signal ends the wait for one that never reads."""
    page = b"".join(b"<a href=/%d/%s>x</a>\n" % (number, b"x" * 50) for number in range(20_000))
    with Scripted({"/page": with_length(page)}) as server:
        argv = [harness.package("fetch"), "--links", f"{server.url}/page"]
        for reads in (True, False):
            process = harness.start(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                # The pipe is full, and nobody has read from it.
                wait_until(lambda pipe=process.stdout: pipe_holds(pipe) >= 60_000, "a full pipe")
                time.sleep(0.3)  # That is how slow the reader is.
                if not reads:
                    process.send_signal(signal.SIGINT)
                    require(process.wait(WAIT_S) == 1, "another exit code than 1")
                    require(b"ended by SIGINT" in process.stderr.read(), "not told why")
                    continue
                got, complaint = process.communicate(timeout=WAIT_S)
                require((process.returncode, complaint) == (0, b""), f"{process.returncode}, {complaint!r}")
                lines = got.decode().splitlines()
                require(lines == [f"{server.url}/{number}/{'x' * 50}" for number in range(20_000)], f"{len(lines)} links")
            finally:
                harness.end(process)
                process.stdout.close()
                process.stderr.close()


def pipe_holds(pipe):
    """Returns how many bytes are in the pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def finds_links():
    with site() as folder, python_server(folder) as base:
        page = f"{base}/sub/page.html"
        expected = [urllib.parse.urljoin(page, link) for link in LINKS]
        expected[5] = f"{base}/sub/%EF%BF%BD%1B[2J"
        code, got, complaint = run("--links", page)
        require((code, complaint) == (0, ""), f"{code}, {complaint!r}")
        require(got.decode().splitlines() == expected, f"{got.decode().splitlines()} instead of {expected}")
        # Its links and its file at once; and those of a local file.
        path = os.path.join(folder, "saved.html")
        require(run("--links", page, path)[1] == got, "others with a file")
        with open(path, "rb") as file:
            require(file.read() == PAGE, "another file")
        require(run("--links", f"file://{folder}/sub/page.html")[1].startswith(f"file://{folder}/sub/one.html\n".encode()),
                "no links of a file")
    based = b'<base href="/deep/er/"><base href="/no/"><a href="../x">x</a>'
    with Scripted({"/a/b": redirect_to("../c/d"), "/c/d": with_length(b'<a href=e>'), "/based": with_length(based)}) as server:
        # The final URL counts, and <base>.
        gives(f"{server.url}/c/e\n".encode(), "--links", f"{server.url}/a/b")
        gives(f"{server.url}/deep/x\n".encode(), "--links", f"{server.url}/based")


def finds_a_link_by_its_text():
    """Like the tutorial's pattern, and also where that fails: other words beside it, tags in it, entities."""
    page = b"""<a href="/doc/">Documentation</a> <a href=other>Documents</a>
    <A class=x HREF='more'>all the <b>docu</b>menta&#116;ion\n there is</A> Documentation"""
    with Scripted({"/": with_length(page)}) as server, tempfile.TemporaryDirectory() as folder:
        pattern = re.search('<a href="([^"]+)">Documentation</a>', page.decode(), re.IGNORECASE)
        gives(f"{server.url}{pattern[1]}\n{server.url}/more\n".encode(), "--find=Documentation", f"{server.url}/")
        gives(f"{server.url}/more\n".encode(), "--find=documentation  there", f"{server.url}/")
        path = os.path.join(folder, "saved")
        fails('no link has the text "Documentation of"', "--find=Documentation of", f"{server.url}/", path, partial=b"")
        with open(path, "rb") as file:
            require(file.read() == page, "it is not saved")


def retrieves():
    """Without a name: a temporary file, which is kept, and the headers, as urllib returns both."""
    with tempfile.TemporaryDirectory() as folder, Scripted({
        "/": with_length(BIG, "X-Odd: a\u202eb", "Content-Type: text/html"),
        "/moved": redirect_to("/"),
        "/short": with_length(b"half", length=8),
    }) as server:
        options = {"env": {**os.environ, "TMPDIR": folder}}
        for path in ("/", "/moved"):
            code, got, complaint = run("--retrieve", server.url + path, **options)
            name, *headers = got.decode().splitlines()
            require((code, complaint) == (0, "") and os.path.dirname(name) == folder, f"{code}, {complaint!r}, {name}")
            expected = ["X-Odd: a\\u{202e}b", "Content-Type: text/html", f"Content-Length: {len(BIG)}"]
            require(headers == expected, f"{headers}")
            with open(name, "rb") as file:
                require(file.read() == BIG, "another file")
            require(os.stat(name).st_mode & 0o777 == 0o600, "others can read it")
            theirs, message = urllib.request.urlretrieve(server.url + path)
            require([value for _, value in message.items()][1:] == ["text/html", str(len(BIG))], f"{message}")
            os.unlink(theirs)
            os.unlink(name)
        # Incomplete files are removed, and so are files whose name could not be printed.
        require(run("--retrieve", f"{server.url}/short", **options)[0] == 1, "half is the whole")
        client = harness.start([harness.package("fetch"), "--retrieve", f"{server.url}/"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, **options)
        client.stdout.close()
        code, complaint = client.wait(WAIT_S), client.stderr.read()
        client.stderr.close()
        require(code == 1 and complaint.startswith(b"cannot write: Broken pipe"), f"{code}, {complaint!r}")
        require(os.listdir(folder) == [], f"left over: {os.listdir(folder)}")
    for more in (["--links"], ["--find=x"]):
        fails(".*--retrieve takes no FILE.*", "--retrieve", *more, "http://127.0.0.1/")
    fails(".*--retrieve takes no FILE.*", "--retrieve", "http://127.0.0.1/", "x")


def authenticates():
    """Sends Basic credentials to the named server, as urllib does, and to none that it redirects to."""

    def guarded(connection, server):
        words = server.requests[-1].split(b"\r\n")
        is_known = b"Authorization: Basic bWU6cGFzczp3b3Jk" in words  # me:pass:word
        connection.sendall(with_length(b"the secret") if is_known else
                           b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n')

    def said(server):
        return [b"authorization" in head.lower() for head in server.requests]

    with tempfile.TemporaryDirectory() as folder, Scripted({"/": with_length(b"public"), "/a": None}) as other:
        with Scripted({"/": guarded, "/moved": redirect_to("/"), "/away": redirect_to(f"{other.url}/"),
                       "/there": redirect_to(f"{other.url}/back")}) as server:
            other.answers["/back"] = redirect_to(f"{server.url}/")
            manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            manager.add_password(None, server.url, "me", "pass:word")
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(manager))
            with opener.open(f"{server.url}/", timeout=WAIT_S) as answer:
                require(answer.read() == b"the secret", "urllib gets something else")
            path = os.path.join(folder, "user")
            with open(path, "w", encoding="utf-8") as file:
                file.write("me:pass:word\nanother line\n")
            for user in ("--user=me:pass:word", f"--user=@{path}"):
                gives(b"the secret", user, f"{server.url}/")
                gives(b"the secret", user, f"{server.url}/moved")
            fails("the server answered 401 Unauthorized", "--user=me:pass", f"{server.url}/", partial=b"")
            fails("the server answered 401 Unauthorized", f"{server.url}/", partial=b"")
            require(not said(other), "the other server was asked")
            # Another port is another server; a redirect back from it is requested without credentials.
            gives(b"public", "--user=me:pass:word", f"{server.url}/away")
            fails("the server answered 401 Unauthorized", "--user=me:pass:word", f"{server.url}/there", partial=b"")
            require(said(other) == [False, False], "the other server was told who asks")
            require(said(server)[-3:] == [True, True, False], f"{said(server)}")
    for user in ("me", "", "me:\n", "@/no/such"):
        fails("a user is NAME:PASSWORD.*|cannot read .*", f"--user={user}", "http://127.0.0.1/")


def chunked_at_every_cut():
    answers = {f"/{cut}": in_pieces(CHUNKED, [cut]) for cut in range(1, len(CHUNKED))}
    with Scripted(answers) as server:
        for path in answers:
            gives(CHUNKED_BODY, server.url + path)
    return f"{len(answers)} cuts"


def dribbles():
    answers = {
        "/chunked": in_pieces(CHUNKED, range(1, len(CHUNKED))),
        "/length": in_pieces(with_length(b"byte by byte"), range(1, 50)),
        "/close": in_pieces(b"HTTP/1.0 200 OK\n\nuntil the end", range(1, 30)),
    }
    with Scripted(answers) as server:
        gives(CHUNKED_BODY, f"{server.url}/chunked")
        gives(b"byte by byte", f"{server.url}/length")
        gives(b"until the end", f"{server.url}/close")


def bodies():
    """Where bodies end, and where they do not."""
    good = {
        "/continue": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + with_length(b"late"), b"late"),
        "/surplus": (with_length(b"body", length=2), b"bo"),
        "/none": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        "/twice": (with_length(b"same", "Content-Length: 4"), b"same"),
        "/both": (CHUNKED.replace(b"\r\n", b"\r\nContent-Length: 3\r\n", 1), CHUNKED_BODY),
        "/reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    }
    hung_up = r"the server hung up in the middle, after \d+ bytes"
    bad = {
        "/short": (with_length(b"half", length=8), hung_up),
        "/short-chunk": (CHUNKED[:-20], hung_up),
        "/no-trailer": (CHUNKED[:-2], hung_up),
        "/silent": (b"", "the server hung up before it had answered"),
        "/half-head": (b"HTTP/1.1 200 OK\r\nConte", "the server hung up before it had answered"),
        "/garbage": (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        "/binary": (bytes(range(256)), "the answer is not HTTP"),
        "/field": (b"HTTP/1.1 200 OK\r\nno field\r\n\r\n", r"the head of the answer is malformed: .*"),
        "/status": (b"HTTP/1.1 2x0 OK\r\n\r\n", r"the head of the answer is malformed: .*"),
        "/length": (with_length(b"", length="-1"), r"the length of the body is malformed: .*"),
        "/plus": (with_length(b"", length="+1"), r"the length of the body is malformed: .*"),
        "/huge-length": (with_length(b"", length=1 << 65), r"the length of the body is malformed: .*"),
        "/lengths": (with_length(b"abc", "Content-Length: 1"), r"the length of the body is malformed: .*"),
        "/coding": (CHUNKED.replace(b"chunked", b"gzip, chunked", 1), r"a transfer coding that is not supported: .*"),
        "/size": (CHUNKED_HEAD + b"x\r\n", "the size of a chunk is malformed"),
        "/huge-size": (CHUNKED_HEAD + b"f" * 17 + b"\r\n", "the size of a chunk is malformed"),
        "/size-line": (CHUNKED_HEAD + b"1;" + b"x" * 5000, "the size of a chunk is malformed"),
        "/chunk-end": (CHUNKED_HEAD + b"1\r\nab\r\n", "a chunk is longer than its size"),
        "/escape": (b"HTTP/1.1 500 \x1b[2J\r\n\r\n", r"the (server answered 500 .*|head of the answer is malformed.*)"),
        "/error": (b"HTTP/1.1 503 Gone \xc3\xa9\r\n\r\n", r"the server answered 503 .*"),
    }
    answers = {path: answer for path, (answer, _) in {**good, **bad}.items()}
    with Scripted(answers) as server:
        for path, (_, body) in good.items():
            gives(body, server.url + path)
        for path, (_, complaint) in bad.items():
            try:
                fails(complaint, server.url + path)
            except harness.Failed as error:
                raise harness.Failed(f"{path}: {error}") from None
    return f"{len(good)} good, {len(bad)} bad"


def takes_what_others_take():
    """Heads that are slightly wrong, but are sent and accepted in practice."""
    body = b"\r\n\r\nbody"
    moved = b"HTTP/1.1 302 Moved\r\nContent-Length: 0\r\nLocation"
    answers = {
        "/folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\tc\r\nContent-Length: 4" + body,
        "/folded-length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 4" + body + b"more",
        "/folded-coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "/folded-lf": b"HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 4\n\nbody",
        "/folded-location": moved + b":\r\n /end\r\n\r\n",
        "/blank": b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length : 4" + body,
        "/blank-coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding\t: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "/blank-location": moved + b" : /end\r\n\r\n",
        "/identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity" + body,
        "/identity-length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Identity\r\nContent-Length: 4" + body + b"more",
        "/fields": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000 + b"Content-Length: 4" + body,
        "/latin-1": moved + b": /caf\xe9?\xfc\r\n\r\n",
        "/utf-8": moved + b": /caf\xc3\xa9?\xc3\xbc\r\n\r\n",
        **dict.fromkeys(("/caf%E9?%FC", "/caf%e9?%fc"), with_length(b"latin-1")),
        **dict.fromkeys(("/caf%C3%A9?%C3%BC", "/caf%c3%a9?%c3%bc"), with_length(b"utf-8")),
        "/end": with_length(b"end"),
        "/trailer": CHUNKED_HEAD + b"4 \r\nbody\r\n0\r\nno colon\r\nX : y\r\n z\r\n\r\n",
    }
    # Those that curl or urllib rejects or takes only in part: over 100 fields, and what such a field says of the body.
    alone = {"/folded-length": b"body", "/folded-coding": b"body", "/folded-location": b"end", "/blank-coding": b"body",
             "/blank-location": b"end", "/identity-length": b"body", "/fields": b"body", "/trailer": b"body"}
    with Scripted(answers) as server:
        for path in answers:
            try:
                if path in alone:
                    gives(alone[path], server.url + path)
                else:
                    same_as_others(server.url + path)
            except harness.Failed as error:
                raise harness.Failed(f"{path}: {error}") from None
    return f"{len(answers)} answers"


def many_small_heads():
    """The cost is linear in their number: 100,000 of them, none of which may cause a rescan of the whole input."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with Scripted({"/": b"HTTP/1.1 103 E\r\n\r\n" * 100_000 + with_length(b"late")}) as server:
        gives(b"late", f"{server.url}/")
    took_s = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    require(took_s < 10, f"{took_s:.1f} s of CPU")
    return f"{took_s:.1f} s of CPU"


def links_are_followed_to_where_nothing_is():
    """The target of a link is written, and the link stays, whether or not the target existed."""
    with Scripted({"/": with_length(b"new"), "/no": b"HTTP/1.1 404 None\r\n\r\n"}) as server, tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "sub"))
        paths = {name: os.path.join(folder, name) for name in ("there", "dangling", "twice", "absolute", "nowhere", "loop")}
        with open(os.path.join(folder, "sub", "old"), "wb") as file:
            file.write(b"old")
        leads = {"there": "sub/old", "dangling": "sub/new", "twice": "dangling", "absolute": os.path.join(folder, "sub", "far"),
                 "nowhere": "no/such", "loop": "loop"}
        for name, target in leads.items():
            os.symlink(target, paths[name])
        for name, written in (("there", "old"), ("dangling", "new"), ("twice", "new"), ("absolute", "far")):
            if name == "twice":
                os.remove(os.path.join(folder, "sub", "new"))
            fails("the server answered 404 None", f"{server.url}/no", paths[name])
            require(os.path.lexists(paths[name]), f"{name} is gone")
            gives(b"", f"{server.url}/", paths[name])
            with open(os.path.join(folder, "sub", written), "rb") as file:
                require(file.read() == b"new", f"{name}: another file")
        fails(r"cannot write to .*", f"{server.url}/", paths["nowhere"])
        fails(r".* has too many levels of symbolic links", f"{server.url}/", paths["loop"])
        for name, target in leads.items():
            require(os.readlink(paths[name]) == target, f"{name} is another link")
        require(sorted(os.listdir(os.path.join(folder, "sub"))) == ["far", "new", "old"], "left over")


# A chunk size is missing, or the body ends before its last chunk.
NO_SIZES = [b"\r\n", b"\n", b";x\r\n", b" \r\n", b"\t\r\n", b" 0\r\n", b"+0\r\n", b"-0\r\n", b"+5\r\n", b"-5\r\n", b"0x0\r\n",
            b"0x5\r\n", b"0" * 17 + b"\r\n", b"f" * 17 + b"\r\n", b"1" + b"0" * 16 + b"\r\n", b"0;" + b"x" * 2000 + b"\r\n", b"g\r\n",
            b"0h\r\n", b"0 0\r\n", b"0\0\r\n", b"0;x\n\r\n", b"0;\0\r\n", b"0\n", b"0\r\r\n", b"\xef\xbc\x90\r\n"]
CUT = [b"", b"0", b"0\r", b"0\r\n", b"0\r\n\r", b"0\r\nX: y", b"0\r\nX: y\r\n", b"5", b"5\r\n", b"5\r\nhal", b"5\r\nwhole", b"5\r\nwhole\r",
       b"5\r\nwhole\r\n", b"5;x", b"ffffffffffffffff\r\nx"]


def a_cut_body_is_no_whole_one():
    """An error, and no file, whether at the beginning or after a chunk, in one piece or several."""
    answers, complaints = {}, {}
    for rest, complaint in [*((rest + b"\r\n", "the size of a chunk is malformed") for rest in NO_SIZES),
                            *((rest, r"the server hung up in the middle, after \d+ bytes") for rest in CUT)]:
        for before in (b"", b"4\r\nWiki\r\n"):
            for piece in (len(rest) + 100, 1) if len(rest) < 100 else (len(rest) + 100, 999):
                path = f"/{len(answers)}"
                stream = CHUNKED_HEAD + before + rest
                answers[path] = in_pieces(stream, range(len(CHUNKED_HEAD + before), len(stream), piece))
                complaints[path] = (stream, complaint)
    with Scripted(answers) as server, tempfile.TemporaryDirectory() as folder:
        for path, (stream, complaint) in complaints.items():
            try:
                fails(complaint, server.url + path, os.path.join(folder, "x"), partial=b"")
                require(os.listdir(folder) == [], f"left over: {os.listdir(folder)}")
            except harness.Failed as error:
                raise harness.Failed(f"{stream[len(CHUNKED_HEAD):][:60]}: {error}") from None
    return f"{len(answers)} of them"


def heads_and_bodies_are_bounded():
    answers = {
        "/head": endless(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000 + b"\r\n"),
        "/line": endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 1000),
        "/trailer": endless(CHUNKED_HEAD + b"0\r\n", b"X: y\r\n"),
        "/close": endless(b"HTTP/1.1 200 OK\r\n\r\n", b"z" * 1000),
        "/chunks": endless(CHUNKED_HEAD, b"3e8\r\n" + b"z" * 1000 + b"\r\n"),
        "/length": with_length(b"", length=5_000_000_000),
    }
    with Scripted(answers) as server, tempfile.TemporaryDirectory() as folder:
        fails(f"more than {HEAD_BYTES_MAX} bytes of head|the head of the answer is malformed.*", f"{server.url}/head")
        fails(f"more than {HEAD_BYTES_MAX} bytes of head", f"{server.url}/line")
        fails(r"more than \d+ bytes of trailer", f"{server.url}/trailer")
        fails("more than 1000000 bytes", "--max-bytes=1000000", f"{server.url}/close", os.path.join(folder, "x"))
        fails("more than 1000000 bytes", "--max-bytes=1000000", f"{server.url}/chunks", os.path.join(folder, "x"))
        fails(r"more than 1073741824 bytes", f"{server.url}/length", os.path.join(folder, "x"))
        fails(r"more than 16777216 bytes", "--links", f"{server.url}/close", os.path.join(folder, "x"))
        require(os.listdir(folder) == [], f"left over: {os.listdir(folder)}")


def redirects():
    answers = {
        "/loop": redirect_to("/loop"),
        "/file": redirect_to("file:///etc/hostname"),
        "/relative/a": redirect_to("../b?c=d#e", 303),
        "/b?c=d": redirect_to("//{}/end", 307),
        "/end": with_length(b"there"),
        "/nowhere": b"HTTP/1.1 302 Found\r\n\r\n",
        "/bad": redirect_to("http://[bad"),
        "/odd": redirect_to("file:///\x1b[2J"),
        **{f"/{n}": redirect_to(f"/{n + 1}") for n in range(10)},
        "/10": with_length(b"ten"),
    }
    with Scripted(answers) as server:
        answers["/b?c=d"] = answers["/b?c=d"].replace(b"{}", server.url.removeprefix("http://").encode())
        fails("more than 10 redirects", f"{server.url}/loop", partial=b"")
        require(len(server.requests) == 11, f"{len(server.requests)} requests")
        fails("a redirect to file:///etc/hostname is not followed: only http: and https: are", f"{server.url}/file", partial=b"")
        fails("a redirect without a location", f"{server.url}/nowhere")
        fails(r"a redirect to http://\[bad: .*", f"{server.url}/bad")
        fails(r"(a redirect to file:///\\x1b\[2J is not followed.*|the head of the answer is malformed.*)", f"{server.url}/odd")
        gives(b"there", f"{server.url}/relative/a")
        gives(b"ten", f"{server.url}/0")


def deadlines():
    answers = {"/": and_then_hangs(b""), "/head": and_then_hangs(b"HTTP/1.1 200 OK\r\n"),
               "/body": and_then_hangs(with_length(b"half", length=8))}
    with Scripted(answers) as server, tempfile.TemporaryDirectory() as folder:
        for path in answers:
            begin = time.monotonic()
            fails(r"not done within 500ms", "--timeout=0.5", server.url + path, os.path.join(folder, "x"))
            took_s = time.monotonic() - begin
            require(0.5 <= took_s < WAIT_S, f"it took {took_s:.2f} s")
        require(os.listdir(folder) == [], f"left over: {os.listdir(folder)}")


def refusals():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        fails(r"cannot connect: .*refused.*", "http://127.0.0.1:%d/" % nobody.getsockname()[1])
    fails(r"ftp: is not supported, only http:, https: and file:", "ftp://localhost/")
    fails(r"cannot read \"/no/such.pem\": .*", "--ca=/no/such.pem", "https://localhost/")
    fails(r"a URL with a user's name is not supported", "http://me:pass@localhost/")
    for arguments in ([], ["nonsense"], ["--ca", "https://x/"], ["http://x/", "a", "b"], ["--what", "http://x/"], ["--timeout=-1", "http://x/"],
                      ["--max-bytes=x", "http://x/"]):
        fails(r".*(usage: |is not a URL).*", *arguments)
    with tempfile.TemporaryDirectory() as folder:
        fails(r"cannot write to .*", "http://127.0.0.1/", os.path.join(folder, "no", "such"))
        fails(r".* exists and is not a regular file", "http://127.0.0.1/", folder)
        fails(r".* exists and is not a regular file", "http://127.0.0.1/", "/dev/null")
    require(not os.path.isfile("/dev/null"), "/dev/null is a file now")


def no_threads():
    """The first thread is for writing, the second one for the name lookup."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x")
        fails(r"cannot start a thread: .*", "http://localhost:1/", path, first_to_fail=1)
        fails(r"cannot look up the name: cannot start a thread: .*", "http://localhost:1/", path, first_to_fail=2)
        require(os.listdir(folder) == [], f"left over: {os.listdir(folder)}")


def a_signal_leaves_nothing(number):
    with Scripted({"/": and_then_hangs(with_length(b"half", length=8))}) as server, tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kept")
        with open(path, "wb") as file:
            file.write(b"what was there before")
        for name, left in (("kept", ["kept"]), ("new", ["kept"])):
            client = harness.start([harness.package("fetch"), f"{server.url}/", os.path.join(folder, name)],
                                   stderr=subprocess.PIPE)
            wait_until(lambda: any(entry.stat().st_size == 4 for entry in os.scandir(folder) if entry.name.startswith(".")),
                       "nothing of it is on the disk")
            require(not os.path.exists(os.path.join(folder, "new")), "half a file is there under its name")
            code = harness.end(client, number)
            complaint = client.stderr.read()
            client.stderr.close()
            require(code == 1 and complaint.startswith(b"ended by SIG"), f"exit code {code}: {complaint!r}")
            require(os.listdir(folder) == left, f"left over: {os.listdir(folder)}")
        with open(path, "rb") as file:
            require(file.read() == b"what was there before", "the file from before is another one")


def wait_until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        require(time.monotonic() < deadline, what)
        time.sleep(harness.POLL_S)


def a_reader_that_stops():
    """Nobody reads its output: the server is held back, memory is bounded, and the deadline and SIGINT still work."""
    sent = [0]

    def offer(connection, server):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.settimeout(2)
        with contextlib.suppress(OSError):
            while not server.released.is_set():
                sent[0] += connection.send(b"x" * 65536)

    with Scripted({"/": offer}) as server:
        for arguments, number in ((["--timeout=4"], None), ([], signal.SIGINT)):
            sent[0] = 0
            client = harness.start([harness.package("fetch"), *arguments, f"{server.url}/"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
            try:
                wait_until(lambda: sent[0] > 65536, "nothing is taken")
                seen = -1
                while seen != sent[0]:
                    seen = sent[0]
                    harness.left_alone(0.5)
                require(client.poll() is None, "it has ended, though nobody takes what it prints")
                with open(f"/proc/{client.pid}/status", encoding="utf-8") as file:
                    peak_kib = int(file.read().split("VmHWM:")[1].split()[0])
                require(peak_kib < 32 << 10, f"{peak_kib} KiB at the peak")
                code = harness.end(client, number) if number else client.wait(WAIT_S)
                complaint = client.stderr.read()
                require(code == 1 and complaint.count(b"\n") == 1, f"exit code {code}: {complaint!r}")
            finally:
                client.stdout.close()
                client.stderr.close()
        return f"{seen >> 10} KiB taken, {peak_kib >> 10} MiB at the peak"


def a_reader_that_leaves():
    with Scripted({"/": endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)}) as server:
        client = harness.start([harness.package("fetch"), f"{server.url}/"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        client.stdout.read(10)
        client.stdout.close()
        code = client.wait(WAIT_S)
        complaint = client.stderr.read().decode()
        client.stderr.close()
        require(code == 1 and re.fullmatch("cannot write: Broken pipe.*\n", complaint), f"{code}, {complaint!r}")


def on_a_terminal(*arguments):
    """Returns what it writes to a terminal as its stderr, and its exit code."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    client = harness.start([harness.package("fetch"), *arguments], stdout=subprocess.DEVNULL, stderr=child)
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed.
        while data := os.read(parent, 65536):
            shown += data
    os.close(parent)
    return client.wait(WAIT_S), shown.decode()


def shows_progress():
    def slowly(connection, _):
        connection.sendall(with_length(b"", length=1 << 20))
        for _ in range(4):
            connection.sendall(b"x" * (1 << 18))
            harness.left_alone(0.3)

    answers = {"/": slowly, "/short": with_length(b"half", length=8)}
    with Scripted(answers) as server, tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x")
        code, shown = on_a_terminal(f"{server.url}/", path)
        amounts = set(re.findall(r"([\d.]+ \wiB) of 1\.00 MiB", shown))
        require(code == 0 and len(amounts) >= 3 and "\N{FULL BLOCK}" in shown, f"{code}, {shown[-300:]!r}")
        # The bar is erased at the end, and after an error only the message remains.
        require(shown.endswith("\x1b[2K"), f"{shown[-60:]!r} is left")
        code, shown = on_a_terminal(f"{server.url}/short", path)
        require(code == 1 and shown.split("\x1b[2K")[-1].strip() == "the server hung up in the middle, after 4 bytes", f"{shown!r}")
        # No bar if nothing is saved, or if stderr is not a terminal (as everywhere with `run`).
        code, shown = on_a_terminal(f"{server.url}/")
        require((code, shown) == (0, ""), f"{code}, {shown!r}")
        require(run(f"{server.url}/", path)[2] == "", "a bar without a terminal")
        require(os.listdir(folder) == ["x"], f"left over: {os.listdir(folder)}")
        return f"{len(amounts)} states"


def main():
    checks = Checks(LIMIT_S)
    checks.run("as curl and urllib, from Python's http.server", fetches_from, python_server)
    checks.run("as curl and urllib, from nginx", fetches_from, nginx)
    checks.run("nginx, chunked and with redirects", nginx_chunks_and_redirects)
    checks.run("https, as curl and urllib, from Python's http.server", fetches_over_tls, python_server)
    checks.run("https, as curl and urllib, from nginx", fetches_over_tls, nginx)
    checks.run("https, and what is cut off", what_is_cut_off_over_tls)
    checks.run("file:", reads_files)
    checks.run("links", finds_links)
    checks.run("a link by its text", finds_a_link_by_its_text)
    checks.run("a file without a name, and headers", retrieves)
    checks.run("who asks", authenticates)
    checks.run("links and a slow reader", links_wait_for_a_slow_reader)
    checks.run("chunked, at every cut", chunked_at_every_cut)
    checks.run("a byte at a time", dribbles)
    checks.run("bodies that end in order, and answers that do not", bodies)
    checks.run("what others take", takes_what_others_take)
    checks.run("many small heads", many_small_heads)
    checks.run("links to where nothing is", links_are_followed_to_where_nothing_is)
    checks.run("a cut body is no whole one", a_cut_body_is_no_whole_one)
    checks.run("heads, trailers and bodies are bounded", heads_and_bodies_are_bounded)
    checks.run("redirects", redirects)
    checks.run("deadlines", deadlines)
    checks.run("what cannot be fetched", refusals)
    checks.run("no thread left", no_threads)
    checks.run("SIGINT leaves nothing", a_signal_leaves_nothing, signal.SIGINT)
    checks.run("SIGTERM leaves nothing", a_signal_leaves_nothing, signal.SIGTERM)
    checks.run("a reader that stops", a_reader_that_stops)
    checks.run("a reader that leaves", a_reader_that_leaves)
    checks.run("the bar, on a terminal", shows_progress)
    checks.finish()


if __name__ == "__main__":
    main()
