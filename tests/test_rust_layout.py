"""What both languages state, they state alike: the bytes of a record, its numbers, slots of the log, sessions."""

# ruff: noqa: DTZ001 - naive Taipei wall clocks are what is tested

from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import rust_indicators
from shijim_live import calendar, events
from shijim_live.calendar import Market, Session
from shijim_live.record import wal

LAYOUTS = {
    "header": events.HEADER_LAYOUT,
    "trade": events.TRADE_LAYOUT,
    "book": events.BOOK_LAYOUT,
    "text": events.TEXT_LAYOUT,
}
BODY_STRUCTS = {"trade": events.TRADE_STRUCT, "book": events.BOOK_STRUCT, "text": events.TEXT_STRUCT}
NUMBERED = (events.Kind, events.Lane, events.Exchange, events.BrokerClass, events.Flag, wal.RingState)

EPOCH = date(1970, 1, 1)
YEARS_OF_INTEREST_NS = st.integers(
    calendar.to_exchange_ns(datetime(2000, 1, 1)), calendar.to_exchange_ns(datetime(2100, 1, 1))
)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_field_of_a_record_has_the_same_place_in_both_languages(name: str) -> None:
    rust = {field: (offset, size) for struct, field, offset, size in rust_indicators.record_layout() if struct == name}
    assert rust == events.offsets(LAYOUTS[name])
    assert list(rust) == list(events.offsets(LAYOUTS[name])), "the same fields in another order"


@pytest.mark.parametrize("name", BODY_STRUCTS)
def test_header_and_body_fill_a_record_without_a_hole(name: str) -> None:
    fields = [row for row in rust_indicators.record_layout() if row[0] == name]
    ends = [offset + size for _, _, offset, size in fields]
    assert [offset for _, _, offset, _ in fields] == [0, *ends[:-1]]
    assert events.HEADER_BYTES + ends[-1] == BODY_STRUCTS[name].size == events.RECORD_BYTES


def test_every_number_is_the_same_in_both_languages() -> None:
    python = {(group.__name__, member.name, int(member)) for group in NUMBERED for member in group}
    python |= {("", name, value) for name, value in vars(events).items() if name.isupper() and isinstance(value, int)}
    rust = set(rust_indicators.record_constants())
    assert {row for row in rust if row[0]} == {row for row in python if row[0]}
    stated = {name for group, name, _ in python if not group}
    assert {row for row in rust if not row[0] and row[1] in stated} == {
        row for row in python if not row[0] and row[1] != "PRICE_SCALE"
    }
    code_format = next(char for name, char, _ in events.HEADER_LAYOUT if name == "code")
    assert ("", "CODE_BYTES", int(code_format.removesuffix("s"))) in rust


SLOTS = (
    (datetime(2026, 4, 9, 5, 29, 59, 999_999), "2026-04-08-night"),
    (datetime(2026, 4, 9, 5, 30), "2026-04-09-day"),
    (datetime(2026, 4, 9, 14, 44, 59, 999_999), "2026-04-09-day"),
    (datetime(2026, 4, 9, 14, 45), "2026-04-09-night"),
    (datetime(2026, 4, 10, 0, 0), "2026-04-09-night"),
    (datetime(2026, 1, 1, 0, 0), "2025-12-31-night"),
    (datetime(2024, 3, 1, 5, 0), "2024-02-29-night"),
    (datetime(1970, 1, 1, 8, 0), "1970-01-01-day"),
    (datetime(1969, 12, 31, 23, 0), "1969-12-31-night"),
)


@pytest.mark.parametrize(("wall", "slot"), SLOTS)
def test_a_stamp_falls_into_this_slot_of_the_log(wall: datetime, slot: str) -> None:
    received_ns = calendar.to_exchange_ns(wall)
    assert rust_indicators.log_slot(received_ns) == calendar.log_slot(received_ns) == slot


@given(YEARS_OF_INTEREST_NS)
@example(calendar.to_exchange_ns(datetime(2026, 4, 9, 5, 30)) - 1)
@example(calendar.to_exchange_ns(datetime(2026, 4, 9, 14, 45)) - 1)
def test_slots_and_rotations_agree_at_any_time(received_ns: int) -> None:
    assert rust_indicators.log_slot(received_ns) == calendar.log_slot(received_ns)
    assert rust_indicators.next_rotation_ns(received_ns) == calendar.next_rotation_ns(received_ns) > received_ns


def window(exchange_ns: int, futures: bool) -> tuple[date, Session]:
    """Rust's answer in Python's terms."""
    days, night = rust_indicators.session_window(exchange_ns, futures)
    return EPOCH + timedelta(days=days), Session.NIGHT if night else Session.DAY


WINDOW_EDGES = [
    edge + offset
    for hour, minute in ((0, 0), (5, 0), (8, 30), (8, 45), (13, 30), (13, 45), (14, 50), (15, 0))
    for edge in (calendar.to_exchange_ns(datetime(2026, 4, 9, hour, minute)),)
    for offset in (-1, 0, 1)
]


@pytest.mark.parametrize("market", Market)
def test_session_windows_agree_at_every_edge(market: Market) -> None:
    for exchange_ns in WINDOW_EDGES:
        expected = calendar.session_window(exchange_ns, market)
        assert window(exchange_ns, market is Market.FUTURES) == expected, calendar.wall_clock(exchange_ns)


@given(YEARS_OF_INTEREST_NS, st.sampled_from(Market))
def test_session_windows_agree_at_any_time(exchange_ns: int, market: Market) -> None:
    assert window(exchange_ns, market is Market.FUTURES) == calendar.session_window(exchange_ns, market)


def exact_e6(value: Decimal) -> int | None:
    """The value × 10⁶ by Python's own integers, when it is whole, fits, and its digits fit a 64-bit word."""
    if not value.is_finite() or int("".join(map(str, value.as_tuple().digits))) >= 10**19:
        return None
    numerator, denominator = value.as_integer_ratio()
    scaled, rest = divmod(numerator * 1_000_000, denominator)
    return scaled if rest == 0 and -(2**63) < scaled < 2**63 else None


def test_decimals_are_read_in_place_on_this_python() -> None:
    assert rust_indicators.decimal_is_read_in_place()


@given(st.decimals(allow_nan=True, allow_infinity=True) | st.decimals(-(10**13), 10**13, places=6))
@example(Decimal("1E+3"))
@example(Decimal("-0.0000010"))
@example(Decimal("9223372036854.775807"))
@example(Decimal("9223372036854.775808"))
@example(Decimal("0E-400"))
def test_a_decimal_becomes_fixed_point_exactly_or_not_at_all(value: Decimal) -> None:
    assert rust_indicators.decimal_e6(value) == exact_e6(value)


@pytest.mark.parametrize("value", [1.5, 1, "1.5", None])
def test_what_is_no_decimal_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="where a Decimal was expected"):
        rust_indicators.decimal_e6(value)  # type: ignore[arg-type]
