"""What the broker lists on a day, out of the SDK's info objects: columns by name, values as said. Judges nothing.

The SDK has a class of its own for each kind (StockInfo, FuturesInfo, OptionInfo, IndexInfo, WarrantInfo); none of them
can be made offline. So they are read by attribute, and what a kind does not have is None.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, Final

from shijim_live.broker.history import Columns

# Our column → the SDK's attributes, the first that says something counts.
CONTRACT_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "Code": ("code",),
    "Name": ("name",),
    "Exchange": ("exchange",),
    "SecurityType": ("security_type",),
    "Reference": ("reference",),
    "LimitUp": ("limit_up",),
    "LimitDown": ("limit_down",),
    "Currency": ("currency", "quote_ccy"),
    "TickRule": ("tick_rule",),
    "Tick": ("tick",),
    "Multiplier": ("multiplier",),
    "Unit": ("unit",),  # shares of a round lot
    "LastTradingDate": ("last_trading_date", "delivery_date"),
    "DeliveryMonth": ("delivery_month",),
    "UnderlyingKind": ("underlying_kind", "underlying_type"),
    "UnderlyingCode": ("underlying_code",),
    "StrikePrice": ("strike_price",),
    "OptionRight": ("option_right", "call_put"),
    "TargetCode": ("target_code",),  # of a continuous code: the contract it stands for
    "Suspended": ("trading_suspended",),
    "UpdateDate": ("update_date",),
}
# By type and not by isinstance: an enum of the SDK passes for a str, and is none.
PLAIN_TYPES: Final = frozenset({str, int, float, bool, date, datetime, type(None)})


def listed(infos: Iterable[object]) -> Columns:
    """The columns of `History.instruments`, a row an info object, in its order."""
    rows = [{name: _said(info, attributes) for name, attributes in CONTRACT_FIELDS.items()} for info in infos]
    return Columns(**{name: [row[name] for row in rows] for name in CONTRACT_FIELDS})


def _said(info: object, attributes: tuple[str, ...]) -> Any:
    """A plain value: text, number, bool, date or None. An enum of the SDK equals its value, and becomes it."""
    for attribute in attributes:
        value = getattr(info, attribute, None)
        if value is None or value == "":
            continue
        return value if type(value) in PLAIN_TYPES else getattr(value, "value", None) or str(value)
    return None
