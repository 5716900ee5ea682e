"""A folder of YAML becomes a `RuleSet`, or every fault in it: nothing is loaded half-way."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from correlator.rules.conditions import Bound, parse_bound, parse_structure
from correlator.rules.paths import Path as TypedPath
from correlator.rules.paths import parse_path
from correlator.rules.ruleset import (
    ANY_SIGNAL,
    CellSpec,
    Fault,
    LocatedTest,
    Location,
    RefutationSpec,
    RuleFaults,
    RuleSet,
    SignatureSpec,
    SymptomSpec,
)
from correlator.rules.yamlfile import Node, locate, plain, position, read_documents, validate
from schemas.base import digest
from schemas.rules import (
    DOCUMENTS,
    Cell,
    Knobs,
    LevelBudget,
    Limits,
    Pack,
    Policy,
    RuleTest,
    ServiceLevels,
    Settings,
    SignalRule,
    Signature,
    Step,
    SymptomRule,
)
from schemas.topology import TopologySchema

PACK_FILE = "pack.yaml"
EXTENDS_DEPTH_MAX = 8
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MATCH_KEYS = ("signal", "state", "severity", "entity_kind")

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


Place = tuple[str, int, int]
"""(file, line, column)."""


@dataclass
class _Origin:
    """A node of a file: where something stands is asked of it."""

    node: Node
    file: str

    def where(self, *path: str | int) -> Place:
        return (self.file, *position(self.node, path))


@dataclass
class _Document(_Origin):
    """A validated document."""

    model: SymptomRule | Signature | Policy | Settings | RuleTest
    data: dict[str, Any]

    @property
    def location(self) -> Location:
        return locate(self.node, self.file)


@dataclass
class _Sources:
    """What the files of a pack and of the packs it extends say."""

    faults: list[Fault] = field(default_factory=list)
    documents: dict[tuple[str, str], _Document] = field(default_factory=dict)
    tests: list[_Document] = field(default_factory=list)
    knobs: dict[str, Any] = field(default_factory=dict)
    levels: dict[str, LevelBudget] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    signals: dict[str, SignalRule] = field(default_factory=dict)
    schemas: list[TopologySchema] = field(default_factory=list)
    own: frozenset[tuple[str, str]] = frozenset()
    refused: set[str] = field(default_factory=set)
    """names of documents with faults: that they are spoken of is no further fault"""
    pack: Pack | None = None

    def fault(self, where: Place, code: str, text: str, severity: str = "error") -> None:
        self.faults.append(Fault(*where, code, text, severity))

    def of(self, kind: type[T]) -> Iterator[tuple[_Document, T]]:
        for document in self.documents.values():
            if isinstance(document.model, kind):
                yield document, document.model


def load_pack(folder: Path) -> RuleSet:
    """Return the rule set of a pack folder.

    Raises:
        RuleFaults: with every fault of every file, when there is at least one error.
    """
    return load_with_warnings(folder)[0]


def load_with_warnings(folder: Path) -> tuple[RuleSet, list[Fault]]:
    """Return the rule set and what is doubtful but no error, e.g. an unused variable."""
    sources = _Sources()
    _read_pack(folder, folder.resolve().name, sources, 0)
    rules = _compile(sources) if sources.pack else None
    errors = [fault for fault in sources.faults if fault.severity == "error"]
    if errors or rules is None:
        raise RuleFaults(sources.faults)
    return rules, sorted(sources.faults)


def _read_pack(folder: Path, shown: str, sources: _Sources, depth: int) -> None:
    shown_pack = f"{shown}/{PACK_FILE}"
    if depth > EXTENDS_DEPTH_MAX:
        sources.fault((shown_pack, 1, 1), "extends-cycle", "packs extend each other in a circle")
        return
    nodes = read_documents(folder / PACK_FILE, sources.faults, shown_pack)
    if not nodes:
        if not any(fault.file == shown_pack for fault in sources.faults):
            sources.fault((shown_pack, 1, 1), "yaml", "the file is empty")
        return
    pack = _validated(Pack, _Origin(nodes[0], shown_pack), sources, {})
    if pack is None:
        return
    for base in pack.extends:
        _read_pack((folder / base).resolve(), f"{shown}/{base}", sources, depth + 1)
    sources.tests.clear()  # the tests of a base pack are that pack's own
    sources.pack = pack
    sources.knobs.update({key: getattr(pack.engine, key) for key in pack.engine.model_fields_set})
    levels = pack.service_levels
    sources.levels.update({key: getattr(levels, key) for key in levels.model_fields_set})
    sources.limits.update({key: getattr(pack.limits, key) for key in pack.limits.model_fields_set})
    sources.signals.update(pack.signals)
    schema_file = (folder / pack.topology_schema).resolve() if pack.topology_schema else None
    if schema_file:
        _read_schema(schema_file, f"{shown}/{pack.topology_schema}", sources, 0)
    _read_rules(folder, shown, pack, schema_file, sources)


def _read_rules(
    folder: Path, shown: str, pack: Pack, schema_file: Path | None, sources: _Sources
) -> None:
    used: set[str] = set()
    names: dict[tuple[str, str], _Document] = {}
    for file in sorted(folder.rglob("*.y*ml")):
        if (
            file.name == PACK_FILE
            or file.resolve() == schema_file
            or file.suffix not in (".yaml", ".yml")
        ):
            continue
        name = f"{shown}/{file.relative_to(folder).as_posix()}"
        for node in read_documents(file, sources.faults, name):
            used |= _variables_in(node)
            _take(_Origin(node, name), pack.vars, sources, names)
    sources.documents.update(names)
    sources.own = frozenset(names)
    for variable in sorted(set(pack.vars) - used):
        where = (f"{shown}/{PACK_FILE}", 1, 1)
        sources.fault(where, "unused-variable", f"${{{variable}}} is never used", "warning")


def _take(
    origin: _Origin,
    variables: dict[str, str],
    sources: _Sources,
    names: dict[tuple[str, str], _Document],
) -> None:
    kind = origin.node.get("kind") if isinstance(origin.node, dict) else None
    model_type = DOCUMENTS.get(kind) if isinstance(kind, str) else None
    if model_type is None:
        kinds = ", ".join(DOCUMENTS)
        sources.fault(origin.where(), "unknown-document", f"kind: must be one of {kinds}")
        return
    model = _validated(model_type, origin, sources, variables)
    if model is None:
        sources.refused.add(str(origin.node.get("name")))
        return
    data = model.model_dump(mode="json", by_alias=True)
    document = _Document(origin.node, origin.file, model, data)
    if isinstance(model, RuleTest):
        sources.tests.append(document)
        return
    key = (model.kind, model.name)
    if key in names:
        text = f"{model.kind} {model.name} stands at {names[key].location} already"
        sources.fault(document.where("name"), "duplicate-name", text)
        return
    names[key] = document


def _validated(
    model: type[M], origin: _Origin, sources: _Sources, variables: dict[str, str]
) -> M | None:
    if not isinstance(origin.node, dict):
        sources.fault((origin.file, 1, 1), "bad-value", "the document must be a mapping")
        return None
    try:
        data = plain(origin.node)
    except (ValueError, RecursionError) as error:
        sources.fault(origin.where(), "too-large", str(error))
        return None
    filled = _filled(data, variables, origin, sources)
    return validate(model, origin.node, filled, origin.file, sources.faults)


def _filled(
    data: object,
    variables: dict[str, str],
    origin: _Origin,
    sources: _Sources,
    path: tuple[str | int, ...] = (),
) -> object:
    """Return the data with every ``${name}`` replaced; an unknown one becomes a fault."""
    if isinstance(data, dict):
        return {k: _filled(v, variables, origin, sources, (*path, k)) for k, v in data.items()}
    if isinstance(data, list):
        return [_filled(v, variables, origin, sources, (*path, i)) for i, v in enumerate(data)]
    if not isinstance(data, str):
        return data
    for name in _VARIABLE.findall(data):
        if name not in variables:
            text = f"${{{name}}} has no value"
            sources.fault(origin.where(*path), "unknown-variable", text)
    return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), data)


def _variables_in(node: Node) -> set[str]:
    if isinstance(node, dict):
        return set().union(*map(_variables_in, node.values()))
    if isinstance(node, list):
        return set().union(*map(_variables_in, node))
    return set(_VARIABLE.findall(node)) if isinstance(node, str) else set()


def _read_schema(file: Path, shown: str, sources: _Sources, depth: int) -> None:
    schema = read_schema(file, shown, sources.faults, depth)
    if schema:
        sources.schemas.append(schema)


def read_schema(
    file: Path, shown: str, faults: list[Fault], depth: int = 0
) -> TopologySchema | None:
    """Return a topology schema merged with those it extends; None, with faults, if it is bad."""
    nodes = read_documents(file, faults, shown)
    if not nodes or depth > EXTENDS_DEPTH_MAX:
        if not any(fault.file == shown for fault in faults):
            faults.append(
                Fault(shown, 1, 1, "yaml", "empty, or schemas extend each other in a circle")
            )
        return None
    schema = validate(TopologySchema, nodes[0], plain(nodes[0]), shown, faults)
    if schema is None:
        return None
    bases = [
        read_schema((file.parent / base).resolve(), base, faults, depth + 1)
        for base in schema.extends
    ]
    return merge_schemas([*filter(None, bases), schema])


def merge_schemas(schemas: list[TopologySchema]) -> TopologySchema:
    """Return one schema that allows what any of them allows; later words win."""
    merged = TopologySchema()
    for schema in schemas:
        merged = TopologySchema(
            kinds={**merged.kinds, **schema.kinds},
            relations={**merged.relations, **schema.relations},
            edges=list(dict.fromkeys([*merged.edges, *schema.edges])),
            healing=list(dict.fromkeys([*merged.healing, *schema.healing])),
        )
    return merged


def _compile(sources: _Sources) -> RuleSet:
    if sources.pack is None:
        raise RuleFaults(sources.faults)
    knobs = Knobs.model_construct(**{**Knobs().__dict__, **sources.knobs})
    symptoms = {
        model.name: _symptom(document, model, knobs, sources)
        for document, model in sources.of(SymptomRule)
    }
    signatures = tuple(
        _signature(document, model, symptoms, sources) for document, model in sources.of(Signature)
    )
    _add_bare_signals(sources, symptoms, knobs)
    _check_kinds(sources)
    policies = tuple(_policy(document, model, sources) for document, model in sources.of(Policy))
    limits = Limits.model_construct(**{**Limits().__dict__, **sources.limits})
    content = {
        "limits": limits.model_dump(mode="json"),
        "knobs": knobs.model_dump(mode="json"),
        "documents": [d.data for d in sources.documents.values()],
        "schema": [schema.model_dump(mode="json", by_alias=True) for schema in sources.schemas],
    }
    return RuleSet(
        name=sources.pack.name,
        version=sources.pack.version,
        hash=digest(content),
        knobs=knobs,
        limits=limits,
        symptoms=dict(sorted(symptoms.items())),
        signatures=signatures,
        policies=policies,
        settings=tuple(model for _, model in sources.of(Settings)),
        levels=ServiceLevels().model_copy(update=sources.levels),
        schema=merge_schemas(sources.schemas),
        signals=sources.signals,
        tests=tuple(_located(d, d.model) for d in sources.tests if isinstance(d.model, RuleTest)),
        locations={f"{kind}:{name}": d.location for (kind, name), d in sources.documents.items()},
        own=frozenset(f"{kind}:{name}" for kind, name in sources.own),
        content=content,
    )


def _located(document: _Document, test: RuleTest) -> LocatedTest:
    paths: list[tuple[str | int, ...]] = [()]
    for index, case in enumerate(test.cases):
        paths += [("cases", index), ("cases", index, "events")]
        paths += [("cases", index, "expect", i) for i in range(len(case.expect))]
        paths += [("cases", index, "never", i) for i in range(len(case.never))]
    places = {".".join(map(str, path)): Location(*document.where(*path)) for path in paths}
    return LocatedTest(test, places)


def _tried(sources: _Sources, where: Place, parse: Callable[[str], T], text: str) -> T | None:
    """Return what the text means, or None after noting why it means nothing."""
    try:
        return parse(text)
    except ValueError as error:
        sources.fault(where, "bad-value", str(error))
        return None


def _path(sources: _Sources, where: Place, text: str) -> TypedPath:
    return _tried(sources, where, parse_path, text) or ()


def _strings(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)


def _symptom(
    document: _Document, rule: SymptomRule, knobs: Knobs, sources: _Sources
) -> SymptomSpec:
    match = rule.match or {}
    bounds: list[Bound] = []
    for key, written in match.items():
        if key.startswith("attrs."):
            for one in written if isinstance(written, list) else [written]:
                where = document.where("match", key)
                attr = key.removeprefix("attrs.")
                try:
                    bounds.append(parse_bound(attr, one))
                except ValueError as error:
                    sources.fault(where, "bad-value", str(error))
        elif key not in _MATCH_KEYS:
            text = f"match.{key}: use {', '.join(_MATCH_KEYS)} or attrs.NAME"
            sources.fault(document.where("match", key), "unknown-key", text)
    if rule.match is not None and "signal" not in match:
        sources.fault(document.where("match"), "missing-key", "match.signal is missing")
    for signal in _strings(match["signal"]) if "signal" in match else ():
        _check_signal(signal, document.where("match", "signal"), sources)
    unless_path = rule.unless.at if rule.unless else "self"
    return SymptomSpec(
        name=rule.name,
        signals=_strings(match["signal"]) if "signal" in match else (),
        states=_strings(match.get("state", "raised")),
        severities=_strings(match["severity"]) if "severity" in match else (),
        kinds=_strings(match["entity_kind"]) if "entity_kind" in match else (),
        bounds=tuple(bounds),
        changes=rule.raise_.changes if rule.raise_ else 1,
        window_us=round(rule.raise_.within * 1e6) if rule.raise_ else 0,
        quiet_us=round(rule.clear.quiet * 1e6) if rule.clear else None,
        absent_signal=rule.absent.signal if rule.absent else None,
        absent_us=round((rule.absent.for_ + rule.absent.lateness) * 1e6) if rule.absent else 0,
        unless_symptom=rule.unless.see if rule.unless else None,
        unless_path=_path(sources, document.where("unless", "at"), unless_path),
        spurious=rule.spurious or knobs.spurious,
        gather_us=_microseconds(rule.gather),
        hard=rule.hard,
    )


def _check_signal(signal: str, where: Place, sources: _Sources) -> None:
    known = sources.signals
    if known and ANY_SIGNAL not in known and signal != ANY_SIGNAL and signal not in known:
        sources.fault(where, "unknown-signal", f"no collector of this pack emits {signal}")


def _signature(
    document: _Document, rule: Signature, symptoms: dict[str, SymptomSpec], sources: _Sources
) -> SignatureSpec:
    where = [
        _tried(sources, document.where("where", index), parse_structure, text)
        for index, text in enumerate(rule.where)
    ]
    cells = [_cell(document, index, cell, sources) for index, cell in enumerate(rule.symptoms)]
    refuted = tuple(
        RefutationSpec(
            r.see,
            _path(sources, document.where("refuted_by", i, "at"), r.at),
            round(r.fresh * 1e6),
        )
        for i, r in enumerate(rule.refuted_by)
    )
    return SignatureSpec(
        rule.name,
        rule.root,
        tuple(filter(None, where)),
        rule.prior,
        tuple(cells),
        refuted,
        document.location,
        tuple(rule.faults),
        _microseconds(rule.wait),
        frozenset(name for cell in cells if cell.required for name in cell.symptoms),
    )


def _microseconds(duration_s: float | None) -> int | None:
    return None if duration_s is None else round(duration_s * 1e6)


def _cell(document: _Document, index: int, cell: Cell, sources: _Sources) -> CellSpec:
    place = document.where("symptoms", index, "at" if cell.by is None else "by")
    path = _path(sources, place, cell.at if cell.by is None else cell.by)
    names = tuple(cell.any) if cell.any else (str(cell.see),)
    return CellSpec(
        names,
        path,
        cell.p,
        round(cell.within * 1e6),
        cell.optional,
        cell.required,
        is_told=cell.by is not None,
    )


def _add_bare_signals(sources: _Sources, symptoms: dict[str, SymptomSpec], knobs: Knobs) -> None:
    """A `see` that names no symptom means the bare signal of that name."""
    leaks: dict[str, list[float]] = {}
    for name, where, spurious in _references(sources):
        _bare(name, where, sources, symptoms, knobs)
        if spurious:
            leaks.setdefault(name, []).append(spurious)
    stated = {m.name for _, m in sources.of(SymptomRule) if m.spurious}
    for name in leaks.keys() - stated:
        symptoms[name] = replace(symptoms[name], spurious=min(leaks[name]))


def _references(sources: _Sources) -> Iterator[tuple[str, Place, float | None]]:
    """Yield (symptom, where it is spoken of, what is said of its chance there)."""
    for document, model in sources.of(Signature):
        for index, cell in enumerate(model.symptoms):
            place = document.where("symptoms", index)
            yield from ((name, place, cell.spurious) for name in cell.any or [str(cell.see)])
        for index, refutation in enumerate(model.refuted_by):
            yield refutation.see, document.where("refuted_by", index), None
    for document, rule in sources.of(SymptomRule):
        if rule.unless:
            yield rule.unless.see, document.where("unless", "see"), None
    yield from _asked_facts(sources)


def _asked_facts(sources: _Sources) -> Iterator[tuple[str, Place, None]]:
    for document, policy in sources.of(Policy):
        for place, step in _written(policy):
            yield from ((one.see, document.where(*place, "when"), None) for one in step.when or [])
            where = document.where(*place, "unless")
            yield from ((one.see, where, None) for one in step.unless or [])


def _written(policy: Policy) -> Iterator[tuple[tuple[str | int, ...], Step]]:
    """Yield (where it stands in the document, step) of each step that says more than its verb."""
    for index, entry in enumerate(policy.do):
        for verb, step in entry.items():
            if step is not None:
                yield ("do", index, verb), step


def _bare(
    name: str,
    where: Place,
    sources: _Sources,
    symptoms: dict[str, SymptomSpec],
    knobs: Knobs,
) -> None:
    if name in symptoms:
        return
    known = sources.signals
    emitted = not known or ANY_SIGNAL in known or name in known
    if not emitted and name not in sources.refused:
        sources.fault(where, "unknown-symptom", f"{name} is neither a symptom nor a signal")
    symptoms[name] = SymptomSpec(name, signals=(name,), spurious=knobs.spurious)


def _check_kinds(sources: _Sources) -> None:
    kinds = merge_schemas(sources.schemas).kinds
    for document, model in sources.of(Signature):
        if kinds and model.root != "*" and model.root not in kinds:
            sources.fault(document.where("root"), "unknown-kind", f"{model.root} is no kind")


def _policy(document: _Document, policy: Policy, sources: _Sources) -> Policy:
    known = {"*", *sources.refused, *(model.name for _, model in sources.of(Signature))}
    for index, cause in enumerate(policy.cause):
        if cause not in known:
            sources.fault(
                document.where("cause", index), "unknown-signature", f"no signature {cause}"
            )
    for index, text in enumerate(policy.guard.only_if):
        place = document.where("guard", "only_if", index)
        _tried(sources, place, parse_structure, text)
    for at, step in _written(policy):
        _step(document, at, step, sources)
    return policy


def _step(document: _Document, place: tuple[str | int, ...], step: Step, sources: _Sources) -> None:
    if step.target != "$root" and not step.target.startswith("$root."):
        text = "target must be $root or $root.PATH"
        sources.fault(document.where(*place, "target"), "bad-value", text)
    else:
        path = step.target.removeprefix("$root").removeprefix(".") or "self"
        _path(sources, document.where(*place, "target"), path)
    for fact in step.facts:
        key = "when" if fact in (step.when or []) else "unless"
        _path(sources, document.where(*place, key), fact.at)
    verb, number = str(place[-1]), int(place[1])
    before = {name for entry in document.data["do"][:number] for name in entry}
    needed = (step.needs or "").partition(".")[0]
    if needed and needed not in before:
        text = f"no {needed} comes before it"
        sources.fault(document.where(*place, "needs"), "unknown-step", text)
    if step.methods and verb != "fence":
        text = f"{verb} has no methods: only a fence has"
        sources.fault(document.where(*place, "methods"), "bad-value", text)
    if step.methods and step.tries is not None:
        text = "a ladder has one try a method, no tries of its own"
        sources.fault(document.where(*place, "tries"), "bad-value", text)
