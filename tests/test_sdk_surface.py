"""The SDK as we use it: another release says in what it differs. `python tests/test_sdk_surface.py` takes it over."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

from shijim_live.broker.shioaji import quote_classes
from shijim_live.broker.surface import CLASSES, CLIENT, CLIENT_CALLS, GOLDEN, drift, golden, golden_text, surface
from shijim_live.events import BROKER_FIELDS, BROKER_FLAGS, BrokerClass


def loaded_sdk() -> ModuleType:
    quote_classes(Path(tempfile.gettempdir()) / "shijim-test-sdk")
    return sys.modules["shioaji"]


def test_the_installed_sdk_is_the_one_this_program_was_written_for() -> None:
    version, facts = golden()
    found = drift(facts, surface(loaded_sdk()))
    explained = "\n".join(
        [
            f"\nshioaji {loaded_sdk().__version__} differs from {version}, which Shijim was written for:",
            *found.lines(),
            "Look at each caller of what is gone or changed, and record what is new in a quote. Then accept the list:",
            "  python tests/test_sdk_surface.py && git diff shijim_live/broker/sdk_surface.txt",
        ]
    )
    assert found == drift([], []), explained
    assert GOLDEN.read_text() == golden_text(loaded_sdk()), explained


def test_every_name_we_list_is_in_the_golden_surface() -> None:
    names = {fact.partition("(")[0].partition(" ")[0] for fact in golden()[1]}
    assert {f"{CLIENT}.{call}" for call in CLIENT_CALLS} | set(CLASSES) <= names
    assert {"ShioajiError", "TokenError", "OrderOutcomeUnknownError", "MarketDataQueryUsageLimitError"} <= names


def test_no_attribute_of_a_recorded_quote_is_unknown_to_the_record() -> None:
    classes = {"TickSTKv1": BrokerClass.TICK_STK_V1, "TickFOPv1": BrokerClass.TICK_FOP_V1,
               "BidAskSTKv1": BrokerClass.BIDASK_STK_V1, "BidAskFOPv1": BrokerClass.BIDASK_FOP_V1}  # fmt: skip
    for name, broker_class in classes.items():
        theirs = {fact.removeprefix(f"{name}.") for fact in golden()[1] if fact.startswith(f"{name}.")}
        attributes = {attribute for attribute in theirs if "(" not in attribute}
        recorded = {"code", "exchange", "datetime", "date", "time"}
        recorded |= BROKER_FIELDS[broker_class].keys() | set(BROKER_FLAGS[broker_class])
        assert attributes - recorded - ALIASES == set(), f"{name}: not recorded"
        assert recorded <= attributes, name


# Other names of what is recorded, from the first versions of the SDK.
ALIASES = {
    "amount_sum", "vol_sum", "diff_price", "diff_rate", "diff_type", "trade_bid_vol_sum", "trade_ask_vol_sum",
    "trade_bid_cnt", "trade_ask_cnt", "target_kind_price", "fixed_trade_volume", "bid_vol_sum", "ask_vol_sum",
    "first_derived_bid_volume", "first_derived_ask_volume",
}  # fmt: skip


def test_a_difference_says_what_is_gone_what_is_new_and_what_changed() -> None:
    before = ["Shioaji.login($self, api_key)", "Action.Buy = 'Buy'", "TokenError < AuthError", "Ticks.ts"]
    now = ["Shioaji.login($self, api_key, otp)", "Action.Buy = 'B'", "TokenError < AuthError", "Ticks.seq"]
    found = drift(before, now)
    assert found.harmful
    assert found.lines() == [
        "- Ticks.ts",
        "+ Ticks.seq",
        "~ Action.Buy = 'Buy'",
        "  Action.Buy = 'B'   (now)",
        "~ Shioaji.login($self, api_key)",
        "  Shioaji.login($self, api_key, otp)   (now)",
    ]


def test_a_release_that_only_adds_does_no_harm() -> None:
    assert not drift(["Ticks.ts"], ["Ticks.ts", "Ticks.seq"]).harmful


@pytest.mark.parametrize("gone", ["Shioaji", "Action", "TokenError"])
def test_a_name_that_an_sdk_lacks_is_missing_from_its_surface_and_no_error(gone: str) -> None:
    sdk = loaded_sdk()
    other = ModuleType("shioaji")
    other.__dict__.update({name: getattr(sdk, name) for name in dir(sdk) if name != gone})
    found = drift(golden()[1], surface(other))
    assert found.new == found.changed == ()
    assert gone in {fact.partition("(")[0].partition(" ")[0] for fact in found.gone}


if __name__ == "__main__":
    GOLDEN.write_text(golden_text(loaded_sdk()))
    print(f"{GOLDEN}: {len(golden()[1])} facts of shioaji {golden()[0]}")
