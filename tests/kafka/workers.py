"""Real workers on a real broker: started, loaded with numbered inputs, and judged by a replay.

Each number is a command that the engine answers with one decision that names it, so that an input
lost, folded twice or told out of order shows in what was published.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from correlator.engine import Engine
from correlator.live import Fold, messages_of
from correlator.state import EngineState
from firstfault.log import LogError, Message, Record, Span, between
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_topics import topics
from firstfault.playback import open_site
from schemas.base import canonical, from_microseconds
from schemas.control import DOMAINS
from schemas.inputs import Tick
from schemas.kafka import KafkaSettings
from schemas.topics import ACTIONS, CONTROL, DECISIONS, INCIDENTS, LEASE, LOG

TOPOLOGY = Path(__file__).parents[2] / "examples" / "rack-power" / "topology.json"
RULES = "nfvi"
PATIENCE_S = 60.0
BATCH = 10
"""Messages that the load appends at a time, each with one input."""


@dataclass
class Site:
    """Topics of a test's own, and the domains in them."""

    kafka: KafkaSettings
    domains: dict[str, int]
    """domain → partition"""


async def made_site(kafka: KafkaSettings, domains: int = 2, partitions: int = 2) -> Site:
    """Make the topics, and publish which domain is where."""

    def make() -> None:
        with topics(kafka) as found:
            found.create(found.wanted(partitions))

    await asyncio.to_thread(make)
    named = {f"pod-{number}": number % partitions for number in range(domains)}
    listed = [{"name": name, "partition": number} for name, number in named.items()]
    value = canonical({"log_generation": "0", "domains": listed}).encode()
    log = KafkaLog(kafka)
    await log.append(CONTROL, [Message(DOMAINS, value)])
    await log.close()
    return Site(kafka, named)


class WorkerProcess:
    """One `firstfault run --kafka`."""

    def __init__(self, site: Site, name: str, *options: str, bootstrap: str = "") -> None:
        self.name = name
        program = "from firstfault.cli import main; main()"
        kafka = site.kafka
        given = ["--kafka", bootstrap or kafka.bootstrap, "--prefix", kafka.prefix, "--quiet"]
        given += ["--rules", RULES, "--topology", str(TOPOLOGY), "--instance", name, *options]
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", program, "run", *given],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self, within_s: float = 10.0) -> int:
        """Return its exit code once it has ended."""
        return await asyncio.to_thread(self.process.wait, within_s)

    def close(self) -> str:
        """End it, if it still runs; return what it wrote on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        with self.process.stderr as words:
            return words.read()


@asynccontextmanager
async def running(*workers: WorkerProcess) -> AsyncIterator[None]:
    """Let workers run; end those that still do."""
    try:
        yield
    finally:
        for worker in workers:
            words = worker.close()
            if words.strip():
                sys.stderr.write(f"--- {worker.name}\n{words}\n")


# ---- load ----------------------------------------------------------------------------------


@dataclass
class Load:
    """Appends numbered inputs, a part to each domain, at a steady pace."""

    site: Site
    per_s: int = 1_000
    acknowledged: dict[str, list[int]] = field(default_factory=dict)
    """domain → numbers whose append was acknowledged, in order"""
    _frames: dict[str, int] = field(default_factory=dict)
    _is_over: bool = False

    async def run(self) -> None:
        """Append until `stop`."""
        log = KafkaLog(self.site.kafka)
        try:
            async with asyncio.TaskGroup() as tasks:
                for place, domain in enumerate(self.site.domains):
                    tasks.create_task(self._one(log, domain, place))
                    tasks.create_task(self._pulses(domain))
        finally:
            await log.close()

    async def _one(self, log: KafkaLog, domain: str, place: int) -> None:
        """Append to one domain: late batches are made up for, so the pace holds on the whole."""
        number, started_s = 0, time.monotonic()
        per_s = self.per_s / len(self.site.domains)
        acknowledged = self.acknowledged.setdefault(domain, [])
        while not self._is_over:
            ahead_s = number / per_s - (time.monotonic() - started_s)
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            numbers = list(range(number, number + BATCH))
            number += BATCH
            values = [self._value(domain, one, place) for one in numbers]
            with suppress(LogError):  # Not acknowledged: it may be there, or not.
                await log.append(
                    LOG, [Message(domain, one) for one in values], self.site.domains[domain]
                )
                acknowledged += numbers

    async def _pulses(self, domain: str) -> None:
        """Let three collectors beat once a second: a silence of theirs would be our own lag.

        By connections of their own: what the load has to make up for does not hold them up.
        """
        sequence, log = 0, KafkaLog(self.site.kafka)
        while not self._is_over:
            sequence += 1
            pulses = [
                {"type": "pulse", "collector": f"collector:h{one}", "seq": sequence, "boot_id": "b"}
                for one in range(3)
            ]
            document = {
                "frame_id": f"collector:beats/{id(self)}/{sequence}",
                "domain": domain,
                "inputs": pulses,
            }
            message = Message(domain, json.dumps(document).encode())
            with suppress(LogError):
                await log.append(LOG, [message], self.site.domains[domain])
            await asyncio.sleep(1.0)
        await log.close()

    def _value(self, domain: str, number: int, place: int) -> bytes:
        sequence = self._frames[domain] = self._frames.get(domain, 0) + 1
        inputs: list[dict[str, Any]] = [
            {"type": "command", "command": "maintenance_end", "target": f"host:n{number}"}
        ]
        if number % 500 == 0:  # Now and then a fault, so that incidents and actions are judged too.
            inputs += broken(f"app:vm{1 + (number // 500) % 40:05d}-a1")
        frame = {
            "frame_id": f"collector:load-{place}/{id(self)}/{sequence}",
            "domain": domain,
            "sent_at": from_microseconds(time.time_ns() // 1000),
            "inputs": inputs,
        }
        return json.dumps(frame).encode()

    def stop(self) -> None:
        """Append no more."""
        self._is_over = True


def broken(app: str) -> list[dict[str, Any]]:
    """Return what a dead application shows."""
    return [
        {"type": "event", "entity": app, "signal": signal_name, "source": "collector:h1"}
        for signal_name in ("app.hb.lost", "app.health.bad")
    ]


# ---- what was published --------------------------------------------------------------------


async def kept(kafka: KafkaSettings, topic: str, partition: int) -> list[Record]:
    """Return everything that a topic holds."""
    log = KafkaLog(kafka)
    try:
        span = await log.span(topic, partition)
        found: list[Record] = []
        async for records in between(log, topic, Span(span.first, span.end), partition):
            found += records
        return found
    finally:
        await log.close()


async def numbers_told(kafka: KafkaSettings, partition: int) -> int:
    """Return how many decisions there are; cheap enough to be asked again and again."""
    log = KafkaLog(kafka)
    try:
        span = await log.span(DECISIONS, partition)
        return span.end - span.first
    finally:
        await log.close()


async def speaking(site: Site) -> None:
    """Return once somebody has claimed every domain."""
    end_s = time.monotonic() + PATIENCE_S
    for domain, partition in site.domains.items():
        while not await _is_claimed(site.kafka, domain, partition):
            assert time.monotonic() < end_s, f"nobody claims {domain}"
            await asyncio.sleep(0.05)


async def following(site: Site, name: str) -> None:
    """Return once a worker has recovered every partition."""
    end_s, wanted = time.monotonic() + PATIENCE_S, sorted(set(site.domains.values()))
    while time.monotonic() < end_s:
        beats = [json.loads(one.value) for one in (await kept(site.kafka, LEASE, 0))[-100:]]
        mine = [one for one in beats if one["owner"].startswith(f"{name}/")]
        if mine and mine[-1]["follows"] == wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{name} does not follow {wanted}")


async def stopped(workers: Iterable[WorkerProcess]) -> None:
    """Stop those cleanly that still run, so that all that was said has left."""
    running_ones = [one for one in workers if one.process.poll() is None]
    for worker in running_ones:
        worker.signal(signal.SIGTERM)
    for worker in running_ones:
        await worker.ended()


async def _is_claimed(kafka: KafkaSettings, domain: str, partition: int) -> bool:
    records = await kept(kafka, LOG, partition)
    return any(one.key == domain and b'"owner_claim"' in one.value for one in records)


async def all_told(site: Site) -> None:
    """Return once the newest number of every domain is answered."""
    end_s = time.monotonic() + PATIENCE_S
    for partition in set(site.domains.values()):
        log = await kept(site.kafka, LOG, partition)
        last: dict[str, bytes] = {}
        for record in log:
            if b"collector:load" in record.value:
                frame = json.loads(record.value)
                last[frame["domain"]] = frame["inputs"][0]["target"].encode()
        while True:
            told = await kept(site.kafka, DECISIONS, partition)
            names = {one.key.encode() for one in told[-20_000:]}
            if names >= set(last.values()):
                break
            assert time.monotonic() < end_s, f"not all numbers of {partition} are answered: {last}"
            await asyncio.sleep(0.2)


class Outputs(defaultdict[str, list[bytes]]):
    """Messages in order, by topic."""

    def __init__(self) -> None:
        super().__init__(list)


@dataclass
class Judged:
    """What a run came to."""

    inputs: int = 0
    lost: int = 0
    """Outputs that a replay of the log gives, and nobody published."""
    foreign: int = 0
    """Outputs published that a replay of the log does not give."""
    out_of_order: int = 0
    repeats: int = 0
    """Published again, with the same bytes; an action with the same key."""
    outputs: int = 0
    unacknowledged: int = 0
    missing_inputs: int = 0
    """Acknowledged to the load, and not in the log."""
    actions: int = 0
    silence_ms: int = 0
    """The longest that numbered inputs were appended and none was answered."""
    silent_collectors: int = 0
    """Verdicts on collectors, all of which beat: whoever says that one is silent has lagged."""
    examples: list[str] = field(default_factory=list)
    """Of what is not as it should be."""

    @property
    def is_right(self) -> bool:
        """Claim that nothing was lost, made up, told out of order, or taken for silent."""
        wrong = self.lost + self.foreign + self.out_of_order + self.missing_inputs
        return not wrong + self.silent_collectors


async def judged(site: Site, load: Load) -> Judged:
    """Compare everything that was published with a replay of the log as it was recorded."""
    found = Judged()
    for partition in sorted(set(site.domains.values())):
        log = await kept(site.kafka, LOG, partition)
        names = [name for name, number in site.domains.items() if number == partition]
        again, due = Outputs(), Outputs()
        for name in names:
            _count_inputs(found, log, load, name)
            replayed(log, name, again, due)
        for topic in (INCIDENTS, DECISIONS):
            records = await kept(site.kafka, topic, partition)
            live = [one.value for one in records]
            _compare(found, live, (again[topic], due[topic]), is_ordered=len(names) == 1)
            found.silent_collectors += sum(map(_blames_collector, live))
            if topic == DECISIONS:
                found.silence_ms = max(found.silence_ms, _longest_wait_ms(log, records))
        live = [one.value for one in await kept(site.kafka, ACTIONS, partition)]
        _compare_actions(found, live, (again[ACTIONS], due[ACTIONS]))
    return found


def _blames_collector(value: bytes) -> bool:
    """Claim that a message is about a collector, names it the cause, or counts its silence.

    That a collector was *not* seen to fall silent is evidence, too, and blames nobody.
    """
    if b'"collector:' not in value:
        return False
    told = json.loads(value)
    seen = (one for one in told.get("evidence", ()) if one["role"] == "for")
    about = [told, *told.get("causes", ())[:1], *seen]
    return any(one.get("entity", "").startswith("collector:") for one in about)


def replayed(log: Iterable[Record], domain: str, again: Outputs, due: Outputs) -> None:
    """Add what a fold of the log says of a domain.

    due: as far as the last tick says that it was published; the rest is the next worker's to say.
    """
    rules, graph, _ = open_site(RULES, TOPOLOGY)
    fold = Fold(Engine(EngineState(domain, graph, rules.hash, ticks="recorded"), rules), 0)
    told, published = [], -1
    for record in log:
        if record.key == domain:
            fold.next_offset = record.offset
            told += fold.take(record)
            ticks = (one.published_through for one in fold.heard if isinstance(one, Tick))
            published = max(published, *ticks, -1)
    for outputs, some in ((again, told), (due, [one for one in told if one.offset <= published])):
        for topic, messages in messages_of(some).items():
            outputs[topic] += [one.value for one in messages]


def _count_inputs(found: Judged, log: list[Record], load: Load, domain: str) -> None:
    there = []
    for record in log:
        if record.key == domain and b"collector:load" in record.value:
            there.append(json.loads(record.value)["inputs"][0]["target"])
    wanted = [f"host:n{number}" for number in load.acknowledged.get(domain, [])]
    found.inputs += len(there)
    found.missing_inputs += len(set(wanted) - set(there))
    found.unacknowledged += len(set(there) - set(wanted))


def _compare(
    found: Judged, live: list[bytes], replay: tuple[list[bytes], list[bytes]], *, is_ordered: bool
) -> None:
    again, due = replay
    firsts = list(dict.fromkeys(live))
    found.outputs += len(live)
    found.repeats += len(live) - len(firsts)
    known, lost = set(firsts), sorted(set(due) - set(live))
    foreign = sorted(known - set(again))
    found.lost += len(lost)
    found.foreign += len(foreign)
    found.examples += [f"lost {one!r}" for one in lost[:2]]
    found.examples += [f"foreign {one!r}" for one in foreign[:2]]
    common = [one for one in firsts if one not in foreign]
    if is_ordered and common != [one for one in dict.fromkeys(again) if one in known]:
        found.out_of_order += 1


def _compare_actions(
    found: Judged, live: list[bytes], replay: tuple[list[bytes], list[bytes]]
) -> None:
    """Hold actions against the replay, which says them again at each claim as the worker did.

    All must have left by key, but what was taken back before anybody could let it leave.
    """
    live = [_as_replayed(value) for value in live]
    keys = [json.loads(value)["idempotency_key"] for value in live]
    strange = sorted(set(live) - set(replay[0]))
    wanted = {one["idempotency_key"]: one for one in map(json.loads, replay[1])}
    taken_back = {one["parameters"].get("revokes") for one in wanted.values()}
    missing = wanted.keys() - set(keys) - taken_back
    found.actions += len(set(keys))
    found.outputs += len(live)
    found.repeats += len(keys) - len(set(keys))
    found.foreign += len(strange)
    found.lost += len(missing)
    found.examples += [f"action {one!r}" for one in strange[:2]]
    found.examples += [f"no action {wanted[one]}" for one in sorted(missing)[:2]]


def _as_replayed(value: bytes) -> bytes:
    """Return an action without what the shell puts in: where its result goes."""
    document = json.loads(value)
    document["reply_to"].pop("partition", None)
    return canonical(document).encode()


def _longest_wait_ms(log: list[Record], decisions: list[Record]) -> int:
    """Return the longest from the append of a number to its first answer, by the broker's clock."""
    asked = {
        json.loads(one.value)["inputs"][0]["target"]: one.log_us
        for one in log
        if b"collector:load" in one.value
    }
    answered: dict[str, int] = {}
    for one in decisions:
        answered.setdefault(one.key, one.log_us)
    waits = (answered[name] - asked_us for name, asked_us in asked.items() if name in answered)
    return max(waits, default=0) // 1_000
