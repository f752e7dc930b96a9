"""What is stated twice is stated alike: versions, licence, exact versions, the server's address, the commands."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from shijim_live.settings import Settings

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CRATE = tomllib.loads((ROOT / "rust_indicators/Cargo.toml").read_text())["package"]
PYTHONS = ["3.11", "3.12", "3.13"]


def constraints() -> dict[str, str]:
    """Package → exact version."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(*extras: str) -> list[Requirement]:
    """What an install with these extras asks for directly, with Shijim's own extras resolved."""
    wanted = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        wanted += PROJECT["project"]["optional-dependencies"][extra]
    found = []
    for requirement in map(Requirement, wanted):
        found += requirements(*requirement.extras) if requirement.name == "shijim" else [requirement]
    return found


BUILD_REQUIREMENTS = [Requirement(text) for text in PROJECT["build-system"]["requires"]]


def test_the_crate_and_the_package_have_one_version_and_one_licence() -> None:
    assert CRATE["version"] == PROJECT["project"]["version"]
    assert CRATE["license"] == PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()


def test_supported_pythons_are_the_same_everywhere() -> None:
    stated = [c.split(" :: ")[-1] for c in PROJECT["project"]["classifiers"] if "Python :: 3." in c]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert stated == workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert PROJECT["project"]["requires-python"] == ">=3.11,<3.14"
    assert "|".join(PYTHONS) in (ROOT / "Makefile").read_text()


ASKED_FOR = sorted({str(each) for each in (*requirements("dev"), *BUILD_REQUIREMENTS)})


@pytest.mark.parametrize("requirement", [Requirement(each) for each in ASKED_FOR], ids=str)
def test_what_is_asked_for_is_pinned_to_an_exact_version_that_it_allows(requirement: Requirement) -> None:
    assert requirement.specifier.contains(constraints()[normal(requirement.name)])


def test_a_base_install_is_lean() -> None:
    heavy = {"dagster", "great-expectations", "chdb", "pandas", "numpy", "pyarrow", "hftbacktest", "textual"}
    assert {normal(requirement.name) for requirement in requirements()}.isdisjoint(heavy)


def test_ci_runs_what_a_person_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert {"run": ".ci/run"} in workflow["jobs"]["test"]["steps"]
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "make lint test"
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_the_server_is_pinned_keeps_its_data_and_answers_on_this_machine_only() -> None:
    (service,) = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    image, tag = service["image"].split(":")
    assert image == "clickhouse/clickhouse-server"
    assert re.fullmatch(r"\d+\.\d+(\.\d+)*", tag)
    assert service["ports"] and all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "SELECT 1" in service["healthcheck"]["test"]
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    assert [mount.split(":")[0] for mount in service["volumes"]] == list(volumes)
    assert service["ulimits"]["nofile"]["soft"] >= 262_144


def test_the_address_that_the_compose_file_names_is_the_one_it_serves(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    (dsn,) = re.findall(r"CLICKHOUSE_DSN=([^`]+)", text)
    server = Settings.load({"CLICKHOUSE_DSN": dsn}, tmp_path).clickhouse
    assert server is not None
    environment = yaml.safe_load(text)["services"]["clickhouse"]["environment"]
    default = {name: value.split(":-")[1].rstrip("}") for name, value in environment.items() if ":-" in value}
    assert dsn == "http://{CLICKHOUSE_USER}:{CLICKHOUSE_PASSWORD}@127.0.0.1:8123/{CLICKHOUSE_DB}".format(**default)


def make(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path or os.environ["PATH"], "HOME": os.environ["HOME"]}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("CARGO", "RUSTUP", "PYENV"))}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_make_alone_lists_every_command() -> None:
    listed = make()
    assert listed.returncode == 0
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^  make ([a-z]+) ", listed.stdout, re.MULTILINE)) == set(targets) - {"requirements"}


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("echo 3.10", "Shijim needs 3.11 to 3.13"),
        ("echo 3.14", "Shijim needs 3.11 to 3.13"),
        ('case "$2" in *ensurepip*) exit 1 ;; *) echo 3.12 ;; esac', "apt install python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_refused_in_one_line(tmp_path: Path, python: str, told: str) -> None:
    program(tmp_path, "python-of-test", python)
    refused = make("requirements", "PYTHON=python-of-test", path=f"{tmp_path}:{os.environ['PATH']}")
    assert refused.returncode != 0
    assert told in refused.stderr.splitlines()[0]


@pytest.mark.parametrize(("broken", "told"), [("cargo", "https://rustup.rs")])
def test_a_missing_tool_is_named_in_one_line(tmp_path: Path, broken: str, told: str) -> None:
    program(tmp_path, broken, "exit 1")
    refused = make("requirements", path=f"{tmp_path}:{os.environ['PATH']}")
    assert refused.returncode != 0
    assert told in refused.stderr.splitlines()[0]


def test_no_python_of_that_name_is_said_in_one_line() -> None:
    refused = make("requirements", "PYTHON=python-that-is-not-there")
    assert refused.returncode != 0
    assert "no python-that-is-not-there in PATH" in refused.stderr.splitlines()[0]
