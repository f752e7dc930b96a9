"""The broker's SDK: the only file that imports it, and the only place of the whole program that logs in.

Not a session (`session.py` decides when) and not the guard (`login.py`). The SDK writes a log into the working
directory and keeps tokens in the home directory unless told otherwise before it is imported, so it is imported here,
late, and told first.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Final, Protocol

from shijim_live.broker.gateway import (
    Feed,
    GatewayError,
    Listener,
    LoginRefused,
    Topic,
    TopicRefused,
)
from shijim_live.broker.login import LoginForbidden, LoginToken, login_error, one_line, refuse_in_tests, topic_error
from shijim_live.settings import Settings

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from shioaji import BidAskFOPv1, BidAskSTKv1, QuoteIdxV1, Shioaji, Stock, TickFOPv1, TickSTKv1

    QuoteTypeLiteral: TypeAlias = Literal["tick", "bid_ask", "quote"]

RECEIVE_WINDOW_MS: Final = 30_000  # the SDK's own: a login that takes longer is refused as "Sign data is timeout"
EARLY_EVENTS_MAX: Final = 100  # said between login and `listen`
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


class ShioajiGateway:
    """One connection to the broker. Every call blocks; the callbacks come on the SDK's own threads."""

    def __init__(self, settings: Settings, token: LoginToken) -> None:
        """Dials nobody yet. LoginForbidden without leave to log in."""
        if type(token) is not LoginToken:
            raise LoginForbidden("a ShioajiGateway needs the LoginToken that allow_login gives")
        self._settings = settings
        self._secrets = (settings.api_key.reveal(), settings.secret_key.reveal(), settings.ca_password.reveal())
        self._client: Shioaji | None = None
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
                client.set_event_callback(self._events_of(client))
                self._client = client
                accounts = client.login(
                    api_key=settings.api_key.reveal(),
                    secret_key=settings.secret_key.reveal(),
                    subscribe_trade=False,  # quotes only: order events would be those of the whole account
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
        client = self._connected()

        def quote(delivered: object) -> None:
            received_ns = time_ns()
            if self._client is client:
                listener.quote(delivered, received_ns)

        def index(delivered: object) -> None:
            received_ns = time_ns()
            if self._client is client:
                listener.index(delivered, received_ns)

        def down() -> None:
            if self._client is client:
                listener.session_down()

        with self._explained(lambda error: GatewayError(f"no callbacks: {one_line(error, self._secrets)}")):
            client.set_on_tick_stk_v1_callback(quote)
            client.set_on_bidask_stk_v1_callback(quote)
            client.set_on_tick_fop_v1_callback(quote)
            client.set_on_bidask_fop_v1_callback(quote)
            client.set_on_quote_idx_v1_callback(index)
            client.set_session_down_callback(down)
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

    def logout(self) -> None:
        """Gives the connection back; what goes wrong with one that is gone is kept for a person to read."""
        client, self._client, self._listener = self._client, None, None
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

    def _events_of(self, client: Shioaji) -> Callable[[int, int, str, str], None]:
        def event(response_code: int, event_code: int, info: str, text: str) -> None:
            if self._client is not client:
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
    def _explained(self, meaning: Callable[[BaseException], GatewayError]) -> Iterator[None]:
        """The SDK's errors as ours. Without the SDK's behind them: its text and its frames hold the keys."""
        try:
            yield
        except (GatewayError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the SDK's panics are no Exception
            raise meaning(error) from None
