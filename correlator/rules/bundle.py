"""A pack with all that it extends as one bundle of files, and back: what is published by hash.

The files and not what they compile to: a reader compiles them itself, and believes only what then
has the hash that it was asked for.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from correlator.rules.load import EXTENDS_DEPTH_MAX, PACK_FILE, load_pack
from correlator.rules.ruleset import Fault, RuleFaults, RuleSet
from correlator.rules.yamlfile import read_documents
from schemas.control import RuleFiles


def files_of(folder: Path) -> RuleFiles:
    """Return the files of a pack that can be loaded, and of all that it extends.

    Raises:
        RuleFaults: the pack has faults.
    """
    load_pack(folder)
    found: set[Path] = set()
    _add_pack(folder.resolve(), found, 0)
    top = folder.resolve().parent
    while not all(file.is_relative_to(top) for file in found):
        top = top.parent
    texts = {file.relative_to(top).as_posix(): file.read_text("utf-8") for file in sorted(found)}
    return RuleFiles(pack=folder.resolve().relative_to(top).as_posix(), files=texts)


def _add_pack(folder: Path, found: set[Path], depth: int) -> None:
    if depth > EXTENDS_DEPTH_MAX:
        return
    found.update(file.resolve() for file in folder.rglob("*.yaml"))
    found.update(file.resolve() for file in folder.rglob("*.yml"))
    pack = _head(folder / PACK_FILE)
    for base in pack.get("extends") or ():
        _add_pack((folder / base).resolve(), found, depth + 1)
    if pack.get("topology_schema"):
        _add_schema((folder / pack["topology_schema"]).resolve(), found, 0)


def _add_schema(file: Path, found: set[Path], depth: int) -> None:
    if depth > EXTENDS_DEPTH_MAX:
        return
    found.add(file)
    for base in _head(file).get("extends") or ():
        _add_schema((file.parent / base).resolve(), found, depth + 1)


def _head(file: Path) -> dict[str, Any]:
    """Return the first document of a file that has been loaded without a fault."""
    return next(iter(read_documents(file, [], file.name)), {})


def rules_of(name: str, bundle: RuleFiles) -> RuleSet:
    """Return the rule set of a bundle that was published under a hash.

    Raises:
        RuleFaults: it has faults, or is another rule set.
    """
    with TemporaryDirectory(prefix="firstfault-rules-") as folder:
        for path, text in bundle.files.items():
            file = Path(folder) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        rules = load_pack(Path(folder) / bundle.pack)
    if rules.hash != name:
        text = f"published as rules:{name}, and is rules:{rules.hash}"
        raise RuleFaults([Fault(bundle.pack, 1, 1, "other-rules", text)])
    return rules
