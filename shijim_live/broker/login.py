"""Leave to log in, and what the broker's refusals mean. Logs nobody in and does not know the SDK: `shioaji.py` does.

A login dials the broker with a person's keys and counts against limits whose breach ends in a ban. So no test, demo or
build may reach it: it needs a LoginToken, which `allow_login` gives to the command line (`record`, `probe`, `smoke`)
and to the broker's history alone, and never to a process that a test started.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shijim_live.broker.gateway import (
    NO_ROUTE_NS,
    SUSPENDED_NS,
    TOO_MANY_CONNECTIONS_NS,
    GatewayError,
    LoginLater,
    LoginRefused,
    TopicRefused,
)
from shijim_live.broker.key_form import SECRET_BYTES, base58_bytes, pfx_problem
from shijim_live.broker.masked_stderr import fragments, masked_line
from shijim_live.calendar import MINUTE_NS, SECOND_NS
from shijim_live.settings import Settings, SettingsError

NO_LOGIN: Final = "SHIJIM_NO_LOGIN"
_REFUSING: Final = (NO_LOGIN, "CI", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER")
ANCESTORS_MAX: Final = 64
_TEST_RUNNERS: Final = frozenset({"pytest", "py.test"})
_DEMO: Final = frozenset({"shijim", "demo"})
DEMO_WORDS: Final = 4  # of a command line, in which both stand

API_KEY_CHARACTERS_MIN: Final = 10  # the SDK refuses fewer
KEYS_PAGE: Final = "https://www.sinotrade.com.tw/newweb/PythonAPIKey/"
MALFORMED: Final = f"the keys are malformed: copy them whole from {KEYS_PAGE}, and wait 5 minutes: the SDK remembers"
TEXT_CHARACTERS_MAX: Final = 300


class LoginForbidden(GatewayError):
    """This process may not log in, whatever its keys."""


_LEAVE: Final = object()


class LoginToken:
    """Leave to log in; only `allow_login` makes one."""

    __slots__ = ()

    def __init__(self, leave: object) -> None:
        if leave is not _LEAVE:
            raise LoginForbidden("a LoginToken is made by allow_login, for commands of --broker shioaji alone")


def allow_login(settings: Settings) -> LoginToken:
    """Leave to log in with the keys of the settings. SettingsError says what is malformed; LoginForbidden in a test."""
    settings.require_broker_keys()
    if problems := key_problems(settings):
        raise SettingsError(problems)
    refuse_in_tests()
    return LoginToken(_LEAVE)


class OrdersForbidden(GatewayError):
    """This process may not place orders of real money."""


class OrdersToken:
    """Leave to place orders of real money, beside the leave to log in; only `allow_orders` makes one."""

    __slots__ = ()

    def __init__(self, leave: object) -> None:
        if leave is not _LEAVE:
            raise OrdersForbidden("an OrdersToken is made by allow_orders, for a trader that was told to be live alone")


def allow_orders(settings: Settings) -> OrdersToken:
    """Leave to place orders in a production account. OrdersForbidden says what is missing; LoginForbidden in a test."""
    if settings.simulation:
        raise OrdersForbidden("SHIOAJI_SIMULATION is on: the broker's test service needs no leave, and moves no money")
    if settings.ca_path is None or not settings.ca_path.is_file():
        raise OrdersForbidden(f"real orders are signed: set SHIOAJI_CA_PATH to the certificate ({settings.ca_path})")
    refuse_in_tests()
    return OrdersToken(_LEAVE)


def refuse_in_tests(environ: Mapping[str, str] | None = None) -> None:
    """LoginForbidden where a test, a build or a demo runs; the gateway asks again right before each login."""
    found = environ if environ is not None else os.environ
    if names := [name for name in _REFUSING if found.get(name)]:
        raise LoginForbidden(f"no login: {names[0]} is set, and tests, builds and demos never meet the broker")
    if (ancestor := _test_runner_above()) is not None:
        raise LoginForbidden(f"no login: process {ancestor} above is a test or demo, and these never meet the broker")


def _test_runner_above() -> int | None:
    """The test or demo that, at whatever distance, started this process; a cleared environment hides nothing.

    Where processes of other users cannot be seen, those of this one are what is looked at; where not even this process
    can be seen, it is taken for a test.
    """
    pid = os.getpid()
    for _ in range(ANCESTORS_MAX):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return pid if pid == os.getpid() else None
        names = [word.rpartition("/")[2] for word in words]
        # Whatever stands before the runner, options of Python included; a demo is a verb, and may be a folder's name.
        if _TEST_RUNNERS & set(names) or set(names[:DEMO_WORDS]) >= _DEMO:
            return pid
        if parent < 1:
            return None
        pid = parent
    return None


def key_problems(settings: Settings) -> list[str]:
    """What is wrong with the form of keys and certificate, without showing any. The SDK would remember it for 300 s."""
    problems = []
    key = settings.api_key.reveal()
    if len(key) < API_KEY_CHARACTERS_MIN or not re.fullmatch(r"[!-~]+", key):
        problems.append(
            f"SHIOAJI_API_KEY is malformed: {len(key)} characters, of {API_KEY_CHARACTERS_MIN} or more without blanks. "
            f"Copy it whole from {KEYS_PAGE}"
        )
    size = base58_bytes(settings.secret_key.reveal())
    if size != SECRET_BYTES:
        what = "it is no base58" if size is None else f"it decodes to {size} bytes, not {SECRET_BYTES}"
        problems.append(f"SHIOAJI_SECRET_KEY is malformed: {what}. Copy it whole from {KEYS_PAGE}")
    # The test service signs nothing, and never opens it.
    if settings.ca_path is not None and not settings.simulation and (why := pfx_problem(settings.ca_path)):
        problems.append(f"SHIOAJI_CA_PATH: {why}. Export it again with the broker's certificate program")
    return problems


# Said to whom asks or connects too much, at a login and at any question: how long to keep away.
SENT_AWAY: Final[tuple[tuple[str, int, str], ...]] = (
    (r"操作異常|too many requests|suspended", SUSPENDED_NS, "suspended for too many requests"),
    (r"too many connections|已達到最多連線|\b451\b", TOO_MANY_CONNECTIONS_NS, "the person has 5 connections already"),
)
# What the broker says (ERROR_CODES of its own skills, and its tutorial), how long to wait, and what a person is to do.
# Without a time to wait it is a refusal: no login will succeed. The first that fits counts.
_SAYINGS: Final[tuple[tuple[str, int | None, str], ...]] = (
    (r"sign data is timeout", MINUTE_NS, "the clock is more than 30 s off, or the login took as long: timedatectl"),
    *SENT_AWAY,
    (r"ca has expired", None, f"the certificate has expired: get a new one at {KEYS_PAGE}, then set SHIOAJI_CA_PATH"),
    (r"ca password", None, "the certificate's password is wrong: set SHIOAJI_CA_PASSWORD (at first the person id)"),
    (r"ca not activated|person.?id", None, "the certificate is of another person than the keys: set SHIOAJI_CA_PATH"),
    (r"token is expired|could not validate", NO_ROUTE_NS, "the token is not taken any more"),
    (r"is expired|key.{0,60}expired", None, f"the API key has expired: make a new one at {KEYS_PAGE}"),
    (r"\bip\b.{0,60}not allow", None, f"this machine's address is not among those of the key: add it at {KEYS_PAGE}"),
    (
        r"production permission",
        None,
        f"the key is for the test service only: allow it the real one at {KEYS_PAGE}, or set SHIOAJI_SIMULATION=true",
    ),
    (r"doesn't have permission", None, f"the key may not read market data: change what it may at {KEYS_PAGE}"),
    (r"not match signature", None, "SHIOAJI_SECRET_KEY is not the one of SHIOAJI_API_KEY: set both of one pair"),
    (r"key.{0,60}not exist|incorrect userid", None, f"the broker does not know the API key: compare it at {KEYS_PAGE}"),
    (r"update the version", None, "the broker takes this version of the SDK no more: install a newer shioaji"),
    (r"密碼", None, "the account is locked after wrong passwords: reset the password at the broker"),
    (
        r"please sign|not acceptable|not sign|無法使用api",
        None,
        f"the account has not signed the API agreement, or not passed its test: {KEYS_PAGE}",
    ),
    (r"base58|at least 10 characters", None, MALFORMED),
    (r"\b503\b|maintenance|unavailable", 5 * MINUTE_NS, "the broker's service is not available"),
)
# Where the text says nothing known: by the SDK's class.
_CLASSES: Final[dict[str, tuple[int | None, str]]] = {
    "CaError": (None, "the certificate cannot be used: check SHIOAJI_CA_PATH"),
    "AccountNotSignError": (None, f"the account has not signed the API agreement: {KEYS_PAGE}"),
    "ShioajiPermissionError": (None, f"the key may not do this: change what it may at {KEYS_PAGE}"),
    "ShioajiValueError": (None, MALFORMED),
    "BadRequestError": (None, "the broker refuses the login"),
    "ValidationError": (None, "the broker refuses the login"),
    "AuthError": (None, "the broker refuses the login"),
    "SystemMaintenance": (5 * MINUTE_NS, "the broker's service is under maintenance"),
    "ShioajiTimeoutError": (NO_ROUTE_NS, "the broker did not answer in time"),
    "OSError": (NO_ROUTE_NS, "no route to the broker: look at network and DNS"),
}
_REMEMBERED: Final = re.compile(r"cached from a previous failure.*?in (\d+) ?s", re.IGNORECASE)


def login_error(error: BaseException, secrets: tuple[str, ...], *, forced: bool) -> LoginRefused | LoginLater:
    """What an exception of the SDK's login or certificate means. `forced`: with a fresh token, not one in reuse."""
    said = one_line(error, secrets)
    if remembered := _REMEMBERED.search(said):
        wait_ns = (int(remembered[1]) + 1) * SECOND_NS
        return LoginLater(f"the SDK still answers with an earlier failure ({said})", wait_ns)
    for pattern, pause_ns, explained in _SAYINGS:
        if re.search(pattern, said, re.IGNORECASE):
            return _told(pause_ns, f"{explained} ({said})")
    names = [cls.__name__ for cls in type(error).__mro__]
    if "TokenError" in names and not forced:
        return LoginLater(f"the token in reuse is not taken ({said})", NO_ROUTE_NS)
    known = [_CLASSES[name] for name in names if name in _CLASSES]
    wait, meaning = known[0] if known else (MINUTE_NS, "the login failed")
    return _told(wait, f"{meaning} ({said})")


def _told(wait_ns: int | None, text: str) -> LoginRefused | LoginLater:
    return LoginRefused(text) if wait_ns is None else LoginLater(text, wait_ns)


def topic_error(error: BaseException, secrets: tuple[str, ...], what: str) -> GatewayError:
    """What an exception of a subscription means: TopicRefused, or that there is no login any more."""
    said = one_line(error, secrets)
    if any(cls.__name__ == "AuthError" for cls in type(error).__mro__):
        return GatewayError(f"the login is not taken any more ({said})")
    return TopicRefused(f"{what}: {said}", full="max num subscriptions" in said.lower())


def one_line(error: BaseException, secrets: tuple[str, ...]) -> str:
    """An exception as a line that shows no secret and no part of one."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return masked_line(text.encode(), fragments(list(secrets))).decode("utf-8", "replace")[:TEXT_CHARACTERS_MAX]
