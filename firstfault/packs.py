"""Where rule packs are: a path that somebody gave, or a shipped pack by its name."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
SHIPPED = (_PACKAGE.parent / "rules", _PACKAGE / "packs")
"""Beside this package in a checkout, inside it when installed from a wheel."""


class NoSuchPack(Exception):  # noqa: N818 - it says what it is
    """Neither a folder nor the name of a shipped pack, said in one sentence."""


def shipped_packs() -> list[str]:
    """Return the names of the shipped packs, sorted.

    >>> "generic" in shipped_packs()
    True
    """
    found = (file.parent.name for folder in SHIPPED for file in folder.glob("*/pack.yaml"))
    return sorted(set(found))


def find_pack(name: str) -> Path:
    """Return the folder of a pack, given as a path or as the name of a shipped one.

    Raises:
        NoSuchPack: where there is neither.
    """
    for folder in (Path(name), *(base / name for base in SHIPPED)):
        if (folder / "pack.yaml").is_file():
            return folder
    msg = f"{name}: no folder with a pack.yaml, and no shipped pack ({', '.join(shipped_packs())})"
    raise NoSuchPack(msg)
