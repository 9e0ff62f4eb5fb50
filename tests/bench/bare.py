"""The baseline of reads: an aiohttp handler that gives one prepared answer. `python -m tests.bench.bare PORT`.

The answer (headers and body) comes as JSON on stdin; it is what the daemon gave for the same request.
"""

from __future__ import annotations

import json
import sys

import uvloop
from aiohttp import web


def main() -> None:
    """Serve on the port until killed."""
    given = json.load(sys.stdin)
    body = given["body"].encode()

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, headers=given["headers"])

    app = web.Application()
    app.router.add_get("/secret/{name}", handler)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
