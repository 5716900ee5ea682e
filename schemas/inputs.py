"""Everything that may stand in the input log (topic ``firstfault.log.v1``).

One discriminated union, `Input`; a Kafka message carries a `Frame` of 1-50 of them, a recording a
`RecordingLine` each. Source of the shapes: the wire page of the design.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import EntityId, Utc, Wire

FRAME_INPUTS_MAX = 50
"""Inputs a frame may carry: the point where Faust's cost per message stops mattering."""

State = Literal["raised", "cleared", "unknown"]
Severity = Literal["critical", "major", "minor", "warning", "indeterminate", "cleared", "info"]
"""X.733 perceived severity, plus ``info`` of common tools."""


class Event(Wire):
    """A change of state of one signal of one entity.

    >>> Event(entity="nic:h1/ens1f0", signal="nic.carrier.down").state
    'raised'
    """

    type: Literal["event"] = "event"
    event_id: str | None = Field(None, max_length=256, description="unique id of the sighting")
    entity: EntityId = Field(description="what it is about, e.g. nic:compute-3/ens1f0")
    signal: str = Field(min_length=1, max_length=256, description="e.g. nic.carrier.down")
    state: State = Field("raised", description="of the abnormal condition")
    severity: str = Field("indeterminate", description="X.733 perceived severity, e.g. major")
    at: Utc | None = Field(None, description="the source's own clock: evidence, never a deadline")
    source: str | None = Field(None, max_length=512, description="e.g. collector:h1/link")
    attrs: dict[str, Any] = Field(default_factory=dict, description="anything more, e.g. admin: up")


class Pulse(Wire):
    """One beat a second of one collector: it lives, and so do its sources."""

    type: Literal["pulse"] = "pulse"
    collector: EntityId = Field(description="e.g. collector:compute-3")
    seq: int = Field(ge=0, description="counts up by one, e.g. 1842")
    boot_id: str | None = Field(None, description="of the host the collector runs on")
    self_delay_ms: float = Field(0.0, ge=0.0, description="its own scheduling delay, milliseconds")
    sources_ok: list[str] = Field(default_factory=list, description="e.g. [link, ovs]")
    host: EntityId | None = Field(None, description="the host whose boot_id this is")
    at: Utc | None = Field(None, description="the collector's own clock")


class Fact(Wire):
    """One raised condition inside a `Level`."""

    entity: EntityId = Field(description="e.g. nic:compute-3/ens1f0")
    signal: str = Field(min_length=1, max_length=256, description="e.g. nic.carrier.down")
    since: Utc | None = Field(None, description="by the source's clock")
    severity: str = Field("indeterminate", description="X.733 perceived severity")
    attrs: dict[str, Any] = Field(default_factory=dict, description="as in an event")


class Level(Wire):
    """All raised facts of one source: an equal fact refreshes, a missing one clears."""

    type: Literal["level"] = "level"
    source: str = Field(min_length=1, max_length=512, description="e.g. collector:compute-3/link")
    facts: list[Fact] = Field(default_factory=list, description="every fact raised now")


class Tick(Wire):
    """Moves the log's time when nothing else does."""

    type: Literal["tick"] = "tick"
    owner: str = Field("", description="the worker that owns the partition")
    epoch: int = Field(0, ge=0, description="offset of the owner's claim")
    published_through: int = Field(-1, ge=-1, description="last offset whose outputs are out")


class OwnerClaim(Wire):
    """A worker takes over emission for a domain."""

    type: Literal["owner_claim"] = "owner_claim"
    owner: str = Field(min_length=1, description="e.g. worker-1")
    supersedes: int | None = Field(None, description="the epoch then current; none for a new log")
    signature: str = Field("", description="Ed25519, checked by the shell")


class Verdict(Wire):
    """The region's word on a resource shared by several domains."""

    type: Literal["verdict"] = "verdict"
    resource: EntityId = Field(description="e.g. link:wan-7")
    state: Literal["failed", "working", "unknown"] = Field(description="of the resource")
    expires_at: Utc | None = Field(None, description="after it the verdict says nothing")
    at: Utc | None = Field(None, description="the source's own clock; signed ones must count up")
    signature: str = Field("", description="Ed25519, checked by the shell")


class TopologyDelta(Wire):
    """One edit of the dependency graph; an edge a → b means *a depends on b*."""

    type: Literal["topology"] = "topology"
    op: Literal["add_node", "remove_node", "add_edge", "remove_edge", "move_edge"] = Field(
        description="move_edge replaces every edge of the same relation and target kind"
    )
    node: EntityId | None = Field(None, description="for add_node and remove_node")
    redundant: bool | None = Field(None, description="the node fails only when its members do")
    from_: EntityId | None = Field(None, alias="from", description="the dependant")
    to: EntityId | None = Field(None, description="the dependency")
    relation: str = Field("depends_on", max_length=128, description="e.g. hosted_by")
    source: str | None = Field(None, description="provenance, e.g. collector:compute-3/libvirt")
    at: Utc | None = Field(None, description="the source's own clock; signed ones must count up")
    signature: str = Field("", description="Ed25519, checked by the shell")


CommandName = Literal[
    "maintenance_start",
    "maintenance_end",
    "hold",
    "release",
    "approve",
    "reject",
    "retry",
    "set_mode",
    "activate_rules",
    "activate_keys",
]


class Command(Wire):
    """An operator's word; a rule set becomes active this way too."""

    type: Literal["command"] = "command"
    command: CommandName = Field(description="what to do")
    target: str = Field(min_length=1, description="entity, plan, mode, rules:HASH or keys:HASH")
    until: Utc | None = Field(None, description="end of a maintenance session, log time")
    by: str = Field("", description="e.g. operator:op-7")
    reason: str = Field("", description="why, in the operator's words")
    command_id: str | None = Field(None, description="a repeat changes nothing")
    expires_at: Utc | None = Field(None, description="log time after which it is refused")
    signature: str = Field("", description="Ed25519, checked by the shell")


class Result(Wire):
    """What an actuator reports of an action, with its proof."""

    type: Literal["result"] = "result"
    action_id: str = Field(description="of the action")
    idempotency_key: str = Field(description="of the action")
    epoch_seen: int = Field(0, description="the epoch the actuator acted under")
    actuator: str = Field("", description="e.g. actuator:mgmt-1")
    verb: str = Field("", description="of the action; a signed result must name it")
    state: Literal[
        "ACCEPTED", "REJECTED", "RUNNING", "CONFIRMED", "FAILED", "TIMED_OUT", "UNKNOWN"
    ] = Field(description="UNKNOWN is a third value: neither success nor failure")
    proof: dict[str, Any] = Field(default_factory=dict, description="method, observed_state, …")
    signature: str = Field("", description="Ed25519, checked by the shell")


SIGNED = (OwnerClaim, Verdict, TopologyDelta, Command, Result)
"""Inputs that count only with a signature; the others are protected by the broker's rights."""

Input = Annotated[
    Event | Pulse | Level | Tick | OwnerClaim | Verdict | TopologyDelta | Command | Result,
    Field(discriminator="type"),
]


class Frame(Wire):
    """One message of the input log."""

    v: Literal[1] = Field(1, description="major version of the schema")
    frame_id: str = Field(description="source/boot/sequence: a producer's double is dropped")
    domain: str = Field(min_length=1, description="the scope of correlation, e.g. pod-1")
    sent_at: Utc | None = Field(None, description="same clock as the inputs' at")
    inputs: list[Input] = Field(min_length=1, max_length=FRAME_INPUTS_MAX)


class RecordingHeader(Wire):
    """First line of a recording."""

    firstfault: Literal["recording"] = "recording"
    v: Literal[1] = 1
    ticks: Literal["recorded", "synthesised"] = Field(description="who moves time")
    domain: str = Field("default", description="e.g. pod-1")
    log_generation: str = Field("0", description="changes when a log starts anew")


class RecordingLine(Wire):
    """One input with the position and the stamp the log gave it."""

    offset: int = Field(ge=0, description="of the frame in the log")
    index: int = Field(0, ge=0, description="of the input in its frame")
    log_at: Utc = Field(description="stamped by the log")
    frame_id: str | None = Field(None, description="of the frame")
    sent_at: Utc | None = Field(None, description="of the frame, by the clock of the input's at")
    input: Input


__all__ = [
    "FRAME_INPUTS_MAX",
    "SIGNED",
    "Command",
    "Event",
    "Fact",
    "Frame",
    "Input",
    "Level",
    "OwnerClaim",
    "Pulse",
    "RecordingHeader",
    "RecordingLine",
    "Result",
    "Tick",
    "TopologyDelta",
    "Verdict",
]
