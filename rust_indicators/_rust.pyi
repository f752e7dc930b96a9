from typing import TypedDict, final

BACKEND: str

class SimulatedRepeats(TypedDict):
    instrument: bytes  # u16
    tick: bytes  # u8: 1 a tick, 0 a book
    first_received_ns: bytes  # i64
    received_ns: bytes  # i64

class SimulatedTrades(TypedDict):
    """Trades of continuous trading in receive order, one column each; price × 1,000,000, volume in lots."""

    instrument: bytes  # u16, index into codes
    session: bytes  # u8, index into the sessions given
    exchange_ns: bytes  # i64
    received_ns: bytes  # i64, when it came or would have come
    fate: bytes  # i32: -1 delivered, -2 lost message, else the index of the outage
    price_e6: bytes  # i64
    volume: bytes  # u32
    total_volume: bytes  # u64

class SimulatedBooks(TypedDict):
    """The touch of every book of continuous trading; price and volume 0 where a side is empty."""

    instrument: bytes
    session: bytes
    exchange_ns: bytes
    received_ns: bytes
    fate: bytes
    bid_price_e6: bytes  # i64
    ask_price_e6: bytes  # i64
    bid_volume: bytes  # u32
    ask_volume: bytes  # u32

class SimulatedTruth(TypedDict):
    codes: list[str]
    trades: SimulatedTrades
    books: SimulatedBooks
    repeats: SimulatedRepeats
    outages: list[tuple[int, int]]  # receive stamps of each disconnect and reconnect
    trials: tuple[int, int]  # trial matches and trial books: delivered, not delivered
    deliveries: int  # quotes, repeats, disconnects and reconnects

@final
class SimulatedDay:
    """One seeded trading day, generated as it is read. ValueError says what in the config cannot be."""

    def __init__(
        self,
        *,
        seed: int,
        sessions: list[tuple[str, int, int, int, int]],
        instruments: list[tuple[str, str, int, list[tuple[int, int]], int, int]],
        target_events: int,
        delay_median_ns: int,
        outages: int,
        outage_ns: int,
        lost_ticks: int,
        lost_books: int,
        repeats: int,
        repeat_distance_max: int,
    ) -> None:
        """sessions: (market, trial_ns, open_ns, close_ns, activity);
        instruments: (code, market, reference_e6, tick bands × 1,000,000, weight, level_lots)."""

    def next_batch(self, limit: int) -> list[tuple[int, int, int, bytes]]:
        """(kind, exchange_ns, received_ns, payload): 0 TickSTKv1, 1 TickFOPv1, 2 BidAskSTKv1, 3 BidAskFOPv1,
        4 down, 5 up (no payload, exchange_ns absent). Empty at the end of the day."""

    def skip_until(self, received_ns: int) -> None:
        """Leave out every delivery received then or before."""

    def truth(self) -> SimulatedTruth:
        """The whole day, wherever the reading stands. Columns are native-endian, for numpy.frombuffer."""
