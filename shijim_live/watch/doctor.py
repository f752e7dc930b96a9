"""An examination before a day is trusted to this machine, each finding with its fix. Repairs nothing, asks nobody."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from shijim_live import calendar
from shijim_live.broker.leases import CONNECTIONS_MAX, PERSON_LOGINS_MAX, PLACES, Leases, LeasesDamaged
from shijim_live.broker.quota import QUOTA_FILE, Quota, QuotaDamaged
from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.surface import drift, golden, loaded_sdk, surface
from shijim_live.calendar import wall_clock
from shijim_live.events import ABSENT_I64, Kind, Status, decode_all
from shijim_live.record import wal
from shijim_live.record.recorder import is_recording, ring_path
from shijim_live.settings import Settings, SettingsError
from shijim_live.watch import credentials, host
from shijim_live.watch.finding import Finding, unseen, warning, well, wrong
from shijim_live.watch.status import status

BROKER: Final = "shioaji"
DRIFT_LINES_MAX: Final = 6  # of what differs in another SDK; the test that pins it prints the rest
QUOTA_WARN_PERCENT: Final = 80
LOGINS_WARN_PERCENT: Final = 80


def examine(load: Callable[[], Settings], folder: Path, broker: str | None = None) -> list[Finding]:
    """Everything, in the order in which a person would put it right. `folder` is where the .env files lie."""
    found: list[Finding] = []
    try:
        settings = load()
    except SettingsError as error:
        found += [wrong("settings", problem, "shijim-live --help lists every variable") for problem in error.problems]
        settings = None
    if settings is not None:
        found += _settings(settings)
        found += _tried("host", lambda: _host(settings))
        found += _tried("credentials", lambda: _credentials(settings, folder, broker))
    else:
        found.append(unseen("the rest", "what depends on settings is looked at when they are right"))
    found += _tried("kernels", lambda: [host.kernels("kernels")])
    found += _tried("clock", lambda: host.clock("clock"))
    found += _tried("SDK", _sdk)
    if settings is not None:
        found += _tried("calendar", lambda: _calendar(settings))
        found += _tried("quota", lambda: _quota(settings))
        found += _tried("connections", lambda: _connections(settings))
        found += _tried("log", lambda: _log(settings))
    return found


def _tried(about: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """A look that fails is a finding: the others are still wanted."""
    found: list[Finding] = []
    try:
        found += look()
    except (OSError, ValueError, RuntimeError) as error:
        found.append(wrong(about, f"could not be looked at: {error}", "put this right, and look again"))
    return found


def _settings(settings: Settings) -> Iterator[Finding]:
    given = sum(origin != "default" for _, _, origin in settings.origins)
    yield well("settings", f"{given} set, the rest are defaults")
    for note in settings.notes:
        yield warning("settings", note, "correct it, or take it out")


def _host(settings: Settings) -> Iterator[Finding]:
    recording = is_recording(settings.wal_dir, settings.shard_id)
    yield host.writable("data folder", settings.data_dir)
    if settings.raw_dir != settings.data_dir:
        yield host.writable("log folder", settings.raw_dir)
    yield host.free_space("disk", settings.raw_dir)
    yield host.file_system("file system", settings.raw_dir)
    yield host.shared_memory("shared memory", ring_path(settings.raw_dir, settings.shard_id), settings.ring_slots)
    yield host.open_files("open files")
    if settings.metrics_port:
        yield host.metrics_port("metrics", settings.metrics_port, recording=recording)


def _credentials(settings: Settings, folder: Path, broker: str | None) -> Iterator[Finding]:
    yield from credentials.env_files(settings, folder)
    if broker != "simulated":
        yield from credentials.keys(settings, wanted=broker == BROKER)
        yield from credentials.certificate(settings, wanted=broker == BROKER)


def _sdk() -> Iterator[Finding]:
    """No feed does without it: the simulated exchange emits its objects, and the publisher knows its classes."""
    pinned, facts = golden()
    try:
        quote_classes()
    except ImportError as error:
        yield wrong("SDK", f"cannot be imported ({error})", f"pip install 'shioaji=={pinned}'")
        return
    sdk = loaded_sdk()
    installed = getattr(sdk, "__version__", "of no version")
    found = drift(facts, surface(sdk))
    if found.harmful:
        shown = found.lines()
        more = f" … and {len(shown) - DRIFT_LINES_MAX} lines more" if len(shown) > DRIFT_LINES_MAX else ""
        what = "; ".join(line.strip() for line in shown[:DRIFT_LINES_MAX]) + more
        yield wrong(
            "SDK", f"shioaji {installed} lacks or changed what is used: {what}", f"pip install 'shioaji=={pinned}'"
        )
    elif found.new or installed != pinned:
        news = f", and has {len(found.new)} new names" if found.new else ""
        yield warning("SDK", f"shioaji {installed} was not tried, {pinned} was; it has all that is used{news}",
                      f"pip install 'shioaji=={pinned}', or try it on the broker's test service first")  # fmt: skip
    else:
        yield well("SDK", f"shioaji {installed}, {len(facts):,} facts of its surface as they should be")


def _calendar(settings: Settings) -> Iterator[Finding]:
    calendar.follow(settings.calendar_overrides)
    today = wall_clock(time.time_ns()).date()
    following = calendar.next_trading_day(today)
    if calendar.is_trading_day(today):
        text = f"{today} is a trading day, the next is {following}"
    else:
        text = f"{today} is no trading day, the next is {following}"
    if following.year > (known := calendar.announced_through()):
        yield warning(
            "calendar",
            f"{text}; the exchange's schedule is known through {known}, what follows is by law",
            f"compare {following.year} with the exchange's page; {settings.calendar_overrides} corrects it",
        )
    else:
        yield well("calendar", text)


def _quota(settings: Settings) -> Iterator[Finding]:
    path = settings.person_dir / QUOTA_FILE
    if not path.exists():
        yield well("quota", "nothing was asked of the broker's history yet")
        return
    try:
        spent = Quota(path).spent()
    except QuotaDamaged as error:
        yield wrong("quota", "its account cannot be read", str(error))
        return
    percent = spent.bytes * 100 // spent.bytes_max
    calls = "".join(f", {count} calls of {name} while trading" for name, count in sorted(spent.intraday.items()))
    text = f"{percent} % of today's {spent.bytes_max / 1_000_000:,.0f} MB of history are used{calls}"
    resets = f"it resets on {wall_clock(spent.resets_ns):%Y-%m-%d at %H:%M} Taipei"
    if percent >= QUOTA_WARN_PERCENT:
        yield warning("quota", text, f"{resets}; ask for less until then")
    else:
        yield well("quota", f"{text}; {resets}")


def _connections(settings: Settings) -> Iterator[Finding]:
    """What a person has left of the broker: connections, and logins over all processes."""
    leases = Leases(settings.person_dir)
    leased = leases.leased()
    taken = {lease.number for lease in leased}
    free = ", ".join(f"{len(set(places) - taken)} for {role}" for role, places in PLACES.items())
    who = "".join(f"; {lease}" for lease in leased)
    yield well("connections", f"{len(leased)} of {CONNECTIONS_MAX} are leased{who}; free: {free}")
    try:
        standing = leases.standing()
    except LeasesDamaged as error:
        yield wrong("logins", "their account cannot be read", str(error))
        return
    windows = ("last 15 minutes", "last day")
    counted = zip(standing.used, PERSON_LOGINS_MAX, windows, strict=True)
    text = ", ".join(f"{used} of {most} in the {window}" for used, (most, _), window in counted)
    why = f"shijim-live cat {settings.wal_dir} --kind connection says what ends the sessions"
    if standing.sent_away_until_ns > leases.now_ns():
        until = f"{wall_clock(standing.sent_away_until_ns):%H:%M:%S} Taipei"
        yield warning("logins", f"the broker takes none of this person until {until} ({text})",
                      f"nothing, all wait for it; look what else logs in with these keys: {why}")  # fmt: skip
    elif standing.free_ns:
        free_at = f"{wall_clock(standing.free_ns):%Y-%m-%d %H:%M:%S} Taipei"
        yield warning("logins", f"none is left until {free_at} ({text})", why)
    elif any(used * 100 >= most * LOGINS_WARN_PERCENT
             for used, (most, _) in zip(standing.used, PERSON_LOGINS_MAX, strict=True)):  # fmt: skip
        yield warning("logins", text, why)
    else:
        yield well("logins", text)


def _log(settings: Settings) -> Iterator[Finding]:
    if not settings.wal_dir.is_dir():
        yield well("log", f"{settings.wal_dir}: nothing was recorded yet")
        return
    found = status(settings.raw_dir, settings.shard_id)
    place = f"--data-dir {settings.raw_dir}"
    if found.waiting_for_space:
        yield wrong("recorder", f"process {found.pid} waits for space: nothing is recorded", "free some space")
    elif found.recording:
        text = f"process {found.pid} records: {found.accepted or 0:,} accepted, {found.durable or 0:,} durable"
        yield well("recorder", text)
    else:
        yield well("recorder", "none runs on this shard")
    if found.quarantined:
        yield warning("recorder", f"{found.quarantined:,} objects could not be read",
                      f"shijim-live cat {settings.wal_dir} --kind quarantine --limit 5")  # fmt: skip
    if found.unreadable_segments:
        yield wrong(
            "log", f"{found.unreadable_segments:,} segments cannot be read", f"shijim-live verify {settings.wal_dir}"
        )
    headers = wal.readable_headers(settings.wal_dir)[0]
    if not headers:
        yield well("log", f"no segment of this release in {settings.wal_dir}")
        return
    newest = max(headers, key=lambda header: header.path.stat().st_mtime_ns)
    yield _segment(newest, place, recording=is_recording(settings.wal_dir, newest.shard))
    yield _feed_clock(newest)


def _segment(header: wal.SegmentHeader, place: str, *, recording: bool) -> Finding:
    segment = wal.examine(header.path)
    text = f"the last segment, {header.path.name}, holds {segment.records:,} records"
    if segment.soundness is wal.Soundness.CORRUPT:
        return wrong("log", f"{text} and stretches that are no sound block", f"shijim-live verify {header.path}")
    if segment.state == "sealed" or recording:
        return well("log", f"{text}, sound{'' if segment.state == 'sealed' else ' so far'}")
    return warning("log", f"{text} and was not sealed: its recorder died",
                   f"shijim-live repair {header.path.parent}; the next start of record does it too")  # fmt: skip


def _feed_clock(header: wal.SegmentHeader) -> Finding:
    """What the feed says of our clock, where its recorder looked (`feed_clock.py`)."""
    counted = (wal.footer(header.path) or {}).get("kinds")
    if isinstance(counted, dict) and str(int(Kind.CLOCK_OFFSET)) not in counted:
        return unseen("feed clock", "the last segment holds no measurement of our clock against the exchange's")
    last: Status | None = None
    for chunk in wal.records(header.path):
        for event in decode_all(chunk) if Kind.CLOCK_OFFSET in chunk[::256] else ():
            if isinstance(event, Status) and event.kind == Kind.CLOCK_OFFSET and event.begin_ns == ABSENT_I64:
                last = event
    if last is None:
        return unseen("feed clock", "the last segment holds no measurement of our clock against the exchange's")
    text = last.text
    if not 0 <= last.value < host.CLOCK_OFFSET_WARN_NS:
        return warning("feed clock", text, "chronyc tracking; stamps are never changed, but latencies are off by it")
    return well("feed clock", text)
