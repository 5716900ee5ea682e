"""Estimate a pack's numbers from labelled recordings: p, prior, spurious, per class-level cell.

Everything is tied by signature (root kind and structural role), symptom and typed path, never by
an entity's name, and each label is counted on its own: nothing depends on the fault before. The
result is a proposal (a table and a patch with its counts); nothing is applied by itself.
"""

import bisect
import difflib
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from correlator.codebook import Codebook, Fault
from correlator.engine import Stamped
from correlator.recording import Recording, case_of, read
from correlator.rules.paths import Path as TypedPath
from correlator.rules.paths import Step, path_text
from correlator.rules.ruleset import CellSpec, RuleSet, SignatureSpec
from correlator.score import Label, read_labels
from correlator.symptoms import Matchers, means
from correlator.topology import Topology
from schemas.base import kind_of
from schemas.inputs import Event

P_MAX = 0.98
"""No estimate is nearer to certainty: a few hundred labels cannot show more."""
SEEN_MIN = 3
"""Sightings a newly proposed cell needs."""
LIFT_MIN = 4.0
"""How much likelier than by chance a newly proposed cell must be."""
DEPTH = 4
"""Longest typed path that is proposed."""
WINDOW_S = 300.0
"""A prior is the chance of a fault per entity and so many seconds."""


@dataclass(frozen=True)
class Labelled:
    """A recording with its labels and topology, read for fitting."""

    sightings: dict[str, list[tuple[float, str, str]]]
    """case → (seconds, symptom, entity), in time order."""
    labels: list[Label]
    topology: Topology
    span_s: float


@dataclass
class CellCount:
    """One cell: how often it was expected and seen."""

    signature: str
    symptom: str
    path: str
    before: float | None
    expected: int = 0
    seen: int = 0
    after: float | None = None


@dataclass
class FitResult:
    """What the recordings say of a pack."""

    cells: list[CellCount] = field(default_factory=list)
    priors: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    """signature → (before, after, labels)."""
    leaks: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    """symptom → (before, after, unexplained sightings)."""
    unmatched: Counter[str] = field(default_factory=Counter)
    """fault types of labels that no signature stands for."""
    rules: RuleSet | None = None


def read_labelled(recording: Recording, topology: Topology, rules: RuleSet) -> Labelled:
    """Return the symptoms and labels of a recording folder."""
    matchers = Matchers(rules)
    sightings: dict[str, list[tuple[float, str, str]]] = {}
    first, last = math.inf, -math.inf
    for record in read(recording, lambda _: None):
        at = record.log_us / 1e6
        first, last = min(first, at), max(last, at)
        for symptom, entity in _seen(matchers, record):
            sightings.setdefault(case_of(record), []).append((at, symptom, entity))
    labels = read_labels(recording.labels) if recording.labels else []
    for listed in sightings.values():
        listed.sort()
    return Labelled(sightings, labels, topology, max(0.0, last - first))


def _seen(matchers: Matchers, record: Stamped) -> Iterator[tuple[str, str]]:
    event = record.input
    if isinstance(event, Event):
        for spec in matchers.of(event.signal):
            if means(spec, event):
                yield spec.name, event.entity


def window(data: Labelled, label: Label, rules: RuleSet) -> set[tuple[str, str]]:
    """Return the symptoms first seen within reach of a label's beginning."""
    within = max((c.within_us for s in rules.signatures for c in s.cells), default=0) / 1e6
    listed = data.sightings.get(label.case, [])
    start = bisect.bisect_left(listed, (label.ts - rules.knobs.wait, "", ""))
    until = min(label.ts + within + rules.knobs.lateness, label.end_ts)
    return {(s, e) for at, s, e in listed[start : start + 5000] if at <= until}


def _signature_of(codebook: Codebook, label: Label) -> int | None:
    """Return the most particular signature that may stand for a label, the first of equals."""
    best: tuple[int, int] | None = None
    for index, signature in enumerate(codebook.rules.signatures):
        if signature.faults and label.fault_type not in signature.faults:
            continue
        rank = (2 if signature.faults else 0) + (signature.root != "*")
        if best is not None and rank <= best[0]:
            continue
        if codebook.column((index, label.roots[0])) is not None:
            best = (rank, index)
    return best[1] if best else None


def fit(rules: RuleSet, recordings: list[Labelled], *, discover: bool) -> FitResult:
    """Return the estimates; with `discover`, cells that were seen often enough are added."""
    if discover:
        rules = _with_discovered(rules, recordings)
    rules, result = _estimate(rules, recordings)
    if discover:
        rules, result = _estimate(_pruned(rules, result), recordings)
    result.rules = rules
    return result


def _estimate(rules: RuleSet, recordings: list[Labelled]) -> tuple[RuleSet, FitResult]:
    result = FitResult()
    counts = _Counts()
    for data in recordings:
        codebook = Codebook(data.topology, rules)
        counts.places_in(codebook, data)
        for label in data.labels:
            index = _signature_of(codebook, label)
            if index is None:
                result.unmatched[label.fault_type] += 1
            else:
                counts.label(codebook, (index, label.roots[0]), window(data, label, rules))
    signatures = tuple(
        _estimated(index, signature, counts, result)
        for index, signature in enumerate(rules.signatures)
    )
    symptoms = dict(rules.symptoms)
    for name, spec in rules.symptoms.items():
        if name in counts.kinds_of and counts.windows:
            after = round(min(0.5, max(1e-5, counts.leak(name))), 6)
            result.leaks[name] = (spec.spurious, after, counts.unexplained[name])
            symptoms[name] = replace(spec, spurious=after)
    return replace(rules, signatures=signatures, symptoms=symptoms), result


@dataclass
class _Counts:
    """What the labels show, tied by (signature, cell), signature or symptom."""

    expected: Counter[tuple[int, int]] = field(default_factory=Counter)
    seen: Counter[tuple[int, int]] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    places: Counter[int] = field(default_factory=Counter)
    """signature → entity-windows in which it could have struck."""
    unexplained: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    kinds_of: dict[str, set[str]] = field(default_factory=dict)

    def places_in(self, codebook: Codebook, data: Labelled) -> None:
        """Count the entities and windows of a recording."""
        windows = max(data.span_s, 1.0) / WINDOW_S
        for index in range(len(codebook.rules.signatures)):
            roots = sum(codebook.column((index, node)) is not None for node in data.topology)
            self.places[index] += round(roots * windows)
        self.kinds.update(map(kind_of, data.topology))
        for listed in data.sightings.values():
            for _, symptom, entity in listed:
                self.kinds_of.setdefault(symptom, set()).add(kind_of(entity))

    def label(self, codebook: Codebook, fault: Fault, shown: set[tuple[str, str]]) -> None:
        """Count one labelled fault; one that left no symptom teaches nothing."""
        column = codebook.column(fault)
        if not shown or column is None:
            return
        self.labels[fault[0]] += 1
        self.windows += 1
        for (cell, _), total in column.totals.items():
            self.expected[fault[0], cell] += total
        for symptom, entity in shown:
            seen_through = codebook.cell_of(fault, symptom, entity)
            if seen_through is None:
                self.unexplained[symptom] += 1
            else:
                self.seen[fault[0], seen_through] += 1

    def leak(self, symptom: str) -> float:
        """Return the chance to see a symptom on an entity in a window with no cause known."""
        places = sum(self.kinds[kind] for kind in self.kinds_of.get(symptom, ()))
        return (self.unexplained[symptom] + 0.5) / (self.windows * max(1, places) + 1.0)


def _estimated(
    index: int, signature: SignatureSpec, counts: _Counts, result: FitResult
) -> SignatureSpec:
    cells = []
    for position, cell in enumerate(signature.cells):
        count = CellCount(signature.name, "|".join(cell.symptoms), path_text(cell.path), cell.p)
        count.expected, count.seen = counts.expected[index, position], counts.seen[index, position]
        count.after = _share(count.seen, count.expected) if count.expected else cell.p
        result.cells.append(count)
        cells.append(replace(cell, p=count.after))
    prior = signature.prior
    if counts.labels[index]:
        prior = round(min(0.5, counts.labels[index] / max(1, counts.places[index])), 6)
    result.priors[signature.name] = (signature.prior, prior, counts.labels[index])
    return replace(signature, prior=prior, cells=tuple(cells))


def _share(seen: int, expected: int) -> float:
    """Return the estimate of a chance from counts (Laplace, a twentieth of a sighting)."""
    return round(min(P_MAX, (seen + 0.05) / (expected + 1.0)), 4)


def _with_discovered(rules: RuleSet, recordings: list[Labelled]) -> RuleSet:
    """Return the rules with a cell for every symptom and shortest typed path seen in labels."""
    found: dict[int, Counter[tuple[str, TypedPath]]] = {}
    for data in recordings:
        codebook = Codebook(data.topology, rules)
        paths: dict[str, dict[str, TypedPath]] = {}
        for label in data.labels:
            index = _signature_of(codebook, label)
            if index is None:
                continue
            root = label.roots[0]
            reach = paths.setdefault(root, shortest_paths(data.topology, root, DEPTH))
            counter = found.setdefault(index, Counter())
            for symptom, entity in window(data, label, rules):
                if entity in reach:
                    counter[symptom, reach[entity]] += 1
    signatures = []
    for index, signature in enumerate(rules.signatures):
        signatures.append(_extended(signature, found.get(index, Counter())))
    return replace(rules, signatures=tuple(signatures))


def _extended(signature: SignatureSpec, counter: Counter[tuple[str, TypedPath]]) -> SignatureSpec:
    known = {(symptom, cell.path) for cell in signature.cells for symptom in cell.symptoms}
    within_us = max(cell.within_us for cell in signature.cells)
    added = [
        CellSpec((symptom,), path, 0.5, within_us)
        for (symptom, path), count in sorted(
            counter.items(), key=lambda item: (len(item[0][1]), path_text(item[0][1]), item[0][0])
        )
        if count >= SEEN_MIN and (symptom, path) not in known
    ]
    return replace(signature, cells=(*signature.cells, *added))


def _pruned(rules: RuleSet, result: FitResult) -> RuleSet:
    """Return the rules without cells that are no likelier than chance."""
    counts = iter(result.cells)
    signatures = []
    for signature in rules.signatures:
        kept = [
            cell
            for cell, count in zip(signature.cells, counts, strict=False)
            if not count.expected
            or (
                count.seen >= SEEN_MIN
                and cell.p >= LIFT_MIN * rules.symptoms[cell.symptoms[0]].spurious
            )
        ]
        signatures.append(replace(signature, cells=tuple(kept) or signature.cells))
    return replace(rules, signatures=tuple(signatures))


def shortest_paths(topology: Topology, root: str, depth: int) -> dict[str, TypedPath]:
    """Return, for each entity within so many steps, its shortest typed path from the root."""
    found: dict[str, TypedPath] = {root: ()}
    edge = {root: ()}
    for _ in range(depth):
        following: dict[str, TypedPath] = {}
        for node, path in sorted(edge.items()):
            ups = (
                (near, Step(up=True, kind=kind_of(near))) for near in topology.dependencies(node)
            )
            downs = ((near, Step(up=False, kind=kind_of(near))) for near in topology.down[node])
            for near, step in (*ups, *downs):
                if near not in found:
                    longer = (*path, step)
                    known = following.get(near)
                    if known is None or path_text(longer) < path_text(known):
                        following[near] = longer
        found.update(following)
        edge = following  # type: ignore[assignment]
    return found


# ---- the patch ---------------------------------------------------------------------------


def patched_files(folder: Path, result: FitResult) -> dict[Path, tuple[str, str]]:
    """Return, for each rule file the estimates would change, its text before and after."""
    changed = {}
    for file in sorted(folder.rglob("*.y*ml")):
        text = file.read_text(encoding="utf-8")
        after = _patched(text, result)
        if after != text:
            changed[file] = (text, after)
    return changed


def patch_text(folder: Path, result: FitResult) -> str:
    """Return a unified diff of the pack, to be applied by whoever has read it."""
    parts: list[str] = []
    for file, (before, after) in patched_files(folder, result).items():
        name = file.relative_to(folder).as_posix()
        parts += difflib.unified_diff(
            before.splitlines(keepends=True),
            after.splitlines(keepends=True),
            f"a/{name}",
            f"b/{name}",
        )
    return "".join(parts)


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.width = 4096
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _patched(text: str, result: FitResult) -> str:
    yaml = _yaml()
    documents = list(yaml.load_all(text))
    rules = result.rules
    if rules is None:
        return text
    patched = [_patch_document(document, result, rules) for document in documents]
    if not any(patched):
        return text
    out = io.StringIO()
    yaml.dump_all(documents, out)
    return out.getvalue()


def _patch_document(document: Any, result: FitResult, rules: RuleSet) -> bool:  # noqa: ANN401
    if not isinstance(document, CommentedMap):
        return False
    name = document.get("name")
    if document.get("kind") == "symptom" and name in result.leaks:
        document["spurious"] = result.leaks[name][1]
        return True
    if document.get("kind") == "signature" and result.priors.get(str(name), (0, 0, 0))[2]:
        _patch_signature(document, result, rules)
        return True
    return False


def _patch_signature(document: CommentedMap, result: FitResult, rules: RuleSet) -> None:
    name = str(document["name"])
    document["prior"] = result.priors[name][1]
    signature = next(s for s in rules.signatures if s.name == name)
    counts = [count for count in result.cells if count.signature == name]
    cells = document["symptoms"]
    known = {(_names(cell), str(cell.get("at", "self"))): cell for cell in cells}
    kept = []
    for spec, count in zip(signature.cells, counts, strict=True):
        cell = known.get((spec.symptoms, count.path))
        if cell is None:
            cell = CommentedMap({"see": spec.symptoms[0], "at": count.path})
            cell.fa.set_flow_style()
        cell["p"] = count.after
        cell.setdefault("within", _duration(spec.within_us))
        kept.append((cell, f"{count.seen} of {count.expected}"))
    cells[:] = [cell for cell, _ in kept]
    cells.ca.items.clear()
    for position, (_, comment) in enumerate(kept):
        cells.yaml_add_eol_comment(comment, position, column=0)


def _names(cell: Any) -> tuple[str, ...]:  # noqa: ANN401
    return tuple(map(str, cell["any"])) if "any" in cell else (str(cell["see"]),)


def _duration(time_us: int) -> str:
    return f"{time_us / 1e6:g}s"


def rows(result: FitResult) -> Iterable[tuple[str, str, str, str, str, str]]:
    """Yield table rows: signature, symptom, path, before, after, seen/expected."""
    for name, (before, after, labels) in result.priors.items():
        yield name, "(prior)", "", f"{before:g}", f"{after:g}", f"{labels} labels"
    for count in result.cells:
        before_text = "new" if count.before is None else f"{count.before:g}"
        after_text = "-" if count.after is None else f"{count.after:g}"
        yield (
            count.signature,
            count.symptom,
            count.path,
            before_text,
            after_text,
            f"{count.seen}/{count.expected}",
        )
    for name, (before, after, unexplained) in sorted(result.leaks.items()):
        yield "(spurious)", name, "", f"{before:g}", f"{after:g}", f"{unexplained} unexplained"
