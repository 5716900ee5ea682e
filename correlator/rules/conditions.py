"""Small conditions in rules: bounds on attributes, and the structural role of a root.

Nothing is evaluated as code: a condition is one comparison, parsed by a regular expression.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from correlator.rules.paths import Path, parse_path, walk
from correlator.topology import Topology

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_BOUND = re.compile(r"^(<=|>=|==|!=|<|>)\s*(\S.*)$")
_NUMBER = re.compile(r"^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(%?)$")
_COUNT = re.compile(r"^count\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*(<=|>=|==|!=|<|>)\s*(\d+)$")


@dataclass(frozen=True, slots=True)
class Bound:
    """One comparison of an attribute with a constant, or with another attribute."""

    attr: str
    compare: str
    value: Any
    other_attr: str | None = None

    def holds(self, attrs: Mapping[str, Any]) -> bool:
        """Claim that the attribute is there, is comparable, and the comparison holds."""
        left = attrs.get(self.attr)
        right = attrs.get(self.other_attr) if self.other_attr else self.value
        if left is None or right is None:
            return False
        try:
            return _COMPARE[self.compare](left, right)
        except TypeError:
            return False


def parse_bound(attr: str, written: object) -> Bound:
    """Return the comparison that a value in `match` means.

    >>> parse_bound("change", "< -50%")
    Bound(attr='change', compare='<', value=-0.5, other_attr=None)
    >>> parse_bound("prefixes", "> $attrs.baseline").other_attr
    'baseline'
    """
    match = _BOUND.match(written) if isinstance(written, str) else None
    if match is None:
        return Bound(attr, "==", written)
    compare, right = match[1], match[2].strip()
    if right.startswith("$attrs."):
        return Bound(attr, compare, None, right.removeprefix("$attrs."))
    number = _NUMBER.match(right)
    if number is None:
        if compare in ("==", "!="):
            return Bound(attr, compare, right)
        msg = f"{written!r}: {compare} needs a number, a percentage or $attrs.NAME"
        raise ValueError(msg)
    value = float(right.removesuffix("%"))
    return Bound(attr, compare, value / 100.0 if number[1] else value)


@dataclass(frozen=True, slots=True)
class Structure:
    """One claim on the neighbourhood of a root: so many entities at a path."""

    path: Path
    compare: str
    count: int
    text: str

    def holds(self, topology: Topology, root: str) -> bool:
        """Claim that the root has so many entities there."""
        return self.holds_for(len(walk(topology, root, self.path)))

    def holds_for(self, count: int) -> bool:
        """Claim that it would hold with so many."""
        return bool(_COMPARE[self.compare](count, self.count))


def parse_structure(text: str) -> Structure:
    """Return the claim that a `where` means.

    >>> parse_structure("count(^nic) == 1").count
    1
    """
    match = _COUNT.match(text.strip())
    if match is None:
        msg = f"{text!r} is no condition: write count(PATH) == N, or <, <=, >, >=, !="
        raise ValueError(msg)
    return Structure(parse_path(match[1].strip()), match[2], int(match[3]), text.strip())
