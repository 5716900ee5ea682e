"""`firstfault keys`, and a replay that checks signatures."""

import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from correlator.keyfile import read_keys, read_private
from schemas.base import canonical
from tests.cli.conftest import EXAMPLES, Run

HOLD = EXAMPLES / "hold.json"


def line(text: str, offset: int = 0, log_at: str = "2026-11-23T10:00:00Z") -> str:
    given = json.loads(text)
    return canonical({"offset": offset, "index": 0, "log_at": log_at, "input": given})


def recording(folder: Path, *lines: str, domain: str = "pod-1") -> Path:
    head = {"firstfault": "recording", "v": 1, "ticks": "recorded", "domain": domain}
    file = folder / "log.jsonl"
    file.write_text("\n".join([canonical(head), *lines]) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    run("keys new operator:op-7 --may hold,release,activate_keys --out {}", tmp_path)
    return tmp_path


def test_a_private_key_is_for_its_owner_alone_and_the_public_one_is_in_the_set(
    run: Run, folder: Path
) -> None:
    file = folder / "operator-op-7.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"BEGIN PRIVATE KEY" in file.read_bytes()
    assert "PRIVATE" not in (folder / "keys.yaml").read_text(encoding="utf-8")
    told = run("keys check {} --private {}", folder / "keys.yaml", file).stdout
    assert told.strip() == f"keys:{read_keys(folder / 'keys.yaml').hash}"


def test_keys_are_added_below_what_people_wrote(run: Run, folder: Path) -> None:
    file = folder / "keys.yaml"
    file.write_text("# of the north\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    before = read_keys(file)
    again = "keys new operator:op-7 --may hold --out {} --not-after 2027-01-01T00:00:00Z"
    second = Path(run(again, folder).stdout.strip())
    run("keys new actuator:mgmt-1 --may fence,unfence --out {}", folder)
    found = read_keys(file)
    assert file.read_text(encoding="utf-8").startswith("# of the north\n")
    assert [key.identity for key in found.keys] == [
        "operator:op-7", "operator:op-7", "actuator:mgmt-1",
    ]  # fmt: skip
    assert second.name == f"operator-op-7-{found.keys[1].key_id}.pem"
    assert found.keys[0] == before.keys[0]
    assert found.hash != before.hash
    shown = json.loads(run("keys show {} --output json", file).stdout)
    assert shown["hash"] == found.hash
    table = run("keys show {}", file).stdout
    assert all(key.key_id in table for key in found.keys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("operator:op-7 --may dance", "may: use action, activate_keys,"),
        ("op-7 --may hold", "identity: "),
        ("operator:op-8 --may hold --not-after soon", "not_after: "),
        ("operator:op-8 --may hold,fence", "operator:op-8 may report results"),
        ("operator:op-7 --may owner_claim", "operator:op-7 may own a log"),
    ],
)
def test_a_key_that_must_not_be_is_not_made(run: Run, folder: Path, words: str, told: str) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert told in run(f"keys new {words} --out {{}}", folder, code=2).output.replace("\n", " ")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_set_whose_list_does_not_end_the_file_is_left_as_it_is(run: Run, folder: Path) -> None:
    file = folder / "keys.yaml"
    text = file.read_text(encoding="utf-8").removeprefix("name: keys\n") + "name: north\n"
    file.write_text(text, encoding="utf-8")
    told = run("keys new operator:op-8 --may hold --out {}", folder, code=2).output
    assert f"{file}:" in told.replace("\n", "")
    assert file.read_text(encoding="utf-8") == text
    assert sorted(one.name for one in folder.iterdir()) == ["keys.yaml", "operator-op-7.pem"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("may:", "might:"), ":6:3: error [unknown-key] keys.0.might: no such key"),
        (("identity:", "#"), ":3:3: error [missing-key] keys.0.identity"),
        (("hold", "dance"), ":6:9: error [bad-value] keys.0.may.0"),
        (('key_id: "', 'key_id: "0'), "error [bad-value] keys.0: Value error, key_id"),
        (("name: keys", "name: ["), "error [yaml]"),
        (("name: keys", "name: keys\n---\n"), "a key set is one document"),
    ],
)
def test_what_is_wrong_with_a_key_set_is_told_where_it_stands(
    run: Run, folder: Path, change: tuple[str, str], told: str
) -> None:
    file = folder / "keys.yaml"
    text = file.read_text(encoding="utf-8").replace(*change)
    file.write_text(text, encoding="utf-8")
    said = run("keys check {}", file, code=2).output.replace("\n", "")
    assert told.replace("Value error, ", "") in said


def test_a_set_that_is_hardly_meant_is_told(run: Run, folder: Path) -> None:
    run("keys new operator:x --may hold --out {} --not-before 2027-01-01T00:00:00Z", folder / "b")
    file, other = folder / "b" / "keys.yaml", folder / "operator-op-7.pem"
    said = run("keys check {} --private {} --at 2026-11-23", file, other, code=1).output
    assert "does not count yet" in said
    assert "never be replaced" in said
    assert "is not in the set" in said


@pytest.mark.parametrize("what", ["nothing", "open to others", "no key", "another kind"])
def test_a_private_key_that_cannot_be_used_is_told(run: Run, folder: Path, what: str) -> None:
    file = folder / "operator-op-7.pem"
    other = X25519PrivateKey.generate()
    if what == "nothing":
        file.unlink()
    elif what == "open to others":
        file.chmod(0o640)
    elif what == "no key":
        file.write_text("no key", encoding="utf-8")
    else:
        pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(pem)
    assert str(file) in run("keys sign {} --key {} --domain pod-1", HOLD, file, code=2).output


def test_a_replay_with_keys_believes_what_is_signed_and_nothing_else(
    run: Run, folder: Path
) -> None:
    pem, keys = folder / "operator-op-7.pem", folder / "keys.yaml"
    signed = run("keys sign {} --key {} --domain pod-1", HOLD, pem).stdout
    forged = signed.replace("pod-1", "pod-9")
    unsigned = HOLD.read_text(encoding="utf-8")
    file = recording(folder, line(unsigned), line(forged, 1), line(signed, 2))
    told = run("replay {} --keys {} --output json --record {}", file, keys, folder / "out")
    assert [json.loads(one)["offset"] for one in told.stdout.splitlines()] == [2]
    letters = (folder / "out" / "dead-letters.jsonl").read_text(encoding="utf-8").splitlines()
    assert [(json.loads(one)["code"], json.loads(one)["position"]) for one in letters] == [
        ("signature_missing", 2), ("signature_bad", 3),
    ]  # fmt: skip
    assert "log.jsonl:3: not what operator:op-7 signed for pod-1" in told.stderr
    elsewhere = run("replay {} --keys {} --domain pod-2", file, keys)
    assert elsewhere.stderr.count("signature_bad") == 2


def test_a_replay_without_keys_says_once_that_nothing_was_checked(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recording(folder, *(line(HOLD.read_text(encoding="utf-8"), n) for n in range(3)))
    told = run("replay {}", file).stderr
    assert told.count("signatures not checked: --keys is missing (3 inputs)") == 1
    assert "signatures" not in run("replay {}", EXAMPLES / "lag-flap").stderr
    monkeypatch.setenv("FIRSTFAULT_KEYS", str(folder / "keys.yaml"))
    assert run("replay {}", file).stderr.count("[signature_missing]") == 3


def test_two_replays_through_a_change_of_keys_agree(run: Run, folder: Path) -> None:
    first = folder / "keys.yaml"
    pem = folder / "operator-op-7.pem"
    run("keys new operator:op-9 --may hold,activate_keys --out {}", folder / "next")
    second = folder / "next" / "keys.yaml"
    command = json.loads(HOLD.read_text(encoding="utf-8"))
    change = {**command, "command": "activate_keys", "target": f"keys:{read_keys(second).hash}"}
    written = folder / "change.json"
    texts: list[str] = []
    for given, private, by in (
        (change, pem, "op-7"),
        (command, pem, "op-7"),
        (command, folder / "next" / "operator-op-9.pem", "op-9"),
    ):
        content = {**given, "by": f"operator:{by}", "command_id": str(len(texts))}
        written.write_text(canonical(content), encoding="utf-8")
        texts.append(run("keys sign {} --key {} --domain pod-1", written, private).stdout)
    file = recording(folder, *(line(text, n) for n, text in enumerate(texts)))
    for name in ("a", "b"):
        run("replay {} --keys {} --keys {} --record {}", file, first, second, folder / name)
    for name in ("outputs.jsonl", "dead-letters.jsonl"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes()
    letters = (folder / "a" / "dead-letters.jsonl").read_text(encoding="utf-8")
    assert json.loads(letters)["code"] == "signature_unknown_key"
    reasons = (folder / "a" / "outputs.jsonl").read_text(encoding="utf-8")
    assert [json.loads(one)["output"]["reason"] for one in reasons.splitlines()] == [
        "keys_activated", "domain_hold",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "Invalid JSON"),
        ('{"type":"event","entity":"host:h","signal":"x"}', "event inputs are not signed"),
        ('{"type":"command","command":"hold","target":"t"}', "needs a command_id"),
        (
            '{"type":"command","command":"hold","target":"t","target":"u",'
            '"command_id":"c","expires_at":"2026-11-23T10:00:00Z"}',
            "a key stands twice",
        ),
    ],
)
def test_what_nobody_would_believe_is_not_signed(
    run: Run, folder: Path, text: str, told: str
) -> None:
    file = folder / "given.json"
    file.write_text(text, encoding="utf-8")
    pem = folder / "operator-op-7.pem"
    assert told in run("keys sign {} --key {} --domain pod-1", file, pem, code=2).output


def test_the_keys_that_were_made_can_be_read(folder: Path) -> None:
    assert read_private(folder / "operator-op-7.pem").public_key() is not None
