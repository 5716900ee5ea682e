"""One partition of a log, live: recovered, folded, spoken for. The same over every log.

Hosts (`firstfault/local.py`, `correlator/worker.py`) hand in the records as they come, and call
`look` and `snapshot` now and then. Keeps: what was said has left, and is acknowledged, before the
records at which it was said count as done; nothing leaves while another may speak.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from correlator.engine import Engine
from correlator.frames import activated, opened
from correlator.lease import Lease
from correlator.library import Library
from correlator.live import TICK_US, Fold, Live, Partition, Told, Voice, messages_of
from correlator.rules import RuleSet
from correlator.signatures import Signer
from correlator.signing import Believed, Verifier
from correlator.snapshot_store import Found, SnapshotStore
from correlator.snapshots import Cut, restored
from correlator.state import EngineState
from correlator.topology import Topology
from firstfault.log import Log, LogError, Record, Span, between
from firstfault.log.frames import FrameWriter
from schemas.inputs import OwnerClaim, Tick
from schemas.keys import KeySet
from schemas.outputs import Action
from schemas.topics import ACTIONS, DEAD_LETTERS, DECISIONS, INCIDENTS, LOG, REGION

SLICE_S = 0.01
"""So long records are folded before what was said leaves, and others have their turn."""
ASK_US = 50_000
"""How often it is asked whether nobody speaks any more."""
TOGETHER_US = 250_000
"""The ticks of quiet partitions are due at the same moments, so far apart on one's own clock: up to
so much earlier than after a second."""
SNAPSHOT_RECORDS = 1_000
"""A snapshot is worth its trouble after so many records; a quiet partition is folded again fast."""

SPOKEN = (LOG, INCIDENTS, DECISIONS, ACTIONS, DEAD_LETTERS)
"""What it appends to in the hot path."""

ACTIVATES = (b"activate_rules", b"\\u")
"""One of these is in every message that makes a rule set active; JSON may escape any letter."""

OnTold = Callable[[Told], None]


@dataclass(frozen=True)
class Site:
    """What a correlator works on."""

    domain: str
    topology: Topology
    rules: RuleSet
    owner: str = "correlator:local"
    library: tuple[RuleSet, ...] = ()
    """Rule sets that a command of the log may make active."""
    keys: tuple[KeySet, ...] = ()
    """Key sets known, the first active from the beginning; with none, nothing is checked."""
    log_generation: str = "0"
    private_key: Ed25519PrivateKey | None = None
    """Signs what leaves: actions, and claims in the owner's name; none: nothing is signed."""

    def signer(self) -> Signer | None:
        """Return what signs for this domain."""
        if self.private_key is None:
            return None
        return Signer(self.private_key, self.domain, self.log_generation)


@dataclass(frozen=True)
class Means:
    """What a shell works with."""

    log: Log
    snapshots: Log
    """The same log by other connections: what hinders a snapshot must hinder nothing else."""
    lease: Lease
    on_told: OnTold
    library: Library | None = None
    """The published rule sets, shared by the shells of a worker; none: one of its own."""


class Shell:
    """Folds one partition, and publishes what may leave."""

    def __init__(self, means: Means, number: int, sites: Sequence[Site]) -> None:
        self.number = number
        self._log, self._lease, self._on_told = means.log, means.lease, means.on_told
        self._library = means.library or Library(means.log)
        self._sites = {site.domain: site for site in sites}
        self._writers = {
            name: FrameWriter(means.log, name, site.owner, number)
            for name, site in self._sites.items()
        }
        self._stores = {name: SnapshotStore(means.snapshots, name, number) for name in self._sites}
        self._signers = {name: site.signer() for name, site in self._sites.items()}
        self._partition: Partition | None = None
        self.published = -1
        """Everything said of the records up to this offset has left, or is another's to say."""
        self._term = -1
        """Of the lease, when it was last sure that nobody else had claimed."""
        self._read_on_to: int | None = None
        """Where there is doubt: the end of the log then; nothing leaves before it is read."""
        self._asked: dict[str, int] = {}
        """domain → offset of one's own last claim or tick"""
        self._read_s: dict[str, float] = {}
        """domain → when its last record was read, own clock"""
        self._ticked_s: dict[str, float] = {}
        """domain → when one's own last tick was appended, own clock"""
        self._snapshot_at: dict[str, int] = {}
        """domain → offset of its last snapshot"""
        self._cutting = asyncio.Lock()
        """One cut at a time: the last, at a stop, comes while another may be written."""
        self._unknown: dict[str, str] = {}
        """domain that is being recovered without a snapshot, of a log that is not kept from its
        beginning → what to say should it be no new one"""

    # ---- recovery --------------------------------------------------------------------------

    async def recover(self) -> None:
        """Load the newest snapshot of each domain and fold what follows, saying nothing.

        Raises:
            LogError: the log no longer holds what follows.
        """
        await self._log.prepare(SPOKEN, self.number)
        await self._log.prepare((REGION,))
        lives = {name: await self._started(site) for name, site in self._sites.items()}
        span = await self._log.span(LOG, self.number)
        first = min(live.fold.next_offset for live in lives.values())
        self._partition = Partition(first, lives)
        self.published = first - 1
        if span.first > 1:
            self._unknown = {
                name: _gone(site, span, "a snapshot of what was before")
                for name, site in self._sites.items()
                if name not in self._snapshot_at
            }
        async for records in between(self._log, LOG, Span(first, span.end), self.number):
            await self.fold(records)
        self._unknown = {}

    async def _started(self, site: Site) -> Live:
        rules = {one.hash: one for one in (site.rules, *site.library)}
        names = rules.keys() | await self._library.published()
        found, has_others = await self._stores[site.domain].newest(names)
        # Asked only now: whoever speaks writes snapshots, and the log goes on, while we look.
        span = await self._log.span(LOG, self.number)
        if found is None:
            if has_others and span.first > 1:
                raise LogError(_gone(site, span, "a snapshot under these rules"))
            state = EngineState(
                site.domain, site.topology.copy(), site.rules.hash, ticks="recorded"
            )
            state.log_generation = site.log_generation
            fold = Fold(Engine(state, site.rules, rules), span.first, _verifier(site, None))
            return Live(fold, Voice(self._writers[site.domain].prefix))
        if not span.first <= found.manifest.offset <= span.end:
            raise LogError(_gone(site, span, f"the newest snapshot, at {found.manifest.offset}"))
        name = found.manifest.rules
        if name not in rules:
            published = await self._library.find(name)
            if published is None:
                raise LogError(_gone(site, span, f"the newest snapshot, under rules:{name},"))
            rules[name] = published
        return self._restored(site, found, rules)

    def _restored(self, site: Site, found: Found, rules: dict[str, RuleSet]) -> Live:
        offset = found.manifest.offset
        snapshot = restored(found.lines, site.topology.schema)
        believed = None if snapshot.believed is None else Believed(**snapshot.believed)
        engine = Engine(snapshot.state, site.rules, rules)
        fold = Fold(engine, offset, _verifier(site, believed))
        fold.doubles.know(snapshot.doubles)
        self._snapshot_at[site.domain] = offset
        return Live(fold, Voice(self._writers[site.domain].prefix, offset - 1))

    # ---- the fold --------------------------------------------------------------------------

    @property
    def partition(self) -> Partition:
        """The domains, once recovered."""
        if self._partition is None:
            msg = f"partition {self.number} is not recovered yet"
            raise RuntimeError(msg)
        return self._partition

    @property
    def progress(self) -> int:
        """Return the offset that is folded next; below 0 how much was looked through before."""
        if self._partition is not None:
            return self._partition.next_offset
        return -1 - sum(store.looked for store in self._stores.values())

    @property
    def is_ready(self) -> bool:
        """Claim that it is recovered."""
        return self._partition is not None

    @property
    def may_speak(self) -> bool:
        """Claim that it speaks for some domain."""
        return self._partition is not None and self._partition.may_speak

    async def fold(self, records: Sequence[Record]) -> None:
        """Fold records and publish what may leave; `published` says how far that got.

        Raises:
            OffsetJumpError: a record is missing.
            LogError: what was said could not be published; the records do not count as done.
        """
        end_s = time.perf_counter() + SLICE_S
        for record in records:
            await self._learn(record)
            self._take(record)
            if time.perf_counter() >= end_s:
                await self._publish()
                await asyncio.sleep(0)
                end_s = time.perf_counter() + SLICE_S
        await self._publish()

    async def _learn(self, record: Record) -> None:
        """Learn of the rule set that a command of a record names, before the command is folded."""
        if not any(word in record.value for word in ACTIVATES):
            return
        frame = opened(record.offset, record.log_us, record.value)
        live = self.partition.domains.get(frame.domain)
        for one in frame.inputs if live else ():
            name = activated(one.input)
            if live and name and not live.fold.engine.knows(name):
                rules = await self._library.find(name)
                if rules is not None:
                    live.fold.engine.learn(rules)

    def _take(self, record: Record) -> None:
        live = self.partition.take(record)
        if live is None:
            return
        name = live.fold.engine.state.domain
        self._read_s[name] = time.monotonic()
        if any(isinstance(one, OwnerClaim) for one in live.fold.heard):
            if name in self._unknown and live.fold.engine.state.epoch is None:
                raise LogError(self._unknown[name])  # It supersedes one that is no longer there.
            if live.voice.may_speak:
                self._term = self._lease.term
            elif live.fold.engine.state.epoch == record.offset:
                self._lease.yields(self.number)

    async def _publish(self) -> None:
        told = self.partition.leaving()
        if told and not await self._is_sure():
            return
        told = [self._sealed(one) for one in self.partition.leaving()]
        await asyncio.gather(
            *(
                self._log.append(topic, some, 0 if topic == REGION else self.number)
                for topic, some in messages_of(told).items()
            )
        )
        for one in told:
            self._on_told(one)
        self.partition.published()
        self.published = self.partition.next_offset - 1

    def _sealed(self, one: Told) -> Told:
        """Put into an action what only the shell knows: where its result goes, and who sent it."""
        action = one.output
        if not isinstance(action, Action):
            return one
        if action.reply_to is not None:
            reply_to = action.reply_to.model_copy(update={"partition": self.number})
            action = action.model_copy(update={"reply_to": reply_to})
        signer = self._signers.get(action.domain)
        return replace(one, output=action if signer is None else signer.signed(action))

    async def _is_sure(self) -> bool:
        """Claim that nobody else has claimed: else read to the end of the log before speaking.

        A process that was stopped, or cut off, does not know it; its own beats tell.
        """
        if self._lease.is_fresh() and self._lease.term == self._term:
            return True
        if self._read_on_to is None:
            self._read_on_to = (await self._log.span(LOG, self.number)).end
        if self.partition.next_offset < self._read_on_to:
            return False
        self._read_on_to = None
        if self.partition.may_speak:
            await self._lease.renew()
            self._term = self._lease.term
        return True

    # ---- now and then ----------------------------------------------------------------------

    async def look(self) -> None:
        """Claim what nobody speaks for; append the ticks that are due.

        Raises:
            LogError: nothing was appended.
        """
        if self._partition is None:
            return
        for name, live in self._partition.domains.items():
            if self._asked.get(name, -1) >= self._partition.next_offset:
                continue  # What was asked for last is not read back yet.
            if live.voice.may_speak:
                if self._tick_due_us(name, live) <= 0:
                    await self._write(name, self._tick(name, live))
                    self._ticked_s[name] = time.monotonic()
            elif self._lease.may_claim(self.number):
                epoch = live.fold.engine.state.epoch
                claim = OwnerClaim(owner=self._sites[name].owner, supersedes=epoch)
                await self._write(name, claim)

    def ahead_s(self) -> float:
        """Return how long it is until there is something to look at, as far as is known now.

        0 or less: at once. What was asked for and is not read back yet is no longer due.
        """
        if self._partition is None:
            return TICK_US / 1e6
        ahead_us = [
            self._tick_due_us(name, live) if live.voice.may_speak else self._claim_due_us()
            for name, live in self._partition.domains.items()
            if self._asked.get(name, -1) < self._partition.next_offset
        ]
        return min(ahead_us, default=TICK_US) / 1e6

    def _claim_due_us(self) -> int:
        return 0 if self._lease.may_claim(self.number) else ASK_US

    def _tick_due_us(self, name: str, live: Live) -> int:
        """Ask by how long the last record is read: the log's clock may be another than ours."""
        now_s = time.monotonic()
        since_us = round((now_s - self._read_s[name]) * 1e6)
        due_us = live.fold.tick_due_us(live.fold.engine.state.log_us + since_us)
        # Also where records never cease: a standby holds all that no tick says is published. And
        # together with all else that has no deadline: one request carries them.
        ticked_us = self._ticked_s.get(name, 0.0) * 1e6
        together_s = (ticked_us + TICK_US) // TOGETHER_US * TOGETHER_US / 1e6
        return min(due_us, round((together_s - now_s) * 1e6))

    def _tick(self, name: str, live: Live) -> Tick:
        epoch = live.fold.engine.state.epoch or 0
        owner = self._sites[name].owner
        return Tick(owner=owner, epoch=epoch, published_through=self.published)

    async def _write(self, name: str, given: Tick | OwnerClaim) -> None:
        signer = self._signers[name]
        if signer is not None and isinstance(given, OwnerClaim):
            given = signer.signed(given)
        self._asked[name] = await self._writers[name].write([given])

    async def snapshot(self, records: int = SNAPSHOT_RECORDS) -> int:
        """Write a snapshot of each domain that it speaks for, after so many records at least.

        Raises:
            LogError: one could not be written; those before it still stand.
        """
        written = 0
        async with self._cutting:
            for name, live in self.partition.domains.items():
                since = live.fold.next_offset - self._snapshot_at.get(name, 0)
                if live.voice.may_speak and since >= records:
                    await self._cut(name, live)
                    written += 1
        return written

    async def _cut(self, name: str, live: Live) -> None:
        cut = Cut(live.fold)
        try:
            await self._stores[name].write(cut, lambda end: self.published >= end - 1)
        finally:
            cut.close()
        self._snapshot_at[name] = cut.offset


def _verifier(site: Site, believed: Believed | None) -> Verifier | None:
    if not site.keys:
        return None
    if believed is None:
        return Verifier.from_start(site.domain, site.log_generation, site.keys)
    return Verifier(believed, site.keys)


def _gone(site: Site, span: Span, what: str) -> str:
    return (
        f"{site.domain}: the log is kept from offset {span.first} to {span.end - 1}, and "
        f"{what}, does not meet it: start with the rules that wrote it, or a new log generation"
    )
