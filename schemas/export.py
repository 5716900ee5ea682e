"""JSON Schemas of every message and document, and the AsyncAPI document of the topics.

Pure: `exported` returns names and contents; ``firstfault schema export DIR`` writes them, and a
test compares them with the committed copies. The same models give the same bytes.
"""

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas import inputs, outputs
from schemas.control import DomainMap
from schemas.kafka import KafkaSettings
from schemas.keys import KeySet
from schemas.rules import Pack, Policy, RuleTest, Settings, Signature, SymptomRule
from schemas.topics import TOPICS
from schemas.topology import TopologyDocument, TopologySchema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MESSAGES: dict[str, type[BaseModel]] = {
    "action": outputs.Action,
    "command": inputs.Command,
    "dead-letter": outputs.DeadLetter,
    "decision": outputs.Decision,
    "digest": outputs.Digest,
    "frame": inputs.Frame,
    "incident": outputs.Incident,
    "recording-header": inputs.RecordingHeader,
    "recording-line": inputs.RecordingLine,
    "result": inputs.Result,
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
_COMPONENTS = "#/components/schemas/{model}"


def json_schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a model, as it is written (not as it is kept in memory)."""
    schema = model.model_json_schema(mode="validation", by_alias=True)
    return {"$schema": DIALECT, "$id": f"firstfault:{name}", **schema}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of the topics."""
    topics = {topic.name: topic.message for topic in TOPICS if topic.message}
    models = sorted(set(topics.values()), key=lambda model: model.__name__)
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
        "channels": {name: _channel(name, message) for name, message in topics.items()},
        "operations": _operations(),
        "components": {
            "messages": {
                model.__name__: {
                    "name": model.__name__,
                    "title": (model.__doc__ or "").strip().splitlines()[0],
                    "payload": {"$ref": _COMPONENTS.format(model=model.__name__)},
                }
                for model in models
            },
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


def _channel(name: str, model: type[BaseModel]) -> dict[str, Any]:
    topic = next(topic for topic in TOPICS if topic.name == name)
    message = model.__name__
    settings: dict[str, Any] = {"cleanup.policy": ["compact"]}
    if not topic.compacted:
        settings = {"cleanup.policy": ["delete"], "retention.ms": topic.keep_s * 1000}
    return {
        "address": topic.name,
        "description": f"{topic.what}; key: {topic.key}",
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": {"topic": topic.name, "topicConfiguration": settings}},
    }


def _operations() -> dict[str, Any]:
    """Return what the correlator does: it receives what steers it, and sends the rest."""
    found = {}
    for topic in TOPICS:
        if topic.message is None:
            continue
        action = "receive" if topic.message in (inputs.Frame, DomainMap) else "send"
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
