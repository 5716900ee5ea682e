"""What the documents show is what happens: every code block in them is run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import NOT_RUN, ROOT
from tests.docs.blocks import Block, BlockError, find_blocks, make_targets, run

TOP = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
DOCUMENTS = [name for name in TOP if (ROOT / name).is_file()] + [
    f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))
]
TARGETS = frozenset({"test", "demo"})


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is or could be committed, with the same `.venv`; blocks may write into it."""
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603  fixed words
    copy = tmp_path / ROOT.name
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    data = Path(os.environ.get("FIRSTFAULT_DATA") or ROOT.parent / "shared" / "data")
    monkeypatch.setenv("FIRSTFAULT_DATA", str(data.resolve()))
    return copy


def test_the_readme_shows_something_to_run() -> None:
    readme = ROOT / "README.md"
    assert readme.is_file(), "there is no README.md"
    blocks = list(find_blocks("README.md", readme.read_text(encoding="utf-8")))
    assert blocks, "README.md has no bash, console or python block"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_of_a_document_does_what_it_says(
    document: str, checkout: Path, record_property: Callable[[str, object], None]
) -> None:
    targets = make_targets((ROOT / "Makefile").read_text(encoding="utf-8"))
    failures = []
    for block in find_blocks(document, (ROOT / document).read_text(encoding="utf-8")):
        if "kafka" in block.options:
            continue  # tests/kafka/test_docs.py runs these.
        if block.no_run is not None:
            record_property(NOT_RUN, f"{block.place}: block not run: {block.no_run}")
            continue
        try:
            run(block, checkout, targets)
        except BlockError as error:
            failures.append(str(error))
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)


def _only_block(text: str) -> Block:
    (block,) = find_blocks("a.md", text)
    return block


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("```bash\ntrue\n```", id="a command that succeeds"),
        pytest.param("```bash\nmake test # all\nmake demo N=1\n```", id="make is not run"),
        pytest.param("```bash exit=3\nexit 3\n```", id="an expected exit code"),
        pytest.param("```console\n$ echo a\nanything\n```", id="output not compared"),
        pytest.param("```console exact\n$ echo a \\\n>   b\na b\n$ echo c\nc\n```", id="exact"),
        pytest.param("```python\nprint(1)\n```", id="a program"),
        pytest.param("```python\n>>> 1 + 1\n2\n```", id="a session"),
        pytest.param("1. step\n\n   ```bash\n   true\n   ```", id="inside a list"),
    ],
)
def test_a_true_block_passes(text: str, tmp_path: Path) -> None:
    run(_only_block(text), tmp_path, TARGETS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("\n```bash\nfalse\ntrue\n```", "a.md:2: exit code 1", id="a command fails"),
        pytest.param("```bash exit=3\ntrue\n```", "exit code 0", id="another exit code"),
        pytest.param("```bash\nmake tset\n```", "no target `tset`", id="no such target"),
        pytest.param("```bash\nmake test && x\n```", "line of its own", id="make and more"),
        pytest.param("```console\n$ make tset\n```", "no target `tset`", id="prompted make"),
        pytest.param("```console\necho a\n```", "needs a line that starts", id="no prompt"),
        pytest.param("```console exact\n$ echo a\nb\n```", "not the one shown", id="not exact"),
        pytest.param("```python\n1 / 0\n```", "ZeroDivisionError", id="a program fails"),
        pytest.param("```python\n>>> 1 + 1\n3\n```", "Expected:", id="a session differs"),
        pytest.param("```bash\ntrue\n", "never closed", id="an open fence"),
    ],
)
def test_a_false_block_is_named_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=told):
        run(_only_block(text), tmp_path, TARGETS)


@pytest.mark.parametrize(
    ("above", "reason"),
    [
        pytest.param("<!-- no-run: needs a broker -->", "needs a broker", id="right above"),
        pytest.param("<!-- no-run: needs a broker -->\n", "needs a broker", id="a line between"),
        pytest.param("<!-- no-run: -->", None, id="no reason given: it is run"),
        pytest.param("<!-- no-run: this -->\ntext", None, id="meant for something else"),
    ],
)
def test_a_block_is_left_out_only_for_a_reason(above: str, reason: str | None) -> None:
    assert _only_block(f"{above}\n```bash\nfalse\n```").no_run == reason
