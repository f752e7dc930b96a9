"""The documentation as tests: its commands are run, in order, as they stand; its verbs exist; it stays short."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
LINES_MAX = 150
COMMANDS = ("shijim", "shijim-live")
COMMAND_SECONDS_MAX = 300
BIN = Path(sys.executable).parent

# Commands that a test cannot run, by what stands in them.
LEFT_OUT = {
    "--broker shioaji": "needs keys and the broker",
    "--follow": "does not end by itself",
    "dashboard": "does not end by itself",
    "CLICKHOUSE_DSN": "needs a server",
    "shijim demo": "make demo is left out too: it is minutes of the same commands",
    "…": "an example of a form, not a command",
}


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def documented_commands(text: str) -> list[str]:
    """Lines of the shell blocks that run Shijim, without the prompt, with their continuation lines."""
    found = []
    for block in code_blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.strip().removeprefix("$ ")
            words = shlex.split(command, comments=True) if runs_shijim(command) else []
            if words and not any(part in command for part in LEFT_OUT):
                found.append(command)
    return found


def runs_shijim(command: str) -> bool:
    """`shijim …`, also behind `NAME=value` settings."""
    words = re.sub(r"^(\w+=\S* +)+", "", command).split()
    return bool(words) and words[0] in COMMANDS


def documented_verbs() -> list[tuple[str, str]]:
    """(command, verb) wherever a page says `shijim verb` in code; a table row starts with it."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        spans = re.findall(r"`([^`\n]+)`", text) + [line for block in code_blocks(text) for line in block.splitlines()]
        for span in spans:
            found |= set(re.findall(r"(?:^|\s|\$ )(shijim(?:-live)?) ([a-z]+)\b", span))
    return sorted(found)


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a shell like a reader's, with none of the settings of whoever runs the tests."""
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder), "LANG": "C.UTF-8"}
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", command],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS_MAX,
    )  # fmt: skip


@cache
def offered_verbs(command: str) -> frozenset[str]:
    """Verbs in the command's own help: the indented list of its sub-commands."""
    helped = run(f"{command} --help", ROOT).stdout
    return frozenset(re.findall(r"^    ([a-z]+)(?: {2,}|\n {8,})\S", helped, re.MULTILINE))


def test_the_readme_fits_on_three_screens() -> None:
    assert len(README.read_text().splitlines()) <= LINES_MAX


def test_the_commands_of_the_readme_run_in_order_as_they_stand(tmp_path: Path) -> None:
    for command in documented_commands(README.read_text()):
        done = run(command, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_verb_explains_itself(command: str, tmp_path: Path) -> None:
    assert offered_verbs(command), "the help lists no verb"
    for verb in sorted(offered_verbs(command)):
        helped = run(f"{command} {verb} --help", tmp_path)
        assert helped.returncode == 0, f"{command} {verb}: {helped.stderr}"
        assert helped.stdout.startswith(f"usage: {command} {verb}")


def test_every_documented_verb_exists() -> None:
    assert [f"{command} {verb}" for command, verb in documented_verbs() if verb not in offered_verbs(command)] == []


def test_the_readme_names_every_verb_once_it_has_a_table_of_commands() -> None:
    if not re.search(r"^\|.*`shijim", README.read_text(), re.MULTILINE):
        return
    offered = {(command, verb) for command in COMMANDS for verb in offered_verbs(command)}
    assert offered <= set(documented_verbs())


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


EXAMPLE = """
```console
$ shijim-live record --broker simulated \\
    --day 2026-04-09
recorded 300,000 events
$ make test
$ SHIJIM_DATA_DIR=x shijim archive   # copies
$ shijim-live cat data/wal --follow
```
```python
shijim no
```
"""


def test_commands_are_found_in_shell_blocks_only_and_joined_over_lines() -> None:
    record, archive = documented_commands(EXAMPLE)
    assert record.split() == ["shijim-live", "record", "--broker", "simulated", "--day", "2026-04-09"]
    assert archive == "SHIJIM_DATA_DIR=x shijim archive   # copies"
