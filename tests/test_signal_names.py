"""One set of names: kernels, reference, stubs, documentation; and a fallback where the kernels are missing."""

from __future__ import annotations

import inspect
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import rust_indicators
from rust_indicators import _rust, ofi, reference

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/indicators.md").read_text()
NAMES = sorted(
    name
    for name, found in vars(reference).items()
    if not name.startswith("_") and not inspect.ismodule(found) and name != "EMPTY_PRICE_E6"
)


def arguments(of: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(of).parameters.values() if p.name != "self"]


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def public(of: type) -> set[str]:
    """Methods and properties; what a reference class sets in its constructor is no member yet."""
    return {name for name in dir(of) if not name.startswith("_")}


@pytest.mark.parametrize("name", NAMES)
def test_kernel_and_reference_take_the_same_arguments(name: str) -> None:
    ours, theirs = getattr(_rust, name), getattr(reference, name)
    assert getattr(rust_indicators, name) is ours
    if name == "LeadLag":  # plain data
        return
    assert arguments(ours) == arguments(theirs)
    if inspect.isclass(theirs):
        methods = [method for method in public(theirs) if callable(getattr(theirs, method))]
        assert {"reset", "taint"} <= set(methods) or name == "SignalSet"
        assert set(methods) <= public(ours), f"the kernel lacks {set(methods) - public(ours)}"
        for method in methods:
            assert arguments(getattr(ours, method)) == arguments(getattr(theirs, method)), method


@pytest.mark.parametrize("name", NAMES)
def test_every_signal_says_what_it_is_and_stands_in_the_documentation(name: str) -> None:
    assert len(inspect.getdoc(getattr(reference, name)) or "") > 30
    plain = name.removeprefix("bivariate_")
    assert re.search(rf"\b{re.escape(plain)}\b", PAGE), f"docs/indicators.md does not know {name}"


def test_the_example_of_the_documentation_runs() -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    subprocess.run([sys.executable, "-c", example], check=True, cwd=ROOT)


def test_without_the_extension_the_same_example_runs_and_everything_else_says_what_it_needs() -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    without = os.environ | {"SHIJIM_NO_RUST": "1"}
    code = example + "\nimport rust_indicators as r\nassert r.BACKEND == 'numpy'\nfrom rust_indicators import Publisher"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=without)
    assert "UserWarning: rust_indicators: signals in NumPy" in done.stderr
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("rust_indicators.KernelsMissing: rust_indicators.Publisher needs the compiled kernels")
    )
    assert rust_indicators.BACKEND == "rust"


@pytest.mark.parametrize(("module", "command"), [("shijim_live", "shijim-live"), ("shijim_pipelines", "shijim")])
def test_without_the_extension_the_commands_say_in_one_line_what_they_need(module: str, command: str) -> None:
    without = os.environ | {"SHIJIM_NO_RUST": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, env=without)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert done.stderr.startswith(f"{command}: rust_indicators.") and done.stderr.endswith("to build them: make\n")


def test_arrow_columns_are_read_where_they_are() -> None:
    bid = pa.array(np.array([100, 101]) * 1_000_000)
    volume = pa.array([5, 6], pa.int64())
    assert ofi(bid, volume, pa.compute.add(bid, 1_000_000), volume).tolist() == [0, 6 + 5]
    with pytest.raises(ValueError, match="bid_price_e6: has nulls: fill them first"):
        ofi(pa.array([1, None]), volume, bid, volume)


def test_an_array_is_read_without_a_copy_and_results_go_where_they_are_wanted() -> None:
    """The address that is read is the caller's: memory grows by the result alone, or by nothing."""
    rows = 4_000_000
    columns = [np.full(rows, value) for value in (100_000_000, 5, 101_000_000, 7)]
    out = np.empty(rows, np.int64)
    out.fill(1)
    before = peak_kib()
    assert ofi(*columns, out=out) is out
    assert peak_kib() - before < rows * 8 / 1024 / 2  # half a column
    assert not out.any()
    with pytest.raises(ValueError, match="out: is read-only, or one of the inputs"):
        ofi(*columns, out=columns[1])


@pytest.mark.parametrize("backend", [_rust, reference])
def test_a_column_that_no_kernel_can_read_is_refused(backend: Any) -> None:
    volume = np.array([5, 6], np.int64)
    unaligned = np.frombuffer(memoryview(bytes(17))[1:], np.int64)
    for column, reason in (
        (unaligned, "is not contiguous and aligned"),
        (np.arange(4)[::2], "is not contiguous and aligned"),
        (volume.astype(">i8"), "must be a 1-dimensional array of int64"),
        (volume.astype(np.uint64), "must be a 1-dimensional array of int64"),
        (volume.reshape(2, 1), "must be a 1-dimensional array of int64"),
        (memoryview(bytes(16)), "must be a 1-dimensional array of int64"),
    ):
        with pytest.raises(ValueError, match=f"^bid_price_e6: {reason}"):
            backend.ofi(column, volume, volume, volume)
