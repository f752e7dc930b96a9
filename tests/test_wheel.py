"""The wheel as a user gets it: what is in it, and that a base install is the live host and nothing heavy.

Nothing here uses the editable install: the wheel is installed without extras into an environment of its own, and every
command runs far from the repository, whose `rust_indicators` folder would otherwise be imported instead.
"""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path, PurePosixPath

import orjson
import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"dagster", "chdb", "great_expectations", "pandas", "pyarrow", "numpy", "hftbacktest", "numba", "textual"}
LIVE_MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "shijim_live").rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py") and "store" not in path.parts
]
# Read like any user's process: no repository on the path, no settings of the person who runs the tests.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}

CLOSURE = """
import importlib, importlib.metadata, json, sys, time
modules = sys.argv[1:]
start = time.perf_counter()
importlib.import_module("shijim_live.cli")
seconds = time.perf_counter() - start
for name in modules:
    importlib.import_module(name)
import rust_indicators
print(json.dumps({
    "seconds": seconds,
    "backend": rust_indicators.BACKEND,
    "kernels": rust_indicators.__file__,
    "loaded": sorted({name.split(".")[0] for name in sys.modules}),
    "installed": sorted(d.metadata["Name"].lower().replace("-", "_") for d in importlib.metadata.distributions()),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in release from the sources as they are now; the crate's own build folder makes it quick."""
    out = tmp_path_factory.mktemp("wheel")
    maturin = Path(sys.executable).with_name("maturin")
    command = [maturin, "build", "--quiet", "--locked", "--interpreter", sys.executable, "--out", out]
    subprocess.run(command, cwd=ROOT, check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[PurePosixPath]:
    with zipfile.ZipFile(wheel) as archive:
        return [PurePosixPath(name) for name in archive.namelist()]


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment that holds the wheel and what it requires, in the exact versions, and no more."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", home / "bin/python", "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", wheel], check=True)
    return home / "bin"


def run(program: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def closure(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What is loaded after importing every live module, and what is installed."""
    asked = run(clean / "python", "-c", CLOSURE, *LIVE_MODULES, folder=tmp_path_factory.mktemp("far"))
    assert asked.returncode == 0, asked.stderr
    found: dict[str, object] = orjson.loads(asked.stdout)
    return found


def test_the_wheel_holds_the_three_packages_and_what_they_need_at_run_time(names: list[PurePosixPath]) -> None:
    tops = {name.parts[0] for name in names if not name.parts[0].endswith(".dist-info")}
    assert tops == {"shijim_live", "shijim_pipelines", "rust_indicators"}
    for package in tops:
        assert PurePosixPath(package, "__init__.py") in names
        assert PurePosixPath(package, "py.typed") in names
    assert PurePosixPath("shijim_live/calendar_overrides.toml") in names
    assert PurePosixPath("shijim_live/broker/sdk_surface.txt") in names
    assert PurePosixPath("rust_indicators/_rust.pyi") in names
    assert len([name for name in names if name.match("rust_indicators/_rust*.so")]) == 1
    python = {PurePosixPath(path.relative_to(ROOT)) for top in tops for path in (ROOT / top).rglob("*.py")}
    assert python <= set(names)


def test_the_wheel_holds_no_sources_of_the_crate_no_tests_and_no_leftovers(names: list[PurePosixPath]) -> None:
    allowed = {".py", ".pyi", ".typed", ".toml", ".so", ".sql", ".css", ".txt", ""}
    inside = [name for name in names if not name.parts[0].endswith(".dist-info")]
    assert [name for name in inside if name.suffix not in allowed and name.name != "py.typed"] == []
    banned = {"src", "target", "tests", "benches", "__pycache__"}
    assert [name for name in inside if banned & set(name.parts) or name.name.startswith("Cargo")] == []


def test_the_wheel_carries_its_licence_and_both_commands(wheel: Path, names: list[PurePosixPath]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = {name.name: name for name in names if name.parts[0].endswith(".dist-info")}
        assert "LICENSE" in metadata
        commands = archive.read(str(metadata["entry_points.txt"])).decode()
    assert "shijim-live=shijim_live.__main__:main" in commands.replace(" ", "")
    assert "shijim=shijim_pipelines.__main__:main" in commands.replace(" ", "")


def test_a_base_install_runs_the_kernels_in_rust_from_the_wheel(closure: dict[str, object], clean: Path) -> None:
    assert closure["backend"] == "rust"
    assert str(closure["kernels"]).startswith(str(clean.parent))


def test_nothing_heavy_is_loaded_by_the_live_half(closure: dict[str, object]) -> None:
    print(f"import shijim_live.cli: {closure['seconds']:.2f} s")
    assert HEAVY.isdisjoint(closure["loaded"])  # type: ignore[arg-type]


def test_nothing_heavy_is_installed_with_the_live_half(closure: dict[str, object]) -> None:
    assert HEAVY.isdisjoint(closure["installed"])  # type: ignore[arg-type]
    assert "shijim" in closure["installed"]  # type: ignore[operator]


def test_the_live_command_runs_from_a_base_install(clean: Path, tmp_path: Path) -> None:
    helped = run(clean / "shijim-live", "--help", folder=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "record" in helped.stdout


def test_streaming_signals_need_no_numpy_and_batches_say_what_to_install(clean: Path, tmp_path: Path) -> None:
    one = "import rust_indicators as r; s = r.Ofi(); s.update(1, 2, 3, 4); assert s.update(1, 5, 3, 4) == 3"
    set_of_all = "assert r.SignalSet().update(bytes(256)) == -1"
    asked = run(clean / "python", "-c", f"{one}; {set_of_all}; r.ofi([1], [1], [1], [1])", folder=tmp_path)
    assert asked.returncode == 1
    assert asked.stderr.strip().splitlines()[-1].startswith("ImportError: columns of signals need NumPy: pip install")


def test_the_live_half_records_and_reads_back_from_a_base_install(clean: Path, tmp_path: Path) -> None:
    live, day = clean / "shijim-live", ("--day", "2026-04-09", "--events", "2000")
    recorded = run(live, "record", "--broker", "simulated", *day, "--data-dir", "d", "--quiet", folder=tmp_path)
    assert recorded.returncode == 0, recorded.stderr
    assert run(live, "verify", "d/wal", folder=tmp_path).returncode == 0
    assert len(run(live, "cat", "d/wal", folder=tmp_path).stdout.splitlines()) > 1000


def test_the_batch_command_of_a_base_install_says_what_to_install(clean: Path, tmp_path: Path) -> None:
    refused = run(clean / "shijim", "--help", folder=tmp_path)
    assert refused.returncode != 0
    assert "shijim[lake]" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
