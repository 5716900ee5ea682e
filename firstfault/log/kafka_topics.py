"""The topics of a cluster: what they must be like, what is amiss, and making those that lack.

Nothing here relies on a broker's defaults, and nothing that is there is changed: what is amiss is
told with the command that mends it. Asks by kafka-python, whose calls block.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from firstfault.log import LogError
from firstfault.log.kafka_settings import UNREACHED, client_options
from schemas.kafka import KafkaSettings
from schemas.topics import (
    ACTIONS,
    CONTROL,
    DEAD_LETTERS,
    DECISIONS,
    INCIDENTS,
    LEASE,
    LOG,
    MESSAGE_BYTES_MAX,
    REGION,
    SNAPSHOTS,
    TOPICS,
    Topic,
)

PARTITIONS = 24
"""Of the log; fixed for its life. So many workers may share it, and ticks for them cost little."""
PARTITIONS_MAX = 1_000
COPIES_MAX = 3
"""With two in sync: one broker may be lost, and nothing acknowledged is."""
BATCH_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
"""A broker counts a whole batch: a message of full length, its key and the envelope."""
KEEP_S_MIN = 86_400
"""A site may keep the log and what comes of it for less than we would, but no less than a day."""
SEGMENT_S = 600
"""Only what is in a closed segment is compacted: snapshots come every few seconds."""
SEGMENT_BYTES = 134_217_728
GROUP = "firstfault"
"""How the names of consumer groups begin, after the prefix of the site."""
REQUEST_MS = 10_000
BOOTSTRAP_MS = 10_000
MADE_MS = 30_000
"""How long it is waited until topics that were made have leaders."""

AT_LEAST = frozenset({"max.message.bytes", "min.insync.replicas", "retention.ms"})
"""Settings of which more does no harm; -1 stands for no bound."""


@dataclass(frozen=True)
class Wanted:
    """What a topic must be like on a cluster."""

    topic: Topic
    name: str
    """There, with the prefix of the site."""
    partitions: int
    copies: int
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """What a topic is like."""

    partitions: int
    copies: int
    settings: Mapping[str, str]


def wanted(
    kafka: KafkaSettings, partitions: int = PARTITIONS, brokers: int = COPIES_MAX
) -> list[Wanted]:
    """Return what the topics must be like on a cluster of so many brokers."""
    copies = min(COPIES_MAX, brokers)
    return [
        Wanted(
            topic,
            kafka.named(topic.name),
            partitions if topic.per_domain else 1,
            copies,
            _settings(topic, copies),
        )
        for topic in TOPICS
    ]


def _settings(topic: Topic, copies: int) -> dict[str, str]:
    settings = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        # Time comes from the log: the broker stamps each message, whatever its producer's clock.
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(BATCH_BYTES_MAX),
        "min.insync.replicas": "2" if copies == COPIES_MAX else "1",
        # A replica that lags would take back what was acknowledged.
        "unclean.leader.election.enable": "false",
    }
    if not topic.compacted:
        settings["retention.ms"] = str(topic.keep_s * 1_000)
        settings["retention.bytes"] = "-1"  # A bound by size would drop what nobody has read.
    if topic.name == SNAPSHOTS:
        settings |= {"segment.ms": str(SEGMENT_S * 1_000), "segment.bytes": str(SEGMENT_BYTES)}
    return settings


def amiss(kafka: KafkaSettings, want: Wanted, found: Found | None) -> Iterator[str]:
    """Yield what is wrong with a topic, each in a sentence that says how to mend it."""
    if found is None:
        yield f"{want.name} is not there: run `firstfault topics create`"
        return
    if found.partitions != want.partitions:
        yield (
            f"{want.name} has {found.partitions} partitions where {want.partitions} are wanted, "
            "and a domain never moves: use another prefix, or delete it and what is in it"
        )
    if found.copies < want.copies:
        yield (
            f"{want.name} has {found.copies} of {want.copies} copies: "
            "add them with kafka-reassign-partitions.sh"
        )
    for key, value in want.settings.items():
        is_now = found.settings.get(key, "")
        if not _is_enough(key, is_now, value):
            least = "at least " if key in AT_LEAST else ""
            yield (
                f"{want.name}: {key} is {is_now or 'not set'} and must be {least}{value}: "
                f"kafka-configs.sh --bootstrap-server {kafka.bootstrap} --alter "
                f"--entity-type topics --entity-name {want.name} --add-config {key}={value}"
            )


def _is_enough(key: str, is_now: str, value: str) -> bool:
    if key.startswith("segment."):
        return True  # It costs room on a disk, and no more.
    if key not in AT_LEAST:
        return set(is_now.split(",")) == {value}
    least = min(int(value), KEEP_S_MIN * 1_000) if key == "retention.ms" else int(value)
    return is_now.lstrip("-").isdecimal() and (int(is_now) == -1 or int(is_now) >= least)


class Topics:
    """The topics of a cluster, as far as they are ours."""

    def __init__(self, kafka: KafkaSettings, admin: Any) -> None:  # noqa: ANN401 - of kafka-python
        self._kafka = kafka
        self._admin = admin

    def wanted(self, partitions: int | None = None) -> list[Wanted]:
        """Return what the topics must be like; by default with the partitions the log has."""
        brokers = len(self._admin.describe_cluster()["brokers"])
        if partitions is None:
            log = self.found([self._kafka.named(LOG)])[self._kafka.named(LOG)]
            partitions = log.partitions if log else PARTITIONS
        return wanted(self._kafka, partitions, brokers)

    def found(self, names: list[str]) -> dict[str, Found | None]:
        """Return what topics are like; None for those that are not there."""
        from kafka.admin import ConfigResource, ConfigResourceType  # noqa: PLC0415 - as in `topics`

        there = [one for one in self._admin.describe_topics(names) if one["error_code"] == 0]
        asked = [ConfigResource(ConfigResourceType.TOPIC, one["name"]) for one in there]
        told = self._admin.describe_configs(asked, config_filter="all")["topic"] if there else {}
        found: dict[str, Found | None] = dict.fromkeys(names)
        for one in there:
            partitions = one["partitions"]
            settings = {key: str(given["value"]) for key, given in told[one["name"]].items()}
            copies = min(len(part["replica_nodes"]) for part in partitions)
            found[one["name"]] = Found(len(partitions), copies, settings)
        return found

    def create(self, wants: list[Wanted]) -> list[str]:
        """Make those topics that are not there; return their names once they have leaders."""
        found = self.found([want.name for want in wants])
        lacking = [want for want in wants if found[want.name] is None]
        if lacking:
            self._admin.create_topics(
                {
                    want.name: {
                        "num_partitions": want.partitions,
                        "replication_factor": want.copies,
                        "configs": dict(want.settings),
                    }
                    for want in lacking
                }
            )
            self._admin.wait_for_topics([want.name for want in lacking], timeout_ms=MADE_MS)
        return [want.name for want in lacking]

    def amiss(self, wants: list[Wanted]) -> list[str]:
        """Return what is wrong with topics, each in a sentence that says how to mend it."""
        found = self.found([want.name for want in wants])
        return [one for want in wants for one in amiss(self._kafka, want, found[want.name])]


@contextmanager
def topics(kafka: KafkaSettings) -> Iterator[Topics]:
    """Ask a cluster about its topics.

    Raises:
        LogError: it cannot be reached, or refuses.
    """
    # kafka-python reads its schemas as it is imported: a quarter of a second.
    from kafka import KafkaAdminClient  # noqa: PLC0415
    from kafka.errors import KafkaError, KafkaTimeoutError  # noqa: PLC0415

    options = {
        **client_options(kafka),
        "request_timeout_ms": REQUEST_MS,
        "bootstrap_timeout_ms": BOOTSTRAP_MS,
    }
    try:
        admin = KafkaAdminClient(**options)
        try:
            yield Topics(kafka, admin)
        finally:
            admin.close()
    except KafkaTimeoutError as error:
        msg = f"{kafka.bootstrap}: {UNREACHED}"
        raise LogError(msg) from error
    except KafkaError as error:
        msg = f"{kafka.bootstrap}: {error}"
        raise LogError(msg) from error


def check_topics(kafka: KafkaSettings) -> None:
    """Make sure, at the start of a shell, that every topic is as it must be.

    Raises:
        LogError: one is not; every fault has its line, which says how to mend it.
    """
    with topics(kafka) as found:
        faults = found.amiss(found.wanted())
    if faults:
        raise LogError("\n".join(faults))


@dataclass(frozen=True)
class Right:
    """What one role may do, in the words of kafka-acls.sh."""

    role: str
    what: str
    lines: tuple[str, ...]


_WORKER_WRITES = (LOG, ACTIONS, INCIDENTS, DECISIONS, DEAD_LETTERS, SNAPSHOTS, REGION, LEASE)
_ROLES = (
    (
        "worker",
        "folds the log and speaks",
        (LOG, SNAPSHOTS, REGION, LEASE, CONTROL),
        _WORKER_WRITES,
    ),
    ("region", "judges what domains share", (REGION, LEASE, CONTROL), (LOG,)),
    ("collector", "reports what it sees", (INCIDENTS, CONTROL), (LOG,)),
    ("actuator", "carries out actions", (ACTIONS, CONTROL), (LOG,)),
    ("operator", "looks, and commands", tuple(one.name for one in TOPICS), (LOG,)),
    ("admin", "publishes the domains", (CONTROL,), (CONTROL,)),
)
"""role, what it is, what it reads, what it writes. Only a worker may write actions."""


def rights(kafka: KafkaSettings) -> Iterator[Right]:
    """Yield what each role may do, and no more."""
    for role, what, reads, writes in _ROLES:
        lines = [f"--operation Read --topic {kafka.named(name)}" for name in reads]
        lines += [f"--operation Write --topic {kafka.named(name)}" for name in writes]
        prefix = kafka.named(GROUP)
        lines.append(f"--operation Read --group {prefix} --resource-pattern-type prefixed")
        if role in (
            "worker",
            "region",
            "admin",
        ):  # They check at the start that all is as it must be.
            lines += [
                f"--operation DescribeConfigs --topic {kafka.named(one.name)}" for one in TOPICS
            ]
        yield Right(role, what, tuple(lines))
