"""What of the broker's SDK this program stands on, as lines of text that can be compared. Does not import the SDK.

`sdk_surface.txt` beside this file is what release 1.7.9 has; a test and `shijim-live doctor` compare with it. A line is
a fact: `Class.method(signature)`, `Class.attribute`, `Enum.Member = 'value'`, `Error < its parents`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

GOLDEN: Final = Path(__file__).with_name("sdk_surface.txt")

# Of the client only what is called: it has twice as many methods, and a new one of those is no news.
CLIENT: Final = "Shioaji"
CLIENT_CALLS: Final = (
    # session
    "login", "logout", "usage", "activate_ca", "get_ca_expiretime", "set_event_callback",
    "set_session_down_callback", "subscribe", "unsubscribe", "clear_event_callback", "clear_session_down_callback",
    "set_on_tick_stk_v1_callback", "set_on_tick_fop_v1_callback", "set_on_bidask_stk_v1_callback",
    "set_on_bidask_fop_v1_callback", "set_on_quote_idx_v1_callback", "clear_on_tick_stk_v1_callback",
    "clear_on_tick_fop_v1_callback", "clear_on_bidask_stk_v1_callback", "clear_on_bidask_fop_v1_callback",
    "clear_on_quote_idx_v1_callback",
    # contracts and history
    "contracts", "snapshots", "ticks", "kbars", "scanners", "daily_quotes", "punish", "notice", "credit_enquires",
    "short_stock_sources",
    # accounts
    "list_accounts", "set_default_account", "stock_account", "futopt_account", "account_balance", "margin",
    "trading_limits", "list_positions", "list_position_detail", "settlements", "list_profit_loss",
    "list_profit_loss_detail", "list_profit_loss_summary",
    # orders
    "set_order_callback", "clear_order_callback", "subscribe_trade", "unsubscribe_trade", "trade_cache_health",
    "place_order", "update_order", "cancel_order", "update_status", "list_trades", "order_deal_records",
    "place_comboorder", "cancel_comboorder", "update_combostatus", "list_combotrades",
)  # fmt: skip
# Of these everything public: what is new in a quote must be recorded, what is new in an answer should be looked at.
CLASSES: Final = (
    # quotes
    "TickSTKv1", "TickFOPv1", "BidAskSTKv1", "BidAskFOPv1", "QuoteIdxV1",
    # contracts
    "ContractsApi", "Contract", "Stock", "Future", "Index", "StockInfo", "FuturesInfo", "IndexInfo", "ComboContract",
    # history
    "Snapshot", "Ticks", "KBars", "ScannerItem", "DailyQuotes", "Punish", "Notice", "CreditEnquire",
    "ShortStockSource", "UsageOut",
    # accounts
    "Account", "AccountBalance", "Margin", "TradingLimits", "StockPosition", "FuturePosition", "SettlementV1",
    "StockProfitLoss", "FutureProfitLoss",
    # orders
    "StockOrder", "FuturesOrder", "ComboOrder", "ComboBase", "BaseContract", "Order", "Trade", "ComboTrade",
    "OrderStatusInfo", "Deal", "OrderEventDict", "TradeCacheHealth", "TradeCacheHealthReason",
    # enums
    "AccountType", "Action", "ChangeType", "ComboType", "DayTrade", "Exchange", "FuturesOCType", "FuturesPriceType",
    "OptionRight", "OrderState", "OrderStatus", "OrderType", "PriceType", "QuoteType", "QuoteVersion", "Region",
    "ScannerType", "SecurityType", "StockOrderCond", "StockOrderLot", "StockPriceType", "TickType", "TicksQueryType",
    "TimeInForce", "TradeCacheHealthReasonCode", "TradeCacheHealthState", "Unit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drift:
    """How one release differs from another; empty when it does not."""

    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()  # before, now

    @property
    def harmful(self) -> bool:
        """Whether something we stand on is not there any more, or is called differently."""
        return bool(self.gone or self.changed)

    def lines(self) -> list[str]:
        """For a person: what is gone, what is new, what has changed and from what to what."""
        found = [f"- {fact}" for fact in self.gone] + [f"+ {fact}" for fact in self.new]
        for before, now in self.changed:
            found += [f"~ {before}", f"  {now}   (now)"]
        return found


def surface(sdk: ModuleType) -> list[str]:
    """Every fact of a loaded SDK, sorted by name; one that is missing has no line."""
    facts = _class_facts(CLIENT, getattr(sdk, CLIENT, None), CLIENT_CALLS)
    for name in CLASSES:
        facts += _class_facts(name, getattr(sdk, name, None))
    for name in dir(sdk):
        error = getattr(sdk, name)
        if isinstance(error, type) and issubclass(error, BaseException):
            parents = [parent.__name__ for parent in error.__mro__[1:] if issubclass(parent, Exception)]
            facts.append(f"{name} < {' < '.join(parents)}")
    return sorted(facts)


def _class_facts(name: str, found: object, members: Iterable[str] | None = None) -> list[str]:
    if not isinstance(found, type):
        return []
    facts = [f"{name}{getattr(found, '__text_signature__', None) or ''}"]
    for member in members if members is not None else dir(found):
        if member.startswith("_") or not hasattr(found, member):
            continue
        value = getattr(found, member)
        if isinstance(value, found):
            facts.append(f"{name}.{member} = {getattr(value, 'value', None)!r}")
        else:
            facts.append(f"{name}.{member}{getattr(value, '__text_signature__', None) or ''}")
    return facts


def golden() -> tuple[str, list[str]]:
    """The release the list was read from, and its facts."""
    version, *facts = [line for line in GOLDEN.read_text().splitlines() if line and not line.startswith("#")]
    return version.removeprefix("shioaji "), facts


def golden_text(sdk: ModuleType) -> str:
    """What `sdk_surface.txt` says of a loaded SDK."""
    return "\n".join([_HEAD.rstrip(), f"shioaji {getattr(sdk, '__version__', '?')}", *surface(sdk)]) + "\n"


_HEAD: Final = """
# What Shijim stands on in the broker's SDK: signatures, attributes, enum members, errors and their parents.
# Which names: shijim_live/broker/surface.py. Written anew by: python tests/test_sdk_surface.py
""".lstrip()


def drift(before: Iterable[str], now: Iterable[str]) -> Drift:
    """What became of each name."""
    old = {_name(fact): fact for fact in before}
    found = {_name(fact): fact for fact in now}
    return Drift(
        gone=tuple(old[name] for name in sorted(old.keys() - found.keys())),
        new=tuple(found[name] for name in sorted(found.keys() - old.keys())),
        changed=tuple(
            (old[name], found[name]) for name in sorted(old.keys() & found.keys()) if old[name] != found[name]
        ),
    )


def _name(fact: str) -> str:
    """`Shioaji.login($self, …)` → `Shioaji.login`."""
    return fact.partition("(")[0].partition(" ")[0]


def loaded_sdk() -> ModuleType:
    """The SDK, once `shioaji.quote_classes` has loaded it with its files in their place."""
    return sys.modules["shioaji"]
