"""The broker's SDK: the only file that imports it, and the only place of the whole program that logs in.

Not a session (`session.py` decides when) and not the guard (`login.py`). The SDK writes a log into the working
directory and keeps tokens in the home directory unless told otherwise before it is imported, so it is imported here,
late, and told first.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from shijim_live.broker.gateway import (
    Feed,
    GatewayError,
    Listener,
    LoginRefused,
    Topic,
    TopicRefused,
)
from shijim_live.broker.history import SCANNER_TYPES, HistoryUnavailable
from shijim_live.broker.history_errors import history_error
from shijim_live.broker.login import (
    LoginForbidden,
    LoginToken,
    OrdersForbidden,
    OrdersToken,
    login_error,
    one_line,
    refuse_in_tests,
    topic_error,
)
from shijim_live.broker.order_budget import OrderBudget
from shijim_live.broker.order_client import OrderClasses
from shijim_live.broker.order_events import OrderEvents
from shijim_live.broker.shioaji_history import HistoryClient, HistoryWords
from shijim_live.broker.shioaji_orders import ShioajiTrading
from shijim_live.settings import Settings

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from shioaji import BidAskFOPv1, BidAskSTKv1, QuoteIdxV1, Shioaji, Stock, TickFOPv1, TickSTKv1

    QuoteTypeLiteral: TypeAlias = Literal["tick", "bid_ask", "quote"]

RECEIVE_WINDOW_MS: Final = 30_000  # the SDK's own: a login that takes longer is refused as "Sign data is timeout"
SNAPSHOTS_MS: Final = 5_000  # to wait for; the connection's other questions wait as long
EARLY_EVENTS_MAX: Final = 100  # said between login and `listen`
T = TypeVar("T")
TAIPEI: Final = timezone(timedelta(hours=8))


@dataclass(frozen=True, slots=True)
class QuoteClasses:
    """The broker's own quote classes; the static `from_msgpack(bytes)` of each decodes on first attribute read."""

    tick_stk: type[TickSTKv1]
    tick_fop: type[TickFOPv1]
    bidask_stk: type[BidAskSTKv1]
    bidask_fop: type[BidAskFOPv1]
    quote_idx: type[QuoteIdxV1]


def quote_classes(state_dir: Path | None = None) -> QuoteClasses:
    """Import the SDK (20 ms, no network) with its log and token files in `state_dir`, and hand out its classes.

    Without a directory, paths already in SJ_LOG_PATH and SJ_HOME_PATH stay, and others go to the user's state folder.
    Only the first call in a process has a say: the SDK reads the paths once.
    """
    _place_sdk_files(state_dir)
    # The SDK panics over a malformed quote when it is read. With stack traces it took a third of a second to quarantine
    # one, without them it takes 0.05 ms.
    os.environ["RUST_BACKTRACE"] = "0"
    from shioaji import BidAskFOPv1, BidAskSTKv1, QuoteIdxV1, TickFOPv1, TickSTKv1

    return QuoteClasses(TickSTKv1, TickFOPv1, BidAskSTKv1, BidAskFOPv1, QuoteIdxV1)


def order_classes(state_dir: Path | None = None) -> OrderClasses:
    """The broker's own classes of orders and combos; the SDK is imported as `quote_classes` does."""
    quote_classes(state_dir)
    import shioaji as sdk

    def account(kind: str, person_id: str, broker_id: str, account_id: str) -> sdk.Account:
        of_kind = sdk.AccountType.Stock if kind == "S" else sdk.AccountType.Future
        return sdk.Account(of_kind, person_id, broker_id, account_id, signed=True, username="")

    return OrderClasses(
        stock_order=sdk.StockOrder,
        futures_order=sdk.FuturesOrder,
        combo_order=sdk.ComboOrder,
        combo_contract=sdk.ComboContract,
        combo_leg=lambda contract, side: sdk.ComboBase.from_contract(contract, getattr(sdk.Action, side)),
        account=account,
        contract=lambda security_type, exchange, code: sdk.BaseContract(security_type, exchange, code),  # type: ignore[arg-type]
        outcome_unknown=sdk.OrderOutcomeUnknownError,
        timed_out=sdk.ShioajiTimeoutError,
        bad_request=sdk.BadRequestError,
        bad_value=sdk.ShioajiValueError,
    )


def _place_sdk_files(state_dir: Path | None) -> None:
    state_home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    folder = (state_dir or state_home / "shijim" / "sdk").absolute()
    paths = {"SJ_LOG_PATH": str(folder / "shioaji.log"), "SJ_HOME_PATH": str(folder)}
    wanted = paths if state_dir else {name: path for name, path in paths.items() if not os.environ.get(name)}
    if wanted:
        # Tokens are as good as keys, and the SDK's own log names sessions after the API key: nobody else reads them.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    os.environ.update(wanted)


class _Contracts(Protocol):
    """The part of the SDK's contract store that its stubs leave out."""

    def get(self, code: str) -> Stock | None: ...


_QUOTE_TYPES: Final[dict[Feed, QuoteTypeLiteral]] = {Feed.TICK: "tick", Feed.BOOK: "bid_ask", Feed.QUOTE: "quote"}


def _history_words() -> HistoryWords:
    from shioaji import ScannerType, TicksQueryType

    types = {name: getattr(ScannerType, name) for name in SCANNER_TYPES}
    return HistoryWords(TicksQueryType.AllDay, types)


class ShioajiGateway:
    """One connection to the broker. Every call blocks; the callbacks come on the SDK's own threads."""

    def __init__(self, settings: Settings, token: LoginToken, *, trades: bool = False) -> None:
        """Dials nobody yet; `trades`: a connection that is told of orders. LoginForbidden without leave to log in."""
        if type(token) is not LoginToken:
            raise LoginForbidden("a ShioajiGateway needs the LoginToken that allow_login gives")
        self._settings = settings
        self._trades = trades
        self._secrets = (settings.api_key.reveal(), settings.secret_key.reveal(), settings.ca_password.reveal())
        self._client: Shioaji | None = None
        # What a callback is of. The client itself in a callback of its own would be a circle that the SDK's classes do
        # not let the collector see: every login would leave its client behind, with four threads.
        self._login: object = None
        self._hearing = threading.Lock()  # so that what was said early comes first
        self._listener: Listener | None = None
        self._early: deque[tuple[int, int, str, str]] = deque(maxlen=EARLY_EVENTS_MAX)
        self._contracts: dict[str, Stock] = {}
        self._certified = False
        self.logout_problem = ""  # of the last logout, for a person

    def login(self, *, force_refresh: bool) -> None:
        """A client of its own each time, so that nothing of the one before reaches us. LoginRefused, LoginLater."""
        refuse_in_tests()
        assert self._client is None, "logged in already"
        quote_classes()
        import shioaji

        settings = self._settings
        try:
            with self._explained(lambda error: login_error(error, self._secrets, forced=force_refresh)):
                client = shioaji.Shioaji(simulation=settings.simulation)
                self._login = object()
                client.set_event_callback(self._events_of(self._login))
                self._client = client
                accounts = client.login(
                    api_key=settings.api_key.reveal(),
                    secret_key=settings.secret_key.reveal(),
                    subscribe_trade=self._trades,  # not for quotes: the events are those of the whole account
                    receive_window=RECEIVE_WINDOW_MS,
                    force_refresh=force_refresh,
                )
                # Once: quotes need no certificate, and a recorder that runs must not end over one.
                if settings.ca_path is not None and not settings.simulation and not self._certified:
                    self._activate_certificate(client, settings.ca_path, accounts[0].person_id if accounts else "")
                    self._certified = True
        except GatewayError:
            self.logout()
            raise

    def _activate_certificate(self, client: Shioaji, path: Path, person_id: str) -> None:
        """LoginRefused for one that has expired, and what the SDK raises."""
        client.activate_ca(str(path), self._settings.ca_password.reveal())
        expires = client.get_ca_expiretime(person_id)
        at = expires if expires.tzinfo is not None else expires.replace(tzinfo=TAIPEI)
        if at <= datetime.now(TAIPEI):
            raise LoginRefused(f"{path}: the certificate has expired on {at:%Y-%m-%d}: get a new one from the broker")

    def listen(self, listener: Listener) -> None:
        """Sets every callback, and hands over what was said since the login. GatewayError."""
        client, login = self._connected(), self._login

        def quote(delivered: object) -> None:
            received_ns = time_ns()
            if self._login is login:
                listener.quote(delivered, received_ns)

        def index(delivered: object) -> None:
            received_ns = time_ns()
            if self._login is login:
                listener.index(delivered, received_ns)

        def down() -> None:
            if self._login is login:
                listener.session_down()

        with self._explained(lambda error: GatewayError(f"no callbacks: {one_line(error, self._secrets)}")):
            client.set_on_tick_stk_v1_callback(quote)
            client.set_on_bidask_stk_v1_callback(quote)
            client.set_on_tick_fop_v1_callback(quote)
            client.set_on_bidask_fop_v1_callback(quote)
            client.set_on_quote_idx_v1_callback(index)
            client.set_session_down_callback(down)
        with self._hearing:
            self._listener = listener
            while self._early:
                listener.event(*self._early.popleft())

    def subscribe(self, topic: Topic) -> None:
        """TopicRefused for a code that is not listed, or what the SDK refuses at once."""
        client = self._connected()
        with self._explained(lambda error: topic_error(error, self._secrets, topic.code)):
            client.subscribe(self._contract(client, topic.code), _QUOTE_TYPES[topic.feed], topic.odd_lot)

    def unsubscribe(self, topic: Topic) -> None:
        """TopicRefused."""
        client = self._connected()
        with self._explained(lambda error: topic_error(error, self._secrets, topic.code)):
            client.unsubscribe(self._contract(client, topic.code), _QUOTE_TYPES[topic.feed], topic.odd_lot)

    def snapshots(self, codes: Sequence[str]) -> Sequence[Any]:
        """As the SDK answers; a code that is not listed is left out, and told when it is subscribed to."""
        client = self._connected()
        with self._explained(lambda error: GatewayError(f"no snapshots: {one_line(error, self._secrets)}")):
            contracts = []
            for code in codes:
                with suppress(TopicRefused):
                    contracts.append(self._contract(client, code))
            return client.snapshots(contracts, timeout=SNAPSHOTS_MS) if contracts else []

    def trading(
        self, budget: OrderBudget, permission: OrdersToken | None = None, events: OrderEvents | None = None
    ) -> ShioajiTrading:
        """Orders and accounts of this login; `events` of the one before goes on. OrdersForbidden, GatewayError."""
        client, live = self._connected(), not self._settings.simulation
        if not self._trades:
            raise GatewayError("this login is not told of its orders: make the gateway with trades=True")
        if live and not self._certified:
            raise OrdersForbidden("no certificate is activated: set SHIOAJI_CA_PATH, and log in again")
        trading = ShioajiTrading(
            client, order_classes(), budget, live=live, permission=permission, secrets=self._secrets, events=events
        )
        with self._explained(lambda error: GatewayError(f"no order events: {one_line(error, self._secrets)}")):
            client.set_order_callback(trading.events.received)
        return trading

    def ask(self, what: str, question: Callable[[HistoryClient, HistoryWords], T]) -> T:
        """One question about the past: the errors of `history_errors.py`, and those of the question itself."""
        client = self._connected()
        with self._explained(lambda error: history_error(error, self._secrets, what)):
            return question(client, _history_words())

    def logout(self) -> None:
        """Gives the connection back; what goes wrong with one that is gone is kept for a person to read."""
        client, self._client, self._listener, self._login = self._client, None, None, None
        self._early.clear()
        self._contracts.clear()
        if client is None:
            return
        self.logout_problem = ""
        try:
            with self._explained(lambda error: GatewayError(one_line(error, self._secrets))):
                client.logout()
        except GatewayError as error:
            self.logout_problem = str(error)

    def _events_of(self, login: object) -> Callable[[int, int, str, str], None]:
        def event(response_code: int, event_code: int, info: str, text: str) -> None:
            with self._hearing:
                if self._login is not login:
                    return
                if self._listener is None:
                    self._early.append((response_code, event_code, info, text))
                else:
                    self._listener.event(response_code, event_code, info, text)

        return event

    def _connected(self) -> Shioaji:
        if self._client is None:
            raise GatewayError("not logged in")
        return self._client

    def _contract(self, client: Shioaji, code: str) -> Stock:
        """What the broker lists under a code; the SDK fetches it when it is first asked for."""
        if code not in self._contracts:
            store: _Contracts = client.contracts  # type: ignore[assignment]
            found = store.get(code)
            if found is None:
                raise TopicRefused(
                    f"{code}: the broker lists no such contract. Rank the day again, or take it out of the universe"
                )
            self._contracts[code] = found
        return self._contracts[code]

    @contextmanager
    def _explained(self, meaning: Callable[[BaseException], Exception]) -> Iterator[None]:
        """The SDK's errors as ours. Without the SDK's behind them: its text and its frames hold the keys."""
        try:
            yield
        except (GatewayError, HistoryUnavailable, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the SDK's panics are no Exception
            raise meaning(error) from None
