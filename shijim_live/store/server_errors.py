"""What went wrong with a ClickHouse server, in one line that says what to do and holds no password. Talks to nobody.

ServerError            what a person must put right: login, rights, tables, the query
  ServerUnavailable    what may be right later: refused, timeout, overloaded, full
Refused                a row that the server will never take, and why
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final

from shijim_live.settings import ClickHouse

# ClickHouse's numbers (src/Common/ErrorCodes.cpp).
_LOGIN: Final = {192, 193, 194, 516}
_RIGHTS: Final = {291, 497}
_LATER: Final = {
    3, 23, 24, 74, 75, 76,  # the server's own files
    159, 160, 201, 202, 203, 209, 210, 236, 241, 242, 243, 252, 285, 286, 319, 394, 425, 439, 473, 574, 722, 745, 999,
}  # fmt: skip
# What the values of a row can be at fault for, a CONSTRAINT of the operator's included.
_CONTENT: Final = {
    6, 26, 27, 38, 41, 43, 53, 69, 70, 72, 117, 131, 168, 190, 321, 349, 395, 407, 467, 469, 676, 691,
}  # fmt: skip
_REASON_MAX: Final = 300
NATIVE_PORT: Final = "is for clickhouse-client program"  # what the native protocol says to a browser


class ServerError(ValueError):
    """The server cannot be used, or said no."""


class ServerUnavailable(ServerError):
    """The server cannot be used now; nothing is lost, and the same call goes on later."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A row the server does not take for what it holds."""

    row: int  # in the table that was published, from 0
    reason: str


def is_about_content(code: int | None) -> bool:
    """Whether the values of a row may be what the server refuses."""
    return code in _CONTENT


def explained(error: Exception, code: int | None, place: ClickHouse) -> ServerError:
    """The one line. `code` is the server's, where it gave one."""
    text = reason(str(error))
    if NATIVE_PORT in str(error):
        return ServerError(
            f"{place}: this port speaks ClickHouse's native protocol and Shijim speaks HTTP: give CLICKHOUSE_DSN the "
            "HTTP port of the same server, mostly 8123, or 8443 with https://"
        )
    if code in _LOGIN:
        return ServerError(f"{place}: the server does not accept this user and password: correct CLICKHOUSE_DSN")
    if code in _RIGHTS:
        return ServerError(f"{place}: {text} – grant the user of CLICKHOUSE_DSN that right, or name another")
    if code == 81:
        return ServerError(f"{place}: there is no database {place.database} yet: run shijim ship, which makes it")
    if code == 60:
        return ServerError(f"{place}: {text} – run shijim ship, which makes the tables and views")
    if code is not None:
        kind = ServerUnavailable if code in _LATER else ServerError
        return kind(f"{place}: {text} (ClickHouse's code {code})")
    return _without_code(error, text, place)


def _without_code(error: Exception, text: str, place: ClickHouse) -> ServerError:
    """What came from the network, or from a server that is not ClickHouse."""
    status = re.search(r"HTTP status (\d{3})", str(error))
    if status and status[1] in ("429", "502", "503", "504"):
        return ServerUnavailable(f"{place}: answers HTTP {status[1]}, busy or not up yet: it is tried again next time")
    if status or "Unexpected response" in text:
        answer = f"HTTP {status[1]}" if status else "nonsense"
        return ServerError(
            f"{place}: what listens there answers {answer} and seems not to be ClickHouse: correct CLICKHOUSE_DSN"
        )
    for cause in _causes(error):
        if isinstance(cause, ConnectionRefusedError):
            return ServerUnavailable(f"{place}: nothing listens there: start ClickHouse, or correct CLICKHOUSE_DSN")
        if isinstance(cause, socket.gaierror):
            return ServerUnavailable(f"{place}: no such host: correct CLICKHOUSE_DSN, or look at the network")
        if isinstance(cause, ssl.SSLError):
            return ServerError(f"{place}: no TLS ({cause.reason}): http:// goes with 8123, https:// with 8443")
        if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
            return ServerUnavailable(f"{place}: no answer in time: look at the server's load; nothing is lost")
        if isinstance(cause, ConnectionError | HTTPException | OSError):
            return ServerUnavailable(f"{place}: the connection broke ({type(cause).__name__}): is the server up?")
    return ServerError(f"{place}: {text}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from, the deepest first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        inner = getattr(error, "reason", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
    return reversed(chain)


def reason(text: str) -> str:
    """The server's words without code, stack, version and the rest of its kindness."""
    text = text.split("DB::Exception: ", 1)[-1].split("\n")[0]
    for rest in (": While executing", ": While processing", " Expected one of:", " Stack trace:"):
        text = text.split(rest)[0]
    text = re.sub(r"\s*\(for url [^)]*\)|\s*\(version [^)]*\)+", "", text).strip().rstrip(".")
    return text if len(text) <= _REASON_MAX else text[: _REASON_MAX - 1] + "…"
