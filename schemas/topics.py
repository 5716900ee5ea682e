"""The topics, their keys and what they carry; the major version is part of each name."""

from typing import NamedTuple

from pydantic import BaseModel

from schemas.inputs import Frame
from schemas.outputs import Action, DeadLetter, Decision, Incident

LOCAL_FILE = "firstfault.db"
"""The SQLite file of a log without a broker: a table for each topic."""

LOG = "firstfault.log.v1"
ACTIONS = "firstfault.actions.v1"
INCIDENTS = "firstfault.incidents.v1"
DECISIONS = "firstfault.decisions.v1"
DEAD_LETTERS = "firstfault.dead-letter.v1"
SNAPSHOTS = "firstfault.snapshots.v1"
LEASE = "firstfault.lease.v1"


class Topic(NamedTuple):
    """One topic: its name, its key, what is on it and for how long."""

    name: str
    key: str
    message: type[BaseModel]
    compacted: bool
    what: str


TOPICS = (
    Topic(LOG, "domain", Frame, compacted=False, what="the one input log"),
    Topic(ACTIONS, "target", Action, compacted=False, what="one action per message"),
    Topic(INCIDENTS, "incident", Incident, compacted=True, what="current state of incidents"),
    Topic(DECISIONS, "entity", Decision, compacted=False, what="every decision with its reason"),
    Topic(DEAD_LETTERS, "source", DeadLetter, compacted=False, what="what could not be read"),
)
"""The topics this version reads or writes."""
