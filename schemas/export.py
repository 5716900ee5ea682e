"""JSON Schemas of every message and document, and the AsyncAPI document of the topics.

Pure: `exported` returns names and contents; ``firstfault schema export DIR`` writes them, and a
test compares them with the committed copies. The same models give the same bytes.
"""

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas import inputs, outputs
from schemas.control import DomainMap, RuleFiles, RuleSetPart
from schemas.kafka import KafkaSettings
from schemas.keys import KeySet
from schemas.rules import Pack, Policy, RuleTest, Settings, Signature, SymptomRule
from schemas.topics import CONTROL, LEASE, LOG, SNAPSHOTS, TOPICS, Topic
from schemas.topology import TopologyDocument, TopologySchema
from schemas.worker import CHUNK_MEDIA_TYPE, LeaseBeat, SnapshotChunk, SnapshotManifest

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MESSAGES: dict[str, type[BaseModel]] = {
    "action": outputs.Action,
    "command": inputs.Command,
    "dead-letter": outputs.DeadLetter,
    "decision": outputs.Decision,
    "digest": outputs.Digest,
    "frame": inputs.Frame,
    "incident": outputs.Incident,
    "lease-beat": LeaseBeat,
    "recording-header": inputs.RecordingHeader,
    "recording-line": inputs.RecordingLine,
    "result": inputs.Result,
    "rule-files": RuleFiles,
    "rule-set-part": RuleSetPart,
    "snapshot-manifest": SnapshotManifest,
}
"""What stands on topics and in recordings, by the name of its file."""
DOCUMENTS: dict[str, type[BaseModel]] = {
    "domain-map": DomainMap,
    "kafka": KafkaSettings,
    "key-set": KeySet,
    "pack": Pack,
    "policy": Policy,
    "settings": Settings,
    "signature": Signature,
    "symptom": SymptomRule,
    "test": RuleTest,
    "topology": TopologyDocument,
    "topology-schema": TopologySchema,
}
"""What people write, by the name of its file."""
OPERATIONS = {
    LOG: ("receive", "send"),  # Claims and ticks are its own.
    CONTROL: ("receive",),
    SNAPSHOTS: ("receive", "send"),
    LEASE: ("receive", "send"),
}
"""What the correlator does with topics of which it does not only send."""
_COMPONENTS = "#/components/schemas/{model}"


def json_schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a model, as it is written (not as it is kept in memory)."""
    schema = model.model_json_schema(mode="validation", by_alias=True)
    return {"$schema": DIALECT, "$id": f"firstfault:{name}", **schema}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of the topics."""
    models = sorted(
        {model for topic in TOPICS for model in topic.messages}, key=lambda model: model.__name__
    )
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], by_alias=True, ref_template=_COMPONENTS
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Firstfault topics",
            "version": "1.0.0",
            "description": "One input log; incidents, decisions and actions come of it. Unknown "
            "fields are kept: a newer producer never breaks an older reader.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": _operations(),
        "components": {
            "messages": {model.__name__: _message(model) for model in models},
            "schemas": _without_discriminators(schemas["$defs"]),
        },
    }


def _without_discriminators(part: Any) -> Any:  # noqa: ANN401 - any part of a JSON Schema
    """Return schemas without OpenAPI's discriminators: AsyncAPI means something else by the word.

    Nothing is lost: each kind of input has a constant `type`.
    """
    if isinstance(part, dict):
        return {
            name: _without_discriminators(value)
            for name, value in part.items()
            if not (name == "discriminator" and isinstance(value, dict) and "mapping" in value)
        }
    return [_without_discriminators(one) for one in part] if isinstance(part, list) else part


def _message(model: type[BaseModel]) -> dict[str, Any]:
    message = {
        "name": model.__name__,
        "title": (model.__doc__ or "").strip().splitlines()[0],
        "payload": {"$ref": _COMPONENTS.format(model=model.__name__)},
    }
    return {**message, "contentType": CHUNK_MEDIA_TYPE} if model is SnapshotChunk else message


def _channel(topic: Topic) -> dict[str, Any]:
    names = [model.__name__ for model in topic.messages]
    settings: dict[str, Any] = {"cleanup.policy": ["compact"]}
    if not topic.compacted:
        settings = {"cleanup.policy": ["delete"], "retention.ms": topic.keep_s * 1000}
    return {
        "address": topic.name,
        "description": f"{topic.what}; key: {topic.key}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"kafka": {"topic": topic.name, "topicConfiguration": settings}},
    }


def _operations() -> dict[str, Any]:
    """Return what the correlator does with each topic; of most, it only sends."""
    found = {}
    for topic in TOPICS:
        for action in OPERATIONS.get(topic.name, ("send",)):
            found[f"{action}.{topic.name}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": topic.what,
            }
    return found


def exported() -> dict[str, str]:
    """Return file name → content of everything that is exported, sorted by name."""
    documents = {
        f"{name}.schema.json": json_schema(name, model)
        for name, model in {**MESSAGES, **DOCUMENTS}.items()
    }
    documents["asyncapi.json"] = asyncapi()
    return {
        name: json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        for name, document in sorted(documents.items())
    }
