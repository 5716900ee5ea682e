"""The source `link`: carriers of network cards and the state of bonds, from the kernel's rtnetlink.

Each change is told at once; all is listed every few seconds, and after the kernel had more to tell
than was read. On a switch that runs Linux its ports are told instead. What a bond says comes from
the bond where the kernel has it, else from the carriers of the members a site has named.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field

from collectors.netlink import MII_UP, Device, Gone, Kernel, Listed, Netlink, News, Overrun
from collectors.source import Context, Facts
from schemas.base import Strict, is_entity
from schemas.inputs import Input

LISTING_S_MAX = 2.0
"""A list takes a millisecond; one that takes so long has lost its end."""
RELIST_S = 0.2
"""The least time between two lists, however often the kernel's buffer overruns."""
CARRIER, PORT = "nic.carrier.down", "tor.port.down"
MEMBER, ALL, SWITCHED = "vs.bond.member_down", "vs.bond.all_down", "vs.bond.active_changed"

Told = dict[tuple[str, str], dict[str, Any]]


class LinkOptions(Strict):
    """Options of the source `link`."""

    source: Literal["link"] = "link"
    host: str = Field("", description="whose cards these are; none: the collector's own name")
    switch: str = Field("", description="or: the switch whose ports these are")
    interfaces: list[str] = Field(
        default_factory=list,
        description="names or patterns; none: cards, and members of bonds. A name that is not "
        "there counts as without carrier",
    )
    lags: dict[str, list[str]] = Field(
        default_factory=dict,
        description="bonds that are not the kernel's, such as of Open vSwitch: name → members",
    )
    netns: str | None = Field(None, description="network namespace; none: this process's own")


async def link(
    context: Context, options: LinkOptions, listen: Callable[[str | None], Kernel] = Netlink
) -> AsyncGenerator[Input, None]:
    """Yield what changes of the links of a host or a switch, and lists of what stands.

    listen: opens what tells of the devices of a namespace.
    """
    world = World(context, options)
    listing = Listing(context.level_s)
    with listen(options.netns) as netlink:
        while True:
            for one in await _heard(netlink, listing):
                # Until the first list is whole, what comes is told by that list.
                is_told = listing.was_whole
                told = world.take(one)
                if listing.ends_whole_with(one):
                    told += world.keep_only(listing.seen)
                    level = world.facts.level()
                    told = [*told, *level] if is_told else [*level]
                    is_told = True
                for given in told if is_told else ():
                    yield given


async def _heard(netlink: Kernel, listing: "Listing") -> list[News]:
    """Return the next news; none where it is time to ask for a list."""
    clock = asyncio.get_running_loop().time
    if listing.is_due(clock()):
        listing.begin(clock())
        netlink.ask()
    try:
        # Not `wait_for`, which in Python 3.11 may swallow the word that all is to end.
        async with asyncio.timeout(listing.wait_s(clock())):
            return await netlink.read()
    except TimeoutError:
        return []


@dataclass
class Listing:
    """Knows when all devices are to be listed, and whether a list was whole."""

    level_s: float
    due_s: float = 0.0
    asked_s: float = -RELIST_S
    is_open: bool = False
    """A list has been asked for, and its end has not come."""
    is_doubtful: bool = False
    """Something may have been missed since the last list was asked for."""
    was_whole: bool = False
    """There was a whole list; until then a change is told by the first of them."""
    seen: set[int] = field(default_factory=set)
    """Devices told of since the list was asked for."""

    def is_due(self, now_s: float) -> bool:
        """Claim that it is time to ask for a list."""
        return now_s >= self._next_s()

    def wait_s(self, now_s: float) -> float:
        """Return how long there is time for news."""
        return max(0.001, self._next_s() - now_s)

    def begin(self, now_s: float) -> None:
        """Note that a list is asked for; the next comes after `level_s`."""
        self.due_s, self.asked_s = now_s + self.level_s, now_s
        self.is_open, self.is_doubtful = True, False
        self.seen.clear()

    def ends_whole_with(self, news: News) -> bool:
        """Take note of news; claim that with it all has been listed, and nothing missed since."""
        match news:
            case Device():
                self.seen.add(news.index)
            case Gone():
                self.seen.discard(news.index)
            case Overrun():
                self.is_doubtful = True
            case Listed():
                self.is_open = False
                self.is_doubtful |= not news.is_consistent
                self.was_whole |= not self.is_doubtful
                return not self.is_doubtful
        return False

    def _next_s(self) -> float:
        if self.is_open:
            return self.asked_s + LISTING_S_MAX
        return self.asked_s + RELIST_S if self.is_doubtful else self.due_s


class World:
    """The devices as last told, and what of them is a fact."""

    def __init__(self, context: Context, options: LinkOptions) -> None:
        self.facts = Facts(context)
        self._options = options
        self._host = options.host or context.observer.partition(":")[2]
        self._devices: dict[int, Device] = {}
        self._was_up: set[int] = set()
        """Devices that worked while we looked: one switched off since then is told."""
        self._carried: set[int] = set()
        """Devices that do not work yet, and carried their bond's traffic when they lost it."""
        self._left: dict[int, int] = {}
        """Bond → the member it carried its traffic by before the present one."""

    def take(self, news: News) -> list[Input]:
        """Return what begins and ends with news of a device."""
        match news:
            case Device():
                before = self._devices.get(news.index)
                self._devices[news.index] = news
                self._remember(before, news)
                return self._told(before, news)
            case Gone():
                return self._gone(news.index)
            case _:
                return []

    def keep_only(self, indexes: set[int]) -> list[Input]:
        """Return what ends now that these are all devices there are."""
        gone = [index for index in self._devices if index not in indexes]
        told = [one for index in gone for one in self._gone(index)]
        return told + self._absent()

    # ---- memory ----------------------------------------------------------------------------

    def _remember(self, before: Device | None, device: Device) -> None:
        index = device.index
        if device.has_carrier:
            self._was_up.add(index)
            if device.mii_status in (None, MII_UP):
                self._carried.discard(index)
        elif before and before.has_carrier:
            bond = self._devices.get(device.master or before.master)
            if bond is not None and bond.active == index:
                self._carried.add(index)
        if before and before.active is not None and before.active != device.active:
            self._left[index] = before.active

    def _gone(self, index: int) -> list[Input]:
        device = self._devices.pop(index, None)
        self._left.pop(index, None)
        self._was_up.discard(index)
        self._carried.discard(index)
        if device is None:
            return []
        told: list[Input] = [*self.facts.differ(device.name, {}), *self._absent()]
        for lag in self._lags_of(device):
            told += self.facts.differ(f"lag {lag}", self._of_lag(lag))
        return told

    # ---- facts -----------------------------------------------------------------------------

    def _told(self, before: Device | None, device: Device) -> list[Input]:
        told: list[Input] = []
        if before and before.name != device.name:
            told += self.facts.differ(before.name, {})
        told += self.facts.differ(device.name, self._of_device(device))
        lags = self._lags_of(device) | (self._lags_of(before) if before else set())
        for lag in sorted(lags):
            told += self.facts.differ(f"lag {lag}", self._of_lag(lag))
        return told

    def _absent(self) -> list[Input]:
        """Return the change of what is told of cards that a site has named and are not there."""
        named = {one for one in self._options.interfaces if not set(one) & set("*?[")}
        named.update(member for members in self._options.lags.values() for member in members)
        there = {device.name for device in self._devices.values()}
        raised: Told = {}
        for name in sorted(named - there):
            raised.update(self._one(name, {"device": "absent"}))
        return list(self.facts.differ("absent", raised))

    def _of_device(self, device: Device) -> Told:
        if device.has_carrier or not self._counts(device):
            return {}
        attrs: dict[str, Any] = {"admin": "up" if device.is_up else "down"}
        if device.index in self._carried:
            attrs["active"] = True
        return self._one(device.name, attrs)

    def _one(self, name: str, attrs: dict[str, Any]) -> Told:
        switch = self._options.switch
        entity = f"switch_port:{switch}/{name}" if switch else f"nic:{self._host}/{name}"
        return {(entity, PORT if switch else CARRIER): attrs} if is_entity(entity) else {}

    def _counts(self, device: Device) -> bool:
        """Claim that a device is one to tell of: cards, members of bonds, or what a site names.

        A card nobody has switched on, and that never worked, is not in use.
        """
        if device.is_loopback:
            return False
        is_member = device.mii_status is not None or bool(self._declared(device.name))
        patterns = self._options.interfaces
        if patterns:
            return is_member or any(fnmatchcase(device.name, one) for one in patterns)
        is_in_use = device.is_up or device.index in self._was_up
        return is_member or (device.kind == "" and is_in_use)

    # ---- bonds -----------------------------------------------------------------------------

    def _declared(self, name: str) -> list[str]:
        return [lag for lag, members in self._options.lags.items() if name in members]

    def _lags_of(self, device: Device) -> set[str]:
        """Return the names of the bonds whose facts depend on a device."""
        lags = set(self._declared(device.name))
        master = self._devices.get(device.master)
        for one in (device, master):
            if one is not None and one.kind == "bond":
                lags.add(one.name)
        return lags

    def _of_lag(self, lag: str) -> Told:
        entity = f"lag:{self._host}/{lag}"
        states = dict(self._members(lag))
        down = sorted(name for name, (_, works) in states.items() if not works)
        if self._options.switch or not is_entity(entity) or not down:
            return {}
        attrs: dict[str, Any] = {"member": ",".join(down)}
        if any(states[name][0] in self._carried for name in down):
            attrs["active"] = True
        told: Told = {(entity, MEMBER): attrs}
        if len(down) == len(states):
            told[entity, ALL] = {}
        bond = next((one for one in self._devices.values() if one.name == lag), None)
        left = self._left.get(bond.index) if bond else None
        if left is not None and any(states[name][0] == left for name in down):
            told[entity, SWITCHED] = {}
        return told

    def _members(self, lag: str) -> Iterator[tuple[str, tuple[int, bool]]]:
        """Yield the members of a bond: name → (index, whether it works)."""
        by_name = {device.name: device for device in self._devices.values()}
        for name in self._options.lags.get(lag, ()):
            device = by_name.get(name)
            yield name, (device.index if device else 0, bool(device and device.has_carrier))
        bond = by_name.get(lag)
        if bond is None or bond.kind != "bond":
            return
        for device in self._devices.values():
            if device.master == bond.index:
                yield device.name, (device.index, device.mii_status == MII_UP)
