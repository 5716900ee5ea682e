"""One domain as the engine works on it: what it remembers, its rules, and what follows from both.

`EngineState` alone is in a snapshot; rules come from the library by their hash, the rest is worked
out anew. Called by every module that folds an input; `out` is what the present step has said.
"""

from collections.abc import Iterable
from typing import Any

from correlator.codebook import Codebook
from correlator.rules.ruleset import RuleSet
from correlator.rules.settings import Book
from correlator.standing import SETTLED, Settled, Standing
from correlator.state import EngineState, IncidentState, Sighting, SymptomKey
from correlator.symptoms import Matchers
from schemas.base import from_microseconds, is_entity
from schemas.outputs import Decision, Output

KNOBS = ("gather", "wait", "wait_max", "settle", "stale", "lateness")


class Domain:
    """State and rules of one domain, with the look-ups that follow from them."""

    def __init__(self, state: EngineState, rules: RuleSet, library: dict[str, RuleSet]) -> None:
        self.state = state
        self.library = {**library, rules.hash: rules}
        self.out: list[Output] = []
        self.must_look = False
        """What has changed is to be explained at the end of this step."""
        self.due: list[tuple[str, str]] = []
        """Faults, by signature and entity, whose silence is to be weighed again then."""
        self.activate(self.library.get(state.rules_hash, rules))

    def activate(self, rules: RuleSet) -> None:
        """Work under a rule set from now on; symptoms it does not know are forgotten."""
        self.standing = Standing()
        is_other = rules.hash != self.state.rules_hash
        if is_other:
            self.unsettle(self.state.incidents)
        self.rules = rules
        self.book = Book(rules.settings)
        self.state.rules_hash = rules.hash
        self.signature_index = {spec.name: index for index, spec in enumerate(rules.signatures)}
        self.knob_us: dict[str, int] = {
            name: round(getattr(rules.knobs, name) * 1e6) for name in KNOBS
        }
        cells = (cell for signature in rules.signatures for cell in signature.cells)
        self.longest_us = max((cell.within_us for cell in cells), default=0)
        budgets = (policy.guard.max for policy in rules.policies)
        widest_s = max((most.per for most in budgets if most is not None), default=0.0)
        self.budget_us = round(widest_s * 1e6)
        """So far back budgets look; rules activated later that look further count from then on."""
        self.matchers = Matchers(rules)
        self.awaiting: dict[str, set[str]] = {}
        """symptom → causes whose plan has a step that comes when it is known."""
        for policy in rules.policies:
            steps = [step for entry in policy.do for step in entry.values() if step is not None]
            for fact in [fact for step in steps for fact in step.when or []]:
                self.awaiting.setdefault(fact.see, set()).update(policy.cause)
        self.codebook = Codebook(self.state.topology, rules)
        self._forget_unknown()
        for _, incident in sorted(self.state.incidents.items(), key=lambda one: one[0]):
            self.settle(incident)
        for key, sighting in sorted(self.state.sightings.items(), key=lambda item: item[0]):
            self.know(key)
            self.standing.own(key, None, sighting.incident)
        for incident_id, incident in sorted(self.state.incidents.items(), key=lambda one: one[0]):
            self.standing.name(incident_id, None, incident.fault[1])
            # A restored one has its check before it, as when it was saved (I11).
            if is_other and incident_id not in self.standing.evidence:
                self.check_end(incident_id, self.state.live_us)

    def _forget_unknown(self) -> None:
        state, symptoms = self.state, self.rules.symptoms
        tables: list[dict[SymptomKey, Any]] = [state.sightings, state.windows]
        tables += [state.alive, state.overtaking]
        for table in tables:
            for key in [key for key in table if key[0] not in symptoms]:
                del table[key]
        state.dirty.intersection_update(state.sightings)

    @property
    def name(self) -> str:
        """The domain as an entity, for what concerns no other."""
        named = f"domain:{self.state.domain}"
        return named if is_entity(named) else "domain:unnamed"

    # ---- what is granted -------------------------------------------------------------------

    def settle(self, incident: IncidentState) -> None:
        """Grant the cause of an incident where others are weighed, if it is sure enough."""
        cause = None
        if incident.granted >= SETTLED:
            fault = self.signature_index[incident.fault[0]], incident.fault[1]
            weighed_us, margin = incident.weighed_us, incident.granted
            cause = Settled(fault, incident.onset_us, weighed_us, margin)
        self.standing.settle(incident.incident_id, cause)

    def unsettle(self, incident_ids: Iterable[str]) -> None:
        """Weigh the causes of some incidents anew at the next look instead of granting them."""
        for incident_id in incident_ids:
            incident = self.state.incidents[incident_id]
            incident.granted, incident.is_final = 0.0, False
            self.standing.settle(incident_id, None)

    def holding(self, entity: str) -> list[str]:
        """Return the incidents that name an entity and do not recover yet."""
        names, sightings = self.standing.naming(entity), self.state.sightings
        since_us = self.state.live_us - self.knob_us["lateness"]
        recovers = self.standing.is_recovering
        return [name for name in names if not recovers(name, sightings, since_us)]

    # ---- symptoms --------------------------------------------------------------------------

    def stands(self, key: SymptomKey) -> bool:
        """Claim that a symptom is raised now."""
        sighting = self.state.sightings.get(key)
        return sighting is not None and sighting.cleared_us is None

    def is_shown(self, key: SymptomKey) -> bool:
        """Claim that the cause that a symptom's incident names may show it, as things stand now."""
        incident = self.state.incidents.get(self.state.sightings[key].incident or "")
        if incident is None:
            return False
        fault = self.signature_index[incident.fault[0]], incident.fault[1]
        return key in self.standing.support.get(fault, {})

    def add(self, key: SymptomKey, sighting: Sighting) -> None:
        """Know a symptom from now on, and its entity, which may be new to the topology."""
        self.state.sightings[key] = sighting
        if self.state.topology.add_node(key[1]):
            self.state.count("unknown_entities")
            self.codebook.forget([key[1]])
        self.know(key)

    def know(self, key: SymptomKey) -> None:
        """Know a symptom by the faults that show it, or that those who see it may suffer from."""
        causes = self.codebook.causes(*key, self.state.sightings[key].tellers)
        self.standing.add(key, causes, stands=self.stands(key))

    def retold(self, key: SymptomKey) -> None:
        """Know a symptom anew whose witnesses have changed; look again where that matters."""
        if self.codebook.is_told(key[0]):
            before = self.standing.causes(key)
            self.know(key)
            if self.standing.causes(key) != before:
                self.mark(key)

    def drop(self, key: SymptomKey) -> None:
        """Forget a symptom."""
        sighting = self.state.sightings.pop(key)
        self.standing.remove(key, sighting.incident)
        self.state.dirty.discard(key)

    def own(self, key: SymptomKey, incident_id: str | None) -> None:
        """Give a symptom to an incident, or to none, and see to it that its end is noticed."""
        sighting = self.state.sightings[key]
        if sighting.incident == incident_id:
            return
        before = sighting.incident
        self.standing.own(key, before, incident_id)
        sighting.incident = incident_id
        if before is not None:
            self.check_end(before, self.state.live_us)
        if incident_id is None:
            self.state.wake(self.ends_us(sighting), "expire", *key)
        else:
            self.check_end(incident_id, self.ends_us(sighting))

    def check_end(self, incident_id: str, at_us: int) -> None:
        """See to it that an incident is checked for its end at a live time, or before."""
        incident = self.state.incidents.get(incident_id)
        if incident is not None and (incident.check_us is None or at_us < incident.check_us):
            incident.check_us = at_us
            self.state.wake(at_us, "close", incident_id)

    def ends_us(self, sighting: Sighting) -> int:
        """Return when a symptom is forgotten unless it is seen again, live time."""
        if sighting.cleared_us is not None:
            return sighting.cleared_us + self.knob_us["settle"]
        return sighting.last_us + self.knob_us["stale"]

    def mark(self, key: SymptomKey) -> None:
        """Ask for a look at a symptom that has changed."""
        spec = self.rules.symptoms[key[0]]
        if spec.gather_us is not None:
            self.look_soon(spec.gather_us)
        elif spec.is_certain:
            self.look_now()
        elif not self.state.dirty:  # else a look is due for the others already: one sees to all
            self.look_soon()
        self.state.dirty.add(key)

    def look_now(self) -> None:
        """Ask for a look at the end of this step."""
        self.must_look = True

    def look_soon(self, after_us: int | None = None) -> None:
        """Ask for a look once the evidence that comes together has come."""
        if after_us is None:
            after_us = self.knob_us["gather"]
        self.state.wake(self.state.live_us + after_us, "look")

    # ---- words -----------------------------------------------------------------------------

    def note(self, entity: str, reason: str, text: str, verdict: str = "note") -> None:
        """Say a decision that belongs to no incident."""
        self.out.append(
            Decision(
                entity=entity,
                verdict=verdict,  # type: ignore[arg-type]
                reason=reason,
                text=text,
                decided_at=from_microseconds(self.state.log_us),
            )
        )
