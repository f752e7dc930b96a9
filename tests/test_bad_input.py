"""Whatever a command is given instead of what it needs: one line that says what and where, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
from made_records import RUN, trades, write_log
from test_way import arguments

from rust_indicators import LogWriter
from shijim_live.events import Kind, Status, encode
from shijim_live.record import wal

DAY = "2026-04-09"
DAMAGE = (2, 3, 4)  # exit codes of what is refused or found damaged


def tried(*command: str) -> tuple[int, str, str]:
    done = subprocess.run(arguments(*command), capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def refused(*command: str, says: str) -> None:
    """Exit code above 0, one line on stderr with `says` in it, no traceback."""
    code, _, errors = tried(*command)
    assert code > 0, errors
    assert "Traceback" not in errors
    assert errors.count("\n") == 1 and says in errors, errors


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with everything in it: one segment of trades, archived, audited, built."""
    folder = tmp_path_factory.mktemp("made")
    write_log(folder / "wal", trades("TXFD6", f"{DAY} 09:00:00", [1] * 300))
    for verb in (("archive",), ("audit", "--day", DAY), ("dataset", "--day", DAY, "--symbol", "TXFD6")):
        code, _, errors = tried("shijim", *verb, "--data-dir", str(folder))
        assert code == 0, errors
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


LIVE_OPTIONS = [
    ([], "required: verb"),
    (["fly"], "invalid choice: 'fly'"),
    (["record"], "required: --broker"),
    (["record", "--broker", "simulated"], "--day is missing"),
    (["record", "--broker", "simulated", "--day", DAY, "--seed", "x"], "--seed"),
    (["record", "--broker", "simulated", "--day", DAY, "--seed", "-1"], "seed -1"),
    (["record", "--broker", "simulated", "--day", DAY, "--events", "5"], "target_events"),
    (
        ["record", "--broker", "replay", "--from", "x", "--fault", "stalls=2"],
        "--fault: for --broker simulated",
    ),
    (
        ["record", "--broker", "shioaji", "--market", "taiwan", "--session"],
        "--market, --session: for",
    ),
    (
        ["record", "--broker", "simulated", "--day", DAY, "--fault", "panics=2"],
        "'panics=2' is no fault",
    ),
    (["record", "--broker", "simulated", "--day", DAY, "--restart-outage", "nan"], "'nan' is no number of seconds"),
    (["record", "--broker", "simulated", "--day", DAY, "--restart-outage", "-5"], "--restart-outage"),
    (["record", "--broker", "simulated", "--day", DAY, "--restart-outage", "1e30"], "'1e30' is no number of seconds"),
    (["record", "--broker", "simulated", "--day", DAY, "--metrics-port", "99999"], "from 0 to 65535"),
    (["record", "--broker", "simulated", "--day", "9999-12-31"], "knows nothing of the year 9999"),
    (["record", "--broker", "simulated", "--day", DAY, "--data-dir", "{file}"], "is a file: name a directory"),
    (["record", "--broker", "simulated", "--day", DAY, "--data-dir", "/proc/shijim"], "cannot be used for recording"),
    (["record", "--broker", "replay", "--from", "{empty}"], "no log segment here"),
    (["record", "--broker", "replay", "--from", "{file}"], "not a Shijim log segment"),
    (["cat", "{absent}"], "no such file or folder"),
    (["cat", "{empty}"], "no log segment here"),
    (["cat", "{file}"], "not a Shijim log segment"),
    (["cat", "{file}", "--limit", "0"], "not a whole number above 0"),
    (["verify", "{absent}"], "no such file or folder"),
    (["verify", "{empty}"], "no log segment here"),
    (["repair", "{absent}"], "no such file or folder"),
    (["repair", "{empty}"], "no log segment here"),
    (["repair", "{file}"], "not a Shijim log segment"),
    (["status", "--data-dir", "{absent}"], "no such file or folder"),
    (["status", "--data-dir", "{file}"], "is a file: name a directory"),
    (["status", "--shard", "x"], "write I/N"),
]
BATCH_OPTIONS = [
    ([], "required: verb"),
    (["import", "{absent}"], "no such file"),
    (["import", "{empty}"], "no such file"),
    (["import", "{file}"], "neither Parquet"),
    (["archive", "--data-dir", "{absent}"], "no log here"),
    (["archive", "--day", "x"], "write YYYY-MM-DD"),
    (["query", "SELECT 1", "--data-dir", "{absent}"], "no archive here"),
    (["audit"], "required: --day"),
    (["audit", "--day", "2026-04-11"], "is not a trading day"),
    (["audit", "--day", DAY, "--data-dir", "{absent}"], f"nothing of trading day {DAY} is archived"),
    (["dataset", "--day", DAY, "--symbol", "NOPE"], "unknown instrument 'NOPE'"),
    (["dataset", "--day", "2026-04-11", "--symbol", "2330"], "is not a trading day"),
    (["dataset", "--day", DAY, "--symbol", "2330", "--feed-latency-ms", "-1"], "--feed-latency-ms"),
    (["backtest", "{absent}"], "no such file"),
    (["backtest", "{file}"], "not a zip file"),
    (["backtest", "{empty}"], "no such file"),
    (["demo", "--data-dir", "{file}"], "is a file"),
    (["demo", "--day", "2026-04-11"], "is not a trading day"),
]


@pytest.mark.parametrize(("name", "options", "says"), [("shijim-live", *row) for row in LIVE_OPTIONS]
                         + [("shijim", *row) for row in BATCH_OPTIONS])  # fmt: skip
def test_what_is_not_there_or_not_an_option_is_one_line(
    tmp_path: Path, name: str, options: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("hello, this is no log")
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    monkeypatch.setenv("SHIJIM_DATA_DIR", str(tmp_path / "fresh"))
    places = {place: str(tmp_path / place) for place in ("file", "empty", "absent")}
    refused(name, *(option.format(**places) for option in options), says=says)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["query", "SELECT nope FROM ticks"], "nope"),
        (["query", "DROP VIEW ticks"], "readonly"),
        (["query", ""], "not one SELECT"),
        (["audit", "--day", "2026-04-08"], "nothing of trading day 2026-04-08 is archived"),
        (["dataset", "--day", DAY, "--symbol", "1101"], "nothing of it is archived"),
        (["dataset", "--day", DAY, "--symbol", "TXFD6", "--session", "night"], "no night session"),
        (["dataset", "--day", DAY, "--symbol", "TXFD6", "--source", "nope"], "recorded by simulated"),
        (["demo"], "holds something that is not a demo's"),
    ],
)
def test_what_the_archive_does_not_have_is_one_line(made: Path, options: list[str], says: str) -> None:
    before = contents(made)
    refused("shijim", *options, "--data-dir", str(made), says=says)
    assert contents(made) == before


def regions(segment: Path) -> dict[str, int]:
    """A byte within each part of a sealed segment of one block."""
    data = segment.read_bytes()
    block, footer = data.index(b"SBLK"), data.rindex(b"SEND")
    return {"magic": 3, "header": 40, "block header": block + 9, "payload": (block + footer) // 2,
            "footer": footer + 30, "trailer": len(data) - 2}  # fmt: skip


REGIONS = ("magic", "header", "block header", "payload", "footer", "trailer")


@pytest.mark.parametrize("cut", [False, True], ids=["flipped", "cut"])
@pytest.mark.parametrize("region", REGIONS)
def test_a_damaged_segment_is_named_and_never_taken_for_sound(data: Path, region: str, cut: bool) -> None:
    [path] = wal.segment_paths(data / "wal")
    at, whole = regions(path)[region], path.read_bytes()
    path.write_bytes(whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
    shutil.rmtree(data / "archive")
    for verb in ("cat", "verify", "repair"):
        code, output, errors = tried("shijim-live", verb, str(path))
        assert "Traceback" not in errors
        lost = region not in ("footer", "trailer")
        if verb == "verify" and (lost or not cut):
            assert code in (1, 2, 3) and path.name in output + errors, (code, output, errors)
        if verb == "cat" and lost:
            assert len(output.splitlines()) < 300
            assert cut or (code in DAMAGE and errors.count("\n") == 1 and path.name in errors), errors
    _, output, errors = tried("shijim", "archive", "--data-dir", str(data))
    assert "Traceback" not in errors
    assert path.stem in output + errors or region in ("footer", "trailer") or cut
    _, output, errors = tried("shijim", "audit", "--day", DAY, "--data-dir", str(data), "--json")
    assert "Traceback" not in errors
    if region in ("block header", "payload") and not cut:
        [gap] = orjson.loads(output)["gaps"]
        assert (gap["gap_type"], gap["seq_start"], gap["seq_end"]) == ("sequence", 1, 300)


def test_a_corrupt_block_in_the_middle_is_told_by_every_stage(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "wal", RUN, _header())
    for at in range(3):
        made = trades("TXFD6", f"{DAY} 09:0{at}:00", [1] * 50, total=50 * at)
        writer.append(b"".join(encode(trade) for trade in made))
    writer.close()
    [path] = wal.segment_paths(tmp_path / "wal")
    data = bytearray(path.read_bytes())
    data[data.index(b"SBLK", data.index(b"SBLK") + 1) + 60] ^= 1
    path.write_bytes(data)
    refused("shijim-live", "cat", str(path), says="sequences 51 to 100 are missing")
    assert tried("shijim-live", "verify", str(path))[0] == 2
    refused("shijim-live", "record", "--broker", "replay", "--from", str(path), "--quiet", "--data-dir",
            str(tmp_path / "again"), "--metrics-port", "0", says="the replay stops")  # fmt: skip
    code, _, errors = tried("shijim", "archive", "--data-dir", str(tmp_path))
    assert code == 0 and errors.count("\n") == 1 and "sequences 51 to 100 are missing" in errors
    code, output, _ = tried("shijim", "audit", "--day", DAY, "--data-dir", str(tmp_path), "--json")
    report = orjson.loads(output)
    assert {(gap["gap_type"], gap["lots"], gap["seq_start"]) for gap in report["gaps"]} == {
        ("sequence", 0, 51), ("volume", 50, 50),
    }  # fmt: skip


def _header(**more: object) -> str:
    known = {"schema_version": 1, "run_id": RUN, "source": "simulated", "clock": "simulated", "created_ns": 1,
             "config_hash": "0", "build": "test"}  # fmt: skip
    return orjson.dumps(known | more).decode()


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ('{"a":1}', "schema version None"),
        (_header(schema_version=2, build="9.9"), "use the release that reads 2, like shijim 9.9, which wrote it"),
    ],
)
def test_a_segment_of_another_release_or_of_nobody_is_refused(tmp_path: Path, header: str, says: str) -> None:
    writer = LogWriter(tmp_path / "wal", RUN, header)
    writer.append(b"".join(encode(trade) for trade in trades("TXFD6", f"{DAY} 09:00:00", [1])))
    writer.close()
    refused("shijim-live", "cat", str(tmp_path / "wal"), says=says)
    _, output, errors = tried("shijim", "archive", "--data-dir", str(tmp_path))
    assert says in output and "Traceback" not in errors


def test_a_header_without_what_is_read_of_it_is_refused(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "wal", RUN, '{"schema_version":1}')
    writer.append(b"".join(encode(trade) for trade in trades("TXFD6", f"{DAY} 09:00:00", [1])))
    writer.close()
    refused("shijim-live", "cat", str(tmp_path / "wal"), says="its header has no run_id")
    _, output, errors = tried("shijim", "archive", "--data-dir", str(tmp_path))
    assert "its header has no run_id" in output and "Traceback" not in errors


def test_one_segment_that_cannot_be_archived_does_not_keep_the_others(tmp_path: Path) -> None:
    write_log(tmp_path / "wal", [Status(kind=Kind.START)], run_id="0" * 16, created_ns=-(2**63))
    write_log(tmp_path / "wal", trades("TXFD6", f"{DAY} 09:00:00", [1]))
    refused("shijim", "archive", "--data-dir", str(tmp_path), says="no record says when it happened")
    assert list((tmp_path / "archive").glob("ticks/*/*.parquet"))


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "gone"])
def test_a_damaged_file_of_the_archive_is_not_judged_and_is_archived_anew(data: Path, damage: str) -> None:
    [path] = (data / "archive").glob("ticks/*/*.parquet")
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "noise": os.urandom(len(whole) - 1)}[damage])
    for verb in (["audit"], ["dataset", "--symbol", "TXFD6"]):
        refused("shijim", *verb, "--day", DAY, "--data-dir", str(data), says="Run: shijim archive")
    assert tried("shijim", "archive", "--data-dir", str(data))[0] == 0
    assert path.read_bytes() == whole
    assert tried("shijim", "audit", "--day", DAY, "--data-dir", str(data))[0] == 0


@pytest.mark.parametrize(
    "manifest", [b"", b"{", b"[]", b"{}", b'{"run_id":1}', b"null", "cut", "other run", "no files", "text for number"]
)
def test_a_manifest_edited_by_hand_is_named_with_what_to_do(data: Path, manifest: bytes | str) -> None:
    [path] = (data / "archive" / "segments").glob("*.json")
    fields = orjson.loads(path.read_bytes())
    edited = {
        "cut": path.read_bytes()[:200],
        "other run": orjson.dumps(fields | {"run_id": "f" * 16}),
        "no files": orjson.dumps({name: value for name, value in fields.items() if name != "files"}),
        "text for number": orjson.dumps(fields | {"records": "300"}),
    }
    path.write_bytes(manifest if isinstance(manifest, bytes) else edited[manifest])
    before = contents(data)
    for verb in (["archive"], ["audit", "--day", DAY], ["dataset", "--day", DAY, "--symbol", "TXFD6"]):
        refused("shijim", *verb, "--data-dir", str(data), says="Delete it and run: shijim archive")
    assert contents(data) == before


def npz_of(data: Path) -> Path:
    return data / "datasets" / DAY / "TXFD6.npz"


@pytest.mark.parametrize("damage", ["cut", "other name", "other type", "pickled", "no meta", "bad meta", "other rows"])
def test_a_dataset_that_is_not_what_it_claims_is_refused(data: Path, damage: str) -> None:
    npz = npz_of(data)
    meta = npz.with_suffix(".meta.json")
    rows = np.load(npz)["data"]
    if damage == "cut":
        npz.write_bytes(npz.read_bytes()[:-40])
    elif damage == "other name":
        np.savez(npz, events=rows)
    elif damage == "other type":
        np.savez(npz, data=np.zeros(5))
    elif damage == "pickled":
        np.savez(npz, data=np.array([{"a": 1}], dtype=object))
    elif damage == "no meta":
        meta.unlink()
    elif damage == "bad meta":
        meta.write_text("[]")
    else:
        np.savez(npz, data=rows[:-1])
    refused("shijim", "backtest", str(npz), says="shijim dataset")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": 1.5}, "not a count"),
        ({"symbol": "A" * 17}, "16 printable"),
        ({"symbol": "台積電"}, "16 printable"),
        ({"symbol": 'A"B'}, "16 printable"),
        ({"symbol": 7}, "TypeError"),
        ({"extras": []}, "AttributeError"),
        ({"ts_ns": 10**30}, "error"),
        ({"price": "much"}, "InvalidOperation"),
        ({"exchange": "NYSE"}, "KeyError"),
    ],
)
def test_a_line_that_fits_no_record_is_quarantined_and_the_rest_imported(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    good = {"type": "MD_TICK", "symbol": "2330", "exchange": "TSE", "ts_ns": 1_775_725_200_000_000_000,
            "price": 1000.5, "size": 1, "total_volume": 1, "extras": {"tick_type": 1}}  # fmt: skip
    lines = [good, good | change, good]
    path = tmp_path / "stream.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, output, errors = tried("shijim", "import", str(path), "--data-dir", str(tmp_path))
    assert code == 0, errors
    assert "1 lines quarantined" in output + errors
    _, shown, _ = tried("shijim-live", "cat", str(tmp_path / "wal"))
    kinds = [orjson.loads(line) for line in shown.splitlines()]
    assert [event["kind"] for event in kinds if event["kind"] != "quarantine"] == ["trade", "trade"]
    assert says in "".join(event["text"] for event in kinds if event["kind"] == "quarantine")
    path.write_text(json.dumps(good | change) + "\n")
    refused("shijim", "import", str(path), "--data-dir", str(tmp_path / "first"), says="line 1 is no Shioaji callback")
    assert not (tmp_path / "first").exists()


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"size": -1}, [["volume", "-1"]]),
        ({"size": 2**32 - 1}, [["volume", "4294967295"]]),
        ({"total_volume": 2**40}, [["total_volume", "1099511627776"]]),
        ({"extras": {"tick_type": 300}}, [["side", "300"]]),
    ],
)
def test_a_number_that_no_field_can_hold_is_kept_as_text_beside_the_event(
    tmp_path: Path, change: dict[str, object], kept: list[list[str]]
) -> None:
    line = {"type": "MD_TICK", "symbol": "2330", "exchange": "TSE", "ts_ns": 1_775_725_200_000_000_000,
            "price": 1000.5, "size": 1, "total_volume": 1, "extras": {"tick_type": 1}} | change  # fmt: skip
    path = tmp_path / "stream.jsonl"
    path.write_text(json.dumps(line) + "\n")
    code, _, errors = tried("shijim", "import", str(path), "--data-dir", str(tmp_path))
    assert code == 0, errors
    _, shown, _ = tried("shijim-live", "cat", str(tmp_path / "wal"), "--kind", "trade")
    [event] = [orjson.loads(found) for found in shown.splitlines()]
    assert event["oversize"] == kept


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def fill(place: Path) -> None:
    with (place / "ballast").open("wb", buffering=0) as ballast:
        while os.statvfs(place).f_bavail:
            ballast.write(bytes(4096))


def test_a_full_disk_leaves_nothing_half_written(made: Path, full_disk: Path, tmp_path: Path) -> None:
    stream = tmp_path / "stream.jsonl"
    line = '{"type":"MD_TICK","symbol":"2330","exchange":"TSE","ts_ns":1775725200000000000,"price":1,"size":1,'
    stream.write_text((line + '"total_volume":1,"extras":{"tick_type":1}}\n') * 100)
    refused("shijim", "import", str(stream), "--data-dir", str(full_disk), says="No space left on device")
    assert contents(full_disk) == {}
    (full_disk / "wal").symlink_to(made / "wal")
    fill(full_disk)
    before = set(contents(full_disk))
    refused("shijim", "archive", "--data-dir", str(full_disk), says="No space left on device")
    assert set(contents(full_disk)) == before
    (full_disk / "ballast").unlink()
    shutil.rmtree(full_disk / "archive", ignore_errors=True)  # folders without a file
    (full_disk / "archive").symlink_to(made / "archive")
    fill(full_disk)
    for verb in (["audit"], ["dataset", "--symbol", "TXFD6"]):
        before = set(contents(full_disk))
        refused("shijim", *verb, "--day", DAY, "--data-dir", str(full_disk), says="No space left on device")
        assert set(contents(full_disk)) == before
