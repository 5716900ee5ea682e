"""What every worker and producer reads first: which domain is where, and the rule sets by hash.

The topic is compacted: the newest message of a key counts. What a hash names never changes, so it
does not matter when somebody learns of it.
"""

from collections.abc import Iterable

from pydantic import ValidationError

from firstfault.log import Log, LogError, Message, Record, between
from schemas.base import canonical, document_of, first_fault
from schemas.control import (
    DOMAINS,
    PART_CHARACTERS,
    PARTS_MAX,
    RULES,
    DomainMap,
    RuleFiles,
    RuleSetPart,
)
from schemas.topics import CONTROL

QUIET_S = 5.0
"""Where nothing comes for so long, there is nothing: what stood last was compacted away."""


async def newest(log: Log, topic: str, partition: int = 0) -> dict[str, Record]:
    """Return the newest record of each key of a topic, as it stands now."""
    span = await log.span(topic, partition)
    found: dict[str, Record] = {}
    async for records in between(log, topic, span, partition, quiet_s=QUIET_S):
        found.update((one.key, one) for one in records)
    return found


async def read_domains(log: Log) -> DomainMap | None:
    """Return which domain is in which partition; None where nobody has said so.

    Raises:
        LogError: what stands there is no such map.
    """
    record = (await newest(log, CONTROL)).get(DOMAINS)
    if record is None:
        return None
    try:
        return DomainMap.model_validate_json(record.value)
    except ValidationError as error:
        msg = f"{CONTROL}: offset {record.offset}: {first_fault(error)}"
        raise LogError(msg) from None


async def publish_domains(log: Log, domains: DomainMap, partitions: int) -> bool:
    """Publish the map, so that all agree on it; return whether it says anything new.

    Raises:
        LogError: a domain would move, or be where there is no partition.
    """
    beyond = [one for one in domains.domains if one.partition >= partitions]
    if beyond:
        msg = f"{beyond[0].name}: partition {beyond[0].partition} of a log that has {partitions}"
        raise LogError(msg)
    before = await read_domains(log)
    if before == domains:
        return False
    moved = domains.moved_from(before) if before else None
    if moved:
        raise LogError(moved)
    value = canonical(document_of(domains)).encode()
    await log.append(CONTROL, [Message(DOMAINS, value)])
    return True


# ---- rule sets -----------------------------------------------------------------------------


async def read_rules(log: Log) -> dict[str, RuleFiles]:
    """Return the files of the rule sets that are published whole, by hash.

    Raises:
        LogError: the topic cannot be read.
    """
    return rules_in((await newest(log, CONTROL)).values())


def rules_in(records: Iterable[Record]) -> dict[str, RuleFiles]:
    """Return the files of the rule sets that some records of the topic hold whole, by hash.

    What is no part of one is passed over; whether they are what the hash says is for whoever
    compiles them to see.
    """
    parts: dict[str, dict[int, RuleSetPart]] = {}
    for record in records:
        part = _part(record)
        if part is not None:
            parts.setdefault(part.rules, {})[part.part] = part
    found = ((name, _whole(pieces)) for name, pieces in sorted(parts.items()))
    return {name: files for name, files in found if files is not None}


def _part(record: Record) -> RuleSetPart | None:
    if not record.key.startswith(RULES):
        return None
    try:
        part = RuleSetPart.model_validate_json(record.value)
    except ValidationError:
        return None
    return part if part.key == record.key else None


def _whole(pieces: dict[int, RuleSetPart]) -> RuleFiles | None:
    wanted = range(next(iter(pieces.values())).parts)
    if not all(number in pieces for number in wanted):
        return None
    try:
        return RuleFiles.model_validate_json("".join(pieces[number].text for number in wanted))
    except ValidationError:
        return None


async def publish_rules(log: Log, name: str, files: RuleFiles) -> bool:
    """Publish the files of a rule set under its hash; return whether they were not there before.

    Raises:
        LogError: they are too large, or were not appended.
    """
    known = await read_rules(log)
    if known.get(name) == files:
        return False
    await log.append(CONTROL, [Message(one.key, _value(one)) for one in parts_of(name, files)])
    return True


def parts_of(name: str, files: RuleFiles) -> list[RuleSetPart]:
    """Return the messages that carry the files of a rule set.

    Raises:
        LogError: they are too large.
    """
    text = canonical(document_of(files))
    pieces = [text[at : at + PART_CHARACTERS] for at in range(0, len(text), PART_CHARACTERS)]
    if len(pieces) > PARTS_MAX:
        msg = f"rules:{name}: {len(text)} characters, over {PARTS_MAX * PART_CHARACTERS}"
        raise LogError(msg)
    count = len(pieces)
    return [
        RuleSetPart(rules=name, part=number, parts=count, text=piece)
        for number, piece in enumerate(pieces)
    ]


def _value(part: RuleSetPart) -> bytes:
    return canonical(document_of(part)).encode()
