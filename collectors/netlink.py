"""Network devices as the kernel tells of them: a list on request, and each change when it happens.

One rtnetlink socket does both, so nothing is missed between the list and the changes. What the
kernel could not put into the socket's buffer is lost, and said (`Overrun`): netlink(7).
"""

import asyncio
import errno
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from pyroute2 import netns as namespaces
from pyroute2.netlink import (
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
)
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTMGRP_LINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

BUFFER_BYTES = 4 * 1024 * 1024
"""Of the socket: some thousand changes; the kernel halves what may be too much for it."""
NAMESPACES = Path("/run/netns")
"""Where named ones are: ip-netns(8)."""
READ_BYTES = 65_536
"""The kernel sends 32 KiB at a time at most: netlink_dump in net/netlink/af_netlink.c."""
IFF_UP, IFF_LOWER_UP, IFF_LOOPBACK = 0x1, 0x10000, 0x8
"""netdevice(7)."""
MII_UP = 0
"""BOND_LINK_UP: include/net/bonding.h; all else is not yet, or no longer, in use."""


@dataclass(frozen=True)
class Device:
    """One network device."""

    index: int
    name: str
    is_up: bool
    """An operator wants it to work."""
    has_carrier: bool
    kind: str = ""
    """Of a device that is made of software, e.g. bond, veth; '' of a card."""
    master: int = 0
    """Index of the bond or bridge it is a member of; 0: of none."""
    mii_status: int | None = None
    """What the bond makes of its member; None: it is not in one."""
    active: int | None = None
    """Of a bond: index of the one member that carries the traffic; None: of none, or of several."""
    is_loopback: bool = False


@dataclass(frozen=True)
class Gone:
    """A device is no longer there."""

    index: int


@dataclass(frozen=True)
class Listed:
    """The list that was asked for has been told whole."""

    is_consistent: bool
    """No device came or went while it was told."""


@dataclass(frozen=True)
class Overrun:
    """The kernel had more to tell than was read in time: what was told since is not all."""


News = Device | Gone | Listed | Overrun


class Kernel(Protocol):
    """What a source asks: `Netlink`, or in tests a script of it."""

    def __enter__(self) -> Self:
        """Begin to listen to changes."""
        ...

    def __exit__(self, *_: object) -> None:
        """Let go."""
        ...

    def ask(self) -> None:
        """Ask for the list of all devices; `Listed` says that it is whole."""
        ...

    async def read(self) -> list[News]:
        """Return the next news, at least one; waits for it."""
        ...


class Netlink:
    """Reads devices of one network namespace; use it in a `with` block."""

    def __init__(self, namespace: str | None = None) -> None:
        """Listen to changes.

        Raises:
            OSError: there is no such namespace, or it may not be entered.
        """
        self._socket = _socket_in(namespace)
        self._socket.settimeout(0.0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.bind((0, RTMGRP_LINK))
        self._decoder: Any = MarshalRtnl()
        self._asked = 0
        self._was_interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self) -> None:
        """Ask for the list of all devices; `Listed` says that it is whole."""
        self._asked += 1
        self._was_interrupted = False
        request: Any = ifinfmsg()
        request["header"]["type"] = RTM_GETLINK
        request["header"]["flags"] = NLM_F_REQUEST | NLM_F_DUMP
        request["header"]["sequence_number"] = self._asked
        request.encode()
        self._socket.send(request.data)

    async def read(self) -> list[News]:
        """Return the next news, at least one; waits for it.

        Raises:
            OSError: the socket is of no more use.
        """
        news: list[News] = []
        while not news:
            try:
                data = await asyncio.get_running_loop().sock_recv(self._socket, READ_BYTES)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return [Overrun()]
            news = list(self.news(data))
        return news

    def news(self, data: bytes) -> Iterator[News]:
        """Yield what a datagram of the kernel says."""
        for message in self._decoder.parse(data):
            header = message["header"]
            self._was_interrupted |= bool(header["flags"] & NLM_F_DUMP_INTR)
            match header["type"]:
                case kind if kind == NLMSG_DONE and header["sequence_number"] == self._asked:
                    yield Listed(not self._was_interrupted)
                case kind if kind == RTM_NEWLINK:
                    yield from _read(message)
                case kind if kind == RTM_DELLINK and not message["family"]:
                    yield Gone(message["index"])
                case kind if kind == NLMSG_ERROR and header["sequence_number"] == self._asked:
                    yield Listed(is_consistent=False)


def _socket_in(namespace: str | None) -> socket.socket:
    """Return a socket that was made inside a network namespace.

    A thread enters it, and ends: whatever else this process does stays where it is.
    """
    with ThreadPoolExecutor(max_workers=1) as inside:
        if namespace is not None:
            with (NAMESPACES / namespace).open() as entry:
                inside.submit(namespaces.setns, entry.fileno()).result()
        kind = socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
        return inside.submit(socket.socket, *kind).result()


def _read(message: Any) -> Iterator[Device]:  # noqa: ANN401 - pyroute2 has no types
    """Yield the device of a message; a name that no entity could have costs that device alone."""
    # Bridges tell of their ports in messages of a family of their own; they hold less.
    name = message.get_attr("IFLA_IFNAME")
    if message["family"] or not isinstance(name, str):  # What is no UTF-8 comes as bytes.
        return
    info = message.get_attr("IFLA_LINKINFO")
    member_of = info and info.get_attr("IFLA_INFO_SLAVE_KIND")
    yield Device(
        index=message["index"],
        name=name,
        is_up=bool(message["flags"] & IFF_UP),
        has_carrier=bool(message["flags"] & IFF_LOWER_UP),
        kind=(info and info.get_attr("IFLA_INFO_KIND")) or "",
        master=message.get_attr("IFLA_MASTER") or 0,
        mii_status=_inside(info, "IFLA_INFO_SLAVE_DATA", "IFLA_BOND_SLAVE_MII_STATUS")
        if member_of == "bond"
        else None,
        active=_inside(info, "IFLA_INFO_DATA", "IFLA_BOND_ACTIVE_SLAVE"),
        is_loopback=bool(message["flags"] & IFF_LOOPBACK),
    )


def _inside(info: Any, part: str, name: str) -> int | None:  # noqa: ANN401 - pyroute2 has no types
    inner = info and info.get_attr(part)
    value = inner.get_attr(name) if hasattr(inner, "get_attr") else None
    return value if isinstance(value, int) else None
