"""What every test shares: Hypothesis without deadlines, the same examples on every run, and no quiet skip."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from rust_indicators import RingReader

settings.register_profile("shijim", deadline=None, derandomize=True)
settings.load_profile("shijim")

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where the real data is, a test that says it is absent looked in the wrong place: that is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and REAL_DATA.is_dir():
        report.outcome = "failed"
        report.longrepr = f"skipped although {REAL_DATA} is there: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _rings_of_killed_recorders() -> Iterator[None]:
    """A killed recorder leaves its ring in shared memory, as it must; a killed recorder of a test should not."""
    pattern = f"shijim-{os.getuid()}-*"
    before = set(Path("/dev/shm").glob(pattern))
    yield
    for ring in set(Path("/dev/shm").glob(pattern)) - before:
        try:
            dead = RingReader(ring).writer != "running"
        except OSError:  # being made, or of another release
            continue
        if dead:
            ring.unlink(missing_ok=True)
