"""What a code means, by table."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shijim_live.calendar import Market, is_trading_day
from shijim_live.instruments import (
    Exchange,
    Instrument,
    UnknownInstrument,
    delivery,
    dictionary,
    expiry,
    instrument,
    tick_size_e6,
)


@pytest.mark.parametrize(
    ("code", "contract_size", "tick_e6"),
    [
        ("TXFD6", 200, 1_000_000),
        ("TXFL5", 200, 1_000_000),
        ("MXFA7", 50, 1_000_000),
        ("TMFD6", 10, 1_000_000),
        ("TXFR1", 200, 1_000_000),
        ("TMFR2", 10, 1_000_000),
        ("EXFD6", 4_000, 50_000),
        ("ZEFD6", 500, 50_000),
        ("FXFD6", 1_000, 200_000),
        ("ZFFD6", 250, 200_000),
    ],
)
def test_a_future_knows_its_multiplier_and_tick(code: str, contract_size: int, tick_e6: int) -> None:
    future = instrument(code)
    assert (future.code, future.market, future.exchange) == (code, Market.FUTURES, Exchange.TAIFEX)
    assert (future.contract_size, future.lot_size) == (contract_size, 1)
    assert tick_size_e6(future, 22_000_000_000) == tick_e6
    assert tick_size_e6(future, 1) == tick_e6


@pytest.mark.parametrize(
    ("code", "name", "exchange"),
    [
        ("2330", "TSMC", Exchange.TSE),
        ("8069", "E Ink", Exchange.OTC),
        ("2316", "2316", Exchange.TSE),
        ("2881A", "2881A", Exchange.TSE),
        ("910322", "910322", Exchange.TSE),
        ("0050", "Yuanta Taiwan 50", Exchange.TSE),
        ("00631L", "00631L", Exchange.TSE),
    ],
)
def test_a_stock_is_counted_in_board_lots(code: str, name: str, exchange: Exchange) -> None:
    stock = instrument(code)
    assert (stock.name, stock.market, stock.exchange) == (name, Market.STOCK, exchange)
    assert (stock.contract_size, stock.lot_size) == (1_000, 1)


NOT_INSTRUMENTS = [
    "",
    "TXF",
    "TXFM6",
    "TXFD66",
    "TXFR3",
    "TXFR0",
    "XXXD6",
    "txfd6",
    "233",
    "2330000",
    " 2330",
    "2330\n",
]
NOT_INSTRUMENTS += ["２３３０", "A330", "2330-", "TSMC", "../2330", "TXO22000D6"]
WARRANTS_AND_BONDS = ["030001", "08123P", "700123", "23301"]


@pytest.mark.parametrize("code", NOT_INSTRUMENTS + WARRANTS_AND_BONDS)
def test_an_unknown_code_is_refused_with_one_sentence_on_what_codes_look_like(code: str) -> None:
    with pytest.raises(UnknownInstrument) as caught:
        instrument(code)
    said = str(caught.value)
    assert repr(code) in said
    assert "2330" in said
    assert "TXFD6" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("code", "price_e6", "tick_e6"),
    [
        ("2330", 10_000, 10_000),
        ("2330", 9_990_000, 10_000),
        ("2330", 10_000_000, 50_000),
        ("2330", 49_950_000, 50_000),
        ("2330", 50_000_000, 100_000),
        ("2330", 99_900_000, 100_000),
        ("2330", 100_000_000, 500_000),
        ("2330", 499_500_000, 500_000),
        ("2330", 500_000_000, 1_000_000),
        ("2330", 999_000_000, 1_000_000),
        ("2330", 1_000_000_000, 5_000_000),
        ("2881A", 61_000_000, 100_000),
        ("0050", 49_990_000, 10_000),
        ("0050", 50_000_000, 50_000),
        ("0050", 190_000_000, 50_000),
        ("00631L", 20_000_000, 10_000),
        ("020000", 60_000_000, 50_000),  # ETN
        ("01001T", 12_000_000, 10_000),  # REIT
    ],
)
def test_the_tick_follows_the_price_band(code: str, price_e6: int, tick_e6: int) -> None:
    assert tick_size_e6(instrument(code), price_e6) == tick_e6


@given(st.sampled_from(["2330", "0050", "TXFD6", "EXFD6"]), st.integers(min_value=1, max_value=5_000_000_000))
def test_one_tick_up_from_a_valid_price_is_a_valid_price(code: str, price_e6: int) -> None:
    traded = instrument(code)
    tick_e6 = tick_size_e6(traded, price_e6)
    valid = price_e6 - price_e6 % tick_e6 + tick_e6
    assert valid % tick_size_e6(traded, valid) == 0


@pytest.mark.parametrize("price_e6", [0, -1, -(2**63)])
def test_a_price_that_is_absent_or_not_positive_has_no_tick(price_e6: int) -> None:
    with pytest.raises(ValueError, match="2330: no tick size"):
        tick_size_e6(instrument("2330"), price_e6)


@pytest.mark.parametrize(
    ("code", "near", "expected"),
    [
        ("TXFD6", "2026-04-09", (2026, 4)),
        ("TXFD6", "2025-12-01", (2026, 4)),
        ("TXFL5", "2025-11-19", (2025, 12)),
        ("TXFA0", "2029-12-20", (2030, 1)),
        ("TXFL9", "2030-01-02", (2029, 12)),
        ("TXFA7", "2026-12-17", (2027, 1)),
        ("TXFG1", "2021-07-26", (2021, 7)),
        ("TXFG1", "2026-07-26", (2031, 7)),
        ("TXFH1", "2026-07-26", (2021, 8)),
        ("TXFC4", "2020-03-02", (2024, 3)),
    ],
)
def test_the_year_digit_is_read_near_the_day_of_the_data(code: str, near: str, expected: tuple[int, int]) -> None:
    assert delivery(code, date.fromisoformat(near)) == expected


@given(st.dates(date(2021, 1, 1), date(2090, 1, 1)), st.integers(min_value=-48, max_value=48))
def test_a_delivery_within_four_years_is_read_back(near: date, months_away: int) -> None:
    year, month = divmod(near.year * 12 + near.month - 1 + months_away, 12)
    assert delivery(f"TXF{'ABCDEFGHIJKL'[month]}{year % 10}", near) == (year, month + 1)


@pytest.mark.parametrize("code", ["TXFR1", "2330", "XXXD6", ""])
def test_a_code_without_a_delivery_month_says_so(code: str) -> None:
    with pytest.raises(UnknownInstrument, match="names no delivery month"):
        delivery(code, date(2026, 4, 9))


@pytest.mark.parametrize(
    ("code", "near", "expected"),
    [
        ("TXFD6", "2026-04-09", "2026-04-15"),
        ("TXFL5", "2025-11-19", "2025-12-17"),
        ("TMFG6", "2026-07-01", "2026-07-15"),
        ("TXFB6", "2026-02-02", "2026-02-23"),  # the third Wednesday lies in Lunar New Year
        ("TXFB3", "2023-02-01", "2023-02-15"),
        ("TXFD1", "2021-04-01", "2021-04-21"),  # the month starts on a Thursday
        ("TXFJ5", "2025-10-01", "2025-10-15"),  # the month starts on a Wednesday
    ],
)
def test_a_future_expires_on_the_third_wednesday_or_the_next_trading_day(code: str, near: str, expected: str) -> None:
    assert expiry(code, date.fromisoformat(near)) == date.fromisoformat(expected)


@given(st.dates(date(2021, 1, 1), date(2028, 1, 1)), st.sampled_from("ABCDEFGHIJKL"))
def test_every_expiry_is_a_trading_day_of_its_month(near: date, month: str) -> None:
    code = f"MXF{month}{near.year % 10}"
    last = expiry(code, near)
    assert is_trading_day(last)
    assert (last.year, last.month) == delivery(code, near)
    assert last.day >= 15


def test_instruments_are_values() -> None:
    assert instrument("TXFD6") == instrument("TXFD6")
    assert isinstance(hash(instrument("2330")), int)
    assert isinstance(instrument("2330"), Instrument)


def test_a_dictionary_says_what_is_known_of_codes_and_no_more() -> None:
    found = dictionary(["TXFD6", "2330", "MXFD6", "5555", "2317", "030001", "nonsense", "", "2330"])
    assert [(group["market"], group["contract_size"], group["codes"]) for group in found] == [
        ("stock", 1_000, {"2317": "Hon Hai", "2330": "TSMC", "5555": None}),
        ("futures", 50, {"MXFD6": "Mini TAIEX futures month 04, year …6"}),
        ("futures", 200, {"TXFD6": "TAIEX futures month 04, year …6"}),
    ]
    for group in found:
        for code in dict(group["codes"]):  # type: ignore[call-overload]
            assert (group["lot_size"], group["tick_bands_e6"]) == (
                instrument(code).lot_size,
                instrument(code).tick_bands,
            )
    assert dictionary([]) == []
