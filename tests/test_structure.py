"""The rules of the repository as tests: who imports whom, banned names, where no float stands, what is in git.

A rule that must be broken is broken in a table here, with its reason; an entry that nothing needs any more fails too.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("shijim_live", "shijim_pipelines", "rust_indicators")


@cache
def repository_files() -> tuple[str, ...]:
    """What is in git, and what would be added to it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(sorted(name for name in set(listed) if (ROOT / name).is_file()))


def sources(*folders: str, suffix: str = ".py") -> list[str]:
    return [name for name in repository_files() if name.startswith(folders) and name.endswith(suffix)]


@cache
def syntax(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(), name)


PROGRAM = sources(*(f"{package}/" for package in PACKAGES))
TESTS = sources("tests/")


def module(name: str) -> str:
    """`shijim_live/store/__init__.py` → `shijim_live.store`."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(name: str) -> set[str]:
    """Every module a file imports, wherever in the file, as full dotted names."""
    package = module(name).split(".") if name.endswith("__init__.py") else module(name).split(".")[:-1]
    found = set()
    for node in ast.walk(syntax(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            # `from shijim_live import events` imports a module, `from shijim_live.events import Trade` a name.
            found |= {origin} | {
                f"{origin}.{alias.name}" for alias in node.names if is_module(f"{origin}.{alias.name}")
            }
    return found


def is_module(dotted: str) -> bool:
    path = dotted.replace(".", "/")
    return f"{path}.py" in repository_files() or f"{path}/__init__.py" in repository_files()


def within(dotted: str, *parents: str) -> bool:
    return any(dotted == parent or dotted.startswith(parent + ".") for parent in parents)


# Who may import whom

# Left may be imported by right, never the reverse; what stands together may import each other.
LEVELS = (
    ("events",),
    ("calendar", "command_line", "instruments", "settings", "settings_sources", "universe"),
    ("broker", "record", "store"),
    ("trade", "watch"),
    ("cli",),
    ("__main__",),
)
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}


def live_part(dotted: str) -> str | None:
    """The part of shijim_live a module belongs to; a file `cli_record.py` beside `cli.py` belongs to `cli`."""
    parts = dotted.split(".")
    if parts[0] != "shijim_live" or len(parts) == 1:
        return None
    return "cli" if parts[1].startswith("cli_") else parts[1]


@pytest.mark.parametrize("name", sources("shijim_live/"))
def test_shijim_live_imports_only_from_left_to_right(name: str) -> None:
    own = live_part(module(name))
    if own is None:
        assert not any(within(imported, *PACKAGES) for imported in imports(name)), "the package itself imports nothing"
        return
    assert own in LEVEL, f"{name}: say in LEVELS where {own} stands"
    for imported in imports(name):
        assert not within(imported, "shijim_pipelines"), f"{name} imports the batch half"
        other = live_part(imported)
        if other is not None and other != own:
            assert LEVEL[other] <= LEVEL[own], f"{name} imports {imported}: {other} stands right of {own}"
            assert (own, other) != ("trade", "store"), f"{name}: an order cannot wait on a database"


def test_the_vocabulary_imports_only_the_standard_library() -> None:
    assert {imported.split(".")[0] for imported in imports("shijim_live/events.py")} <= sys.stdlib_module_names


@pytest.mark.parametrize("name", sources("rust_indicators/"))
def test_the_kernels_import_nothing_of_ours(name: str) -> None:
    assert not [imported for imported in imports(name) if within(imported, "shijim_live", "shijim_pipelines")]


@pytest.mark.parametrize("name", sources("shijim_pipelines/"))
def test_only_the_backtest_meets_the_trader(name: str) -> None:
    if name != "shijim_pipelines/backtests.py":
        assert not [imported for imported in imports(name) if within(imported, "shijim_live.trade")]


# Third-party package → the only places that may import it.
ONLY_IN = {
    "shioaji": ("shijim_live/broker/shioaji.py",),
    "dagster": ("shijim_pipelines/",),
    "great_expectations": ("shijim_pipelines/",),
    "pandas": ("shijim_pipelines/",),
    "hftbacktest": ("shijim_pipelines/",),
    "numba": ("shijim_pipelines/",),
    "chdb": ("shijim_live/store/", "shijim_pipelines/"),
    "pyarrow": ("shijim_live/store/", "shijim_pipelines/"),
    "numpy": (
        *("shijim_live/store/", "shijim_pipelines/", "rust_indicators/reference/"),
        *("rust_indicators/calibrate.py", "rust_indicators/calibrate_hawkes.py"),
    ),
    "scipy": ("rust_indicators/calibrate.py", "rust_indicators/calibrate_hawkes.py"),
    "clickhouse_connect": ("shijim_live/store/",),
    "textual": ("shijim_live/watch/",),
}


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_heavy_package_is_imported_only_where_it_belongs(package: str) -> None:
    users = [name for name in PROGRAM if any(within(imported, package) for imported in imports(name))]
    assert [name for name in users if not name.startswith(ONLY_IN[package])] == []


ENVIRONMENT_READERS = {
    "shijim_live/settings.py": "the one place",
    "shijim_live/broker/shioaji.py": "the SDK takes the paths of its own files only from the environment",
    "shijim_live/broker/login.py": "whether this process belongs to a test, which no setting may hide",
    "rust_indicators/__init__.py": "which backend, before there are settings; it imports nothing of ours",
}


def reads_environment(name: str) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in a.name for a in node.names))
        for node in ast.walk(syntax(name))
    )


def test_only_the_settings_read_the_environment() -> None:
    assert {name for name in PROGRAM if reads_environment(name)} == set(ENVIRONMENT_READERS)


def called(name: str, attribute: str) -> set[str]:
    """Every call of an attribute of that name in a file, as it is written."""
    return {
        ast.unparse(node.func)
        for node in ast.walk(syntax(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == attribute
    }


def test_the_broker_is_dialled_in_one_place() -> None:
    found = {(name, call) for name in PROGRAM for call in called(name, "login")}
    assert found == {
        ("shijim_live/broker/shioaji.py", "client.login"),  # the SDK's, behind the token
        ("shijim_live/broker/live.py", "self.line.gateway.login"),  # ours, when the session says so
        ("shijim_live/broker/shioaji_history.py", "self._connection.login"),  # ours, at the first question
        ("shijim_live/broker/probe.py", "gateway.login"),  # ours, once a probe
        ("shijim_live/broker/smoke.py", "self._gateway.login"),  # ours, once a test, of the test service alone
    }
    made = {name for name in PROGRAM if "LoginToken(" in (ROOT / name).read_text()}
    assert made == {"shijim_live/broker/login.py"}
    asked = {name for name in PROGRAM if "allow_login(" in (ROOT / name).read_text()}
    assert asked == {"shijim_live/broker/login.py", "shijim_live/cli_live.py", "shijim_live/cli_smoke.py",
                     "shijim_pipelines/history.py"}  # fmt: skip


def test_nothing_can_place_an_order_of_real_money_yet() -> None:
    made = {name for name in PROGRAM if "OrdersToken(" in (ROOT / name).read_text()}
    assert made == {"shijim_live/broker/login.py"}
    asked = {name for name in PROGRAM if "allow_orders(" in (ROOT / name).read_text()}
    assert asked == {"shijim_live/broker/login.py"}
    connected = {name for name in PROGRAM if called(name, "set_order_callback")}
    assert connected == {"shijim_live/broker/shioaji.py", "shijim_live/broker/simulated_trading.py"}


def test_python_is_met_in_one_folder_of_the_crate() -> None:
    users = [name for name in sources("rust_indicators/src/", suffix=".rs") if "pyo3" in (ROOT / name).read_text()]
    assert users
    assert [name for name in users if not name.startswith("rust_indicators/src/python/")] == []


# What nothing is called, and what nothing does

BANNED_FILES = re.compile(r"^(utils?|helpers?|common|base|core|misc)$|_(v\d+|enhanced|final|new|old)$")
BANNED_CLASSES = re.compile(r"(Manager|Handler|Service|Engine|Factory|Helper)$")


def test_no_file_has_a_name_that_says_nothing() -> None:
    names = [Path(name) for name in repository_files() if name.endswith((".py", ".rs", ".sql"))]
    assert [name for name in names if any(BANNED_FILES.search(part) for part in (name.stem, *name.parts[:-1]))] == []


def test_no_class_has_a_name_that_says_nothing() -> None:
    python = [
        f"{name}: {node.name}"
        for name in PROGRAM
        for node in ast.walk(syntax(name))
        if isinstance(node, ast.ClassDef) and BANNED_CLASSES.search(node.name)
    ]
    declared = re.compile(r"\b(?:struct|enum|trait) (\w+)")
    rust = [
        f"{name}: {found}"
        for name in sources("rust_indicators/src/", suffix=".rs")
        for found in declared.findall((ROOT / name).read_text())
        if BANNED_CLASSES.search(found)
    ]
    assert python + rust == []


def swallows(handler: ast.ExceptHandler) -> bool:
    """Catches everything, or does nothing about what it caught without saying which."""
    broad = handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")
    )
    silent = all(
        isinstance(step, ast.Pass) or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
        for step in handler.body
    )
    return broad and (silent or handler.type is None)


@pytest.mark.parametrize("name", PROGRAM)
def test_no_error_is_swallowed(name: str) -> None:
    handlers = [node for node in ast.walk(syntax(name)) if isinstance(node, ast.ExceptHandler)]
    assert [f"{name}:{handler.lineno}" for handler in handlers if swallows(handler)] == []


# No float holds a price or a time

FLOAT_CLOCKS = {"timestamp", "fromtimestamp", "utcfromtimestamp"}
FLOAT_UNITS = {1e3, 1e6, 1e9, 1e-3, 1e-6, 1e-9}
INTEGER_NAME = re.compile(r"_(ns|e6)(_max|_min)?$")
# (file, function) → why a float is right there.
FLOATS_ALLOWED = {
    ("shijim_live/cli_record.py", "_speed"): "a multiple of real time",
    ("shijim_live/broker/snapshots.py", "to_snapshot_dict"): "the broker says it in floats",
    ("shijim_live/broker/simulated_answers.py", "prices"): "the broker answers in floats, so does its double",
    ("shijim_pipelines/backtests.py", "run_tracked"): "hftbacktest answers in floats; they become integers here",
    ("shijim_pipelines/backtests.py", "asset"): "hftbacktest takes tick size and fee as floats",
    ("shijim_pipelines/hft_dataset.py", "_refuse_prices_off_the_tick"): "judges hftbacktest's rows, which are floats",
}


def float_faults(tree: ast.AST, function: str = "") -> Iterator[tuple[str, int, str]]:
    """(function, line, what) for every way a price or a time could become a float. Text for people may divide."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.JoinedStr):
            continue
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        what = float_fault(node)
        if what:
            yield inside, getattr(node, "lineno", 0), what
        yield from float_faults(node, inside)


def float_fault(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in FLOAT_CLOCKS:
            return f"{called}() goes through a float"
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "time.time":
            return "time.time() is a float: use time.time_ns()"
        if called == "float":
            return "float()"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        sides = (node.left, node.right)
        if any(
            isinstance(side, ast.Constant) and type(side.value) is float and side.value in FLOAT_UNITS for side in sides
        ):
            return "a unit as a float"
        if isinstance(node.op, ast.Div) and any(INTEGER_NAME.search(last_name(side)) for side in sides):
            return "true division of an integer stamp or price"
    if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
        name = last_name(node.target) if isinstance(node, ast.AnnAssign) else node.arg
        if INTEGER_NAME.search(name) and "float" in ast.unparse(node.annotation):
            return f"{name} is annotated as a float"
    return None


def last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def test_no_float_holds_a_price_or_a_time() -> None:
    faults = [(name, function, line, what) for name in PROGRAM for function, line, what in float_faults(syntax(name))]
    found = [fault for fault in faults if fault[:2] not in FLOATS_ALLOWED]
    assert not found, "\n".join(map(str, found))
    assert set(FLOATS_ALLOWED) <= {fault[:2] for fault in faults}, "FLOATS_ALLOWED has an entry nothing needs"


@pytest.mark.parametrize(
    "line",
    [
        "wall.timestamp()",
        "datetime.fromtimestamp(seconds)",
        "now = time.time()",
        "int(seconds * 1e9)",
        "price_e6 = price / 1e-6",
        "age = event.received_ns / SECOND",
        "float(price)",
        "def f(price_e6: float): ...",
        "exchange_ns: float | None = None",
    ],
)
def test_the_float_rule_sees(line: str) -> None:
    assert list(float_faults(ast.parse(line)))


@pytest.mark.parametrize(
    "line", ["f'{waited_ns / 1e9:.1f} s'", "half = count / 2", "at = folder / name", "a_ns // 1000"]
)
def test_the_float_rule_lets_pass(line: str) -> None:
    assert not list(float_faults(ast.parse(line)))


# Where prices are floats by definition: the source's own columns, hftbacktest's rows, and what converts them.
RUST_FLOATS_ALLOWED = {
    "rust_indicators/src/signals.rs": "parameters of signals",
    "rust_indicators/src/l5.rs": "the recording's columns are f64",
    "rust_indicators/src/hft.rs": "hftbacktest's rows are f64",
    "rust_indicators/src/ladder.rs": "writes those rows",
    "rust_indicators/src/python/hft.rs": "hands over those rows",
}


def test_no_float_is_in_the_path_of_an_event_in_rust() -> None:
    word = re.compile(r"\bf(32|64)\b")
    users = {name for name in sources("rust_indicators/src/", suffix=".rs") if word.search((ROOT / name).read_text())}
    assert {name for name in users if not is_signal(name)} == set(RUST_FLOATS_ALLOWED)


def is_signal(name: str) -> bool:
    """A signal is not the event: intensities and fair prices are real numbers."""
    kernels = {path.stem for path in (ROOT / "rust_indicators/src/signals").glob("*.rs")}
    return Path(name).stem in kernels | {"arrays"} and "simulate" not in name


# Sizes

LINES_MAX = {"program": 450, "test": 600, "rust": 500}  # Rust without the tests at its end; aim at 250
FUNCTION_LINES_MAX = 60


@pytest.mark.parametrize("name", sources(*(f"{p}/" for p in PACKAGES), "tests/", "benches/"))
def test_no_python_file_or_function_is_too_long(name: str) -> None:
    lines = len((ROOT / name).read_text().splitlines())
    assert lines <= LINES_MAX["test" if name.startswith("tests/") else "program"]
    for node in ast.walk(syntax(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{name}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("name", sources("rust_indicators/", suffix=".rs"))
def test_no_rust_file_is_too_long(name: str) -> None:
    program = (ROOT / name).read_text().split("#[cfg(test)]\nmod tests {")[0]
    assert len(program.splitlines()) <= LINES_MAX["rust"]


@pytest.mark.parametrize("name", PROGRAM)
def test_every_module_says_what_it_is(name: str) -> None:
    assert ast.get_docstring(syntax(name)), f"{name}: one line of what it is, one of what it is not"


# What is in git

TOP_LEVEL = {
    *("pyproject.toml", "shijim_pipelines", "shijim_live", "rust_indicators", "dagster_home", "tests"),
    *("docker-compose.yml", "README.md", "Makefile", "deploy", "docs", "benches", ".github", ".ci"),
    *("LICENSE", ".gitignore"),  # every repository has them
    "constraints.txt",  # the exact versions the Makefile installs
}
BUILD_OUTPUT = re.compile(
    r"\.(so|pyd|pyc|whl|wal|npz|npy|parquet|log|pfx|pem|key|tar|gz|zip|db)$"
    r"|(^|/)(target|dist|build|__pycache__|\.venv|\.idea|\.vscode|[^/]*\.egg-info)/|(^|/)\.env(\.|$)"
)
FILE_BYTES_MAX = 500_000


def test_the_top_level_holds_what_the_design_says_and_no_more() -> None:
    assert {name.split("/")[0] for name in repository_files()} - TOP_LEVEL == set()


def test_no_build_output_data_log_or_key_is_in_git() -> None:
    assert [name for name in repository_files() if BUILD_OUTPUT.search(name)] == []
    assert [name for name in repository_files() if (ROOT / name).stat().st_size > FILE_BYTES_MAX] == []


# Tests

SKIPS = {"skip", "skipif", "xfail", "importorskip"}


def skips(name: str) -> Iterator[ast.Call | ast.Attribute]:
    """Every use of pytest's ways not to run a test; a decorator without arguments is an Attribute, not a Call."""
    called = {id(node.func) for node in ast.walk(syntax(name)) if isinstance(node, ast.Call)}
    for node in ast.walk(syntax(name)):
        function = node.func if isinstance(node, ast.Call) else node
        if isinstance(function, ast.Attribute) and function.attr in SKIPS and id(node) not in called:
            yield node  # type: ignore[misc]  # one of the two, by the line above


@pytest.mark.parametrize("name", TESTS)
def test_a_skipped_test_says_why(name: str) -> None:
    for node in skips(name):
        assert isinstance(node, ast.Call), f"{name}:{node.lineno}: no reason"
        attribute = node.func
        assert isinstance(attribute, ast.Attribute)
        positional = attribute.attr in ("skip", "importorskip") and bool(node.args)
        assert positional or any(word.arg == "reason" for word in node.keywords), f"{name}:{node.lineno}: no reason"


@pytest.mark.parametrize("name", TESTS)
def test_a_test_mocks_nothing(name: str) -> None:
    assert not [imported for imported in imports(name) if within(imported, "unittest.mock", "mock", "pytest_mock")]
