"""What every test shares: no login, Hypothesis without deadlines, the same examples on every run, no quiet skip."""

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

from rust_indicators import RingReader
from shijim_live.broker.shioaji import quote_classes

# Whoever runs a test dials no broker: not this process, not one it starts, not even with the SDK itself.
os.environ["SHIJIM_NO_LOGIN"] = "1"


def _forbid_login(client: type) -> None:
    def no_login(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a test called the SDK's login()")

    # The test of the SDK's surface looks at it.
    no_login.__text_signature__ = client.login.__text_signature__  # type: ignore[attr-defined]
    client.login = no_login  # type: ignore[attr-defined]


quote_classes()
for _client in ("Shioaji", "ShioajiAsync"):
    _forbid_login(getattr(sys.modules["shioaji"], _client))

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
