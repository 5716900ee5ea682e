"""Where snapshots are kept: chunks in a compacted topic, each snapshot ended by its manifest.

Called by the shells. Keeps: a snapshot counts only whole (its manifest fits all its chunks), and
only once everything that was said before its cut has left; the newest two stay.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import zstandard
from pydantic import ValidationError

from correlator.snapshots import Cut
from firstfault.log import Log, LogError, Message, OffsetGoneError, Record, Span, between
from schemas.base import canonical, document_of
from schemas.topics import SNAPSHOTS
from schemas.worker import SnapshotManifest

CHUNK_BYTES = 262_144
"""Of lines before they are compressed: a millisecond of zstd, and far below a message's limit."""
CHUNK_BYTES_MAX = 64 * 1_048_576
"""No chunk opens to more: a broken one must not fill the memory."""
WINDOW = 64
"""Messages looked through at first, from the end back, for a manifest; then twice as many, and so
on: one domain's may stand behind thousands of its neighbours'."""
KEPT = 2
LEFT_S_MAX = 10.0
"""How long what was said before the cut may take to leave."""
QUIET_S = 2.0
"""A topic that gives nothing for so long has no more: compaction leaves holes, at its end too."""
MANIFEST = "manifest"


@dataclass(frozen=True)
class Found:
    """A whole snapshot."""

    manifest: SnapshotManifest
    lines: list[bytes]


class SnapshotStore:
    """The snapshots of one domain."""

    def __init__(self, log: Log, domain: str, partition: int) -> None:
        self._log, self._domain, self._partition = log, domain, partition
        self._kept: list[SnapshotManifest] = []
        """Whole ones that were not deleted, the oldest first."""
        self._loose: list[str] = []
        """Keys of chunks of ours that will have no manifest."""
        self._found_loose: list[str] = []
        """The same of those before us; until we have written one, they may still be at it."""
        self.looked = 0
        """Messages looked through: a large topic takes a while, and moves."""

    async def write(self, cut: Cut, has_left: Callable[[int], bool]) -> SnapshotManifest:
        """Write a cut while the fold goes on.

        has_left: claims that everything said of the records before an offset is published.

        Raises:
            LogError: it could not be written; those before it still stand.
        """
        await self._delete(self._loose)
        self._loose = []
        keys: list[str] = []
        try:
            manifest = await self._chunked(cut, keys)
            await _until(lambda: has_left(cut.offset))
            await self._drop_old(cut.offset)
            value = canonical(document_of(manifest)).encode()
            last = Message(self._key(cut.offset, MANIFEST), value)
            await self._log.append(SNAPSHOTS, [last], self._partition)
        except BaseException:
            self._loose = keys
            raise
        self._kept.append(manifest)
        self._loose, self._found_loose = self._found_loose, []
        return manifest

    async def _chunked(self, cut: Cut, keys: list[str]) -> SnapshotManifest:
        """Write the chunks of a cut, and their keys into a list; return the manifest of them."""
        digest, first = hashlib.sha256(), 0
        async for chunk in _chunks(cut):
            digest.update(chunk)
            keys.append(self._key(cut.offset, f"{len(keys):05d}"))
            message = Message(keys[-1], chunk)
            offset = await self._log.append(SNAPSHOTS, [message], self._partition)
            first = first if len(keys) > 1 else offset
        return SnapshotManifest(
            domain=self._domain,
            log_generation=cut.log_generation,
            offset=cut.offset,
            rules=cut.rules,
            epoch=cut.epoch,
            first=first,
            count=len(keys),
            sha256=digest.hexdigest(),
        )

    def _key(self, offset: int, what: str) -> str:
        return f"{self._domain}/{offset}/{what}"

    async def _drop_old(self, but: int) -> None:
        """Delete all but as many as are kept beside the one that is being written.

        Before its manifest, so that the last message of a domain is never one that goes away.
        """
        old = [one for one in self._kept if one.offset != but]
        for manifest in old[: max(0, len(old) - KEPT + 1)]:
            keys = [self._key(manifest.offset, f"{number:05d}") for number in range(manifest.count)]
            await self._delete([*keys, self._key(manifest.offset, MANIFEST)])
            self._kept.remove(manifest)

    async def _delete(self, keys: Sequence[str]) -> None:
        if keys:
            await self._log.delete(SNAPSHOTS, keys, self._partition)

    async def newest(self, rules: Collection[str]) -> tuple[Found | None, bool]:
        """Return the newest whole snapshot of one of some rule sets, and whether there were others.

        Raises:
            LogError: the topic cannot be read.
        """
        found, has_others = None, False
        kept = []
        seen: dict[str, bool] = {}
        async for record, manifest in self._manifests(seen):
            kept.append(manifest)
            if found is None and manifest.rules in rules:
                found = await self._whole(record, manifest)
            has_others |= found is None
            if found is not None and len(kept) >= KEPT:
                break
        self._kept = kept[::-1]
        self._found_loose = [
            key
            for key, is_there in seen.items()
            if is_there and not seen.get(f"{key.rpartition('/')[0]}/{MANIFEST}")
        ]
        return found, has_others

    async def _manifests(
        self, seen: dict[str, bool]
    ) -> AsyncIterator[tuple[Record, SnapshotManifest]]:
        """Yield the manifests of the domain, the newest first.

        seen: gets each key of the domain that was passed, and whether it still has a value.
        """
        span = await self._log.span(SNAPSHOTS, self._partition)
        end, window = span.end, WINDOW
        while end > span.first:
            start = max(span.first, end - window)
            for record in reversed([one async for one in self._records(start, end)]):
                if record.key in seen:
                    continue
                seen[record.key] = bool(record.value)
                if record.key.endswith(f"/{MANIFEST}"):
                    with suppress(ValidationError):  # Deleted, or of a version that is not ours.
                        yield record, SnapshotManifest.model_validate_json(record.value)
            end, window = start, 2 * window

    async def _records(self, start: int, end: int) -> AsyncIterator[Record]:
        """Yield what is kept of the domain between two offsets; of chunks no content."""
        async for record in self._kept_between(start, end):
            domain, _, number = record.key.rpartition("/")[0].rpartition("/")
            if domain == self._domain and number:
                is_short = record.key.endswith(f"/{MANIFEST}")
                yield record if is_short else replace(record, value=record.value[:1])

    async def _kept_between(self, start: int, end: int) -> AsyncIterator[Record]:
        span = Span(start, end)
        with suppress(OffsetGoneError):  # Deleted meanwhile: what is there must fit its manifest.
            async for some in between(self._log, SNAPSHOTS, span, self._partition, quiet_s=QUIET_S):
                self.looked += len(some)
                for record in some:
                    yield record

    async def _whole(self, last: Record, manifest: SnapshotManifest) -> Found | None:
        """Return a snapshot if its chunks are those that its manifest names."""
        prefix = self._key(manifest.offset, "")
        records = self._kept_between(manifest.first, last.offset)
        chunks = [one.value async for one in records if one.key.startswith(prefix)]
        chunks = chunks[: manifest.count]
        whole = b"".join(chunks)
        if hashlib.sha256(whole).hexdigest() != manifest.sha256:
            return None
        opener = zstandard.ZstdDecompressor()
        lines = [
            line
            for chunk in chunks
            for line in opener.decompress(chunk, max_output_size=CHUNK_BYTES_MAX).split(b"\n")
        ]
        return Found(manifest, lines)


async def _chunks(cut: Cut) -> AsyncIterator[bytes]:
    """Yield a cut, compressed; the fold has its turn after each slice."""
    packer = zstandard.ZstdCompressor()
    waiting: list[bytes] = []
    size = 0
    for line in cut.lines():
        waiting.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            yield packer.compress(b"\n".join(waiting))
            waiting, size = [], 0
        await asyncio.sleep(0)
    if waiting:
        yield packer.compress(b"\n".join(waiting))


async def _until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so.

    Raises:
        LogError: it takes too long.
    """
    try:
        async with asyncio.timeout(LEFT_S_MAX):
            while not is_so():  # noqa: ASYNC110 - asked of another, and bounded
                await asyncio.sleep(0.01)
    except TimeoutError:
        msg = f"what was said before the snapshot has not left within {LEFT_S_MAX:.0f} s"
        raise LogError(msg) from None
