"""The documents of a rule pack: pack, symptom, signature, policy, test.

Files people write: unknown keys are errors, durations carry units, probabilities stay in (0, 1).
The method they feed is a temporal noisy-OR over a codebook (Spotlight's flattening, Steinder and
Sethi's positive and negative evidence, Flock's greedy); numbers without another source are knobs
whose defaults were chosen on the project's own storms.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator
from pydantic.json_schema import WithJsonSchema

from schemas.base import Duration, Probability, Share, Strict
from schemas.outputs import Verb

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.+-]*$", max_length=128)]


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


Names = Annotated[
    list[str],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One string or a list of them."""


class Knobs(Strict):
    """How the engine listens; the same for every entity of a site."""

    gather: Duration = Field(
        "250ms", validate_default=True, description="evidence is gathered this long before a look"
    )
    wait: Duration = Field(
        "0s", validate_default=True, description="after the onset, before an incident opens"
    )
    wait_max: Duration = Field(
        "18s", validate_default=True, description="the same while confidence is weak"
    )
    confident: Probability = Field(0.9, description="at least this opens after wait")
    named: Probability = Field(0.5, description="up to it an incident stays suspected")
    settle: Duration = Field(
        "60s", validate_default=True, description="quiet after the last clear that closes"
    )
    stale: Duration = Field(
        "10m", validate_default=True, description="a raised symptom not seen again is forgotten"
    )
    lateness: Duration = Field(
        "10s", validate_default=True, description="how late an event may come"
    )
    on_time: Probability = Field(0.8, description="share of symptoms that come within `within`")
    absence_cap: float = Field(-3.0, lt=0.0, description="nats a wholly silent cell may cost")
    optional_cap: float = Field(
        5.0, ge=0.0, description="nats that all optional symptoms of a cause may add together"
    )
    source_cap: float = Field(12.0, gt=0.0, description="nats one source may add to a cause")
    resighting: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.1, description="factor on `spurious` when a symptom is seen again"
    )
    spurious: Probability = Field(1e-3, description="of a symptom that states none")
    misplaced: Probability | None = Field(
        None, description="chance that a guest is not where the inventory has it; none: never"
    )
    gain_min: float = Field(0.0, description="nats a further cause must gain to be believed")
    gain_first: float = Field(0.0, description="the same for the first cause of some symptoms")


class LevelBudget(Strict):
    """What workloads of a service availability level are promised, from the first symptom on."""

    detection: Duration = Field(
        "1s", validate_default=True, description="until an incident is told (OPNFV HA: below 1 s)"
    )
    recovery: Duration = Field(description="until the recovery of the workload is confirmed")


class ServiceLevels(Strict):
    """The budgets of the levels; recovery: upper ends of the spans in ETSI GS NFV-REL 001."""

    SAL1: LevelBudget = Field(
        {"recovery": "6s"}, validate_default=True, description="recovery in 5-6 s"
    )
    SAL2: LevelBudget = Field(
        {"recovery": "15s"}, validate_default=True, description="recovery in 10-15 s"
    )
    SAL3: LevelBudget = Field(
        {"recovery": "25s"}, validate_default=True, description="recovery in 20-25 s"
    )


class Budget(Strict):
    """So many actions in a window."""

    actions: int = Field(ge=1)
    per: Duration


def _budget(actions: int, per: str) -> Budget:
    return Budget.model_validate({"actions": actions, "per": per})


class Limits(Strict):
    """What no plan exceeds, whatever its policy says; starting values: failure matrix, d5."""

    sources_min: int = Field(
        2, ge=2, description="independent sources that what destroys needs (d5: 2 vantage points)"
    )
    planes_min: int = Field(
        2, ge=2, description="networks a host is silent on before its fence, or 1 hard fact (d5)"
    )
    together: Duration = Field(
        "2s",
        validate_default=True,
        description="roots of one failure group within this time have one cause (d5)",
    )
    hold_max: Duration = Field(
        "120s", validate_default=True, description="longest hold before a person is called (d5)"
    )
    cool_down: Duration = Field(
        "60s",
        validate_default=True,
        description="after a hold each target is confirmed anew, or so long is waited (d5, H9)",
    )
    heard: Duration = Field(
        "3s",
        validate_default=True,
        description="after a pulse of its own collector no host counts as dead: three beats (H30)",
    )
    fleet_share_max: float = Field(
        0.3, gt=0.0, le=1.0, description="hosts found guilty or ended at one time (d5: 30 %)"
    )
    fences_running_max: int = Field(
        1, ge=1, le=3, description="fences of a domain at one time (d5: 1, and 3 over all domains)"
    )
    fences_per_host: Budget = Field(
        default_factory=lambda: _budget(2, "30m"),
        description="ladders begun; then quarantine and a page (d5, H15: NHC, sbd fencing loops)",
    )
    workloads_running_max: int = Field(
        20, ge=1, description="workloads of a domain on their way at one time (d5, H21)"
    )
    workloads_per_host_max: int = Field(
        5, ge=1, description="workloads on their way to one host at one time (d5, H21)"
    )
    workload_tries: int = Field(
        3, ge=1, le=10, description="attempts to move or start a workload (d5: 3 tries)"
    )
    restarts_per_vm: Budget = Field(
        default_factory=lambda: _budget(3, "10m"),
        description="restarts of one VM in place; then a page (d5: 3 per 10 min)",
    )
    restart_tries: int = Field(
        3, ge=1, le=10, description="attempts to restart a process (d5: 3, 5 s apart)"
    )
    restart_every: Duration = Field(
        "5s", validate_default=True, description="between two of them (d5)"
    )
    dump_begins: Duration = Field(
        "30s",
        validate_default=True,
        description="after a panic, before power may be cut where no dump is told (matrix d2)",
    )
    dump_quiet: Duration = Field(
        "60s",
        validate_default=True,
        description="after the last word of a dump, before power may be cut (matrix C02a, H15)",
    )
    soak: Duration = Field(
        "120s",
        validate_default=True,
        description="after all that was moved has arrived, before a host is let back (d5)",
    )


class Pack(Strict):
    """``pack.yaml``: what the folder is."""

    name: Name = Field(description="e.g. ip-core")
    version: str = Field(description="of the pack, e.g. 1.0.0")
    description: str = Field("", description="one sentence")
    extends: list[str] = Field(default_factory=list, description="folders, relative to this one")
    topology_schema: str | None = Field(None, description="file, relative to this one")
    signals: dict[str, "SignalRule"] = Field(
        default_factory=dict, description="what collectors emit here; * where anything may come"
    )
    vars: dict[str, str] = Field(default_factory=dict, description="text for ${name}")
    engine: Knobs = Field(default_factory=Knobs)
    service_levels: ServiceLevels = Field(
        default_factory=ServiceLevels, description="budgets that `firstfault sla` holds us to"
    )
    limits: Limits = Field(default_factory=Limits)


class SignalRule(Strict):
    """One signal a collector emits."""

    period: Duration | None = Field(None, description="how often it is read")
    text: str = Field("", description="for readers")


class Changes(Strict):
    """So many sightings in a window."""

    changes: int = Field(ge=1, le=1000, description="raised and cleared alike, as `match` says")
    within: Duration = Field(description="the window, e.g. 30s")


class Quiet(Strict):
    """The symptom ends after this long without a match."""

    quiet: Duration = Field(description="e.g. 60s")


class Absent(Strict):
    """A signal that should keep coming, and did not."""

    signal: str = Field(description="e.g. app.heartbeat")
    for_: Duration = Field(alias="for", description="silence that counts, e.g. 3s")
    lateness: Duration = Field("0s", validate_default=True, description="grace on top")


class Unless(Strict):
    """The symptom says nothing while another one stands elsewhere."""

    see: str = Field(description="symptom, e.g. collector.lost")
    at: str = Field("self", description="path from the entity, e.g. ^vm.^host")


class SymptomRule(Strict):
    """Raw events → a named symptom."""

    kind: Literal["symptom"]
    name: Name
    text: str = Field("", description="for readers")
    match: dict[str, Any] | None = Field(
        None, description="signal, state, severity, entity_kind, attrs.NAME: a value or a bound"
    )
    raise_: Changes | None = Field(None, alias="raise")
    clear: Quiet | None = None
    absent: Absent | None = None
    unless: Unless | None = None
    spurious: Probability | None = Field(None, description="chance to see it with no cause")
    gather: Duration | None = Field(
        None,
        description="evidence is gathered this long before a look; default: of the pack, and none "
        "for what is nearly never seen by chance",
    )
    hard: bool = Field(
        default=False,
        description="a fact, no silence: power read as OFF, a panic or a dump told by the kernel",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "SymptomRule":
        if (self.match is None) == (self.absent is None):
            msg = "a symptom needs either match or absent"
            raise ValueError(msg)
        return self


class Cell(Strict):
    """One thing to see when the root has failed."""

    see: str | None = Field(None, description="symptom, or bare signal")
    any: list[str] | None = Field(None, min_length=1, description="one of these symptoms")
    at: str = Field("self", description="self, or kinds joined by dots; ^kind goes up")
    by: str | None = Field(
        None, description="not where it is seen, as `at`, but who alone sees it; wants optional"
    )
    p: Probability = Field(description="chance to see it on an entity there")
    within: Duration = Field(description="of the onset")
    spurious: Probability | None = Field(None, description="chance to see it with no cause")
    optional: bool = Field(
        default=False, description="explained where seen, held against nothing where not"
    )
    required: bool = Field(
        default=False, description="unless it stands somewhere there, this is not the cause"
    )

    @model_validator(mode="after")
    def _one_name(self) -> "Cell":
        if (self.see is None) == (self.any is None):
            msg = "a cell needs either see or any"
            raise ValueError(msg)
        if self.by is not None and (self.at != "self" or not self.optional):
            msg = "a cell with by has no at, and is optional: of whom it is told nobody can say"
            raise ValueError(msg)
        return self


class Refutation(Strict):
    """What cannot be seen when the root has failed."""

    see: str = Field(description="symptom or signal, e.g. hw.power_ok")
    at: str = "self"
    fresh: Duration = Field(description="how recent it must be, e.g. 10s")


class Signature(Strict):
    """What a fault of a class looks like."""

    kind: Literal["signature"]
    name: Name
    text: str = Field("", description="for readers")
    root: str = Field(description="kind of the failed entity, or *")
    where: Names = Field(default_factory=list, min_length=0, description="structure of the root")
    prior: Probability = Field(description="chance of this fault, per entity and window")
    wait: Duration | None = Field(
        None, description="after the onset, before an incident opens; default: of the pack"
    )
    faults: list[str] = Field(
        default_factory=list, description="label fault types it stands for in `rules fit`; [] any"
    )
    symptoms: list[Cell] = Field(min_length=1)
    refuted_by: list[Refutation] = Field(default_factory=list)


class StopIf(Strict):
    """Too many roots of one kind: then it is us, or what they share."""

    roots: str = Field(description="kind, e.g. host")
    share: Share = Field(description="of all entities of the kind, e.g. 30%")
    within: Duration


class Guard(Strict):
    """What must hold before the plan's steps leave."""

    max: Budget | None = None
    stop_if: StopIf | None = None
    only_if: Names = Field(default_factory=list, min_length=0, description="structure of the root")


FenceMethod = Literal[
    "bmc_off",
    "pdu_off",
    "storage_blocklist",
    "tor_port_down",
    "watchdog_bound",
    "kdump",
    "vm_destroy",
]
"""How a host, or with vm_destroy one VM, is kept from writing; each has a proof of its own."""


class Seen(Strict):
    """A fact as it is known now. What nobody has told of, or nobody knows any more, is no `is`."""

    see: str = Field(description="symptom or signal, e.g. vs.bond.active_changed")
    at: str = Field("self", description="path from the root; one entity there is enough")
    is_: Literal["raised", "cleared", "seen"] = Field(
        "raised",
        alias="is",
        description="cleared: told to have ended on all that was seen; seen: raised or cleared",
    )


_SEEN = Seen.model_json_schema()
Facts = Annotated[
    list[Seen],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_SEEN, {"type": "array", "minItems": 1, "items": _SEEN}]}),
]
"""One fact or a list of them, of which one is enough."""

_OUTCOME = rf"^({'|'.join(get_args(Verb))})\.(confirmed|failed)$"


class Step(Strict):
    """One action of a plan."""

    target: str = Field("$root", description="$root, or $root.PATH for each entity there")
    needs: str | None = Field(
        None,
        pattern=_OUTCOME,
        description="VERB.confirmed of an earlier step, or VERB.failed: when all was tried in vain",
    )
    when: Facts | None = Field(None, description="passed over while none of these is known")
    unless: Facts | None = Field(None, description="passed over while one of these is known")
    tries: int | None = Field(
        None, ge=1, le=10, description="attempts; default by the limits for its verb, else 1"
    )
    every: Duration | None = Field(
        None, description="from a failed attempt to the next; default by the limits, else 0"
    )
    timeout: Duration = Field("60s", validate_default=True, description="validity of the action")
    methods: list[FenceMethod] = Field(
        default_factory=list, description="of a fence: independent ones, tried one after the other"
    )
    parameters: dict[str, str] = Field(default_factory=dict, description="passed on; $root filled")

    @property
    def facts(self) -> list[Seen]:
        """All facts it asks for."""
        return [*(self.when or []), *(self.unless or [])]


class Policy(Strict):
    """What to do about a cause, under which guards."""

    kind: Literal["policy"]
    name: Name
    text: str = Field("", description="for readers")
    cause: Names = Field(description="signatures, or *")
    confidence: str = Field(">= 0.9", pattern=r"^>= ?0?\.\d+$", description="e.g. >= 0.99")
    hold: Duration = Field(
        "0s", validate_default=True, description="best explanation this long before what destroys"
    )
    hold_alone: Duration | None = Field(
        None,
        description="the same where a hard fact, or a witness that shares rack or switch with the "
        "root and works, rules out a common cause",
    )
    guard: Guard = Field(default_factory=Guard)
    do: list[dict[Verb, Step | None]] = Field(min_length=1)

    @property
    def confidence_min(self) -> float:
        """The number behind ``>=``."""
        return float(self.confidence.removeprefix(">=").strip())


Mechanism = Literal["restart", "rebuild", "evacuate", "live_migrate", "failover", "none"]
"""How a workload may be brought back (requirement R03)."""
Carried = Literal["broker", "correlator", "actuator"]
"""What a host may carry of ours."""


class Vnfm(Strict):
    """The VNF manager that owns a workload: it is told, and has the first word (R05)."""

    notify: str = Field(
        pattern=r"^[a-z][a-z0-9+.-]*:.+", description="URI, e.g. https://vnfm.example/v1/notices"
    )
    ack: bool = Field(
        default=False,
        description="it answers: CONFIRMED lets us go on, REJECTED says that it recovers it itself",
    )
    hold: Duration = Field(
        "10s", validate_default=True, description="after the notice, before we act without a word"
    )


class Capacity(Strict):
    """What a host has room for."""

    vms: int | None = Field(None, ge=0, description="VMs at the same time, e.g. 20")
    vcpus: int | None = Field(None, ge=0, description="virtual CPUs of all its VMs, e.g. 96")

    @model_validator(mode="after")
    def _something(self) -> "Capacity":
        if self.vms is None and self.vcpus is None:
            msg = "say vms, vcpus or both"
            raise ValueError(msg)
        return self


class Settings(Strict):
    """What a site says about some of its workloads, network functions or hosts.

    For the workloads of a whole class, write ``entities: "sla:SAL1"``; what is said of an entity
    itself comes before that.
    """

    kind: Literal["settings"]
    name: Name
    text: str = Field("", description="for readers")
    entities: Names = Field(description="entities or patterns, e.g. vm:db-*, host:h8 or sla:SAL3")
    sla: Literal["SAL1", "SAL2", "SAL3"] | None = Field(
        None, description="service availability level (ETSI GS NFV-REL 001)"
    )
    priority: int | None = Field(
        None, ge=1, le=9, description="turn in a recovery, 1 first; default by the level, else 5"
    )
    recover: bool | None = Field(
        None, description="false: its owner has opted out, it is never restarted or moved"
    )
    mechanisms: list[Mechanism] | None = Field(
        None, min_length=1, description="how it may be brought back; [none]: as recover: false"
    )
    migration: Literal["live", "offline", "none"] | None = Field(
        None, description="offline: never while it runs; none: it does not leave its host"
    )
    vnfm: Vnfm | None = Field(None, description="who is told before its VM is touched")
    vcpus: int | None = Field(None, ge=1, description="of a VM; default 1")
    affinity: Names | None = Field(None, description="groups of VMs that share a host")
    anti_affinity: Names | None = Field(None, description="groups of VMs that share no host")
    exclude: Names | None = Field(
        None, description="where a VM is not brought: hosts, or what they stand on, e.g. rack:r2"
    )
    desired: int | None = Field(None, ge=1, description="VMs that a network function keeps (R04)")
    definition: str | None = Field(
        None, min_length=1, description="what a lost one is created from, e.g. vnfd:epg/2.1"
    )
    reserved_for: int | None = Field(
        None, ge=1, le=9, description="of a host: kept for workloads up to this priority"
    )
    capacity: Capacity | None = Field(None, description="of a host; default: not known")
    carries: list[Carried] | None = Field(
        None, min_length=1, description="of a host: what of ours runs on it"
    )

    @model_validator(mode="after")
    def _none_stands_alone(self) -> "Settings":
        if self.mechanisms and "none" in self.mechanisms and len(self.mechanisms) > 1:
            msg = "mechanisms: none stands alone"
            raise ValueError(msg)
        return self


class Expectation(Strict):
    """Something that must follow, or in ``never`` must not."""

    by: Duration | None = Field(None, description="of the case's own time")
    root: str | None = Field(None, description="entity, or kind:* in never")
    signature: str | None = None
    confidence: str | None = Field(None, pattern=r"^>= ?0?\.\d+$")
    action: Verb | None = None
    node: str | None = Field(None, description="target of the action")
    targets: list[str] | None = None
    after: str | None = Field(None, description="VERB.confirmed that must come first")
    cleared: bool | None = Field(None, description="the incident has ended")


class Shuffle(Strict):
    """So many orders that differ from the written one by less than the lateness."""

    shuffle: int = Field(ge=1, le=100)


class Late(Strict):
    """Each line in turn arrives this much later."""

    late: Duration = Field(description="up to the lateness of the pack, e.g. 10s")


Variant = Literal["drop_any_one", "duplicate_all", "restart_engine_at_every_event"] | Shuffle | Late
"""A change of the time line under which a case must hold."""


class Case(Strict):
    """One time line and what must and must not follow."""

    name: str
    events: str = Field(description="lines: TIME [+LATE] [clear] SIGNAL ENTITY… [NAME=VALUE…]")
    expect: list[Expectation] = Field(default_factory=list)
    never: list[Expectation] = Field(default_factory=list)
    incidents: int | None = Field(None, ge=0, description="how many there must be, in the end")
    hold_under: list[Variant] = Field(
        default_factory=list, description="drop_any_one, duplicate_all, shuffle: 20, late: 10s, …"
    )
    until: Duration | None = Field(None, description="end of the case; default: past all waits")


class RuleTest(Strict):
    """A test of rules, beside them."""

    kind: Literal["test"]
    rules: list[str] = Field(min_length=1, description="signatures this test covers")
    topology: dict[str, Any] = Field(
        description="short form, {file: NAME}, or nodes and edges; edges also as text"
    )
    cases: list[Case] = Field(min_length=1)


RuleDocument = SymptomRule | Signature | Policy | Settings | RuleTest
DOCUMENTS: dict[
    str, type[SymptomRule] | type[Signature] | type[Policy] | type[Settings] | type[RuleTest]
] = {
    "symptom": SymptomRule,
    "signature": Signature,
    "policy": Policy,
    "settings": Settings,
    "test": RuleTest,
}
"""The documents by their ``kind``."""
