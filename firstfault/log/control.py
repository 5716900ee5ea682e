"""What every worker and producer reads first: which domain is where, and the rule sets by hash.

The topic is compacted: the newest message of a key counts.
"""

from pydantic import ValidationError

from firstfault.log import Log, LogError, Message, Record, between
from schemas.base import canonical, document_of, first_fault
from schemas.control import DOMAINS, DomainMap
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
