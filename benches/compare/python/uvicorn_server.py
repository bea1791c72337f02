"""HTTP on uvicorn, with its own settings but for the log: `uvicorn_server.py MODE HOST:PORT`; there is one mode.

The parser is httptools, which uvicorn takes if it is there. With h11, all of it Python, it answers some 2,500 requests a
second, too few for 120,000. GET / is answered with a short text, anything else with 404.
"""

import asyncio
import sys

import uvicorn


async def answer(scope, receive, send):
    found = scope["path"] == "/"
    text = b"Hello, World!\n" if found else b"404 Not Found\n"
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()
        print(f"listening on {host}:{port}", flush=True)


def main():
    _, address = sys.argv[1:]
    host, port = address.rsplit(":", 1)
    config = uvicorn.Config(
        answer, host=host, port=int(port), http="httptools", loop="asyncio", lifespan="off", log_level="warning", access_log=False
    )
    asyncio.run(Server(config).serve())


if __name__ == "__main__":
    main()
