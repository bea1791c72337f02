"""Client libraries at pinned versions, fetched once below `target/`, and programs that use them.

They come from the registries that pip and npm are configured for.  A failed download fails the check that needs it.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading

import harness
from harness import PROJECT, WAIT_S, Failed, require

FETCH_S = 120

# redis-py needs async-timeout with Python before 3.11.3, as in Debian 12.
REDIS_PY = ["redis==8.1.0", "async-timeout==5.0.1"]
# Its own dependencies have exact versions too.
NODE_REDIS = ["redis@5.12.1"]
# With it, redis-py has its answers parsed by the C library hiredis.
HIREDIS = ["hiredis==3.5.0"]
IOREDIS = ["ioredis@5.11.1"]
PAHO = ["paho-mqtt==2.1.0"]


def folder_of(name):
    return os.path.join(PROJECT, os.environ.get("CARGO_TARGET_DIR", "target"), "libraries", name)


def fetched(name, wanted, commands):
    """Returns a folder filled by `commands`, which run again when what is wanted changes."""
    folder = folder_of(name)
    stamp = os.path.join(folder, "wanted.json")
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as file:
            if json.load(file) == wanted:
                return folder
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for command in commands(folder):
        require(shutil.which(command[0]), f"{command[0]} is not installed: {name} cannot be fetched")
        try:
            done = subprocess.run(command, capture_output=True, timeout=FETCH_S, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"{name} was not fetched in {FETCH_S} s") from None
        require(done.returncode == 0, f"{name} cannot be fetched: {done.stderr.decode(errors='replace')[-500:]}")
    with open(stamp, "w", encoding="utf-8") as file:
        json.dump(wanted, file)
    return folder


def python_of(folder):
    return os.path.join(folder, "bin", "python")


def python_with(name, wanted):
    """Returns the Python that has these packages."""
    def commands(folder):
        yield [sys.executable, "-m", "venv", folder]
        yield [python_of(folder), "-m", "pip", "install", "--quiet", *wanted]

    return python_of(fetched(name, wanted, commands))


def python_with_redis_py():
    return python_with("redis-py", REDIS_PY)


def python_with_hiredis():
    return python_with("redis-py-hiredis", REDIS_PY + HIREDIS)


def python_with_paho():
    return python_with("paho-mqtt", PAHO)


def modules_with(name, wanted):
    """Returns the folder for `NODE_PATH`."""
    def commands(folder):
        yield ["npm", "install", "--prefix", folder, "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund",
               *wanted]

    return os.path.join(fetched(name, wanted, commands), "node_modules")


def modules_with_node_redis():
    return modules_with("node-redis", NODE_REDIS)


def modules_with_ioredis():
    return modules_with("ioredis", IOREDIS)


class Program:
    """A program that uses a library and prints each result as a line of JSON: see `redis_py_client.py`."""

    def __init__(self, argv, address, version, environment):
        self.process = harness.start([*argv, address, version], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, env={**os.environ, **environment})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            harness.end(self.process)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def told(self):
        """Returns its output until the restart, or until it exits, as pairs of an action and its result."""
        told = []
        late = threading.Timer(4 * WAIT_S, self.process.kill)
        late.start()
        for line in self.process.stdout:
            told.append(json.loads(line))
            if told[-1][0] == "restart":
                break
        late.cancel()
        return told

    def goes_on(self, has_lost_it):
        with contextlib.suppress(BrokenPipeError):  # It has exited, and `require_end` says why.
            self.process.stdin.write(b"lost\n" if has_lost_it else b"kept\n")
            self.process.stdin.flush()

    def require_end(self):
        code = self.process.wait(WAIT_S)
        require(code == 0, f"it ended with {code}: {self.process.stderr.read().decode(errors='replace')[-500:]}")
