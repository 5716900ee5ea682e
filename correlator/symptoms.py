"""Raw events → what they mean for which symptom: matching, and windows of sightings. Pure."""

from collections import deque

from correlator.rules.ruleset import ANY_SIGNAL, RuleSet, SymptomSpec
from schemas.base import kind_of
from schemas.inputs import Event


class Matchers:
    """Symptom rules by the signal they listen to: one look-up per event, whatever their number."""

    def __init__(self, rules: RuleSet) -> None:
        by_signal: dict[str, list[SymptomSpec]] = {}
        self.absent: dict[str, list[SymptomSpec]] = {}
        for spec in rules.symptoms.values():
            for signal in spec.signals:
                by_signal.setdefault(signal, []).append(spec)
            if spec.absent_signal:
                self.absent.setdefault(spec.absent_signal, []).append(spec)
        self._any = tuple(by_signal.pop(ANY_SIGNAL, ()))
        self._by_signal = {signal: tuple(specs) for signal, specs in by_signal.items()}

    def of(self, signal: str) -> tuple[SymptomSpec, ...]:
        """Return the rules that listen to a signal, in the order of their names."""
        return self._by_signal.get(signal, self._any)


def means(spec: SymptomSpec, event: Event) -> bool | None:
    """Return whether an event raises (True) or clears (False) a symptom, or says nothing (None)."""
    if spec.kinds and kind_of(event.entity) not in spec.kinds:
        return None
    if event.state not in spec.states:
        is_other = any(b.attr in event.attrs and not b.holds(event.attrs) for b in spec.bounds)
        return False if event.state == "cleared" and not is_other else None
    if spec.severities and event.severity not in spec.severities:
        return None
    if not all(bound.holds(event.attrs) for bound in spec.bounds):
        return None
    return True


def enough(spec: SymptomSpec, window: deque[int], now_us: int) -> bool:
    """Add a sighting to a window; claim that it now holds as many as the rule asks for."""
    window.append(now_us)
    while window and window[0] < now_us - spec.window_us:
        window.popleft()
    while len(window) > spec.changes:
        window.popleft()
    return len(window) >= spec.changes
