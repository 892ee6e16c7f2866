"""Run by bqemulator's own Python: serve until the pipe to the tests is closed.

Prints its REST URL and its gRPC address, once, when it is ready.
"""

import asyncio
import sys

from duckdb_extensions import import_extension

import_extension("spatial")  # from its wheel; the emulator would download it

from bqemulator.config import LogLevel, Settings  # noqa: E402
from bqemulator.server import EmulatorServer  # noqa: E402


async def serve() -> None:
    settings = Settings(rest_port=0, grpc_port=0, log_level=LogLevel.CRITICAL, enable_format_extensions=False)
    server = EmulatorServer(settings)
    await server.start()
    print(server.rest_url, server.grpc_endpoint, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop()


asyncio.run(serve())
