"""Small private clouds and their rules, made in code, for tests of the engine.

Facts in, values out: a rule set from a few lines, a topology from its edges, a log from
(second, entity, signal) rows.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from correlator.engine import Engine, Stamped
from correlator.replay import fold
from correlator.rules.conditions import parse_structure
from correlator.rules.paths import parse_path
from correlator.rules.ruleset import (
    CellSpec,
    Location,
    RuleSet,
    SignatureSpec,
    SymptomSpec,
)
from correlator.state import EngineState
from correlator.topology import Edge, Topology, build
from schemas.base import digest
from schemas.inputs import Event, Input
from schemas.outputs import Action, Decision, Incident, Output
from schemas.rules import Knobs, Policy
from schemas.topology import HealingRule, KindRule, TopologySchema

START = datetime(2026, 11, 23, 10, tzinfo=UTC)
START_US = round(START.timestamp() * 1e6)
SECOND_US = 1_000_000


def at(second: float) -> datetime:
    """Return the moment so many seconds after the start of the world."""
    return START + timedelta(seconds=second)


def cloud(racks: int = 1, hosts: int = 2, vms: int = 2) -> list[Edge]:
    """Return racks of hosts of VMs with an application each; two switches and a pool for all."""
    edges: list[Edge] = []
    for r in range(racks):
        for h in range(hosts):
            host = f"host:r{r}h{h}"
            edges += [
                (host, "powered_by", f"rack:r{r}"),
                (host, "attached_to", f"lag:r{r}h{h}"),
                (f"lag:r{r}h{h}", "member_of", f"nic:r{r}h{h}/a"),
                (f"lag:r{r}h{h}", "member_of", f"nic:r{r}h{h}/b"),
            ]
            for v in range(vms):
                vm = f"vm:r{r}h{h}v{v}"
                edges += [
                    (vm, "hosted_by", host),
                    (vm, "backs", "pool:p"),
                    (f"app:r{r}h{h}v{v}", "runs_on", vm),
                ]
    return edges


SCHEMA = TopologySchema(
    kinds={"lag": KindRule(redundant=True)},
    healing=[HealingRule(kind="vm", attr="host", relation="hosted_by", to="host")],
)


def topology(edges: Iterable[Edge] | None = None) -> Topology:
    """Return the graph of some edges, by default of one rack."""
    return build([], cloud() if edges is None else edges, SCHEMA)[0]


def signature(
    name: str,
    root: str,
    *cells: tuple[str, str, float],
    prior: float = 1e-3,
    where: Iterable[str] = (),
) -> SignatureSpec:
    """Return a signature of cells (symptom, path, p), each within two seconds."""
    specs = tuple(
        CellSpec(symptoms=(symptom,), path=parse_path(path), p=p, within_us=2 * SECOND_US)
        for symptom, path, p in cells
    )
    claims = tuple(map(parse_structure, where))
    location = Location("rules.yaml", 1, 1)
    return SignatureSpec(name, root, claims, prior, specs, refuted_by=(), location=location)


SIGNATURES = (
    signature("rack-fault", "rack", ("host.down", "host", 0.9), where=["count(host) >= 2"]),
    signature(
        "host-fault",
        "host",
        ("host.down", "self", 0.9),
        ("vm.down", "vm", 0.9),
        ("app.down", "vm.app", 0.9),
    ),
    signature(
        "pool-fault", "pool", ("vm.down", "vm", 0.9), ("app.down", "vm.app", 0.9), prior=1e-5
    ),
    signature("vm-fault", "vm", ("vm.down", "self", 0.95), ("app.down", "app", 0.9)),
    signature("app-fault", "app", ("app.down", "self", 0.95), ("app.silent", "self", 0.5)),
    signature("lag-fault", "lag", ("nic.down", "^nic", 0.9), ("host.down", "host", 0.9)),
    signature("nic-fault", "nic", ("nic.down", "self", 0.95), ("nic.flapping", "self", 0.5)),
    signature("watcher-fault", "collector", ("collector.lost", "self", 0.95)),
)
SYMPTOMS = (
    SymptomSpec("host.down", signals=("host.down",), spurious=1e-4),
    SymptomSpec("vm.down", signals=("vm.down",), spurious=1e-4),
    SymptomSpec("app.down", signals=("app.down",), spurious=1e-4),
    SymptomSpec("nic.down", signals=("nic.down",), spurious=1e-6),
    SymptomSpec(
        "nic.flapping",
        signals=("nic.down",),
        states=("raised", "cleared"),
        changes=4,
        window_us=30 * SECOND_US,
        quiet_us=60 * SECOND_US,
        spurious=1e-4,
    ),
    SymptomSpec(
        "app.silent",
        absent_signal="app.beat",
        absent_us=3 * SECOND_US,
        unless_symptom="vm.down",
        unless_path=parse_path("^vm"),
        spurious=1e-4,
    ),
    SymptomSpec("collector.lost", signals=("collector.lost",), spurious=1e-4),
)
TELL = {"kind": "policy", "name": "tell", "cause": "*", "confidence": ">= 0.5"}
POLICIES = (
    Policy.model_validate(
        {
            "kind": "policy",
            "name": "recover-host",
            "cause": "host-fault",
            "confidence": ">= 0.9",
            "hold": "1s",
            "do": [
                {"quarantine": {}},
                {"fence": {}},
                {"evacuate_vm": {"target": "$root.vm", "needs": "fence.confirmed"}},
            ],
        }
    ),
    Policy.model_validate({**TELL, "do": [{"notify": {}}]}),
)


def rule_set(
    signatures: Iterable[SignatureSpec] = SIGNATURES,
    symptoms: Iterable[SymptomSpec] = SYMPTOMS,
    policies: Iterable[Policy] = POLICIES,
    name: str = "cloud",
    **knobs: object,
) -> RuleSet:
    """Return a rule set; knobs are written as in a pack."""
    signatures, symptoms, policies = tuple(signatures), tuple(symptoms), tuple(policies)
    content = digest(name, repr((signatures, symptoms, policies)), sorted(knobs.items()))
    written = {"wait": "0s", "wait_max": "2s", "lateness": "2s", "settle": "10s", **knobs}
    return RuleSet(
        name=name,
        version="1",
        hash=content,
        knobs=Knobs.model_validate(written),
        symptoms={spec.name: spec for spec in sorted(symptoms, key=lambda spec: spec.name)},
        signatures=tuple(sorted(signatures, key=lambda spec: spec.name)),
        policies=policies,
        schema=SCHEMA,
    )


RULES = rule_set()


def engine(
    rules: RuleSet = RULES,
    edges: Iterable[Edge] | None = None,
    ticks: str = "synthesised",
    mode: str = "enforce",
    library: Iterable[RuleSet] = (),
) -> Engine:
    """Return an engine that knows one rack and may act."""
    state = EngineState("pod-1", topology(edges), rules.hash, ticks=ticks, mode=mode)
    return Engine(state, rules, {known.hash: known for known in library})


def event(entity: str, signal: str, state: str = "raised", **more: object) -> Event:
    """Return an event; each entity has a source of its own unless one is named."""
    return Event.model_validate({"entity": entity, "signal": signal, "state": state, **more})


Row = tuple[float, Input]
"""(second, input)."""


def log(rows: Iterable[Row], start: int = 0) -> Iterator[Stamped]:
    """Yield a log of inputs at their seconds, an offset each."""
    for offset, (second, given) in enumerate(rows, start):
        yield Stamped(offset, 0, START_US + round(second * SECOND_US), given)


def run(folding: Engine, rows: Iterable[Row]) -> list[Output]:
    """Return all that an engine says of a log, an hour of silence after it included."""
    return [output for _, output in fold(folding, log(rows))]


def feed(folding: Engine, rows: Iterable[Row], start: int = 0) -> list[Output]:
    """Return what an engine says at the inputs alone: no tick is made."""
    return [output for record in log(rows, start) for output in folding.step(record)]


def incidents(outputs: Iterable[Output]) -> list[Incident]:
    """Return the incidents among outputs."""
    return [output for output in outputs if isinstance(output, Incident)]


def roots(outputs: Iterable[Output]) -> list[str]:
    """Return the last cause named for each incident, in the order of their openings."""
    last = {one.incident_id: one.causes[0].entity for one in incidents(outputs)}
    return list(last.values())


def actions(outputs: Iterable[Output]) -> list[tuple[str, str]]:
    """Return (verb, target) of each action among outputs."""
    return [(one.verb, one.target) for one in outputs if isinstance(one, Action)]


def reasons(outputs: Iterable[Output]) -> list[str]:
    """Return the reason of each decision among outputs."""
    return [one.reason for one in outputs if isinstance(one, Decision)]
