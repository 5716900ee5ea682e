"""Two domains and their region, without a log between: what comes of the words of each."""

from collections import Counter
from pathlib import Path

import pytest

from correlator.engine import Engine, Stamped
from correlator.region import Region
from correlator.rules.ruleset import RuleSet
from correlator.state import EngineState
from correlator.topology import Topology
from firstfault.playback import open_site
from schemas.base import canonical, document_of
from schemas.control import Domain, DomainMap
from schemas.inputs import Event, Input, Tick
from schemas.outputs import Action, Digest, Incident
from tests.kafka.regions import PODS, WAN, users_of_wan
from tests.worlds import SECOND_US, START_US

TICK_S = 0.05


class Pods:
    """Two domains that fold by the same rules, and the region above them."""

    def __init__(self, graph: Topology, rules: RuleSet) -> None:
        domains = [Domain(name=name, partition=number) for number, name in enumerate(PODS)]
        self.region = Region(DomainMap(domains=domains, shared=[WAN]))
        self.engines = {
            name: Engine(EngineState(name, graph.copy(), rules.hash, ticks="recorded"), rules)
            for name in PODS
        }
        self.now_us = 0
        self.said: list[str] = []
        """By the region, in order"""
        self.incidents: dict[str, Incident] = {}
        self.verbs: Counter[str] = Counter()
        self._offset = 0

    def hears(self, pod: str, given: Input) -> None:
        self._offset += 1
        log_us = START_US + self.now_us
        for said in self.engines[pod].step(Stamped(self._offset, 0, log_us, given)):
            if isinstance(said, Digest):
                self.region.fold(canonical(document_of(said)).encode(), log_us, self.now_us)
            elif isinstance(said, Incident):
                self.incidents[said.incident_id] = said
            elif isinstance(said, Action):
                self.verbs[said.verb] += 1

    def unwell(self, pod: str, apps: int, state: str = "raised") -> None:
        for number in range(apps):
            given = {"entity": f"app:a{number}", "signal": "app.health.bad", "state": state}
            source = f"collector:h{number % 2}"
            self.hears(pod, Event.model_validate({**given, "source": source}))

    def after(self, seconds: float) -> None:
        """Go on for so long; the region's word is heard at the next tick."""
        end_us = self.now_us + round(seconds * SECOND_US)
        while self.now_us < end_us:
            for answer in self.region.answers(self.now_us, frozenset(PODS)):
                self.said += [] if answer.is_repeat else [answer.state]
                for pod in filter(answer.is_for, PODS):
                    self.hears(pod, answer.verdict(START_US + self.now_us))
            for pod in PODS:
                self.hears(pod, Tick())
            self.now_us += round(TICK_S * SECOND_US)


def begun(folder: Path, apps: int) -> Pods:
    """Return domains in which so many applications use the link, once they know it is shared."""
    rules, graph, _ = open_site("nfvi", users_of_wan(folder, apps))
    made = Pods(graph, rules)
    made.after(10.0)
    assert made.said == ["unknown"]
    return made


@pytest.mark.parametrize("apart_s", [0.0, 0.1, 1.0, 3.0])
def test_what_both_lose_is_the_one_cause_in_both_however_far_apart_they_see_it(
    tmp_path: Path, apart_s: float
) -> None:
    pods = begun(tmp_path, 3)
    pods.unwell("pod-0", 3)
    pods.after(apart_s)
    pods.unwell("pod-1", 3)
    pods.after(6.0)
    assert pods.said[-1] == "failed"
    roots = [(one.domain, one.causes[0].entity) for one in pods.incidents.values()]
    assert sorted(roots) == [("pod-0", WAN), ("pod-1", WAN)]
    assert set(pods.verbs) <= {"notify", "page"}
    for pod in PODS:
        pods.unwell(pod, 3, "cleared")
    pods.after(30.0)
    assert pods.said[-1] == "working"


def test_a_domain_that_only_believed_the_region_does_not_keep_it_believing(tmp_path: Path) -> None:
    pods = begun(tmp_path, 5)
    pods.unwell("pod-0", 4)
    pods.after(1.0)
    pods.unwell("pod-1", 2)  # By themselves, which alone would not accuse the link.
    pods.after(19.0)
    assert pods.said == ["unknown", "failed"]
    assert {one.causes[0].entity for one in pods.incidents.values()} == {WAN}
    pods.unwell("pod-0", 4, "cleared")
    pods.after(30.0)
    assert pods.said == ["unknown", "failed", "unknown", "working"]
