"""Finds the code blocks of a Markdown document and runs them.

A block is `bash`, `console` or `python`; anything else is text. It never decides which documents
there are: that is `test_docs`, its caller.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("bash", "console", "python")
# `make demo` inside a document is a minute's work; nothing a document shows should take longer.
TIMEOUT_S = 120

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+)\s*(?P<info>.*?)\s*$")
_NO_RUN = re.compile(r"^\s*<!--\s*no-run:\s*(?P<reason>\S.*?)\s*-->\s*$")
_TARGET = re.compile(r"^([A-Za-z][\w-]*)\s*:(?!=)", re.MULTILINE)


class BlockError(Exception):
    """A code block that does not do what its document says."""


@dataclass(frozen=True)
class Block:
    """One fenced code block.

    document: the file's name as a reader knows it ("docs/rules.md").
    line: where its fence opens, from 1.
    language: one of LANGUAGES.
    options: the words after the language ("exact", "exit=1").
    lines: its text, without the fences and their indentation.
    no_run: why it is not to be run; None for one that is.
    """

    document: str
    line: int
    language: str
    options: tuple[str, ...]
    lines: tuple[str, ...]
    no_run: str | None

    @property
    def place(self) -> str:
        """Where a reader finds it.

        >>> Block("README.md", 12, "bash", (), ("true",), None).place
        'README.md:12'
        """
        return f"{self.document}:{self.line}"


def find_blocks(document: str, text: str) -> Iterator[Block]:
    r"""Every block in one of LANGUAGES, in the order of the document.

    Raises BlockError for a fence that is never closed.

    >>> [b.lines for b in find_blocks("a.md", "```bash\ntrue\n```\n\n```text\nno\n```")]
    [('true',)]
    """
    numbered = iter(enumerate(text.splitlines(), start=1))
    above = ""
    for number, line in numbered:
        opening = _FENCE.match(line)
        if opening is None:
            above = line if line.strip() else above
            continue
        body = tuple(_body(opening, numbered, f"{document}:{number}"))
        language, *options = opening["info"].split() or [""]
        if language in LANGUAGES:
            no_run = _NO_RUN.match(above)
            reason = no_run["reason"] if no_run else None
            yield Block(document, number, language, tuple(options), body, reason)
        above = ""


def _body(opening: re.Match[str], numbered: Iterator[tuple[int, str]], place: str) -> Iterator[str]:
    indent = len(opening["indent"])
    for _, line in numbered:
        if line.strip() == opening["fence"]:
            return
        yield line[indent:] if line[:indent].isspace() else line
    raise BlockError(f"{place}: this fence is never closed")


def make_targets(makefile: str) -> frozenset[str]:
    r"""The targets that a Makefile's text defines.

    >>> sorted(make_targets("A := 1\ntest: check ## all\n\techo x: y\ncheck:\n"))
    ['check', 'test']
    """
    return frozenset(_TARGET.findall(makefile))


def run(block: Block, folder: Path, targets: frozenset[str]) -> None:
    """Run a block in `folder`; lines that call make are only compared with `targets`.

    Raises BlockError, naming the place, when the block fails.
    """
    if block.language == "python":
        _expect_exit(block, _run_python(block, folder))
        return
    commands, expected = _commands(block)
    shell = [line for line in commands if not _is_make(block, line, targets)]
    if not any(line.strip() for line in shell):
        return
    done = _call(block, ["bash", "-euo", "pipefail", "-c", "\n".join(shell)], folder)
    _expect_exit(block, done)
    if "exact" in block.options and _trimmed(done.stdout) != _trimmed("\n".join(expected)):
        raise BlockError(f"{block.place}: the output is not the one shown:\n{done.stdout}")


def _commands(block: Block) -> tuple[list[str], list[str]]:
    """The block's commands, and the output it shows (none unless it has `$ ` prompts)."""
    if not any(line.startswith("$ ") for line in block.lines):
        if block.language == "console":
            raise BlockError(f"{block.place}: a console block needs a line that starts with `$ `")
        return list(block.lines), []
    commands: list[str] = []
    expected: list[str] = []
    is_continued = False
    for line in block.lines:
        if line.startswith("$ ") or is_continued:
            commands.append(line.removeprefix("> " if is_continued else "$ "))
            is_continued = line.endswith("\\")
        else:
            expected.append(line)
    return commands, expected


def _is_make(block: Block, line: str, targets: frozenset[str]) -> bool:
    """Whether the line calls make. Raises BlockError when there is no such target."""
    if re.match(r"\s*make(\s|$)", line) is None:
        return False
    words = shlex.split(line, comments=True)[1:]
    if any(re.fullmatch(r"[&|;<>].*", word) or word.endswith(";") for word in words):
        raise BlockError(f"{block.place}: `{line}`: put make on a line of its own")
    for word in words:
        if "=" not in word and not word.startswith("-") and word not in targets:
            raise BlockError(f"{block.place}: the Makefile has no target `{word}`")
    return True


def _run_python(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    text = "\n".join((*block.lines, ""))
    if not any(line.startswith(">>> ") for line in block.lines):
        return _call(block, [sys.executable, "-W", "error", "-c", text], folder)
    session = folder / f".docs-block-{block.line}.txt"
    session.write_text(text, encoding="utf-8")
    return _call(block, [sys.executable, "-m", "doctest", session.name], folder)


def _call(block: Block, command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    # Wide and colourless, so that the output is the same on every terminal.
    environment = os.environ | {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    try:
        return subprocess.run(  # noqa: S603  the documents are ours
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BlockError(f"{block.place}: not done after {TIMEOUT_S} s") from error


def _expect_exit(block: Block, done: subprocess.CompletedProcess[str]) -> None:
    codes = [option.removeprefix("exit=") for option in block.options if option[:5] == "exit="]
    if str(done.returncode) != (codes or ["0"])[-1]:
        raise BlockError(f"{block.place}: exit code {done.returncode}\n{done.stdout}")


def _trimmed(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
