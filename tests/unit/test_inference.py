"""First principles: what a person at a whiteboard would conclude, in nats."""

import math
from collections.abc import Mapping

import pytest

from correlator import inference
from correlator.codebook import Codebook
from correlator.inference import Explanation
from correlator.rules.ruleset import RefutationSpec, RuleSet, SignatureSpec
from correlator.standing import Standing
from correlator.state import Sighting
from correlator.topology import Edge
from correlator.weighing import Look
from tests.worlds import SECOND_US, SIGNATURES, cloud, rule_set, signature, topology

RULES = rule_set()
HOST_FAULT = [spec for spec in SIGNATURES if spec.name == "host-fault"]
BELIEVE = -50.0
"""As `gain_first`: a first cause is believed whatever speaks against it."""
Seen = Mapping[tuple[str, str], float]
"""(symptom, entity) → second of the first sighting."""


def explain(
    seen: Seen,
    now: float = 10.0,
    rules: RuleSet = RULES,
    edges: list[Edge] | None = None,
    witness: tuple[str | None, int] = (None, 1),
) -> Explanation:
    """Return the explanation of one component; `witness` is the source and the sightings of all."""
    source, count = witness
    sightings = {
        key: Sighting(round(s * SECOND_US), round(s * SECOND_US), source or key[1], count)
        for key, s in seen.items()
    }
    book = Codebook(topology(edges), rules)
    standing = Standing()
    for key in sightings:
        standing.add(key, book.causes(*key), stands=True)
    look = Look(book, sightings, round(now * SECOND_US), standing)
    return inference.explain(look, inference.component(look, min(sightings)))


def roots(explanation: Explanation) -> list[str]:
    return sorted(verdict.candidate.fault[1] for verdict in explanation.verdicts)


def of_host(entity: str, apps: int = 2) -> dict[tuple[str, str], float]:
    """Return the symptoms of all that runs on a host, at one instant."""
    name = entity.removeprefix("host:")
    vms = {("vm.down", f"vm:{name}v{v}"): 0.0 for v in (0, 1)}
    return vms | {("app.down", f"app:{name}v{v}"): 0.0 for v in range(apps)}


@pytest.mark.parametrize(
    ("seen", "causes"),
    [
        pytest.param(
            {("app.down", "app:r0h0v0"): 0.0}, ["app:r0h0v0"], id="a lone alarm is its own root"
        ),
        pytest.param(
            {("vm.down", "vm:r0h0v0"): 0.0, ("app.down", "app:r0h0v0"): 0.0},
            ["vm:r0h0v0"],
            id="a machine explains its application",
        ),
        pytest.param(
            of_host("host:r0h0"), ["host:r0h0"], id="a host that says nothing can be the root"
        ),
        pytest.param(
            of_host("host:r0h0") | of_host("host:r0h1"),
            ["pool:p"],
            id="a silent pool that all share is the root",
        ),
        pytest.param(
            of_host("host:r0h0", apps=1), ["host:r0h0"], id="one symptom lost changes nothing"
        ),
        pytest.param(
            {("host.down", "host:r0h0"): 0.0, ("host.down", "host:r0h1"): 0.0},
            ["rack:r0"],
            id="a rack that says nothing explains both of its hosts",
        ),
        pytest.param(
            {("app.down", "app:r0h0v0"): 0.0, ("app.down", "app:r0h1v1"): 0.0},
            ["app:r0h0v0", "app:r0h1v1"],
            id="two lone alarms are two faults",
        ),
    ],
)
@pytest.mark.parametrize("times", ["tied", "dependants first"])
def test_the_cause_is_what_a_person_would_say(
    seen: dict[tuple[str, str], float], causes: list[str], times: str
) -> None:
    if times == "dependants first":
        seen = {key: 0.0 if key[0] == "app.down" else 0.5 for key in seen}
    found: list[str] = []
    rest = dict(seen)
    while rest:
        explanation = explain(rest)
        found += roots(explanation)
        rest = {key: s for key, s in rest.items() if key not in explanation.symptoms}
    assert sorted(found) == causes


def test_a_symptom_that_nothing_can_show_has_no_explanation() -> None:
    explanation = explain({("vm.down", "app:r0h0v0"): 0.0})
    assert (explanation.verdicts, explanation.owner) == ([], {})


def test_silence_costs_more_the_longer_it_lasts_up_to_the_end_of_lateness() -> None:
    seen = {("host.down", "host:r0h0"): 0.0}
    alone = rule_set(HOST_FAULT, gain_first=BELIEVE)
    gains = [explain(seen, now, alone).verdicts[0].candidate.base for now in (0, 1, 2, 3, 4, 60)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == pytest.approx(math.log(1e-3 / (1 - 1e-3)))
    assert gains[4] == gains[5]


def test_a_wholly_silent_cell_costs_no_more_than_the_cap() -> None:
    seen = {("host.down", "host:r0h0"): 0.0}
    alone = rule_set(HOST_FAULT, absence_cap=-1.5, gain_first=BELIEVE)
    edges = cloud(hosts=1, vms=20)
    base = explain(seen, 60, alone, edges).verdicts[0].candidate.base
    assert base == pytest.approx(math.log(1e-3 / (1 - 1e-3)) - 2 * 1.5)


def test_what_is_unseen_beside_what_is_seen_costs_in_full() -> None:
    alone = rule_set(HOST_FAULT, gain_first=BELIEVE)
    edges = cloud(hosts=1, vms=3)
    seen = {("host.down", "host:r0h0"): 0.0, ("app.down", "app:r0h0v0"): 0.0}
    base = explain(seen, 60, alone, edges).verdicts[0].candidate.base
    silent_vms = max(3 * math.log(0.1), -3.0)
    silent_apps = 2 * math.log(0.1)
    assert base == pytest.approx(math.log(1e-3 / (1 - 1e-3)) + silent_vms + silent_apps)


def test_one_source_adds_no_more_than_its_cap() -> None:
    seen = of_host("host:r0h0")
    rules = rule_set(HOST_FAULT, source_cap=6.0, gain_first=BELIEVE)
    many = explain(seen, rules=rules).verdicts[0].candidate
    one = explain(seen, rules=rules, witness=("liar", 1)).verdicts[0].candidate
    assert one.gain == pytest.approx(one.base + 6.0)
    assert many.gain > one.gain


def test_a_second_sighting_makes_chance_less_likely() -> None:
    seen = {("app.down", "app:r0h0v0"): 0.0}
    once = explain(seen).verdicts[0].candidate.gain
    twice = explain(seen, witness=(None, 2)).verdicts[0].candidate.gain
    assert twice - once == pytest.approx(math.log(10), rel=0.01)


def test_a_rule_may_refute_a_cause() -> None:
    refuted = SignatureSpec(
        **{
            **{name: getattr(SIGNATURES[1], name) for name in SIGNATURES[1].__slots__},
            "refuted_by": (RefutationSpec("collector.lost", (), 5 * SECOND_US),),
        }
    )
    rules = rule_set([refuted, *[spec for spec in SIGNATURES if spec.name != "host-fault"]])
    fresh = of_host("host:r0h0") | {("collector.lost", "host:r0h0"): 6.0}
    stale = of_host("host:r0h0") | {("collector.lost", "host:r0h0"): 4.0}
    assert roots(explain(fresh, rules=rules)) == ["vm:r0h0v0", "vm:r0h0v1"]
    assert roots(explain(stale, rules=rules)) == ["host:r0h0"]


def test_an_old_symptom_does_not_date_a_new_fault() -> None:
    seen = of_host("host:r0h0") | {("host.down", "host:r0h0"): -100.0}
    candidate = explain(seen).verdicts[0].candidate
    assert candidate.fault[1] == "host:r0h0"
    assert candidate.onset_us == 0
    assert ("host.down", "host:r0h0") not in candidate.shows


def test_the_runner_up_is_ranked_and_the_margin_is_the_distance_to_it() -> None:
    explanation = explain(of_host("host:r0h0") | of_host("host:r0h1"))
    verdict = explanation.verdicts[0]
    ranked = [fault[1] for fault, _ in verdict.ranking]
    assert ranked[0] == "pool:p"
    assert set(ranked[1:]) & {"host:r0h0", "host:r0h1"}
    scores = [score for _, score in verdict.ranking]
    assert scores == sorted(scores, reverse=True)
    assert verdict.margin > 0.0
    assert verdict.confidence == pytest.approx(1 / (1 + math.exp(-verdict.margin)))


def test_evidence_that_fits_two_causes_alike_leaves_doubt() -> None:
    twins = [signature(f"{kind}-fault", kind, ("vm.down", "vm", 0.9)) for kind in ("host", "pool")]
    edges = [("vm:1", "hosted_by", "host:1"), ("vm:1", "backs", "pool:1")]
    verdict = explain({("vm.down", "vm:1"): 0.0}, rules=rule_set(twins), edges=edges).verdicts[0]
    assert verdict.confidence == pytest.approx(0.5, abs=0.01)


def test_every_symptom_that_is_explained_has_its_owner() -> None:
    seen = of_host("host:r0h0") | {("host.down", "host:r0h0"): 0.0}
    explanation = explain(seen)
    assert set(explanation.owner) == set(seen)
    assert {fault[1] for fault in explanation.owner.values()} == {"host:r0h0"}
