"""Every setting of Shijim: one frozen class, read once at start, every problem reported at once.

Not a place for behaviour, and the only file that reads the environment. Flags win over the environment, the environment
over `.env.<profile>`, that over `.env`. An empty value counts as not set.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from shijim_live.settings_sources import Reader, Secret, SettingsError, Variable, layers
from shijim_live.universe import STRATEGIES

__all__ = ["SETTINGS_HELP", "ClickHouse", "Secret", "Settings", "SettingsError", "Variable"]

RING_SLOTS_MIN = 1_024  # fewer could not hold one burst while a commit syncs
RING_SLOTS_MAX = 1_048_576  # ring.rs: 277 MB of shared memory
SHARDS_MAX = 1_024
FLUSH_ROWS_MAX = 10_000_000

HTTP_PORTS = {"http": 8123, "https": 8443, "clickhouse": 8123}
NATIVE_PORTS = {9000: 8123, 9440: 8443}  # native protocol → the HTTP port that serves the same server


SETTINGS_HELP = (
    Variable("SHIOAJI_API_KEY", "api_key", "", "broker API key", secret=True),
    Variable("SHIOAJI_SECRET_KEY", "secret_key", "", "broker secret key", secret=True),
    Variable("SHIOAJI_SIMULATION", "simulation", "true", "use the broker's test service; its data is marked as such"),
    Variable("SHIOAJI_CA_PATH", "ca_path", "", "certificate file (.pfx), needed for live orders"),
    Variable("SHIOAJI_CA_PASSWORD", "ca_password", "", "password of the certificate file", secret=True),
    Variable("SHIJIM_DATA_DIR", "data_dir", "data", "home of everything written; relative to the .env file's folder"),
    Variable("SHIJIM_RAW_DIR", "raw_dir", "", "home of wal/, best on its own disk; default SHIJIM_DATA_DIR"),
    Variable("SHIJIM_HISTORY", "history", "simulated", "who is asked about a day not recorded: simulated, shioaji"),
    Variable("SHIJIM_FALLBACK_DIR", "fallback_dir", "", "rows ClickHouse refused; default SHIJIM_DATA_DIR/fallback"),
    Variable(
        "SHIJIM_ARCHIVE_URL", "archive_url", "", "s3://bucket/prefix for archive and datasets; default local disk"
    ),
    Variable("CLICKHOUSE_DSN", "clickhouse_dsn", "", "http(s)://user:password@host:8123/database", secret=True),
    Variable(
        "CLICKHOUSE_CLUSTER", "clickhouse_cluster", "", "cluster name; tables are then replicated and distributed"
    ),
    Variable("SHIJIM_CH_FLUSH_THRESHOLD", "clickhouse_flush_rows", "50000", "rows of one insert into ClickHouse"),
    Variable("SHIJIM_CH_FLUSH_INTERVAL_SEC", "clickhouse_flush_ms", "1", "longest wait before an insert, in seconds"),
    Variable("SHIJIM_CH_ASYNC_INSERT", "clickhouse_async_insert", "false", "let the server gather inserts"),
    Variable("SHIJIM_CH_ASYNC_WAIT", "clickhouse_async_wait", "true", "wait until a gathered insert is written"),
    Variable("SHARD_ID", "shard_id", "0", "this recorder's share of the universe, counted from 0"),
    Variable("TOTAL_SHARDS", "total_shards", "1", "how many recorders share the universe"),
    Variable("SHIJIM_STARTUP_JITTER_SEC", "startup_jitter_ms", "0", "random wait before login, at most, in seconds"),
    Variable("SHIJIM_BUS_MAX_QUEUE", "ring_slots", "65536", "slots of the ring, a power of two; 256 bytes each"),
    Variable("UNIVERSE_STRATEGIES", "universe_strategies", ",".join(STRATEGIES), "what chooses the universe, in turn"),
    Variable("UNIVERSE_LIMIT", "universe_limit", "100", "codes to record; the broker allows 200 topics, two a code"),
    Variable("UNIVERSE_LOOKBACK_DAYS", "universe_lookback_days", "20", "trading days a ranking looks back"),
    Variable(
        "SHIJIM_METRICS_PORT", "metrics_port", "9470", "base port of /metrics, each role adds its offset; 0 = off"
    ),
    Variable("SHIJIM_ALERT_COMMAND", "alert_command", "", "run when a run failed, the alert as JSON on stdin"),
    Variable("SHIJIM_ALERT_WEBHOOK", "alert_webhook", "", "URL the same JSON is posted to", secret=True),
)


@dataclass(frozen=True, slots=True)
class ClickHouse:
    """Where the server's HTTP interface listens."""

    host: str
    port: int
    secure: bool  # https
    database: str
    user: str
    password: Secret

    def __str__(self) -> str:
        """The DSN with its password masked, fit for a log."""
        login = f"{self.user}:{self.password}@" if self.password else f"{self.user}@"
        return f"http{'s' * self.secure}://{login}{self.host}:{self.port}/{self.database}"

    @property
    def name(self) -> str:
        """What this database is called in names of folders: `127.0.0.1-8123-shijim`."""
        return re.sub(r"[^A-Za-z0-9._-]", "_", f"{self.host}-{self.port}-{self.database}")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked. Paths are absolute; durations are milliseconds. Nothing on disk is created."""

    api_key: Secret
    secret_key: Secret
    simulation: bool
    ca_path: Path | None
    ca_password: Secret
    data_dir: Path
    raw_dir: Path
    history: str
    fallback_dir: Path
    archive_url: str | None
    clickhouse: ClickHouse | None
    clickhouse_cluster: str | None
    clickhouse_flush_rows: int
    clickhouse_flush_ms: int
    clickhouse_async_insert: bool
    clickhouse_async_wait: bool
    shard_id: int
    total_shards: int
    startup_jitter_ms: int
    ring_slots: int
    universe_strategies: tuple[str, ...]
    universe_limit: int
    universe_lookback_days: int
    metrics_port: int
    alert_command: str
    alert_webhook: Secret
    state_home: Path = Path()  # of the user, by the XDG base directory specification
    notes: tuple[str, ...] = ()  # what a person should know though nothing is wrong
    origins: tuple[tuple[str, str, str], ...] = ()  # (variable, value with secrets masked, where it came from)

    @property
    def wal_dir(self) -> Path:
        """The log: wal/<slot>/*.wal."""
        return self.raw_dir / "wal"

    @property
    def archive_dir(self) -> Path:
        return self.data_dir / "archive"

    @property
    def market_dir(self) -> Path:
        """What the broker said of the market: instruments, daily quotes, history answers."""
        return self.data_dir / "market"

    @property
    def person_dir(self) -> Path:
        """What a person has left of the broker, whatever the data folder: leases, logins, orders, the quota."""
        return self.state_home / "shijim" / "person"

    @property
    def universe_dir(self) -> Path:
        """What to record, a file a trading day."""
        return self.data_dir / "universe"

    @property
    def calendar_overrides(self) -> Path:
        """The operator's own closures (a typhoon declared tonight), where there are any."""
        return self.data_dir / "calendar_overrides.toml"

    @property
    def datasets_dir(self) -> Path:
        return self.data_dir / "datasets"

    @property
    def shipped_dir(self) -> Path | None:
        """What the server confirmed, a file a segment; `None` without a server."""
        return self.data_dir / "shipped" / self.clickhouse.name if self.clickhouse else None

    @property
    def reports_dir(self) -> Path:
        return self.data_dir / "reports"

    @classmethod
    def load(
        cls, environ: Mapping[str, str], directory: Path, profile: str | None = None, **flags: object
    ) -> "Settings":
        """Read and check everything. `directory` holds the .env files; a flag that is None was not given.

        Raises SettingsError with every problem found, TypeError for a flag that does not exist.
        """
        reader = Reader(SETTINGS_HELP, directory, layers(SETTINGS_HELP, environ, directory, profile, flags))
        settings = _read(reader)
        if reader.problems:
            raise SettingsError(reader.problems)
        state_home = Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        return replace(settings, state_home=state_home)

    @classmethod
    def from_environment(cls, profile: str | None = None, **flags: object) -> "Settings":
        """`load` with this process's environment and working directory."""
        return cls.load(os.environ, Path.cwd(), profile, **flags)

    def require_broker_keys(self) -> None:
        """SettingsError unless both broker keys are set."""
        missing = [
            f"{name} is not set: put the key of your broker account in .env"
            for name, secret in (("SHIOAJI_API_KEY", self.api_key), ("SHIOAJI_SECRET_KEY", self.secret_key))
            if not secret
        ]
        if missing:
            raise SettingsError(missing)

    def require_live_trading(self) -> None:
        """SettingsError unless keys and certificate for live orders are set."""
        problems: list[str] = []
        try:
            self.require_broker_keys()
        except SettingsError as error:
            problems += error.problems
        if self.ca_path is None:
            problems.append("SHIOAJI_CA_PATH is not set: live orders need the certificate (.pfx) and its password")
        if problems:
            raise SettingsError(problems)


def _read(reader: Reader) -> Settings:
    """Every variable in the order of SETTINGS_HELP, then what only shows between two of them."""
    settings = Settings(
        api_key=Secret(reader.text("SHIOAJI_API_KEY")),
        secret_key=Secret(reader.text("SHIOAJI_SECRET_KEY")),
        simulation=reader.boolean("SHIOAJI_SIMULATION"),
        ca_path=reader.file("SHIOAJI_CA_PATH"),
        ca_password=Secret(reader.text("SHIOAJI_CA_PASSWORD")),
        data_dir=(data_dir := reader.path("SHIJIM_DATA_DIR")),
        raw_dir=reader.path("SHIJIM_RAW_DIR", data_dir),
        history=reader.matching("SHIJIM_HISTORY", "simulated|shioaji", "must be simulated or shioaji") or "simulated",
        fallback_dir=reader.path("SHIJIM_FALLBACK_DIR", data_dir / "fallback"),
        archive_url=reader.matching(
            "SHIJIM_ARCHIVE_URL",
            r"s3://[a-z0-9][a-z0-9.-]+(/[^\s?#@]*)?",
            "must look like s3://bucket/prefix, without keys: those belong to the S3 client's own settings",
        ),
        clickhouse=_clickhouse(reader, "CLICKHOUSE_DSN"),
        clickhouse_cluster=reader.matching(
            "CLICKHOUSE_CLUSTER", r"[A-Za-z0-9_.{}-]+", "must be a cluster name of letters, digits and _ . - { }"
        ),
        clickhouse_flush_rows=reader.integer("SHIJIM_CH_FLUSH_THRESHOLD", 1, FLUSH_ROWS_MAX),
        clickhouse_flush_ms=reader.milliseconds("SHIJIM_CH_FLUSH_INTERVAL_SEC", Decimal("0.001"), Decimal(3_600)),
        clickhouse_async_insert=reader.boolean("SHIJIM_CH_ASYNC_INSERT"),
        clickhouse_async_wait=reader.boolean("SHIJIM_CH_ASYNC_WAIT"),
        shard_id=reader.integer("SHARD_ID", 0, SHARDS_MAX - 1),
        total_shards=reader.integer("TOTAL_SHARDS", 1, SHARDS_MAX),
        startup_jitter_ms=reader.milliseconds("SHIJIM_STARTUP_JITTER_SEC", Decimal(0), Decimal(600)),
        ring_slots=_ring_slots(reader, "SHIJIM_BUS_MAX_QUEUE"),
        universe_strategies=_strategies(reader, "UNIVERSE_STRATEGIES"),
        universe_limit=reader.integer("UNIVERSE_LIMIT", 1, 100_000),
        universe_lookback_days=reader.integer("UNIVERSE_LOOKBACK_DAYS", 1, 1_000),
        metrics_port=reader.integer("SHIJIM_METRICS_PORT", 0, 65_535),
        alert_command=reader.text("SHIJIM_ALERT_COMMAND"),
        alert_webhook=_webhook(reader, "SHIJIM_ALERT_WEBHOOK"),
    )
    _check_together(reader, settings)
    return replace(settings, notes=tuple(reader.notes), origins=tuple(reader.origins))


def _check_together(reader: Reader, settings: Settings) -> None:
    """What only shows between two variables that are each fine."""
    shards_sound = not reader.wrong_names & {"SHARD_ID", "TOTAL_SHARDS"}
    if shards_sound and settings.shard_id >= settings.total_shards:
        last = settings.total_shards - 1
        reader.wrong(
            "SHARD_ID", f"shards count from 0: with TOTAL_SHARDS={settings.total_shards} the last one is {last}"
        )
    if bool(settings.api_key) != bool(settings.secret_key):
        missing = "SHIOAJI_SECRET_KEY" if settings.api_key else "SHIOAJI_API_KEY"
        reader.wrong(missing, "is not set though the other broker key is: set both or neither")
    if settings.ca_path is not None and not settings.ca_password:
        reader.wrong("SHIOAJI_CA_PASSWORD", "is not set though SHIOAJI_CA_PATH is: set both or neither")
    if settings.ca_path is None and settings.ca_password:
        reader.wrong("SHIOAJI_CA_PATH", "is not set though SHIOAJI_CA_PASSWORD is: set both or neither")
    if settings.clickhouse_cluster and not reader.text_is_set("CLICKHOUSE_DSN"):
        reader.wrong("CLICKHOUSE_CLUSTER", "needs CLICKHOUSE_DSN, the server through which the cluster is reached")
    if settings.clickhouse_async_insert and not settings.clickhouse_async_wait:
        reader.notes.append(
            "SHIJIM_CH_ASYNC_WAIT=false: ClickHouse then confirms an insert before it is written; what a crash of the "
            "server loses must be shipped again by hand"
        )


def _ring_slots(reader: Reader, name: str) -> int:
    slots = reader.integer(name, RING_SLOTS_MIN, RING_SLOTS_MAX)
    if slots & (slots - 1):
        above = 1 << slots.bit_length()
        reader.wrong(name, f"must be a power of two: {above // 2} or {above}")
    return slots


def _webhook(reader: Reader, name: str) -> Secret:
    """A URL that is a key by itself: whoever has it may post."""
    text = reader.text(name)
    if text and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
        reader.wrong(name, "must be a URL like https://hooks.example.com/…")
    return Secret(text)


def _strategies(reader: Reader, name: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in reader.text(name).split(","))
    if unknown := sorted(set(names) - set(STRATEGIES)):
        known = ", ".join(STRATEGIES)
        reader.wrong(name, f"there is no strategy {unknown[0]!r}: write some of {known}, with commas between")
    elif len(set(names)) < len(names):
        reader.wrong(name, "names a strategy twice")
    return names


def _clickhouse(reader: Reader, name: str) -> ClickHouse | None:
    """A DSN taken apart. Its text never appears in a problem: a password may stand anywhere in it."""
    text = reader.text(name)
    if not text:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
        problem = _dsn_problem(parts, port)
    except ValueError:
        problem = "cannot be parsed: write http://user:password@host:8123/database, with / ? # @ in a password as %2F…"
    if problem:
        reader.wrong(name, problem)
        return None
    if parts.scheme == "clickhouse":
        reader.notes.append(
            f"{name}: clickhouse:// is taken as http://, ClickHouse's HTTP interface; https:// encrypts"
        )
    return ClickHouse(
        host=parts.hostname or "",
        port=port or HTTP_PORTS[parts.scheme],
        secure=parts.scheme == "https",
        database=parts.path.strip("/") or "default",
        user=unquote(parts.username or "default"),
        password=Secret(unquote(parts.password or "")),
    )


def _dsn_problem(parts: SplitResult, port: int | None) -> str | None:
    """What is wrong with a DSN that could be split, without showing any part of it that may be secret."""
    if parts.scheme not in HTTP_PORTS:
        return "must start with http://, https:// or clickhouse://, like http://user:password@host:8123/database"
    if not parts.hostname or port == 0:
        return "names no host or port: write http://user:password@host:8123/database"
    if port in NATIVE_PORTS:
        return (
            f"port {port} speaks ClickHouse's native protocol and Shijim speaks HTTP: "
            f"use port {NATIVE_PORTS[port]} of the same server"
        )
    if parts.query or parts.fragment:
        return "nothing may follow the database: remove what starts with ? or #"
    if not re.fullmatch(r"/?|/[A-Za-z_][A-Za-z0-9_]*/?", parts.path, re.ASCII):
        return "the database, after the last /, must be a name of letters, digits and _"
    return None
