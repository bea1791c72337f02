"""The table of the peers: what each is, how it is built and started, and what it cannot do.

A server is started as `argv MODE ADDRESS`, with MODE `echo` or `fanout`; ADDRESS is `127.0.0.1:0` or the path of a Unix
socket. It prints `listening on ADDRESS` and serves until a signal ends it. If it cannot do what is asked, it exits with
status 2 and one line on stderr.
"""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE / "target"
PYTHON = TARGET / "venv" / "bin" / "python"

MODES = ("echo", "fanout")
TRANSPORTS = ("tcp", "unix")

# What else a peer may be unable to do: serve others while a client does not read; send the lines that arrived right
# before the end of their sender's stream.
OTHERS = "others"
LAST_LINES = "last lines"

# The yardstick, to which the others' figures are ratios.
YARDSTICK = "epoll"


class Peer:
    """A peer. `kind` names how it is built, see `BUILDS`; `cannot` holds modes, transports, and the two above."""

    def __init__(self, name, kind, argv, what, cannot=(), environment=None):
        self.name = name
        self.kind = kind
        self.argv = [str(part) for part in argv]
        self.what = what
        self.cannot = frozenset(cannot)
        self.environment = dict(environment or {})

    def can(self, mode, transport="tcp"):
        return mode not in self.cannot and transport not in self.cannot

    def command(self, mode, address):
        return [*self.argv, mode, address]


def rust(name, what, cannot=()):
    return Peer(name, "rust", [TARGET / "release" / name], what, cannot)


def python(name, file, flags, what):
    return Peer(name, "python", [PYTHON, HERE / "python" / file, *flags], what)


PEERS = {
    peer.name: peer
    for peer in (
        rust("switchboard", "this crate"),
        rust("epoll", "a loop by hand on epoll"),
        rust("mio", "a loop by hand on mio"),
        rust("tokio", "tokio, one thread"),
        rust("calloop", "calloop"),
        rust("message_io", "message-io", cannot=["unix", OTHERS, LAST_LINES]),
        Peer("libuv", "c", [TARGET / "libuv"], "libuv, in C"),
        Peer("libevent", "c", [TARGET / "libevent"], "libevent, in C"),
        Peer("go", "go", [TARGET / "go_server"], "Go, one processor", environment={"GOMAXPROCS": "1"}),
        python("asyncio", "asyncio_server.py", [], "Python's asyncio, protocols"),
        python("uvloop", "asyncio_server.py", ["--uvloop"], "the same on uvloop"),
        python("twisted", "twisted_server.py", [], "Twisted, epoll reactor"),
    )
}


# -------------------------------------------------------------------------------------------------- building


def run(command, **options):
    subprocess.run([str(part) for part in command], check=True, cwd=HERE, **options)


def build_rust(peers):
    run(["cargo", "build", "--quiet", "--release", "--locked", *(part for peer in peers for part in ("--bin", peer.name))])


def build_c(peers):
    TARGET.mkdir(exist_ok=True)
    for peer in peers:
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", peer.name], check=True, capture_output=True, text=True
        ).stdout.split()
        output = TARGET / peer.name
        run(["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", HERE / "c" / f"{peer.name}.c", "-o", output, *flags])


def build_go(peers):
    TARGET.mkdir(exist_ok=True)
    for peer in peers:
        subprocess.run(["go", "build", "-o", peer.argv[0], "."], check=True, cwd=HERE / "go")


def build_python(_):
    """Returns a virtual environment with the pinned packages; made again when they change."""
    wanted = HERE / "python" / "requirements.txt"
    stamp = TARGET / "venv" / "requirements.txt"
    if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
        return
    TARGET.mkdir(exist_ok=True)
    run([sys.executable, "-m", "venv", "--clear", TARGET / "venv"])
    run([PYTHON, "-m", "pip", "install", "--quiet", "--requirement", wanted])
    stamp.write_bytes(wanted.read_bytes())


BUILDS = {"rust": build_rust, "c": build_c, "go": build_go, "python": build_python}


def chosen(names):
    """Returns the peers with these names, in the table's order; without names, all of them."""
    unknown = sorted(set(names) - set(PEERS))
    if unknown:
        sys.exit(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return [peer for peer in PEERS.values() if not names or peer.name in names]


def build(peers):
    """Builds these peers, and raises an exception if that fails."""
    for kind, how in BUILDS.items():
        if of_kind := [peer for peer in peers if peer.kind == kind]:
            how(of_kind)
