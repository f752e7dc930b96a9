"""`shijim-live doctor`: real situations, each found and told with its fix, and never a part of a key."""

from __future__ import annotations

import os
import random
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import pytest
from made_records import trades, write_log
from test_full_disk import small_disk
from test_record import live, record_command

from rust_indicators import Publisher
from shijim_live.broker.key_form import BASE58
from shijim_live.broker.leases import Leases, Role
from shijim_live.broker.quota import QUOTA_FILE, TRAFFIC_BYTES_MAX, Quota
from shijim_live.settings import Settings
from shijim_live.watch import credentials, host
from shijim_live.watch.finding import Finding, Level, describe, exit_code, unseen, warning, well, wrong

__all__ = ["small_disk"]  # a fixture

DAY = "2026-04-09"


def clean(tmp_path: Path, **more: str) -> dict[str, str]:
    """An environment with nothing of ours in it but what is given."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("SHIJIM_", "SHIOAJI_", "SH"))}
    return known | {"XDG_STATE_HOME": str(tmp_path / "state"), "SHIJIM_METRICS_PORT": "0"} | more


def doctor(tmp_path: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return live("doctor", *more, cwd=tmp_path, env=clean(tmp_path, **environment))


def found(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str, str]]:
    """About → (level, text, fix) of what `--json` says; the worst where there are several."""
    order = [level.value for level in Level]
    rows = sorted(orjson.loads(done.stdout)["findings"], key=lambda row: order.index(row["level"]))
    return {row["about"]: (row["level"], row["text"], row["fix"]) for row in rows}


def test_a_machine_in_order_is_well_in_every_line_a_person_reads(tmp_path: Path) -> None:
    done = doctor(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout and "! " not in done.stdout and done.stderr == ""
    for about in ("settings", "data folder", "disk", "shared memory", "kernels", "SDK", "calendar", "log"):
        assert f"✓ {about}" in done.stdout
    assert "0 to put right, 0 to look at" in done.stdout.splitlines()[-1]


def test_looking_leaves_nothing_behind_in_the_data_folder(tmp_path: Path) -> None:
    write_log(tmp_path / "data" / "wal", trades("TXFD6", f"{DAY} 09:00:00", [1] * 5))
    before = {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}
    assert doctor(tmp_path).returncode == 0
    assert {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()} == before


def test_every_wrong_setting_is_told_at_once_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--json", SHIJIM_BUS_MAX_QUEUE="1000", SHARD_ID="7", SHIOAJI_API_KEY="x" * 40)
    assert done.returncode == 2
    findings = orjson.loads(done.stdout)["findings"]
    wrong_settings = [row["text"] for row in findings if row["about"] == "settings" and row["level"] == "wrong"]
    assert [text.split()[0].split("=")[0] for text in wrong_settings] == [
        "SHIJIM_BUS_MAX_QUEUE", "SHARD_ID", "SHIOAJI_SECRET_KEY",
    ]  # fmt: skip
    assert {"kernels", "SDK", "time zone"} <= {row["about"] for row in findings}


def test_a_misspelt_setting_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SHIJIM_DATADIR=x\n")
    done = doctor(tmp_path, "--json")
    assert done.returncode == 1
    assert "did you mean SHIJIM_DATA_DIR?" in found(done)["settings"][1]


def test_the_worst_finding_is_the_exit_code() -> None:
    rows = [well("a", "b"), unseen("c", "d"), warning("e", "f", "g"), wrong("h", "i", "j")]
    assert [exit_code(rows[:count]) for count in range(5)] == [0, 0, 0, 1, 2]
    assert describe(rows).splitlines() == [
        "✓ a  b", "? c  d", "! e  f", "     → g", "✗ h  i", "     → j",
        "1 to put right, 1 to look at, 1 well, 1 cannot be seen from here",
    ]  # fmt: skip


# The host


def test_a_log_in_memory_is_warned_of(tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    place = small_disk("size=3g")
    done = doctor(tmp_path, "--json", "--data-dir", str(place))
    assert done.returncode == 1
    level, text, fix = found(done)["file system"]
    assert level == "warning" and "lies in memory (tmpfs)" in text and "SHIJIM_RAW_DIR" in fix


@pytest.mark.parametrize(("size", "level"), [("100m", "wrong"), ("600m", "warning")])
def test_a_disk_that_is_nearly_full_is_told_before_recording_is(
    tmp_path: Path, small_disk: Callable[[str], Path], size: str, level: str
) -> None:
    done = doctor(tmp_path, "--json", SHIJIM_RAW_DIR=str(small_disk(f"size={size}")))
    assert found(done)["disk"][0] == level
    assert done.returncode == (2 if level == "wrong" else 1)


def test_a_folder_that_cannot_be_written_must_be_put_right(tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    place = small_disk("size=3g,ro")
    done = doctor(tmp_path, "--json", "--data-dir", str(place))
    assert done.returncode == 2
    level, text, _ = found(done)["data folder"]
    assert level == "wrong" and text == f"{place}: nothing can be written (Read-only file system)"


def test_a_shared_memory_too_small_for_the_ring_must_be_put_right(tmp_path: Path) -> None:
    command = f"mount -t tmpfs -o size=4m none /dev/shm && exec {sys.executable} -m shijim_live doctor --json"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], cwd=tmp_path, env=clean(tmp_path),
                          capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip("a mount of one's own needs root")
    level, text, fix = found(done)["shared memory"]
    assert (level, done.returncode) == ("wrong", 2)
    assert "takes 17 of 4 MiB" in text and "--shm-size" in fix


def test_what_a_ring_takes_is_what_one_takes(tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    publisher = Publisher(ring_path=ring, ring_slots=1024, wal_dir=tmp_path, run_id="0" * 15 + "1", header='{"a":1}',
                          classes=[])  # fmt: skip
    assert ring.stat().st_size == host.RING_HEADER_BYTES + 1024 * host.RING_SLOT_BYTES
    publisher.close()


@pytest.mark.parametrize(("limit", "level"), [("200", "warning"), ("60", "wrong")])
def test_too_few_open_files_are_told(tmp_path: Path, limit: str, level: str) -> None:
    command = f"ulimit -n {limit}; exec {sys.executable} -m shijim_live doctor --json --broker simulated"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=clean(tmp_path), capture_output=True, text=True,
                          check=False, timeout=60)  # fmt: skip
    assert found(done)["open files"] == (
        level, f"only {limit} files may be open", "ulimit -n 1024, or LimitNOFILE=1024 in the unit",
    )  # fmt: skip


def test_what_a_folder_lies_on_is_the_innermost_mount_and_the_last_one_there() -> None:
    mounts = "\n".join([
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda rw", "2 1 0:1 / /data rw - nfs4 server:/x rw",
        r"3 1 0:2 / /data/my\040disk rw - xfs /dev/sdb rw", "4 1 0:3 / /mnt rw - xfs /dev/sdc rw",
        "5 1 0:4 / /mnt rw - tmpfs none rw",
    ])  # fmt: skip
    places = {"/home": "ext4", "/data/wal": "nfs4", "/data/my disk/wal": "xfs", "/mnt/x": "tmpfs", "/database": "ext4"}
    assert {place: host.mounted_as(Path(place), mounts) for place in places} == places


TRACKING = (
    "A9FEA97B,169.254.169.123,4,1795255200.1,{offset},-0.000000731,0.000000913,-8.4,0.0,0.02,0.0004,0.0002,16.3,{leap}"
)


@pytest.mark.parametrize(
    ("programs", "level", "text"),
    [
        ({"chronyc": TRACKING.format(offset="-0.000001234", leap="Normal")}, "well", "0.001 ms off"),
        ({"chronyc": TRACKING.format(offset="0.075", leap="Normal")}, "warning", "75.000 ms off"),
        ({"chronyc": TRACKING.format(offset="-31.5", leap="Normal")}, "wrong", "the broker refuses"),
        ({"chronyc": TRACKING.format(offset="0.0", leap="Not synchronised")}, "warning", "does not follow"),
        ({"chronyc": "", "timedatectl": "yes\n"}, "well", "kept by NTP"),
        ({"chronyc": "garbage", "timedatectl": "no\n"}, "warning", "not kept by NTP"),
        ({"chronyc": "", "timedatectl": ""}, "unseen", "neither chrony nor systemd"),
    ],
)
def test_the_clock_is_what_its_keeper_says(tmp_path: Path, programs: dict[str, str], level: str, text: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, answer in programs.items():
        (folder / name).write_text(f"#!/bin/sh\nprintf '%s' '{answer}'\n")
        (folder / name).chmod(0o755)
    done = doctor(tmp_path, "--json", "--broker", "simulated", PATH=f"{folder}:{os.environ['PATH']}")
    assert found(done)["clock"][0] == level
    assert text in found(done)["clock"][1]


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = doctor(tmp_path, "--json", SHIJIM_METRICS_PORT=str(port))
    assert found(done)["metrics"][0] == "warning" and f"127.0.0.1:{port} cannot be had" in found(done)["metrics"][1]


# Keys and certificate


def base58(data: bytes) -> str:
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        text = BASE58[rest] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


RANDOM = random.Random(57)
API_KEY = base58(RANDOM.randbytes(32))
SECRET_KEY = base58(RANDOM.randbytes(32))
PASSWORD = "".join(RANDOM.choices(string.ascii_letters + string.digits, k=20))


def key_findings(folder: Path, api_key: str, secret_key: str) -> dict[str, Finding]:
    known = {"SHIOAJI_API_KEY": api_key, "SHIOAJI_SECRET_KEY": secret_key}
    return {one.about: one for one in credentials.keys(Settings.load(known, folder), wanted=True)}


@pytest.mark.parametrize(
    ("secret_key", "level", "text"),
    [
        (SECRET_KEY, Level.WELL, "decodes to 32 bytes"),
        (base58(b"\0" + RANDOM.randbytes(31)), Level.WELL, "decodes to 32 bytes"),
        (SECRET_KEY[:-5], Level.WRONG, "too short"),
        (SECRET_KEY + "abcd", Level.WRONG, "too long"),
        (SECRET_KEY[:10] + "0" + SECRET_KEY[11:], Level.WRONG, "characters that no key has"),
        (SECRET_KEY[:10] + " " + SECRET_KEY[11:], Level.WRONG, "characters that no key has"),
        (f"'{SECRET_KEY}'", Level.WRONG, "characters that no key has"),
        (API_KEY, Level.WRONG, "the API key once more"),
    ],
)
def test_a_secret_key_is_judged_by_its_form(tmp_path: Path, secret_key: str, level: Level, text: str) -> None:
    finding = key_findings(tmp_path, API_KEY, secret_key)["secret key"]
    assert finding.level is level and text in finding.text


@pytest.mark.parametrize(
    ("api_key", "level", "text"),
    [
        (API_KEY, Level.WELL, "the form of a key"),
        (API_KEY[:20], Level.WARNING, "too short"),
        (API_KEY * 2, Level.WARNING, "too long"),
        (API_KEY[:10] + "…" + API_KEY[10:], Level.WARNING, "characters that no key has"),
    ],
)
def test_an_api_key_is_judged_by_its_form(tmp_path: Path, api_key: str, level: Level, text: str) -> None:
    finding = key_findings(tmp_path, api_key, SECRET_KEY)["API key"]
    assert finding.level is level and text in finding.text


def test_keys_are_missed_only_where_the_broker_is_meant(tmp_path: Path) -> None:
    assert found(doctor(tmp_path, "--json", "--broker", "shioaji"))["keys"][0] == "wrong"
    assert found(doctor(tmp_path, "--json"))["keys"][0] == "well"
    assert "keys" not in found(doctor(tmp_path, "--json", "--broker", "simulated"))


def env_file(
    folder: Path, mode: int, secret_key: str = SECRET_KEY, pfx: bytes = b"\x30\x82\x10\x00" + b"x" * 4096
) -> None:
    (folder / "ca.pfx").write_bytes(pfx)
    (folder / "ca.pfx").chmod(mode)
    (folder / ".env").write_text(
        f"SHIOAJI_API_KEY={API_KEY}\nSHIOAJI_SECRET_KEY={secret_key}\nSHIOAJI_CA_PATH=ca.pfx\n"
        f"SHIOAJI_CA_PASSWORD={PASSWORD}\nCLICKHOUSE_DSN=http://me:{PASSWORD}@127.0.0.1:8123/x\n"
    )
    (folder / ".env").chmod(mode)


def test_keys_and_certificate_in_order_are_well(tmp_path: Path) -> None:
    env_file(tmp_path, 0o600)
    done = doctor(tmp_path, "--json", "--broker", "shioaji")
    assert done.returncode == 0, done.stdout
    findings = found(done)
    assert findings[".env"] == ("well", f"{tmp_path}/.env is its owner's alone (mode 0600)", "")
    assert findings["certificate"][0] == findings["API key"][0] == findings["secret key"][0] == "well"
    assert findings["expiry"][0] == "unseen"


def test_secrets_that_others_may_read_must_be_put_right(tmp_path: Path) -> None:
    env_file(tmp_path, 0o644)
    done = doctor(tmp_path, "--json")
    assert done.returncode == 2
    assert found(done)[".env"] == (
        "wrong", f"{tmp_path}/.env may be read by others (mode 0644)", f"chmod 600 {tmp_path}/.env",
    )  # fmt: skip
    assert found(done)["certificate"][2] == f"chmod 600 {tmp_path}/ca.pfx"


@pytest.mark.parametrize("pfx", [b"", b"-----BEGIN CERTIFICATE-----", b"\x30\x82" + bytes(2 * 1024 * 1024)])
def test_a_file_that_is_no_certificate_is_told(tmp_path: Path, pfx: bytes) -> None:
    env_file(tmp_path, 0o600, pfx=pfx)
    done = doctor(tmp_path, "--json", "--broker", "shioaji")
    assert done.returncode == 2 and "is no certificate of the .pfx form" in done.stdout


@pytest.mark.parametrize("spoil", ["", "0", " ", "abcdefgh", '"'])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_part_of_a_secret_is_ever_shown(tmp_path: Path, spoil: str, form: tuple[str, ...]) -> None:
    env_file(tmp_path, 0o644, secret_key=SECRET_KEY[:20] + spoil + SECRET_KEY[20:])
    done = doctor(tmp_path, "--broker", "shioaji", *form, SHIJIM_ALERT_WEBHOOK=f"ftp://x/{PASSWORD}")
    shown = done.stdout + done.stderr
    assert shown
    for secret in (API_KEY, SECRET_KEY, PASSWORD):
        assert not [secret[at : at + 5] for at in range(len(secret) - 4) if secret[at : at + 5] in shown]


# What the person has left of the broker


def test_who_has_which_connection_is_shown_as_long_as_he_has_it(tmp_path: Path) -> None:
    leases = Leases(tmp_path / "state" / "shijim" / "person")
    with leases.take(Role.QUOTES), leases.take(Role.TRADING):
        text = found(doctor(tmp_path, "--json"))["connections"][1]
        assert text.startswith("2 of 5 are leased; trading: process ") and f"quotes: process {os.getpid()} on" in text
        assert text.endswith("free: 0 for trading, 1 for history, 2 for quotes")
    text = found(doctor(tmp_path, "--json"))["connections"][1]
    assert text == "0 of 5 are leased; free: 1 for trading, 1 for history, 3 for quotes"


@pytest.mark.parametrize(
    ("ages_s", "level", "said"),
    [
        ([], "well", "0 of 20 in the last 15 minutes, 0 of 500 in the last day"),
        ([10, 20, 3_600], "well", "2 of 20 in the last 15 minutes, 3 of 500 in the last day"),
        (range(16), "warning", "16 of 20 in the last 15 minutes, 16 of 500"),
        (range(20), "warning", "none is left until "),
        (range(1_000, 31_000, 60), "warning", "(0 of 20 in the last 15 minutes, 500 of 500 in the last day)"),
    ],
)
def test_the_logins_of_all_processes_are_counted(tmp_path: Path, ages_s: Sequence[int], level: str, said: str) -> None:
    now_ns = time.time_ns()
    ages = iter(sorted(ages_s, reverse=True))
    for _ in ages_s:
        at_ns = now_ns - next(ages) * 1_000_000_000
        Leases(tmp_path / "state" / "shijim" / "person", now_ns=lambda at_ns=at_ns: at_ns).charge_login()  # type: ignore[misc]
    before = sorted((tmp_path / "state").rglob("*")) if ages_s else []
    one = found(doctor(tmp_path, "--json"))["logins"]
    assert one[0] == level and said in one[1] and (level == "well") == (one[2] == "")
    assert not ages_s or sorted((tmp_path / "state").rglob("*")) == before


def test_being_sent_away_is_told_with_the_time_until_when(tmp_path: Path) -> None:
    leases = Leases(tmp_path / "state" / "shijim" / "person")
    leases.charge_login()
    leases.sent_away(90 * 1_000_000_000)
    level, text, fix = found(doctor(tmp_path, "--json"))["logins"]
    assert level == "warning" and text.startswith("the broker takes none of this person until ") and "wait" in fix
    leases.path.write_text("{}")
    level, _, fix = found(doctor(tmp_path, "--json"))["logins"]
    assert level == "wrong" and "not an account of logins" in fix


# The SDK


def sdk_of(folder: Path, text: str) -> str:
    """A path on which another SDK is found first."""
    (folder / "other" / "shioaji").mkdir(parents=True)
    (folder / "other" / "shioaji" / "__init__.py").write_text(text)
    return f"{folder / 'other'}:{os.environ.get('PYTHONPATH', '')}"


def test_another_sdk_is_told_by_what_it_lacks(tmp_path: Path) -> None:
    names = "BidAskFOPv1, BidAskSTKv1, QuoteIdxV1, TickFOPv1, TickSTKv1"
    text = f"__version__ = '2.0.0'\n{names} = [type(name, (), {{}}) for name in '{names}'.split(', ')]\n"
    done = doctor(tmp_path, "--json", PYTHONPATH=sdk_of(tmp_path, text))
    level, text, fix = found(done)["SDK"]
    assert (level, done.returncode, fix) == ("wrong", 2, "pip install 'shioaji==1.7.9'")
    assert "shioaji 2.0.0 lacks or changed what is used: - Account(" in text and "lines more" in text


def test_a_missing_sdk_must_be_put_right_whatever_the_feed(tmp_path: Path) -> None:
    done = doctor(
        tmp_path, "--json", "--broker", "simulated", PYTHONPATH=sdk_of(tmp_path, "raise ImportError('gone')\n")
    )
    assert found(done)["SDK"] == ("wrong", "cannot be imported (gone)", "pip install 'shioaji==1.7.9'")


# Log, quota, calendar


def test_the_last_segment_is_read_and_what_is_wrong_with_it_is_told(tmp_path: Path) -> None:
    [path] = write_log(tmp_path / "data" / "wal", trades("TXFD6", f"{DAY} 09:00:00", [1] * 5))
    assert found(doctor(tmp_path, "--json"))["log"][1] == f"the last segment, {path.name}, holds 5 records, sound"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    level, text, fix = found(doctor(tmp_path, "--json"))["log"]
    assert level == "warning" and "its recorder died" in text and fix.startswith(f"shijim-live repair {path.parent}")
    data = bytearray(whole)
    data[data.index(b"SBLK") + 60] ^= 1
    path.write_bytes(data)
    assert found(doctor(tmp_path, "--json"))["log"][0] == "wrong"
    path.write_bytes(b"nothing")
    assert "1 segments cannot be read" in found(doctor(tmp_path, "--json"))["log"][1]


def test_a_running_recorder_is_seen(tmp_path: Path) -> None:
    command = record_command(tmp_path / "data", "--speed", "60", "--quiet")
    recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while "records:" not in (seen := found(doctor(tmp_path, "--json"))).get("recorder", ("", "", ""))[1]:
            assert time.monotonic() < deadline and recorder.poll() is None
        assert seen["recorder"][1].startswith(f"process {recorder.pid} records: ")
        assert seen["log"][0] == "well"
    finally:
        recorder.send_signal(signal.SIGTERM)
        recorder.wait(60)


def test_how_much_of_the_quota_is_used_is_told(tmp_path: Path) -> None:
    quota = Quota(tmp_path / "state" / "shijim" / "person" / QUOTA_FILE)
    quota.learn(TRAFFIC_BYTES_MAX * 9 // 10)
    level, text, fix = found(doctor(tmp_path, "--json"))["quota"]
    assert level == "warning" and text.startswith("90 % of today's 500 MB") and "resets on" in fix
    quota.path.write_text("{}")
    assert found(doctor(tmp_path, "--json"))["quota"][0] == "wrong"


def test_an_operators_calendar_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "calendar_overrides.toml").write_text("closed = 7")
    level, text, _ = found(doctor(tmp_path, "--json"))["calendar"]
    assert level == "wrong" and "calendar_overrides.toml" in text
