"""A server that answers every request at once, in a process of its own; it prints its base URL.

Usage: ``python -m benchmarks.common.instant_vendor``; it ends when its standard input closes.
"""

import asyncio
import sys

from aiohttp import web


async def _serve() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.json_response({"ok": True})

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
