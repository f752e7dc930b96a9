"""What our fills on the simulated exchange add up to: positions, profits, costs, margin, in integers. Not the fills.

First in, first out, and netted: a code is held either way, never both. Costs are simple and always the same:
commission 0.1425 % of a stock's amount, TWD 20 an order's fill at least and 1 for odd lots; tax of a sale 0.3 %, of a
fund's 0.1 %; futures TWD 40 a contract and 0.002 % of its value. Margin is 8 % of a contract's value, 6 % maintained.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Final

from shijim_live.calendar import Market
from shijim_live.instruments import FUND_TICKS, PRICE_SCALE, instrument

COMMISSION_PPM: Final = 1_425
COMMISSION_TWD_MIN: Final = 20
COMMISSION_ODD_TWD_MIN: Final = 1
SALES_TAX_PPM: Final = 3_000
FUND_SALES_TAX_PPM: Final = 1_000
CONTRACT_FEE_TWD: Final = 40
FUTURES_TAX_PPM: Final = 20
INITIAL_MARGIN_PPM: Final = 80_000
MAINTENANCE_MARGIN_PPM: Final = 60_000
PPM: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Fill:
    """One match; `units` are shares or contracts, negative where we sold."""

    code: str
    units: int
    price_e6: int
    odd: bool = False


@dataclass(frozen=True, slots=True)
class Closed:
    """What one fill realised."""

    code: str
    units: int  # closed, positive
    pnl_e6: int  # without costs
    entry_e6: int  # average price of what was closed, rounded down
    exit_e6: int


@dataclass(slots=True)
class Held:
    """What is held of a code, oldest first; (units, price), units negative of what was sold short."""

    parts: deque[tuple[int, int]] = field(default_factory=deque)

    @property
    def units(self) -> int:
        return sum(units for units, _ in self.parts)

    @property
    def cost_e6(self) -> int:
        """Signed: what was paid, negative for what was taken in."""
        return sum(units * price_e6 for units, price_e6 in self.parts)


def unit_value(code: str) -> int:
    """TWD that a share or contract gains per TWD or point of its price."""
    of = instrument(code)
    return 1 if of.market is Market.STOCK else of.contract_size


class Ledger:
    """Everything of one simulated day; starts with nothing held."""

    def __init__(self) -> None:
        self.held: defaultdict[str, Held] = defaultdict(Held)
        self.closed: list[Closed] = []
        self.fee_e6: defaultdict[Market, int] = defaultdict(int)
        self.tax_e6: defaultdict[Market, int] = defaultdict(int)
        self.paid_e6: defaultdict[Market, int] = defaultdict(int)  # for shares, less what sales brought; no costs
        self.bought_e6 = 0  # of shares

    def take(self, fill: Fill) -> None:
        """One fill: closes what stands against it, opens with the rest."""
        of = instrument(fill.code)
        amount_e6 = abs(fill.units) * fill.price_e6 * unit_value(fill.code)
        self.fee_e6[of.market] += self._fee_e6(fill, amount_e6)
        self.tax_e6[of.market] += self._tax_e6(fill, amount_e6)
        self.paid_e6[of.market] += fill.units * fill.price_e6 * unit_value(fill.code)
        if of.market is Market.STOCK and fill.units > 0:
            self.bought_e6 += amount_e6
        parts, left = self.held[fill.code].parts, fill.units
        closed_units = entry_e6 = 0
        while left and parts and (parts[0][0] > 0) != (left > 0):
            units, price_e6 = parts.popleft()
            matched = min(abs(units), abs(left))
            closed_units, entry_e6 = closed_units + matched, entry_e6 + matched * price_e6
            rest = abs(units) - matched
            if rest:
                parts.appendleft((rest if units > 0 else -rest, price_e6))
            left += matched if left < 0 else -matched
        if left:
            parts.append((left, fill.price_e6))
        if closed_units:
            long = fill.units < 0  # what was closed
            gain_e6 = (closed_units * fill.price_e6 - entry_e6) * (1 if long else -1) * unit_value(fill.code)
            self.closed.append(Closed(fill.code, closed_units, gain_e6, entry_e6 // closed_units, fill.price_e6))

    def unrealised_e6(self, code: str, last_e6: int) -> int:
        """What closing at a price would gain, without costs."""
        held = self.held[code]
        return (held.units * last_e6 - held.cost_e6) * unit_value(code)

    def realised_e6(self, market: Market) -> int:
        return sum(one.pnl_e6 for one in self.closed if instrument(one.code).market is market)

    def codes(self, market: Market) -> list[str]:
        """What is held now."""
        return sorted(code for code, held in self.held.items() if held.units and instrument(code).market is market)

    @staticmethod
    def _fee_e6(fill: Fill, amount_e6: int) -> int:
        if instrument(fill.code).market is Market.FUTURES:
            return abs(fill.units) * CONTRACT_FEE_TWD * PRICE_SCALE
        least = COMMISSION_ODD_TWD_MIN if fill.odd else COMMISSION_TWD_MIN
        return max(amount_e6 * COMMISSION_PPM // PPM, least * PRICE_SCALE)

    @staticmethod
    def _tax_e6(fill: Fill, amount_e6: int) -> int:
        of = instrument(fill.code)
        if of.market is Market.FUTURES:
            return amount_e6 * FUTURES_TAX_PPM // PPM
        if fill.units > 0:
            return 0
        return amount_e6 * (FUND_SALES_TAX_PPM if of.tick_bands == FUND_TICKS else SALES_TAX_PPM) // PPM
