"""A second way to a broker that a test can cut: what is sent then is neither refused nor answered.

The broker has a listener of its own for it, whose advertised address is the proxy's.
"""

import asyncio
from contextlib import suppress

from tests.kafka.cluster import free_ports

CHUNK_BYTES = 65_536


class Proxy:
    """Passes connections on to one broker, until it is cut."""

    def __init__(self) -> None:
        self.port, self.broker_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._passes = asyncio.Event()
        self._passes.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take connections from now on."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)

    def cut(self) -> None:
        """Pass nothing on."""
        self._passes.clear()

    def mend(self) -> None:
        """Pass on again, also what was sent meanwhile."""
        self._passes.set()

    async def close(self) -> None:
        """Take no more connections, and end those there are."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            onwards = await asyncio.open_connection("127.0.0.1", self.broker_port)
            for one, other in ((reader, onwards[1]), (onwards[0], writer)):
                task = asyncio.create_task(self._pass_on(one, other))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            return
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
