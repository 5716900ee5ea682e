"""The runner of rule tests: what holds passes, what does not is told with its place."""

from pathlib import Path

import pytest

from correlator.rules import load_pack
from correlator.ruletest import run_tests, variants
from correlator.timeline import parse_timeline
from schemas.rules import Late, Shuffle, Variant
from tests.rules.conftest import RULES, TESTS, WritePack

SHIPPED = Path(__file__).parents[2] / "rules"


@pytest.mark.parametrize("pack", ["generic", "ip-core", "nfvi"])
def test_tests_of_shipped_packs_hold(pack: str) -> None:
    results = run_tests(SHIPPED / pack)
    assert results
    assert [failure for result in results for failure in result.failures] == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param(
            "root: host:h1, sig",
            "root: host:h2, sig",
            "tests.yaml:9:14: expected by 30s, root host:h2",
            id="another root",
        ),
        pytest.param("by: 30s", "by: 1s", "there was no incident", id="too early"),
        pytest.param(
            "never: [{root: host:h2}]",
            'never: [{root: "host:*"}]',
            "tests.yaml:10:13: never root host:*; there was host:h1",
            id="what must not be",
        ),
        pytest.param(
            "never: [{root: host:h2}]",
            "incidents: 2",
            "expected 2 incidents; there was 1",
            id="more incidents than there are",
        ),
        pytest.param(
            "1s h.lost host:h1", "1 h.lost host:h1", "tests.yaml:7:1: a duration", id="no unit"
        ),
        pytest.param("vm:v1 vm:v2", "vm:v1 v2", "'v2' is no entity", id="no entity"),
        pytest.param(
            "2s v.lost vm:v1 vm:v2",
            "2s fence.confirmed host:h1",
            "tests.yaml:8:1: fence.confirmed: no such action on host:h1",
            id="an answer to nothing",
        ),
        pytest.param(
            "root: host:h1, signature",
            "action: page, signature",
            "there was no such action",
            id="an action that no policy asks for",
        ),
        pytest.param(
            "topology: {h1: {v1: [a1], v2: []}, h2: {v3: []}}",
            "topology: {edges: a b}",
            "'a b' is no edge",
            id="no edge",
        ),
    ],
)
def test_what_does_not_hold_is_told(
    write_pack: WritePack, before: str, after: str, told: str
) -> None:
    results = run_tests(write_pack(tests=TESTS.replace(before, after, 1)))
    assert told in "\n".join(failure for result in results for failure in result.failures)


def test_a_variant_that_does_not_hold_is_named(write_pack: WritePack) -> None:
    rules = RULES.replace("spurious: 1e-4", "spurious: 1e-6")
    tests = TESTS.replace("never: [{root: host:h2}]", "hold_under: [drop_any_one, late: 9s]", 1)
    results = run_tests(write_pack(rules=rules, tests=tests))
    assert [result.runs for result in results] == [5, 1]
    assert not results[0].failures


def test_an_action_waits_for_its_proof(write_pack: WritePack) -> None:
    rules = RULES.replace(
        "do: [{notify: {}}]",
        'confidence: ">= 0.9"\ndo:\n  - fence: {}\n'
        "  - evacuate_vm: {target: $root.vm, needs: fence.confirmed}",
    )
    ways = [
        f"1s h.lost host:h1 plane={way} source={who}"
        for way in ("mgmt", "data")
        for who in ("p1", "p2")
    ]
    seen = "\n      ".join(ways)
    tests = (
        TESTS.replace(
            "2s v.lost vm:v1 vm:v2\n",
            "2s v.lost vm:v1 vm:v2\n      40s fence.confirmed host:h1\n",
            1,
        )
        .replace("1s h.lost host:h1", seen, 1)
        .replace(
            "never: [{root: host:h2}]",
            "never: [{action: evacuate_vm, by: 39s}, {action: evacuate_vm, node: vm:v3}]\n"
            "    hold_under: [duplicate_all, restart_engine_at_every_event]",
            1,
        )
    )
    wanted = "{action: evacuate_vm, targets: [vm:v1, vm:v2], after: fence.confirmed}"
    tests = tests.replace('confidence: ">= 0.9"}]', f'confidence: ">= 0.9"}}, {wanted}]', 1)
    results = run_tests(write_pack(rules=rules, tests=tests))
    assert [failure for result in results for failure in result.failures] == []


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        pytest.param("drop_any_one", 2, id="each line that raises"),
        pytest.param("duplicate_all", 1, id="all at once"),
        pytest.param("restart_engine_at_every_event", 1, id="as written"),
        pytest.param(Shuffle(shuffle=7), 7, id="so many orders"),
        pytest.param(Late(late="3s"), 3, id="each line that is no answer"),  # type: ignore[arg-type]
    ],
)
def test_variants_of_a_time_line(write_pack: WritePack, variant: Variant, count: int) -> None:
    lines, _ = parse_timeline("1s a vm:x\n2s b vm:x\n3s clear a vm:x\n4s fence.failed vm:x")
    rules = load_pack(write_pack())
    made = list(variants(lines, variant, "seed", rules))
    assert len(made) == count
    assert made == list(variants(lines, variant, "seed", rules))


def test_orders_keep_what_one_source_says_of_one_thing(write_pack: WritePack) -> None:
    lines, _ = parse_timeline("1s a vm:x\n2s clear a vm:x\n3s a vm:x")
    rules = load_pack(write_pack())
    for _, changed in variants(lines, Shuffle(shuffle=20), "seed", rules):
        arrivals = [line.arrives_us for line in changed]
        assert arrivals == sorted(arrivals)
