"""The exported schemas: those of the code, and true of real messages."""

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError
from ruamel.yaml import YAML

from correlator.recorded import read_outputs
from schemas.export import DOCUMENTS, MESSAGES, exported
from schemas.topics import TOPICS
from tests.cli.conftest import EXAMPLES, Run
from tests.conftest import ROOT

COMMITTED = ROOT / "schemas" / "exported"


def _validator(name: str) -> Draft202012Validator:
    text = (COMMITTED / f"{name}.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def test_the_committed_schemas_are_those_of_the_code(run: Run, tmp_path: Path) -> None:
    run("schema export {}", tmp_path)
    made = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    kept = {file.name: file.read_text(encoding="utf-8") for file in COMMITTED.iterdir()}
    assert made == kept == exported(), "run `make schemas`"


@pytest.mark.parametrize("name", [*MESSAGES, *DOCUMENTS])
def test_every_schema_is_one_and_says_what_it_is_of(name: str) -> None:
    schema = json.loads((COMMITTED / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"firstfault:{name}"
    assert schema["description"]


def test_what_a_replay_says_is_valid(lag_flap: Path, rack_power: Path) -> None:
    validators = {name: _validator(name) for name in ("incident", "decision", "action")}
    seen = set()
    for spoken in [*read_outputs(lag_flap), *read_outputs(rack_power)]:
        validators[spoken.output.type].validate(spoken.output.model_dump(mode="json"))
        seen.add(spoken.output.type)
    assert seen == set(validators)


EVENT = {"type": "event", "entity": "nic:h1/ens1f0", "signal": "nic.carrier.down", "newer": 1}
FRAME = {"v": 1, "frame_id": "a/b/1", "domain": "pod-1", "inputs": [EVENT]}


def test_messages_may_bring_fields_of_a_newer_producer() -> None:
    _validator("frame").validate(FRAME)
    line = {"offset": 1, "log_at": "2026-11-23T10:00:00Z", "input": EVENT}
    _validator("recording-line").validate(line)
    _validator("recording-header").validate(
        {"firstfault": "recording", "v": 1, "ticks": "recorded"}
    )


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"v": 2}, id="another major version"),
        pytest.param({"inputs": []}, id="an empty frame"),
        pytest.param({"inputs": [{**EVENT, "entity": "no-kind"}]}, id="an entity of no kind"),
        pytest.param({"inputs": [{**EVENT, "type": "rumour"}]}, id="no such input"),
    ],
)
def test_what_is_no_message_is_not_valid(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _validator("frame").validate({**FRAME, **change})


def test_the_shipped_packs_are_valid_documents() -> None:
    validators = {name: _validator(name) for name in DOCUMENTS}
    yaml = YAML(typ="safe")
    for file in sorted((ROOT / "rules").glob("*/*.yaml")):
        for document in yaml.load_all(file.read_text(encoding="utf-8")):
            kind = "pack" if file.name == "pack.yaml" else document["kind"]
            validators[kind].validate(document)
    topology = json.loads((EXAMPLES / "lag-flap" / "topology.json").read_text(encoding="utf-8"))
    validators["topology"].validate(topology)
    schema = yaml.load((ROOT / "rules" / "topology-schema.yaml").read_text(encoding="utf-8"))
    validators["topology-schema"].validate(schema)


def test_the_asyncapi_document_names_every_topic_for_others_and_nothing_dangles() -> None:
    document = json.loads((COMMITTED / "asyncapi.json").read_text(encoding="utf-8"))
    assert document["asyncapi"] == "3.0.0"
    told = {topic.name for topic in TOPICS}
    assert set(document["channels"]) == told
    assert {one["channel"]["$ref"] for one in document["operations"].values()} == {
        f"#/channels/{name}" for name in told
    }
    carried = {topic.name: {one.__name__ for one in topic.messages} for topic in TOPICS}
    assert {name: set(one["messages"]) for name, one in document["channels"].items()} == carried
    chunk = document["components"]["messages"]["SnapshotChunk"]
    assert chunk["contentType"] == "application/zstd"
    for pointer in _references(document):
        part: Any = document
        for name in pointer.removeprefix("#/").split("/"):
            part = part[name]
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_asyncapi_document_is_one_by_the_meta_schema_of_asyncapi() -> None:
    # schemas/3.0.0-without-$id.json of the npm package @asyncapi/specs 6.11.1 (Apache-2.0).
    file = ROOT / "tests" / "data" / "asyncapi-3.0.0.schema.json.zst"
    meta = json.loads(zstandard.ZstdDecompressor().decompress(file.read_bytes()))
    document = json.loads((COMMITTED / "asyncapi.json").read_text(encoding="utf-8"))
    Draft7Validator(meta).validate(document)
    del document["channels"]["firstfault.actions.v1"]["address"]
    document["channels"]["firstfault.actions.v1"]["addres"] = "misspelt"
    with pytest.raises(ValidationError):
        Draft7Validator(meta).validate(document)


def _references(part: Any) -> list[str]:  # noqa: ANN401  any JSON value
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [ref for value in part.values() for ref in _references(value)]
    return [ref for value in part for ref in _references(value)] if isinstance(part, list) else []
