"""`shijim-live record` with a universe: a shard records its codes and no others, and says so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import orjson
import pytest
from made_records import SECOND_NS, ns, records, trade
from test_publisher import Log

from shijim_live.events import Kind, Status, Trade, encode_with_sides
from shijim_live.record import wal
from shijim_live.record.sink import Sink
from shijim_live.universe import (
    CODES_A_SHARD_MAX,
    Chosen,
    Universe,
    UniverseDamaged,
    UniverseMissing,
    encode_universe,
    read_universe,
    universe_path,
)

DAY = date(2026, 4, 9)
EVENTS = 20_000
COMMAND = [sys.executable, "-m", "shijim_live", "record", "--broker", "simulated", "--day", str(DAY)]


def universe_of(*shards: tuple[str, ...], day: date = DAY) -> Universe:
    chosen = [
        Chosen(code, rank, shard, 10, {"volume": 1_000, "unusual": None}, ("volume 1",))
        for rank, (shard, code) in enumerate(((n, code) for n, codes in enumerate(shards) for code in codes), start=1)
    ]
    return Universe(day, ("volume",), 10, len(shards), (date(2026, 4, 8),), {"quotes/x": "0"}, tuple(chosen), ())


def put(data_dir: Path, universe: Universe) -> Path:
    path = universe_path(data_dir / "universe", universe.day)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_universe(universe))
    return path


def record(data_dir: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--events", str(EVENTS), "--data-dir", str(data_dir), "--metrics-port", "0", *more]
    known = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=known)


def recorded_codes(data_dir: Path, shard: int = 0) -> dict[str, int]:
    """Code → events of a shard, trades and books."""
    found: dict[str, int] = {}
    for path in wal.segment_paths(data_dir / "wal"):
        if wal.read_header(path).shard == shard:
            codes = (wal.footer(path) or {})["codes"]
            assert isinstance(codes, dict)
            for code, count in codes.items():
                found[code] = found.get(code, 0) + count
    found.pop("", None)
    return found


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    folder = tmp_path_factory.mktemp("everything")
    done = record(folder)
    assert "recording every code of the feed, shard 0 of 1: no universe" in done.stderr
    return recorded_codes(folder)


def test_two_shards_record_their_codes_and_together_every_event_of_the_universe(
    tmp_path: Path, everything: dict[str, int]
) -> None:
    shards = (("TXFD6", "2330"), ("MXFD6", "2317", "0050"))
    put(tmp_path, universe_of(*shards))
    for shard, codes in enumerate(shards):
        done = record(tmp_path, "--shard", f"{shard}/2")
        assert done.returncode == 0, done.stderr
        said = f"{len(codes)} of the 5 codes of the universe of 2026-04-09, shard {shard} of 2"
        assert f"recording {said}" in done.stderr and f"of {said}" in done.stdout
        assert recorded_codes(tmp_path, shard) == {code: everything[code] for code in codes}


def test_the_shard_of_the_environment_counts_and_an_option_wins_over_it(tmp_path: Path) -> None:
    put(tmp_path, universe_of(("2330",), ("2317",)))
    shards = {"SHARD_ID": "1", "TOTAL_SHARDS": "2"}
    assert record(tmp_path, **shards).returncode == 0
    assert set(recorded_codes(tmp_path, 1)) == {"2317"}
    alone = record(tmp_path, "--shard", "0/1", **shards)
    assert "is made for 2 shards and this recorder is one of 1" in alone.stderr


def test_without_a_file_or_with_none_everything_is_recorded(tmp_path: Path, everything: dict[str, int]) -> None:
    put(tmp_path, universe_of(("2330",)))
    assert record(tmp_path, "--universe", "none").returncode == 0
    assert recorded_codes(tmp_path) == everything


def test_another_file_may_be_named_also_of_another_day(tmp_path: Path, everything: dict[str, int]) -> None:
    put(tmp_path, universe_of(("2330",)))
    other = put(tmp_path / "elsewhere", universe_of(("2317",), day=date(2026, 4, 8)))
    done = record(tmp_path, "--universe", str(other))
    assert "1 of the 1 codes of the universe of 2026-04-08" in done.stdout
    assert recorded_codes(tmp_path) == {"2317": everything["2317"]}


def test_a_universe_made_for_other_shards_is_refused(tmp_path: Path) -> None:
    put(tmp_path, universe_of(("2330",), ("2317",)))
    done = record(tmp_path)
    assert done.returncode == 2
    assert "is made for 2 shards and this recorder is one of 1: set TOTAL_SHARDS=2" in done.stderr
    assert not list(tmp_path.rglob("*.wal"))


def test_codes_the_feed_does_not_have_are_said_and_a_shard_without_any_is_refused(tmp_path: Path) -> None:
    put(tmp_path, universe_of(("2330", "1101"), ("1102",)))
    done = record(tmp_path, "--shard", "0/2", "--quiet")
    assert done.returncode == 0
    assert done.stderr == "shijim-live: the feed does not have 1101, 1102 of the universe\n"
    refused = record(tmp_path, "--shard", "1/2")
    assert refused.returncode == 4 and "none of the 1 codes of this shard: 1102" in refused.stderr


def test_the_header_says_what_was_chosen_and_keeps_what_the_market_was(tmp_path: Path) -> None:
    put(tmp_path, universe_of(("TXFD6",), ("2330", "0050")))
    for shard in range(2):
        assert record(tmp_path, "--shard", f"{shard}/2").returncode == 0
    headers = [orjson.loads(wal.open_segment(path)[0].header) for path in wal.segment_paths(tmp_path / "wal")]
    (config,) = {orjson.dumps(header["config"]) for header in headers}
    market = {"day": str(DAY), "seed": 1, "events": EVENTS}
    assert orjson.loads(config) == market | {"universe": [["TXFD6"], ["0050", "2330"]]}
    assert len({header["config_hash"] for header in headers}) == 1  # one exchange, also for who looks at the headers


def stopped_run(folder: Path, *more: str) -> None:
    """Records until something is there, then stops it."""
    command = [*COMMAND, "--events", str(EVENTS), "--data-dir", str(folder), "--metrics-port", "0", "--speed", "30000"]
    process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "events durable" in line and not line.startswith("         0"):
            break
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_restart_with_another_universe_goes_on_from_there_with_a_config_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, universe_of(("TXFD6", "MXFD6")))
    stopped_run(tmp_path)
    before = recorded_codes(tmp_path)
    put(tmp_path, universe_of(("MXFD6", "TMFD6")))
    done = record(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed after" in done.stdout
    after = recorded_codes(tmp_path)
    assert after["TXFD6"] == before["TXFD6"]
    assert after["MXFD6"] > before["MXFD6"] and "TMFD6" not in before and after["TMFD6"] > 0
    hashes = {wal.read_header(path).config_hash for path in wal.segment_paths(tmp_path / "wal")}
    assert len(hashes) == 2


def test_another_seed_is_another_market_whatever_the_universe(tmp_path: Path) -> None:
    put(tmp_path, universe_of(("TXFD6",)))
    stopped_run(tmp_path)
    done = record(tmp_path, "--seed", "2")
    assert done.returncode == 4 and "holds another simulation of this day" in done.stderr


def test_a_replay_takes_the_codes_of_the_file_it_is_given(tmp_path: Path, everything: dict[str, int]) -> None:
    assert record(tmp_path / "source").returncode == 0
    file = put(tmp_path, universe_of(("2330", "1101")))
    done = subprocess.run(
        [*COMMAND[:4], "--broker", "replay", "--from", str(tmp_path / "source" / "wal"), "--metrics-port", "0",
         "--data-dir", str(tmp_path / "again"), "--universe", str(file)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the feed does not have 1101" in done.stderr
    assert recorded_codes(tmp_path / "again") == {"2330": everything["2330"]}


class Panicking:
    """Not one of the broker's classes, and worse: looking at it ends badly."""

    @property
    def code(self) -> str:
        raise SystemError("the object panicked")


def test_an_object_whose_code_cannot_be_read_is_quarantined_not_dropped(tmp_path: Path) -> None:
    log = Log(tmp_path)
    sink = Sink(log.publisher, codes=("2330",))
    sink.quote(Panicking(), ns("2026-04-09 09:00:00"))
    (kept,) = log.finish()
    assert isinstance(kept, Status) and kept.kind == Kind.QUARANTINE


def test_records_keep_their_side_records_and_what_the_feed_said_of_itself(tmp_path: Path) -> None:
    log = Log(tmp_path)
    sink = Sink(log.publisher, codes=("TXFD6",))
    at = ns("2026-04-09 09:00:00")
    wide = replace(trade("TXFD6", at, 1, 1), price_e6=-(2**63), oversize=(("price_e6", "0.00000001"),))
    other = replace(trade("2330", at + 1, 1, 1), price_e6=-(2**63), oversize=(("price_e6", "0.00000002"),))
    said = Status(kind=Kind.OUTAGE, received_ns=at, begin_ns=at - SECOND_NS, end_ns=at, text="lost")
    sink.records(encode_with_sides(wide) + encode_with_sides(other) + records([said]))
    kept = log.finish()
    assert [event.code for event in kept] == ["TXFD6", ""]
    assert isinstance(kept[0], Trade) and kept[0].oversize == wide.oversize
    assert kept[1].kind == Kind.OUTAGE


def damage(change: Callable[[dict[str, list[dict[str, object]]]], object]) -> bytes:
    contents = orjson.loads(encode_universe(universe_of(("TXFD6", "2330"), ("2317",))))
    change(contents)
    return orjson.dumps(contents)


DAMAGED = [
    # what is done to the file, what is named
    (lambda it: it["codes"][1].update(code="TXFD6"), "codes[2] names TXFD6 a second time"),
    (lambda it: it["codes"][1].update(code="hello"), "codes[2] has an unknown instrument 'hello'"),
    (lambda it: it["codes"][1].update(code=2330), "codes[2] has the code 2330, which is no text"),
    (lambda it: it["codes"][1].update(rank=7), "codes[2] 2330 has rank 7"),
    (lambda it: it["codes"][1].update(rank=True), "codes[2] 2330: rank is True"),
    (lambda it: it["codes"][0].update(shard=2), "codes[1] TXFD6 is of shard 2, of 2 counted from 0"),
    (lambda it: it["codes"][2].update(shard=0), "shard 1 has 0 codes"),
    (lambda it: it["codes"][0].update(load=0.5), "codes[1] TXFD6: load is 0.5"),
    (lambda it: it["codes"][0]["scores"].update(volume="7"), "codes[1] TXFD6: score volume is '7'"),
    (lambda it: it["codes"][0].pop("reasons"), "codes[1] must have the fields"),
    (lambda it: it["codes"].clear(), "codes is empty"),
    (lambda it: it.pop("codes"), "codes is no list"),
    (lambda it: it.update(codse=[]), "'codse' is no field of a universe"),
    (lambda it: it.update(schema=9), "schema is 9, this release reads 1"),
    (lambda it: it.update(shards="2"), "shards is '2'"),
    (lambda it: it.update(day="2026-04-10"), "day is 2026-04-10, in the file of 2026-04-09"),
    (lambda it: it.update(day="tomorrow"), "day is 'tomorrow'"),
    (lambda it: it.update(day="2026-04-11"), "2026-04-11 (Saturday) is not a trading day"),
    (lambda it: it.update(lookback=[3]), "lookback is 3"),
    (lambda it: it.update(strategies="volume"), "strategies is no list of texts"),
]


@pytest.mark.parametrize(("change", "said"), DAMAGED)
def test_a_file_that_was_damaged_by_hand_is_refused_naming_what(
    tmp_path: Path, change: Callable[[object], object], said: str
) -> None:
    path = universe_path(tmp_path, DAY)
    path.write_bytes(damage(change))
    with pytest.raises(ValueError) as refused:
        read_universe(tmp_path, DAY)
    assert said in str(refused.value)
    if "trading day" not in said:
        assert str(path) in str(refused.value) and "rank the day again" in str(refused.value)


def test_half_a_file_and_no_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UniverseMissing, match="Run: shijim rank --day 2026-04-09"):
        read_universe(tmp_path, DAY)
    universe_path(tmp_path, DAY).write_bytes(encode_universe(universe_of(("2330",)))[:-9])
    with pytest.raises(UniverseDamaged, match="is no JSON"):
        read_universe(tmp_path, DAY)


def test_a_shard_holds_no_more_codes_than_can_be_planned(tmp_path: Path) -> None:
    codes = tuple(f"{number}" for number in range(1_000, 1_001 + CODES_A_SHARD_MAX))
    path = put(tmp_path, universe_of(codes))
    with pytest.raises(UniverseDamaged, match="shard 0 has 1,201 codes: 1 to 1,200 can be planned"):
        read_universe(path.parent, DAY)


def test_what_is_written_is_read_back_and_the_same_bytes(tmp_path: Path) -> None:
    universe = universe_of(("TXFD6", "2330"), ("2317",))
    path = put(tmp_path, universe)
    assert read_universe(path.parent, DAY) == universe
    assert encode_universe(read_universe(path.parent, DAY)) == path.read_bytes()
