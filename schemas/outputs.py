"""Everything the engine says: incidents, decisions and actions; and what could not be read.

Ids are hashes of what they name, confidences are rounded to six decimals, times are log time.
"""

from typing import Literal

from pydantic import Field

from schemas.base import INT64_MAX, LONGEST_S, EntityId, Moment, Wire

Verb = Literal[
    "notify",
    "page",
    "quarantine",
    "unquarantine",
    "failover_vnf",
    "failover_link",
    "fence",
    "force_down",
    "evacuate_vm",
    "rebuild_vm",
    "create_vm",
    "live_migrate",
    "restart_vm",
    "restart_process",
    "reschedule_net",
    "cleanup_net",
    "unfence",
    "revoke",
]
"""Every verb there is, in rules, contract and actuators alike."""

DESTRUCTIVE_VERBS = frozenset(
    {"fence", "force_down", "evacuate_vm", "rebuild_vm", "create_vm", "restart_vm", "live_migrate"}
)
"""Verbs that can end or double a workload: never on one witness, never during doubt."""

WORKLOAD_VERBS = frozenset({"evacuate_vm", "rebuild_vm", "create_vm", "restart_vm", "live_migrate"})
"""Verbs that start, move or end a copy of a workload: its owner has a say."""


class Cause(Wire):
    """One ranked explanation of an incident."""

    entity: EntityId = Field(description="e.g. host:compute-3")
    signature: str = Field(description="the fault class that explains it, e.g. host-power-loss")
    score: float = Field(description="log-odds gain of this explanation, nats")


class Evidence(Wire):
    """One symptom of an incident, and whether it speaks for or against the cause."""

    symptom: str = Field(description="e.g. host.heartbeat_lost")
    entity: EntityId = Field(description="where it was seen, or expected")
    role: Literal["for", "against", "missing", "late"] = Field(description="what it says")
    weight: float = Field(description="its share of the score, nats; negative speaks against")
    at: str = Field("", description="of a missing symptom: the path it was expected on")
    others: list[str] = Field(default_factory=list, description="more entities it is missing on")
    first_at: str = Field("", description="log time of the first sighting")
    count: int = Field(0, description="sightings, or entities a missing symptom was expected on")
    event_ids: list[str] = Field(default_factory=list, description="up to five, oldest first")
    sources: list[str] = Field(default_factory=list, description="who saw it, up to five")


class Incident(Wire):
    """The current state of one incident (topic ``firstfault.incidents.v1``, compacted)."""

    type: Literal["incident"] = "incident"
    incident_id: str = Field(description="hash of domain and the input that opened it")
    domain: str = Field(description="e.g. pod-1")
    update: int = Field(ge=0, description="0 for the opening, then counting up")
    state: Literal["suspected", "open", "cleared"] = Field(
        description="suspected: explained, but not well enough to act upon"
    )
    opened_at: str = Field(description="log time")
    updated_at: str = Field(description="log time")
    onset_at: str = Field(description="log time of the first symptom of the cause")
    confidence: float = Field(ge=0.0, le=1.0, description="of the first cause, six decimals")
    margin: float = Field(description="distance to the runner-up, nats")
    causes: list[Cause] = Field(description="ranked, the best first; never empty")
    evidence: list[Evidence] = Field(description="for, late, against, missing")
    rules: str = Field(description="hash of the rule set that decided")
    rule: str = Field(description="signature and file:line it stands at")
    revises: list[str] = Field(default_factory=list, description="causes named before, in order")


class Decision(Wire):
    """What was decided and why, also when it was to wait or not to act."""

    type: Literal["decision"] = "decision"
    entity: EntityId = Field(description="what it is about")
    verdict: Literal["act", "wait", "refuse", "note"] = Field(description="the outcome")
    reason: str = Field(description="an enumerated reason, e.g. confidence_below_policy")
    text: str = Field(description="the same as one sentence for a reader")
    incident_id: str | None = Field(None, description="the incident it belongs to")
    policy: str | None = Field(None, description="the policy that spoke")
    decided_at: str = Field(description="log time")


class Precondition(Wire):
    """A fact that an actuator checks itself before it acts."""

    fact: Literal[
        "fence", "boot_id", "maintenance", "vm_host", "vm_desired", "autostart", "power_restore"
    ] = Field(
        description="fence: of the target's present generation; boot_id: last seen; vm_host: where "
        "the cloud has it; vm_desired: what its user wants; autostart, power_restore: of a host "
        "that returns, what would start an old copy"
    )
    target: EntityId = Field(description="whose fact, e.g. host:compute-3")
    equals: str = Field(description="CONFIRMED, a boot_id, a host, ACTIVE, off, or yes and no")


class ReplyTo(Wire):
    """Where a result is to be written: copied by an actuator, which knows nothing of domains."""

    topic: str = Field("firstfault.log.v1", description="the one input log")
    partition: int | None = Field(
        None,
        ge=0,
        le=INT64_MAX,
        description="put in by the shell, which knows the map; none in a replay",
    )
    key: str = Field(description="the domain, e.g. pod-1")


class Blast(Wire):
    """What an action touches if it is wrong."""

    hosts: int = Field(ge=0, description="that end or lose their guests")
    vms: int = Field(ge=0, description="that end, start or move, or depend on what does")
    share: float = Field(ge=0.0, le=1.0, description="of all VMs of the domain, six decimals")


OnTimeout = Literal["next_method", "retry", "page", "none"]
"""What follows where no result comes in time."""


class Placement(Wire):
    """Where a workload is brought; an actuator brings it there and nowhere else."""

    destination: EntityId = Field(description="e.g. host:compute-7")
    exclude: list[EntityId] = Field(
        default_factory=list, description="where it must not be: its source, hosts of its rivals"
    )
    group: list[str] = Field(default_factory=list, description="affinity groups it respects")


class Notice(Wire):
    """To whom a workload belongs, and how long its word is waited for."""

    notify: str = Field(description="URI of the VNF manager")
    ack_required: bool = Field(
        description="it answers: CONFIRMED lets us go on, REJECTED says that it does it itself"
    )
    ack_deadline: str = Field(description="log time after which we act without a word")


class Action(Wire):
    """One step of a plan (topic ``firstfault.actions.v1``); signed by the shell, not here."""

    type: Literal["action"] = "action"
    schema_version: Literal[1] = 1
    action_id: str = Field(description="hash of idempotency key and epoch")
    idempotency_key: str = Field(description="hash of domain, verb, target, generation, …")
    supersedes: str = Field("", description="key of the attempt that it follows")
    trace_id: str = Field("", description="32 hexadecimal digits (W3C): all of one incident")
    reply_to: ReplyTo | None = None
    verb: Verb = Field(description="what to do")
    target: EntityId = Field(description="to whom")
    target_generation: int = Field(
        ge=0, le=INT64_MAX, description="boots, or starts, of the target seen so far"
    )
    domain: str = Field(description="e.g. pod-1")
    epoch: int = Field(0, ge=0, le=INT64_MAX, description="offset of the owner's claim")
    fence_token: int = Field(
        0,
        ge=0,
        le=INT64_MAX,
        description="counts destructive actions on the target; a lower one is refused",
    )
    incident_id: str = Field(description="why")
    cause: str = Field("", description="the same in words, e.g. host-hang of host:compute-3")
    confidence: float = Field(0.0, ge=0.0, le=1.0, description="of the cause when it left")
    evidence: list[str] = Field(
        default_factory=list, max_length=10, description="event ids that decided, the root's first"
    )
    blast: Blast | None = None
    policy: str = Field(description="the policy it comes from")
    step: int = Field(ge=1, description="position in the plan, from 1")
    mode: Literal["enforce", "dry_run", "approve"] = Field(description="fixed per plan")
    needs: list[str] = Field(default_factory=list, description="idempotency keys to be CONFIRMED")
    preconditions: list[Precondition] = Field(
        default_factory=list, description="checked by the actuator at run time; one false refuses"
    )
    method: str = Field("", description="of a fence: bmc_off, pdu_off, storage_blocklist, …")
    attempt: int = Field(0, ge=0, description="methods tried before this one")
    parameters: dict[str, str] = Field(default_factory=dict, description="e.g. away_from")
    not_before: str = Field("", description="log time at which it was decided")
    expires_at: Moment = Field(description="log time after which it must not be run")
    signature: str = Field("", description="KEYID:base64, Ed25519; put on by the shell")
    max_runtime_s: float = Field(
        0.0, ge=0.0, le=LONGEST_S, description="then it ends, with whatever result"
    )
    on_timeout: OnTimeout = Field("none", description="what follows where no result comes in time")
    placement: Placement | None = Field(None, description="of what is brought to another host")
    vnfm: Notice | None = Field(None, description="of a notice to the owner of a workload")


class Digest(Wire):
    """What a domain knows of a resource that it shares (topic ``firstfault.region.v1``).

    Sent when it changes, and anew by each new speaker of a domain; the region keeps the newest of
    each domain and resource.
    """

    type: Literal["digest"] = "digest"
    domain: str = Field(description="e.g. pod-1")
    log_generation: str = Field("0", description="of the domain's log")
    resource: EntityId = Field(description="e.g. link:wan-7")
    state: Literal["working", "suspected", "failed"] = Field(
        description="working: it explains nothing here; suspected: it may explain an incident; "
        "failed: it is the cause of one that is open, by this domain's own evidence"
    )
    confidence: float = Field(
        0.0, ge=0.0, le=1.0, description="that it explains the incident, six decimals"
    )
    incident_id: str | None = Field(None, description="the incident it may explain")
    told_at: str = Field(description="log time of the domain")


class DeadLetter(Wire):
    """What could not be read, where it stood, and why (topic ``firstfault.dead-letter.v1``)."""

    source: str = Field(description="file or topic")
    position: int = Field(ge=0, description="line in the file, or offset in the topic")
    code: str = Field(description="enumerated, e.g. not_json")
    reason: str = Field(description="a sentence")
    excerpt: str = Field("", description="the first 200 characters")


Output = Incident | Decision | Action | Digest

__all__ = [
    "DESTRUCTIVE_VERBS",
    "WORKLOAD_VERBS",
    "Action",
    "Blast",
    "Cause",
    "DeadLetter",
    "Decision",
    "Digest",
    "Evidence",
    "Incident",
    "Notice",
    "OnTimeout",
    "Output",
    "Placement",
    "Precondition",
    "ReplyTo",
    "Verb",
]
