"""The dependency graph as people and importers write it, and the schema of kinds and edges."""

from typing import Any

from pydantic import Field, model_validator

from schemas.base import EntityId, Strict, Wire


class KindRule(Strict):
    """What a kind of entity is."""

    redundant: bool = Field(
        default=False, description="fails only when all its members do, e.g. lag"
    )
    text: str = Field("", description="for readers, e.g. a physical server")


class RelationRule(Strict):
    """What a relation is."""

    carries: bool = Field(default=True, description="whether failure travels along it")
    text: str = Field("", description="for readers")


class EdgeRule(Strict):
    """An edge the schema allows: *from* depends on *to*."""

    from_: str = Field(alias="from", description="kind of the dependant, or *")
    relation: str = Field(description="e.g. hosted_by")
    to: str = Field(description="kind of the dependency, or *")


class HealingRule(Strict):
    """What of an event names the present parent of its entity: an attribute, or who tells it."""

    kind: str = Field(description="kind of the entity the event is about, e.g. vm")
    attr: str | None = Field(None, description="attribute that holds the parent, e.g. host")
    by: str | None = Field(None, description="or: who tells it runs on the parent, e.g. collector")
    signals: tuple[str, ...] = Field((), description="with by: only who is there can tell these")
    relation: str = Field(description="edge it proves, e.g. hosted_by")
    to: str = Field(description="kind of the parent, e.g. host")

    @model_validator(mode="after")
    def _one_way(self) -> "HealingRule":
        if (self.attr is None) == (self.by is None) or (self.by is None) == bool(self.signals):
            msg = "a healing rule needs either attr, or by and its signals"
            raise ValueError(msg)
        return self


class TopologySchema(Strict):
    """Kinds, relations and allowed edges (``topology-schema.yaml``); users extend it."""

    extends: list[str] = Field(default_factory=list, description="files, relative to this one")
    kinds: dict[str, KindRule] = Field(default_factory=dict)
    relations: dict[str, RelationRule] = Field(default_factory=dict)
    edges: list[EdgeRule] = Field(default_factory=list)
    healing: list[HealingRule] = Field(default_factory=list)


class NodeDocument(Wire):
    """A node of a topology file: ``id`` alone, or ``kind`` and ``id``."""

    id: str = Field(min_length=1, max_length=512, description="host:compute-3, or compute-3")
    kind: str | None = Field(None, description="where the id does not begin with it")
    redundant: bool | None = Field(None, description="fails only when all its members do")
    attrs: dict[str, Any] = Field(default_factory=dict)


class EdgeDocument(Wire):
    """An edge of a topology file: *from* depends on *to*."""

    from_: str = Field(alias="from", description="the dependant")
    to: str = Field(description="the dependency")
    relation: str = Field("depends_on", description="e.g. hosted_by")


class TopologyDocument(Wire):
    """A topology file, YAML or JSON, also of a recording folder."""

    nodes: list[NodeDocument] = Field(default_factory=list)
    edges: list[EdgeDocument] = Field(default_factory=list)


__all__ = [
    "EdgeDocument",
    "EdgeRule",
    "EntityId",
    "HealingRule",
    "KindRule",
    "NodeDocument",
    "RelationRule",
    "TopologyDocument",
    "TopologySchema",
]
