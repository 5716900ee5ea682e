"""Safe YAML with positions: every fault of a file is told with its line and column.

ruamel.yaml's round-trip loader builds plain values only (no tags are constructed) and keeps the
position of each key and item; YAML 1.2, so ``on`` is a word and ``1e-4`` a number.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from correlator.rules.ruleset import Fault, Location, RuleFaults

FILE_BYTES_MAX = 4 * 1024 * 1024
"""A rule file larger than this is refused; a hand-written pack has some kilobytes."""
VALUES_MAX = 500_000
"""Values a file may expand to: an alias bomb stops here."""

M = TypeVar("M", bound=BaseModel)
Node = Any
"""A value of ruamel's round-trip loader: mappings and lists know their positions."""


def read_documents(file: Path, faults: list[Fault], shown: str) -> list[Node]:
    """Return the documents of a file as ruamel nodes; what cannot be read becomes a fault."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        faults.append(Fault(shown, 1, 1, "unreadable", error.strerror or "cannot be read"))
        return []
    if len(raw) > FILE_BYTES_MAX:
        faults.append(Fault(shown, 1, 1, "too-large", f"over {FILE_BYTES_MAX} bytes"))
        return []
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        faults.append(Fault(shown, line, 1, "not-utf8", f"byte {error.start} is not UTF-8"))
        return []
    yaml = YAML(typ="rt")
    documents: list[Node] = []
    try:
        documents.extend(yaml.load_all(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = " ".join(filter(None, [error.context, error.problem]))
        faults.append(Fault(shown, line, column, "yaml", problem))
        return []
    except (YAMLError, ValueError, RecursionError) as error:
        faults.append(Fault(shown, 1, 1, "yaml", str(error).split("\n")[0]))
        return []
    return [document for document in documents if document is not None]


def read_one(model: type[M], file: Path, what: str, shown: str | None = None) -> M:
    """Return the one document of a strict file.

    what: the file is, with its article, e.g. a key set.
    shown: the name that its faults are to be told with; none: its path.

    Raises:
        RuleFaults: with every fault of it, located.
    """
    faults: list[Fault] = []
    shown = shown or str(file)
    nodes = read_documents(file, faults, shown)
    found = None
    if len(nodes) == 1 and not faults:
        try:
            found = validate(model, nodes[0], plain(nodes[0]), shown, faults)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(shown, 1, 1, "too-large", str(error)))
    elif not faults:
        faults.append(Fault(shown, 1, 1, "yaml", f"{what} is one document"))
    if found is None:
        raise RuleFaults(faults)
    return found


def position(node: Node, path: Sequence[str | int]) -> tuple[int, int]:
    """Return line and column, from 1, of the deepest part of the path that is there."""
    line, column = _own_position(node)
    for part in path:
        if isinstance(node, CommentedMap) and part in node:
            line, column = node.lc.value(part)
            node = node[part]
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line, column = node.lc.item(part)
            node = node[part]
        elif not isinstance(node, CommentedMap | CommentedSeq):
            break
    return line + 1, column + 1


def key_position(node: Node, path: Sequence[str | int]) -> tuple[int, int]:
    """Return line and column, from 1, of the key at the end of the path."""
    parent = node
    for part in path[:-1]:
        try:
            parent = parent[part]
        except (KeyError, IndexError, TypeError):
            return position(node, path)
    if isinstance(parent, CommentedMap) and path and path[-1] in parent:
        line, column = parent.lc.key(path[-1])
        return line + 1, column + 1
    return position(node, path)


def _own_position(node: Node) -> tuple[int, int]:
    if isinstance(node, CommentedMap | CommentedSeq):
        return node.lc.line, node.lc.col
    return 0, 0


def plain(node: Node, budget: list[int] | None = None) -> Node:
    """Return a copy of built-in types only; raises ValueError where aliases expand too far."""
    left = budget if budget is not None else [VALUES_MAX]
    left[0] -= 1
    if left[0] < 0:
        msg = f"expands to over {VALUES_MAX} values"
        raise ValueError(msg)
    if isinstance(node, dict):
        return {str(key): plain(value, left) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value, left) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    for base in (int, float, str):
        if isinstance(node, base):
            return base(node)
    return str(node)


def validate(model: type[M], node: Node, data: object, shown: str, faults: list[Fault]) -> M | None:
    """Return the model of a document, or None after adding every fault of it."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            path = list(detail["loc"])
            extra = detail["type"] == "extra_forbidden"
            line, column = (key_position if extra else position)(node, path)
            where = ".".join(map(str, path)) or "document"
            code = {"extra_forbidden": "unknown-key", "missing": "missing-key"}.get(
                detail["type"], "bad-value"
            )
            message = detail["msg"].removeprefix("Value error, ")
            text = f"{where}: {'no such key' if extra else message}"
            faults.append(Fault(shown, line, column, code, text))
        return None


def locate(node: Node, shown: str) -> Location:
    """Return where a document begins."""
    line, column = position(node, ())
    return Location(shown, line, column)
