"""The topics, their keys and what they carry; the major version is part of each name."""

from typing import NamedTuple

from pydantic import BaseModel

from schemas.control import DomainMap, RuleSetPart
from schemas.inputs import Frame
from schemas.outputs import Action, DeadLetter, Decision, Digest, Incident
from schemas.worker import LeaseBeat, SnapshotChunk, SnapshotManifest

LOCAL_FILE = "firstfault.db"
"""The SQLite file of a log without a broker: a table for each topic."""

LOG = "firstfault.log.v1"
ACTIONS = "firstfault.actions.v1"
INCIDENTS = "firstfault.incidents.v1"
DECISIONS = "firstfault.decisions.v1"
DEAD_LETTERS = "firstfault.dead-letter.v1"
SNAPSHOTS = "firstfault.snapshots.v1"
REGION = "firstfault.region.v1"
LEASE = "firstfault.lease.v1"
CONTROL = "firstfault.control.v1"

MESSAGE_BYTES_MAX = 1_048_576
"""A longer message is neither written nor read: fifty inputs take some ten kilobytes."""
_HOUR_S = 3_600
_WEEK_S = 7 * 24 * _HOUR_S
"""Kafka's own default: longer than an outage of ours may last, snapshots being seconds old."""


class Topic(NamedTuple):
    """One topic: its name, its key, what is on it and for how long."""

    name: str
    key: str
    messages: tuple[type[BaseModel], ...]
    """Each kind of message that it carries; more than one is told apart by the key."""
    compacted: bool
    what: str
    keep_s: int = _WEEK_S
    """How long a message is kept, where only the newest of a key is not."""
    per_domain: bool = True
    """It has the log's partitions: what comes of one of them stands at the same number."""


TOPICS = (
    Topic(LOG, "domain", (Frame,), compacted=False, what="the one input log"),
    Topic(ACTIONS, "target", (Action,), compacted=False, what="one action per message"),
    Topic(
        INCIDENTS,
        "incident",
        (Incident,),
        compacted=True,
        what="state of incidents: the highest `update` is current",
    ),
    Topic(
        DECISIONS,
        "entity",
        (Decision,),
        compacted=False,
        what="every decision with its reason",
        keep_s=13 * _WEEK_S,  # It is the audit: a quarter of a year.
    ),
    Topic(DEAD_LETTERS, "source", (DeadLetter,), compacted=False, what="what could not be read"),
    Topic(
        SNAPSHOTS,
        "domain/offset/part",
        (SnapshotChunk, SnapshotManifest),
        compacted=True,
        what="states to go on from: numbered chunks, a manifest last",
    ),
    Topic(
        REGION,
        "shared resource",
        (Digest,),
        compacted=False,
        what="digests of domains, for what spans them",
        keep_s=24 * _HOUR_S,
        per_domain=False,
    ),
    Topic(
        LEASE,
        "worker",
        (LeaseBeat,),
        compacted=False,
        what="beats of those who speak",
        keep_s=_HOUR_S,  # The last second counts; the rest is for whoever looks into a take-over.
        per_domain=False,
    ),
    Topic(
        CONTROL,
        "name",
        (DomainMap, RuleSetPart),
        compacted=True,
        what="which domain is where, and rule sets by hash",
        per_domain=False,
    ),
)
"""The topics this version reads or writes."""
