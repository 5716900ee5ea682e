"""A script of the kernel's rtnetlink: devices that a test changes, and a buffer that overruns."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Self

from collectors.link import LinkOptions, link
from collectors.netlink import Device, Gone, Listed, News, Overrun
from collectors.source import Source

BUFFER_MAX = 500


class Socket:
    """One listener to a scripted kernel."""

    def __init__(self, kernel: "ScriptedKernel") -> None:
        self._kernel = kernel
        self._buffer: deque[News] = deque()
        self._has_news = asyncio.Event()
        self._has_lost = False

    def __enter__(self) -> Self:
        self._kernel.sockets.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.sockets.remove(self)

    def ask(self) -> None:
        for device in self._kernel.devices.values():
            self.tell(device)
        self.tell(Listed(is_consistent=True))

    def tell(self, news: News) -> None:
        if len(self._buffer) >= BUFFER_MAX and not isinstance(news, Listed):
            self._has_lost = True
        else:
            self._buffer.append(news)
        self._has_news.set()

    async def read(self) -> list[News]:
        await self._has_news.wait()
        if self._has_lost:
            self._has_lost = False
            return [Overrun()]
        news = [self._buffer.popleft() for _ in range(min(4, len(self._buffer)))]
        if not self._buffer:
            self._has_news.clear()
        return news


class ScriptedKernel:
    """Devices, and who listens to what becomes of them."""

    def __init__(self, *devices: Device) -> None:
        self.devices = {device.index: device for device in devices}
        self.sockets: list[Socket] = []

    def listen(self, _: str | None) -> Socket:
        return Socket(self)

    def put(self, device: Device) -> None:
        """Change a device, or add one, and tell all."""
        self.devices[device.index] = device
        for socket in self.sockets:
            socket.tell(device)

    def remove(self, index: int) -> None:
        del self.devices[index]
        for socket in self.sockets:
            socket.tell(Gone(index))


def card(index: int, name: str, **more: object) -> Device:
    return replace(Device(index, name, is_up=True, has_carrier=True), **more)  # type: ignore[arg-type]


class ScriptedWorld:
    """One card of a scripted kernel, as the contract turns it."""

    def __init__(self) -> None:
        self._card = card(2, "e0")
        self._kernel = ScriptedKernel(card(1, "lo", is_loopback=True), self._card)
        self.source: Source = partial(link, options=LinkOptions(), listen=self._kernel.listen)

    def turn(self, *, ill: bool) -> None:
        self._kernel.put(replace(self._card, has_carrier=not ill))

    def turn_unseen(self, *, ill: bool) -> None:
        self._kernel.devices[2] = replace(self._card, has_carrier=not ill)

    def flood(self, changes: int) -> None:
        for number in range(changes):
            self.turn(ill=bool(number % 2))
        self.turn(ill=True)


@contextmanager
def scripted() -> Iterator[ScriptedWorld]:
    yield ScriptedWorld()
