"""A link that is really cut: two network namespaces, this program between them, and a stop watch.

Makes a host and a switch with a two-link bond's worth of cables, runs `firstfault run` on what the
kernel says of both, cuts one cable, and reads back from the log when what happened. Needs root; no
broker. Touches nothing but namespaces of its own, and takes them away also after it was killed.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from firstfault.log import Log, LogError
from firstfault.log.frames import FrameWriter
from firstfault.log.local import open_local
from firstfault.packs import find_pack
from schemas.base import to_microseconds
from schemas.inputs import Command, Event, Frame, Level
from schemas.outputs import Action, Decision, Incident
from schemas.topics import ACTIONS, DECISIONS, INCIDENTS, LOG

PREFIX = "ffdemo"
NAMESPACES = Path("/run/netns")
HOST, SWITCH = "h1", "tor1"
CABLES = {"e0": "p0", "e1": "p1"}
"""Cards of the host → ports of the switch."""
BOND = "bond0"
CUT = "e0"
READY_S_MAX = 20.0
NOTICE_S_MAX = 10.0
ENDED_S_MAX = 6.0
"""A worker on Kafka has 5 s of its own to end in order."""
SETTLE_S = 1
"""Until a cause that shows no more counts as ended; the shipped pack waits 60 s, no demo can."""
DOMAIN = f"demo-{os.getpid()}"
"""Its own on a cluster, too, where other demos were shown before."""

Say = Callable[[str], None]


class DemoError(LogError):
    """The demo cannot be shown here; one sentence says why."""


@dataclass
class Moments:
    """When what happened after the cut, microseconds since 1970; 0: not yet."""

    cut_us: int = 0
    told_us: int = 0
    """The kernel's word was read by the collector of the host."""
    logged_us: int = 0
    opened_us: int = 0
    acted_us: int = 0
    notified_us: int = 0
    healed_us: int = 0
    cleared_us: int = 0
    incident: dict[str, Any] = field(default_factory=dict)
    action: dict[str, Any] = field(default_factory=dict)
    incidents: int = 0

    def after_cut_ms(self) -> dict[str, float]:
        """Return when each step was, milliseconds from the cut."""
        names = ("told", "logged", "opened", "acted", "notified", "healed", "cleared")
        return {name: (getattr(self, f"{name}_us") - self.cut_us) / 1e3 for name in names}

    def story(self) -> list[tuple[float, str]]:
        """Return what happened, with milliseconds from the cut, in order."""
        cause = self.incident["causes"][0]
        why = f"{cause['signature']} of {cause['entity']}"
        texts = {
            "told": f"the kernel tells collector:{HOST}: no carrier on nic:{HOST}/{CUT}",
            "logged": "it is in the log, on the disk",
            "opened": f"incident: {why}, confidence {self.incident['confidence']:.2f}",
            "acted": f"action: {self.action['verb']} {self.action['target']}",
            "notified": "the webhook has the notice",
            "healed": "the link is mended",
            "cleared": "the incident is cleared",
        }
        return [(ms, texts[name]) for name, ms in self.after_cut_ms().items()]


# ---- the two namespaces --------------------------------------------------------------------


@contextmanager
def cables() -> Iterator[tuple[str, str]]:
    """Make a host and a switch with their cables; yield the names of their namespaces.

    Raises:
        DemoError: they cannot be made here.
    """
    if os.geteuid() != 0:
        msg = "network namespaces are made by root alone: run it as root (sudo make demo-live)"
        raise DemoError(msg)
    sweep()
    host, switch = (f"{PREFIX}-{os.getpid()}-{name}" for name in ("host", "switch"))
    try:
        for name in (host, switch):
            _ip("netns", "add", name)
        for card, port in CABLES.items():
            peer = ("peer", "name", port, "netns", switch)
            _ip("-n", host, "link", "add", card, "type", "veth", *peer)
            _ip("-n", host, "link", "set", card, "up")
            _ip("-n", switch, "link", "set", port, "up")
        yield host, switch
    finally:
        for name in (host, switch):
            with suppress(DemoError):
                _ip("netns", "del", name)


def sweep() -> None:
    """Take away what demos that were killed have left."""
    found = NAMESPACES.iterdir() if NAMESPACES.is_dir() else ()
    for path in sorted(found):
        match = re.fullmatch(rf"{PREFIX}-(\d+)-\w+", path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            _ip("netns", "del", path.name)


def set_port(switch: str, port: str, *, up: bool) -> int:
    """Switch a port of the switch on or off; return just before when, microseconds since 1970."""
    # `ip` needs milliseconds to start, so it waits for its line before the watch starts.
    batch = subprocess.Popen(  # noqa: S603 - our own words
        ["ip", "-n", switch, "-batch", "-"],  # noqa: S607 - iproute2, wherever it is
        stdin=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.05)
    before_us = time.time_ns() // 1000
    batch.communicate(f"link set {port} {'up' if up else 'down'}\n", timeout=5)
    return before_us


def _ip(*words: str) -> None:
    try:
        subprocess.run(  # noqa: S603 - our own words
            ["ip", *words],  # noqa: S607 - iproute2, wherever it is
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except FileNotFoundError:
        msg = "the program ip is not here: install iproute2"
        raise DemoError(msg) from None
    except subprocess.CalledProcessError as error:
        msg = f"ip {' '.join(words)}: {error.stderr.strip()}"
        raise DemoError(msg) from None


# ---- what a site would write ---------------------------------------------------------------


def write_site(folder: Path, host: str, switch: str, webhook: str) -> None:
    """Write the topology, the rules and the edges of the site."""
    (folder / "topology.json").write_text(json.dumps(_topology()), encoding="utf-8")
    pack = {
        "name": "demo",
        "version": "1.0.0",
        "extends": [str(find_pack("nfvi"))],
        "engine": {"settle": f"{SETTLE_S}s"},
    }
    (folder / "rules").mkdir()
    (folder / "rules" / "pack.yaml").write_text(json.dumps(pack), encoding="utf-8")
    link = {"source": "link", "netns": host, "interfaces": list(CABLES)}
    ports = {"source": "link", "netns": switch, "interfaces": list(CABLES.values())}
    edges = {
        "domain": DOMAIN,
        "collectors": [
            {
                "observer": f"collector:{HOST}",
                "sources": [
                    {**link, "lags": {BOND: list(CABLES)}},
                    {"source": "pulse", "host": f"host:{HOST}"},
                ],
            },
            {"observer": f"collector:{SWITCH}", "sources": [{**ports, "switch": SWITCH}]},
        ],
        "actuators": [{"name": "actuator:demo", "verbs": [{"verb": "notify", "webhook": webhook}]}],
    }
    # What JSON says is YAML as well.
    (folder / "site.yaml").write_text(json.dumps(edges, indent=1), encoding="utf-8")


def _topology() -> dict[str, Any]:
    lag, plane = f"lag:{HOST}/{BOND}", f"plane:{HOST}/tenant"
    edges = [
        (f"vswitch:{HOST}", "runs_on", f"host:{HOST}"),
        (f"vswitch:{HOST}", "attached_to", plane),
        (plane, "attached_to", lag),
        (f"collector:{HOST}", "runs_on", f"host:{HOST}"),
    ]
    for card, port in CABLES.items():
        cable, nic = f"link:{HOST}/{card}", f"nic:{HOST}/{card}"
        edges += [
            (f"switch_port:{SWITCH}/{port}", "member_of", f"switch:{SWITCH}"),
            (cable, "cabled_to", f"switch_port:{SWITCH}/{port}"),
            (nic, "cabled_to", cable),
            (nic, "runs_on", f"host:{HOST}"),
            (lag, "member_of", nic),
        ]
    names = sorted({one for begin, _, end in edges for one in (begin, end)})
    return {
        "nodes": [{"id": name} for name in names],
        "edges": [{"from": begin, "relation": how, "to": end} for begin, how, end in edges],
    }


# ---- the story -----------------------------------------------------------------------------


async def play(folder: Path, say: Say, kafka: str | None = None) -> Moments:
    """Cut a cable and mend it, with this program running; return when what happened.

    kafka: a cluster with our topics; the program then runs as three processes on it.

    Raises:
        DemoError: it cannot be shown here, or what was to happen did not.
    """
    with cables() as (host, switch):
        moments = Moments()
        async with _webhook(moments) as url:
            write_site(folder, host, switch, url)
            async with _program(folder, say, kafka) as log:
                await _ready(log)
                port = CABLES[CUT]
                say(f"\ncut: ip -n {switch} link set {port} down\n")
                moments.cut_us = await asyncio.to_thread(set_port, switch, port, up=False)
                await _until(lambda: _has_ended_well(moments), NOTICE_S_MAX, "no notice came")
                await asyncio.sleep(0.5)  # What else might be said of it is said by now.
                moments.healed_us = await asyncio.to_thread(set_port, switch, port, up=True)
                await _cleared(log, moments)
                await _dated(log, moments)
    return moments


async def _has_ended_well(moments: Moments) -> bool:
    return moments.notified_us > 0


@asynccontextmanager
async def _webhook(moments: Moments) -> AsyncIterator[str]:
    """Be told of notices, as a chat system would be."""

    async def take(request: web.Request) -> web.Response:
        now_us, action = time.time_ns() // 1000, (await request.json())["action"]
        # On a cluster, notices of a demo that was shown just before may still be good.
        if action["domain"] == DOMAIN and not moments.notified_us:
            moments.notified_us, moments.action = now_us, action
        return web.Response(status=204)

    server = web.Application()
    server.router.add_post("/", take)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/"
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class _Read:
    """A log, read from where it was when the demo began."""

    log: Log
    begun: dict[str, int]


@asynccontextmanager
async def _program(folder: Path, say: Say, kafka: str | None) -> AsyncIterator[_Read]:
    """Run the program on a log, and end it afterwards."""
    log = _log(folder, kafka)
    running: list[asyncio.subprocess.Process] = []
    try:
        topics = (LOG, INCIDENTS, DECISIONS, ACTIONS)
        begun = {topic: (await log.span(topic)).end for topic in topics}
        for words in _commands(folder, kafka):
            say(f"$ firstfault {' '.join(words)}")
            program = (sys.executable, "-c", "from firstfault.cli import main; main()")
            running.append(await asyncio.create_subprocess_exec(*program, *words))
        yield _Read(log, begun)
    finally:
        await log.close()
        for process in running:
            with suppress(ProcessLookupError):
                process.terminate()
        await asyncio.gather(*map(_ended, running))


def _log(folder: Path, kafka: str | None) -> Log:
    if kafka is None:
        return open_local(folder / "log")
    from firstfault.kafka import kafka_settings  # noqa: PLC0415 - aiokafka takes half a second
    from firstfault.log.kafka import KafkaLog  # noqa: PLC0415 - likewise

    return KafkaLog(kafka_settings(kafka))


def _commands(folder: Path, kafka: str | None) -> list[list[str]]:
    """Return the words of the commands that a site would run."""
    edges = ["--config", str(folder / "site.yaml")]
    rules = ["--rules", str(folder / "rules"), "--topology", str(folder / "topology.json")]
    rules += ["--domain", DOMAIN, "--quiet"]
    if kafka is None:
        return [["run", "--local", str(folder / "log"), *edges, *rules, "--enforce"]]
    there, state = ["--kafka", kafka], ["--state", str(folder)]
    return [
        ["run", *there, *rules],
        ["collect", *there, *state, *edges],
        ["act", *there, *state, *edges, "--domain", DOMAIN, "--enforce"],
    ]


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(ENDED_S_MAX):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _ready(log: "_Read") -> None:
    """Switch to enforce, and wait until that and both collectors' lists have been read."""
    mode = Command(command="set_mode", target="enforce", by="operator:demo", reason="demo")
    await FrameWriter(log.log, DOMAIN, "operator:demo").write([mode])

    async def is_ready() -> bool:
        told = [one async for _, one in _inputs(log) if isinstance(one, Level)]
        said = [one async for _, one in _all(log, DECISIONS, Decision)]
        has_mode = any(one.reason == "mode_set" for one in said)
        return has_mode and len({one.source for one in told}) == len(CABLES)

    await _until(is_ready, READY_S_MAX, "the program did not begin to work")


async def _cleared(log: "_Read", moments: Moments) -> None:
    async def is_cleared() -> bool:
        last = {one.incident_id: one async for _, one in _all(log, INCIDENTS, Incident)}
        moments.incidents = len(last)
        return all(one.state == "cleared" for one in last.values())

    await _until(is_cleared, NOTICE_S_MAX, "the incident did not end")


async def _dated(log: "_Read", moments: Moments) -> None:
    """Read from the log when what was in it."""
    async for stamp_us, event in _inputs(log):
        if isinstance(event, Event) and event.signal == "nic.carrier.down" and event.at:
            moments.told_us, moments.logged_us = to_microseconds(event.at), stamp_us
            break
    async for stamp_us, incident in _all(log, INCIDENTS, Incident):
        moments.opened_us = moments.opened_us or stamp_us
        moments.incident = moments.incident or incident.model_dump()
        moments.cleared_us = stamp_us
    async for stamp_us, _ in _all(log, ACTIONS, Action):
        moments.acted_us = moments.acted_us or stamp_us


async def _inputs(log: "_Read") -> AsyncIterator[tuple[int, Any]]:
    async for stamp_us, frame in _all(log, LOG, Frame):
        for one in frame.inputs:
            yield stamp_us, one


async def _all(log: "_Read", topic: str, model: Any) -> AsyncIterator[tuple[int, Any]]:  # noqa: ANN401
    """Yield what a topic holds now: when it was stamped, and the message."""
    end = (await log.log.span(topic)).end
    if log.begun[topic] >= end:
        return
    async for records in log.log.read(topic, log.begun[topic]):
        for record in records:
            yield record.log_us, model.model_validate_json(record.value)
        if records[-1].offset + 1 >= end:
            return


async def _until(holds: Callable[[], Any], patience_s: float, otherwise: str) -> None:
    end_s = time.monotonic() + patience_s
    while not await holds():
        if time.monotonic() > end_s:
            msg = f"{otherwise} within {patience_s:.0f} s"
            raise DemoError(msg)
        await asyncio.sleep(0.05)
