"""Settings: precedence, types, every problem at once, and no secret in any text."""

import copy
import pickle
import traceback
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shijim_live.settings import SETTINGS_HELP, ClickHouse, Secret, Settings, SettingsError

ROOT = Path(__file__).parents[1]
NAMES_IN_THE_DESIGN = """
SHIOAJI_API_KEY SHIOAJI_SECRET_KEY SHIOAJI_SIMULATION SHIOAJI_CA_PATH SHIOAJI_CA_PASSWORD
SHIJIM_DATA_DIR SHIJIM_RAW_DIR SHIJIM_HISTORY SHIJIM_FALLBACK_DIR SHIJIM_ARCHIVE_URL CLICKHOUSE_DSN CLICKHOUSE_CLUSTER
SHIJIM_CH_FLUSH_THRESHOLD SHIJIM_CH_FLUSH_INTERVAL_SEC SHIJIM_CH_ASYNC_INSERT SHIJIM_CH_ASYNC_WAIT
SHARD_ID TOTAL_SHARDS SHIJIM_STARTUP_JITTER_SEC SHIJIM_BUS_MAX_QUEUE
UNIVERSE_STRATEGIES UNIVERSE_LIMIT UNIVERSE_LOOKBACK_DAYS SHIJIM_METRICS_PORT
SHIJIM_ALERT_COMMAND SHIJIM_ALERT_WEBHOOK
""".split()  # noqa: SIM905 - easier to compare with the documentation


def problems(directory: Path, profile: str | None = None, **environ: str) -> str:
    """The text of the refusal."""
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ, directory, profile)
    return str(caught.value)


def test_an_empty_environment_gives_working_defaults(tmp_path: Path) -> None:
    settings = Settings.load({}, tmp_path)
    assert settings.data_dir == settings.raw_dir == tmp_path / "data"
    assert settings.wal_dir == tmp_path / "data" / "wal"
    assert settings.archive_dir == tmp_path / "data" / "archive"
    assert settings.datasets_dir == tmp_path / "data" / "datasets"
    assert settings.reports_dir == tmp_path / "data" / "reports"
    assert settings.fallback_dir == tmp_path / "data" / "fallback"
    assert (settings.simulation, settings.clickhouse, settings.archive_url, settings.ca_path) == (
        True,
        None,
        None,
        None,
    )
    assert (settings.shard_id, settings.total_shards, settings.ring_slots) == (0, 1, 65_536)
    assert settings.metrics_port == 9_470
    assert settings.notes == ()
    assert list(tmp_path.iterdir()) == []


EVERY = {
    "SHIOAJI_API_KEY": "key",
    "SHIOAJI_SECRET_KEY": "secret",
    "SHIOAJI_SIMULATION": "off",
    "SHIOAJI_CA_PATH": "ca.pfx",
    "SHIOAJI_CA_PASSWORD": "pass",
    "SHIJIM_RAW_DIR": "fast",
    "SHIJIM_HISTORY": "shioaji",
    "SHIJIM_FALLBACK_DIR": "refused",
    "SHIJIM_ARCHIVE_URL": "s3://bucket/prefix",
    "CLICKHOUSE_DSN": "https://me:p%40ss@db.example/ticks",
    "CLICKHOUSE_CLUSTER": "main",
    "SHIJIM_CH_FLUSH_THRESHOLD": "10",
    "SHIJIM_CH_FLUSH_INTERVAL_SEC": "0.25",
    "SHIJIM_CH_ASYNC_INSERT": "YES",
    "SHIJIM_CH_ASYNC_WAIT": "1",
    "SHARD_ID": "2",
    "TOTAL_SHARDS": "3",
    "SHIJIM_STARTUP_JITTER_SEC": "30",
    "SHIJIM_BUS_MAX_QUEUE": "1024",
    "UNIVERSE_STRATEGIES": "unusual, volume",
    "UNIVERSE_LIMIT": "5",
    "UNIVERSE_LOOKBACK_DAYS": "7",
    "SHIJIM_METRICS_PORT": "0",
    "SHIJIM_ALERT_COMMAND": "notify --urgent",
    "SHIJIM_ALERT_WEBHOOK": "https://hooks.example/key",
}


def test_every_value_is_read_with_its_type(tmp_path: Path) -> None:
    (tmp_path / "ca.pfx").write_bytes(b"")
    environ = EVERY | {"SHIJIM_DATA_DIR": str(tmp_path / "d")}
    assert sorted(environ) == sorted(NAMES_IN_THE_DESIGN)
    settings = Settings.load(environ | {"XDG_STATE_HOME": str(tmp_path / "state")}, tmp_path)
    assert settings.person_dir == tmp_path / "state" / "shijim" / "person"
    assert settings == Settings(
        api_key=Secret("key"),
        secret_key=Secret("secret"),
        simulation=False,
        ca_path=tmp_path / "ca.pfx",
        ca_password=Secret("pass"),
        data_dir=tmp_path / "d",
        raw_dir=tmp_path / "fast",
        history="shioaji",
        fallback_dir=tmp_path / "refused",
        archive_url="s3://bucket/prefix",
        clickhouse=ClickHouse("db.example", 8443, True, "ticks", "me", Secret("p@ss")),
        clickhouse_cluster="main",
        clickhouse_flush_rows=10,
        clickhouse_flush_ms=250,
        clickhouse_async_insert=True,
        clickhouse_async_wait=True,
        shard_id=2,
        total_shards=3,
        startup_jitter_ms=30_000,
        ring_slots=1_024,
        universe_strategies=("unusual", "volume"),
        universe_limit=5,
        universe_lookback_days=7,
        metrics_port=0,
        alert_command="notify --urgent",
        alert_webhook=Secret("https://hooks.example/key"),
        state_home=tmp_path / "state",
        origins=settings.origins,
    )
    settings.require_live_trading()


def test_flags_win_over_environment_over_profile_over_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("UNIVERSE_LIMIT=1\nTOTAL_SHARDS=8\nSHARD_ID=1\nSHIJIM_METRICS_PORT=1001\n")
    (tmp_path / ".env.live").write_text("UNIVERSE_LIMIT=2\nSHARD_ID=2\nSHIJIM_METRICS_PORT=1002\n")
    environ = {"UNIVERSE_LIMIT": "3", "SHARD_ID": "3"}
    settings = Settings.load(environ, tmp_path, "live", universe_limit=4, shard_id=None)
    assert (settings.universe_limit, settings.shard_id) == (4, 3)
    assert (settings.metrics_port, settings.total_shards) == (1_002, 8)
    origins = {name: (value, origin) for name, value, origin in settings.origins}
    assert origins["UNIVERSE_LIMIT"] == ("4", "flag")
    assert origins["SHARD_ID"] == ("3", "environment")
    assert origins["SHIJIM_METRICS_PORT"] == ("1002", ".env.live")
    assert origins["TOTAL_SHARDS"] == ("8", ".env")
    assert origins["UNIVERSE_STRATEGIES"] == ("volume,volatility,unusual", "default")


def test_flags_may_be_typed_values(tmp_path: Path) -> None:
    settings = Settings.load(
        {},
        tmp_path,
        data_dir=tmp_path / "x",
        simulation=False,
        universe_strategies=("volume", "unusual"),
        metrics_port=0,
    )
    assert (settings.data_dir, settings.simulation, settings.metrics_port) == (tmp_path / "x", False, 0)
    assert settings.universe_strategies == ("volume", "unusual")


def test_a_flag_that_does_not_exist_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="data_directory"):
        Settings.load({}, tmp_path, data_directory="x")


def test_an_empty_value_counts_as_not_set(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("UNIVERSE_LIMIT=7\n")
    settings = Settings.load({"UNIVERSE_LIMIT": "", "SHIJIM_DATA_DIR": " "}, tmp_path)
    assert (settings.universe_limit, settings.data_dir) == (7, tmp_path / "data")


def test_dotenv_knows_comments_quotes_and_export(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# keys\n\nexport SHIOAJI_API_KEY='a b#c'\nSHIOAJI_SECRET_KEY = \"x=y\"  # mine\nUNIVERSE_LIMIT=9 # few\n"
    )
    settings = Settings.load({}, tmp_path)
    assert settings.api_key.reveal() == "a b#c"
    assert settings.secret_key.reveal() == "x=y"
    assert settings.universe_limit == 9


def test_a_bad_dotenv_line_is_named_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("UNIVERSE_LIMIT=1\nSHIOAJI_API_KEY 'hunter2\nSHIOAJI_SECRET_KEY='hunter2\n")
    said = problems(tmp_path)
    assert f"{tmp_path}/.env:2:" in said
    assert f"{tmp_path}/.env:3:" in said
    assert "hunter2" not in said


def test_an_unreadable_dotenv_is_a_problem_and_a_missing_one_is_not(tmp_path: Path) -> None:
    assert Settings.load({}, tmp_path / "nowhere").universe_limit == 100
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8 text" in problems(tmp_path)
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    assert "cannot be read" in problems(tmp_path)


def test_a_profile_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path}/.env.live does not exist" in problems(tmp_path, "live")


def test_a_misspelt_variable_is_noted_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SHIJIM_DATADIR=x\nCLICKHOUSE_USER=compose\nSHIJIM_NO_RUST=1\n")
    (note,) = Settings.load({}, tmp_path).notes
    assert note == "SHIJIM_DATADIR in .env is no setting of Shijim and was ignored; did you mean SHIJIM_DATA_DIR?"


WRONG = [
    # variable, value, what is said
    ("SHIOAJI_SIMULATION", "maybe", "must be true or false"),
    ("SHIOAJI_CA_PATH", "no-such.pfx", "there is no file"),
    ("SHIJIM_DATA_DIR", "a-file", "is a file: name a directory"),
    ("SHIJIM_RAW_DIR", "a-file/below", "is a file: name a directory"),
    ("SHIJIM_FALLBACK_DIR", "~nosuchuser/x", "there is no such user"),
    ("SHIJIM_ARCHIVE_URL", "ftp://bucket", "s3://bucket/prefix"),
    ("CLICKHOUSE_CLUSTER", "a b", "cluster name"),
    ("SHIJIM_CH_FLUSH_THRESHOLD", "0", "from 1 to 10000000"),
    ("SHIJIM_CH_FLUSH_INTERVAL_SEC", "0", "number of seconds from 0.001"),
    ("SHIJIM_CH_FLUSH_INTERVAL_SEC", "0.0005", "number of seconds"),
    ("SHIJIM_CH_FLUSH_INTERVAL_SEC", "nan", "number of seconds"),
    ("SHIJIM_CH_ASYNC_INSERT", "2", "must be true or false"),
    ("SHIJIM_CH_ASYNC_WAIT", "x", "must be true or false"),
    ("SHARD_ID", "-1", "whole number from 0"),
    ("SHARD_ID", "1", "shards count from 0: with TOTAL_SHARDS=1 the last one is 0"),
    ("TOTAL_SHARDS", "0", "whole number from 1"),
    ("TOTAL_SHARDS", "four", "whole number from 1"),
    ("SHIJIM_STARTUP_JITTER_SEC", "-1", "from 0 to 600"),
    ("SHIJIM_STARTUP_JITTER_SEC", "inf", "from 0 to 600"),
    ("SHIJIM_BUS_MAX_QUEUE", "512", "from 1024"),
    ("SHIJIM_BUS_MAX_QUEUE", "1500", "power of two: 1024 or 2048"),
    ("SHIJIM_BUS_MAX_QUEUE", "1e5", "whole number"),
    ("UNIVERSE_STRATEGIES", "Volume", "no strategy 'Volume': write some of volume, volatility, unusual"),
    ("UNIVERSE_STRATEGIES", "amount", "no strategy 'amount'"),
    ("UNIVERSE_STRATEGIES", "unusual,,volume", "no strategy ''"),
    ("UNIVERSE_STRATEGIES", "volume,volume", "twice"),
    ("UNIVERSE_LIMIT", "0", "from 1"),
    ("UNIVERSE_LOOKBACK_DAYS", "9999999999999999999999", "from 1"),
    ("SHIJIM_METRICS_PORT", "65536", "from 0 to 65535"),
    ("SHIJIM_METRICS_PORT", "９４７０", "from 0 to 65535"),
]


@pytest.mark.parametrize(("name", "value", "said"), WRONG)
def test_a_wrong_value_is_named_shown_and_explained(tmp_path: Path, name: str, value: str, said: str) -> None:
    (tmp_path / "a-file").touch()
    text = problems(tmp_path, **{name: value})
    assert f"{name}={value!r} [environment]: " in text
    assert said in text


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    wrong = {name: value for name, value, _ in WRONG}
    wrong |= {"CLICKHOUSE_DSN": "http://db:9000", "SHARD_ID": "-1"}
    with pytest.raises(SettingsError) as caught:
        Settings.load(wrong, tmp_path)
    named = {problem.split("=")[0].split(" ")[0] for problem in caught.value.problems}
    assert named >= set(wrong)
    assert str(caught.value).startswith(f"{len(caught.value.problems)} settings are wrong:\n")


def test_a_shard_is_only_judged_against_a_sound_total(tmp_path: Path) -> None:
    assert "count from 0" not in problems(tmp_path, SHARD_ID="3", TOTAL_SHARDS="x")
    assert "the last one is 3" in problems(tmp_path, SHARD_ID="4", TOTAL_SHARDS="4")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SHIOAJI_API_KEY": "k"}, "SHIOAJI_SECRET_KEY [default]: is not set though the other broker key is"),
        ({"SHIOAJI_SECRET_KEY": "k"}, "SHIOAJI_API_KEY [default]: is not set though the other broker key is"),
        ({"SHIOAJI_CA_PATH": "a-file"}, "SHIOAJI_CA_PASSWORD [default]: is not set"),
        ({"SHIOAJI_CA_PASSWORD": "p"}, "SHIOAJI_CA_PATH [default]: is not set"),
        ({"CLICKHOUSE_CLUSTER": "main"}, "CLICKHOUSE_CLUSTER='main' [environment]: needs CLICKHOUSE_DSN"),
    ],
)
def test_settings_that_need_each_other_are_asked_for(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    (tmp_path / "a-file").touch()
    assert said in problems(tmp_path, **environ)


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("http://db", ClickHouse("db", 8123, False, "default", "default", Secret())),
        ("http://db:18123/ticks/", ClickHouse("db", 18123, False, "ticks", "default", Secret())),
        ("https://u:p@db/x", ClickHouse("db", 8443, True, "x", "u", Secret("p"))),
        ("https://u:%2F%3F%23%40@db/x", ClickHouse("db", 8443, True, "x", "u", Secret("/?#@"))),
        ("http://u:p@[::1]:8123/x", ClickHouse("::1", 8123, False, "x", "u", Secret("p"))),
    ],
)
def test_a_dsn_is_taken_apart(tmp_path: Path, dsn: str, expected: ClickHouse) -> None:
    settings = Settings.load({"CLICKHOUSE_DSN": dsn}, tmp_path)
    assert settings.clickhouse == expected
    assert settings.notes == ()


def test_a_clickhouse_scheme_is_accepted_and_explained(tmp_path: Path) -> None:
    settings = Settings.load({"CLICKHOUSE_DSN": "clickhouse://u:hunter2@db/x"}, tmp_path)
    assert settings.clickhouse == ClickHouse("db", 8123, False, "x", "u", Secret("hunter2"))
    assert str(settings.clickhouse) == "http://u:********@db:8123/x"
    assert any("clickhouse:// is taken as http://" in note for note in settings.notes)


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        (
            "clickhouse://u:hunter2@db:9000/x",
            "port 9000 speaks ClickHouse's native protocol and Shijim speaks HTTP: use",
        ),
        ("https://u:hunter2@db:9440/x", "use port 8443"),
        ("tcp://u:hunter2@db:9000/x", "must start with http://"),
        ("u:hunter2@db:8123", "must start with http://"),
        ("hunter2", "must start with http://"),
        ("http://u:hunter2/@db:8123/x", "cannot be parsed"),
        ("http://u:hunter2@db:port/x", "cannot be parsed"),
        ("http://u:hunter2@[db/x", "cannot be parsed"),
        ("http://u:hunter2@db:99999/x", "cannot be parsed"),
        ("http://u:hunter2@:8123/x", "names no host"),
        ("http:///hunter2", "names no host"),
        ("http://u@db/x?password=hunter2", "nothing may follow the database"),
        ("http://u@db/x#hunter2", "nothing may follow the database"),
        ("http://u@db/hunter2/y", "the database, after the last /"),
    ],
)
def test_a_bad_dsn_is_explained_and_never_shown(tmp_path: Path, dsn: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({"CLICKHOUSE_DSN": dsn}, tmp_path)
    shown = "".join(traceback.format_exception(caught.value))
    assert "CLICKHOUSE_DSN (value hidden) [environment]: " in shown
    assert said in shown
    assert "hunter2" not in shown


def test_an_unconfirmed_insert_is_noted(tmp_path: Path) -> None:
    settings = Settings.load({"SHIJIM_CH_ASYNC_INSERT": "1", "SHIJIM_CH_ASYNC_WAIT": "0"}, tmp_path)
    assert any("SHIJIM_CH_ASYNC_WAIT=false" in note for note in settings.notes)


def test_a_login_in_a_url_is_hidden_wherever_it_stands(tmp_path: Path) -> None:
    said = problems(tmp_path, SHIJIM_ARCHIVE_URL="s3://key:hunter2@bucket")
    assert "SHIJIM_ARCHIVE_URL (value hidden)" in said
    assert "hunter2" not in said


def test_no_secret_is_seen_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / "ca.pfx").touch()
    environ = {
        "SHIOAJI_API_KEY": "hunter2",
        "SHIOAJI_SECRET_KEY": "hunter2",
        "SHIOAJI_CA_PATH": "ca.pfx",
        "SHIOAJI_CA_PASSWORD": "hunter2",
        "CLICKHOUSE_DSN": "clickhouse://u:hunter2@db/x",
        "SHIJIM_ALERT_WEBHOOK": "https://hooks.example/hunter2",
    }
    settings = Settings.load(environ, tmp_path)
    shown = f"{settings} {settings!r} {settings.origins} {settings.notes} {settings.clickhouse} {settings.clickhouse!r}"
    assert "hunter2" not in shown
    assert [name for name, value, _ in settings.origins if value == "********"] == [
        variable.name for variable in SETTINGS_HELP if variable.secret
    ]
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ | {"SHARD_ID": "x"}, tmp_path)
    assert "hunter2" not in str(caught.value)


@given(st.text(min_size=1))
def test_a_secret_shows_only_a_mask(text: str) -> None:
    secret = Secret(text)
    assert f"{secret}" == str(secret) == "%s" % secret == "********"  # noqa: UP031 - loggers format this way
    assert repr(secret) == repr([secret])[1:-1] == "Secret('********')"
    assert secret.reveal() == text
    assert secret
    assert not Secret()
    assert copy.deepcopy(secret) == pickle.loads(pickle.dumps(secret)) == secret
    assert secret != Secret(text + "x")


def test_live_trading_needs_keys_and_a_certificate(tmp_path: Path) -> None:
    settings = Settings.load({}, tmp_path)
    with pytest.raises(SettingsError) as caught:
        settings.require_live_trading()
    assert len(caught.value.problems) == 3
    for name in ("SHIOAJI_API_KEY", "SHIOAJI_SECRET_KEY", "SHIOAJI_CA_PATH"):
        assert name in str(caught.value)
    with_keys = Settings.load({"SHIOAJI_API_KEY": "a", "SHIOAJI_SECRET_KEY": "b"}, tmp_path)
    with_keys.require_broker_keys()
    with pytest.raises(SettingsError, match="SHIOAJI_CA_PATH") as caught:
        with_keys.require_live_trading()
    assert len(caught.value.problems) == 1


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        Settings.load({}, tmp_path).shard_id = 1  # type: ignore[misc]


def test_the_help_lists_every_variable_and_every_field() -> None:
    assert [variable.name for variable in SETTINGS_HELP] == NAMES_IN_THE_DESIGN
    assert all(variable.meaning for variable in SETTINGS_HELP)
    flags = {variable.flag for variable in SETTINGS_HELP} - {"clickhouse_dsn"}
    flags |= {"clickhouse", "state_home", "notes", "origins"}
    assert flags == {field.name for field in fields(Settings)}


def test_from_environment_reads_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIVERSE_LIMIT", "12")
    assert Settings.from_environment(total_shards=2).universe_limit == 12


def test_no_other_file_of_the_live_half_reads_the_environment() -> None:
    # The SDK takes its log and home folders from the environment only; a test is known by it, and may not log in.
    allowed = {"settings.py", "shioaji.py", "login.py"}
    readers = {
        path.name
        for path in (ROOT / "shijim_live").rglob("*.py")
        if any(word in path.read_text() for word in ("os.environ", "getenv", "environb"))
    }
    assert "settings.py" in readers
    assert readers <= allowed
