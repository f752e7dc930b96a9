"""What the exchange's closing totals say is missing: after a stream's last recorded trade, and of whole streams.

Not a judge of what lies between two recorded trades (`volume.py` is). Totals are lots of the board lane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from shijim_live.calendar import Market, Session, session_bounds
from shijim_live.events import ABSENT_I64, Lane
from shijim_live.instruments import UnknownInstrument, instrument
from shijim_pipelines.proof.gap_report import Gap, Metadata, SessionKey, Stream, lane_name
from shijim_pipelines.proof.volume import Judged, StreamKey, Tally


@dataclass(frozen=True, slots=True)
class Closing:
    """Lots the exchange traded by (code, session), of sessions that are over."""

    totals: Mapping[tuple[str, str], int]
    sessions: Mapping[SessionKey, bool]  # whether each is over

    def of(self, key: StreamKey, futures: bool) -> int | None:
        """None where it is not known, not over, or not of this lane."""
        code, lane, session = key
        market = Market.FUTURES if futures else Market.STOCK
        if lane != Lane.BOARD or not self.sessions.get((market, session), False):
            return None
        return self.totals.get((code, session))


def missing_after_last(closing: Closing, key: StreamKey, tally: Tally) -> int:
    """Lots of the closing total that come after the highest total seen; below 0 where more was seen than it says.

    0 where it cannot be said: no closing total, or no total of every trade that the session's first one leads to.
    """
    wanted = closing.of(key, tally.futures)
    if wanted is None or tally.total is None or tally.judged < tally.trades or tally.resets:
        return 0
    return tally.base + wanted - tally.total


def absent_streams(
    closing: Closing, wanted: Sequence[str], judged: Mapping[str, Judged], day: date
) -> list[tuple[Stream, Gap]]:
    """Sessions of wanted or otherwise recorded codes that traded and of which no source has a single trade."""
    recorded: dict[str, set[str]] = {}  # code → sessions
    sources: dict[str, str] = {}  # code → the first source that has it
    futures = set()
    for source, found in sorted(judged.items()):
        for (code, lane, session), tally in found.tallies.items():
            if lane == Lane.BOARD:
                recorded.setdefault(code, set()).add(session)
                sources.setdefault(code, source)
                futures |= {code} if tally.futures else set()
    main = next((source for source in sorted(judged) if not source.startswith("import:")), sorted(judged)[0])
    missing = []
    for code, session in sorted(closing.totals):
        if session in recorded.get(code, ()) or not (code in recorded or code in wanted):
            continue
        market = Market.FUTURES if code in futures else market_of(code, session)
        lots = closing.of((code, Lane.BOARD, session), market is Market.FUTURES)
        if lots:
            missing.append(_absent(sources.get(code, main), code, session, lots, market, day))
    return missing


def market_of(code: str, session: str) -> Market:
    """Only futures have nights; a code that nobody knows is a stock's."""
    if session == Session.NIGHT:
        return Market.FUTURES
    try:
        return instrument(code).market
    except UnknownInstrument:
        return Market.STOCK


def _absent(source: str, code: str, session: str, lots: int, market: Market, day: date) -> tuple[Stream, Gap]:
    bound = next(bound for bound in session_bounds(day, market) if bound.session == session)
    lane = lane_name(Lane.BOARD)
    none = dict.fromkeys(("trades", "lots", "judged", "late", "duplicates", "resets", "excesses"), 0)
    stream = Stream(
        source=source,
        code=code,
        lane=lane,
        session=session,
        basis="",
        lots_missing=lots,
        gaps=1,
        verdict="gaps",
        reason="",
        closing=lots,
        **none,
    )
    metadata: Metadata = {
        "source": source,
        "session": session,
        "basis": "closing",
        "total_from": 0,
        "total_to": lots,
        "run_id_before": "",
        "run_id_after": "",
        "exchange_ns_before": ABSENT_I64,
        "exchange_ns_after": ABSENT_I64,
    }
    around = (ABSENT_I64, ABSENT_I64, bound.open_ns, bound.close_ns)
    reason = "none of its trades of this session was recorded"
    return stream, Gap("volume", code, lane, *around, lots, "absent", reason, metadata)
