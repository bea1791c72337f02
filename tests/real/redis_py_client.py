"""Uses redis-py as a program would, and prints a line of JSON for each operation, for `resp_server.py` to compare.

    python redis_py_client.py PORT|PATH 2|3|default

Runs under a Python that has redis-py, without the harness.  After printing `"restart"` it waits for a line on its input.
"""

import asyncio
import hashlib
import json
import sys

import redis
import redis.asyncio

ADDRESS, VERSION = sys.argv[1:]
WAIT_S = 10
BYTES = bytes(range(256)) * 257
LARGE = bytes(range(251)) * ((8 << 20) // 251)  # Just below the maximum size of a value.
MANY = 2000


def shown(result):
    if isinstance(result, bytes):
        return result.hex() if len(result) <= 1000 else [len(result), hashlib.sha256(result).hexdigest()]
    if isinstance(result, dict):
        return {str(key): shown(value) for key, value in result.items()}
    if isinstance(result, (list, tuple)):
        return [shown(value) for value in result]
    return f"{type(result).__name__}: {result}" if isinstance(result, Exception) else result


def told(what, run):
    try:
        result = run()
    except redis.ResponseError as error:
        result = error
    print(json.dumps([what, shown(result)]), flush=True)


def options():
    where = {"unix_socket_path": ADDRESS} if ADDRESS.startswith("/") else {"port": int(ADDRESS)}
    return {**where, **({} if VERSION == "default" else {"protocol": int(VERSION)}), "client_name": "me", "socket_timeout": WAIT_S}


def values(client):
    told("set", lambda: client.set("a", 1))
    told("get", lambda: client.get("a"))
    told("get nothing", lambda: client.get("nothing"))
    told("set nx", lambda: client.set("a", 2, nx=True))
    told("set xx get", lambda: client.set("a", 3, xx=True, get=True))
    told("set nothing xx get", lambda: client.set("nothing", 3, xx=True, get=True))
    told("set px", lambda: client.set("b", 3, px=100_000))
    told("mget", lambda: client.mget("a", "nothing", "b"))
    told("delete", lambda: client.delete("a", "nothing", "b"))
    for by in (5, -7, 1 << 62, 1 << 62):
        told(f"incrby {by}", lambda: client.incrby("n", by))
        told(f"decrby {by}", lambda: client.decrby("m", by))
    told("incr", lambda: client.incr("n"))
    told("decr", lambda: client.decr("m"))
    told("set text", lambda: client.set("text", "no number"))
    told("incrby of text", lambda: client.incrby("text", 5))
    told("bytes as key and value", lambda: client.set(BYTES[:256], BYTES))
    told("bytes back", lambda: client.get(BYTES[:256]))
    told("a large value", lambda: client.set("large", LARGE))
    told("the large value", lambda: client.get("large"))
    told("many at once", lambda: client.mget(*["large"] * 3, *["nothing"] * MANY))


def pipelines(client):
    pipeline = client.pipeline(transaction=False)
    for n in range(MANY):
        pipeline.set(f"key:{n}", b"\0\r\n" * n).get(f"key:{n}").incrby("sum", n).get(f"nothing:{n}")
    told("a pipeline", pipeline.execute)
    failing = client.pipeline(transaction=False)
    failing.set("a", "x").incrby("a", 5).get("a")
    told("a pipeline with an error in it", lambda: failing.execute(raise_on_error=False))


def connection(client):
    told("ping", client.ping)
    told("echo", lambda: client.echo(BYTES))
    told("name", client.client_getname)
    told("another name", lambda: client.client_setname("other"))
    told("the name", client.client_getname)
    told("a name with a blank", lambda: client.client_setname("a b"))
    told("id", lambda: client.client_id() > 0)
    told("settings", lambda: client.config_get("save"))
    told("version", lambda: client.info()["redis_version"].startswith("7.0."))
    told("no such command", lambda: client.execute_command("NOSUCH", "a"))


async def at_once(count):
    """The same library's asyncio interface: several connections from a pool."""
    async with redis.asyncio.Redis(**options()) as client:
        return await asyncio.gather(*(client.incrby("together", n) for n in range(count)), client.get("nothing"))


def main():
    client = redis.Redis(**options())
    values(client)
    pipelines(client)
    connection(client)
    told("at once", lambda: sorted(asyncio.run(at_once(50))[:-1])[-1])
    told("restart", lambda: None)
    sys.stdin.readline()
    told("set after a restart", lambda: client.set("a", 1))
    told("get after a restart", lambda: client.get("a"))
    client.close()


main()
