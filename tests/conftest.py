"""What every test may ask for: the shared data sets, and a word at the end on what was left out."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = "no shared data: "
NOT_RUN = "not run"

# A shared two-core machine stalls for longer than any deadline that would say something.
settings.register_profile("firstfault", deadline=None)
settings.load_profile("firstfault")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the shared data sets; where there is none, the test is left out."""
    folder = Path(os.environ.get("FIRSTFAULT_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"{LEFT_OUT}{folder} is not a folder (FIRSTFAULT_DATA names another)")
    return folder.resolve()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that were left out or failed as expected, and blocks not run, with reasons."""
    stats: dict[str, list[object]] = terminalreporter.stats
    reports = [r for rs in stats.values() for r in rs if isinstance(r, pytest.TestReport)]
    lines = sorted({line for report in reports for line in _left_out(report)})
    if lines:
        terminalreporter.section("left out")
    for line in lines:
        terminalreporter.line(line)


def _left_out(report: pytest.TestReport) -> list[str]:
    lines = [str(value) for name, value in report.user_properties if name == NOT_RUN]
    expected = str(getattr(report, "wasxfail", ""))
    if expected:
        lines.append(f"{report.nodeid}: fails as expected: {expected.removeprefix('reason: ')}")
    elif report.skipped and isinstance(report.longrepr, tuple):
        lines.append(f"{report.nodeid}: {report.longrepr[2].removeprefix('Skipped: ')}")
    return lines
