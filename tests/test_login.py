"""No test can log in, and what the broker's refusals mean is one line each that shows no key."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from shijim_live.broker.gateway import (
    NO_ROUTE_NS,
    SUSPENDED_NS,
    TOO_MANY_CONNECTIONS_NS,
    Feed,
    GatewayError,
    LoginLater,
    LoginRefused,
    Topic,
    TopicRefused,
)
from shijim_live.broker.login import (
    LoginForbidden,
    LoginToken,
    allow_login,
    key_problems,
    login_error,
    one_line,
    refuse_in_tests,
    topic_error,
)
from shijim_live.broker.shioaji import ShioajiGateway, quote_classes
from shijim_live.calendar import MINUTE_NS, SECOND_NS
from shijim_live.settings import Settings, SettingsError

ROOT = Path(__file__).parents[1]
# Well-formed and nobody's: 32 bytes of base58, and 44 characters.
KEY, SECRET = "DummyKeyDummyKeyDummyKeyDummyKeyDummyKey1234", "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi"
WELL_FORMED = {"SHIOAJI_API_KEY": KEY, "SHIOAJI_SECRET_KEY": SECRET}


def settings(tmp_path: Path, **variables: str) -> Settings:
    return Settings.load(WELL_FORMED | variables, tmp_path)


# The guard


def test_leave_to_log_in_is_not_given_in_a_test(tmp_path: Path) -> None:
    with pytest.raises(LoginForbidden, match="SHIJIM_NO_LOGIN is set"):
        allow_login(settings(tmp_path))


@pytest.mark.parametrize("name", ["SHIJIM_NO_LOGIN", "CI", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER"])
def test_each_mark_of_a_test_refuses(name: str) -> None:
    with pytest.raises(LoginForbidden, match=name):
        refuse_in_tests({name: "1"})


def test_a_cleared_environment_does_not_hide_the_test_above() -> None:
    with pytest.raises(LoginForbidden, match="is a test or demo"):
        refuse_in_tests({})
    program = "from shijim_live.broker.login import refuse_in_tests; refuse_in_tests()"
    # Two processes down, with nothing in the environment.
    command = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {program!r}], env={{}}))"
    done = subprocess.run([sys.executable, "-c", command], env={}, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "LoginForbidden: no login: process" in done.stderr


def test_nothing_below_a_demo_logs_in(tmp_path: Path) -> None:
    # The words of the command line decide, so that a program of that name stands for the demo.
    script = tmp_path / "shijim"
    script.write_text("import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', sys.argv[2]]))")
    program = "import os; from shijim_live.broker import login; print(login._test_runner_above() == os.getppid())"
    done = subprocess.run([sys.executable, script, "demo", program], env={}, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True\n"


def test_a_test_runner_is_seen_behind_any_number_of_options() -> None:
    program = "import os; from shijim_live.broker import login; print(login._test_runner_above() == os.getppid())"
    runner = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', sys.argv[-1]]))"
    command = [sys.executable, "-X", "dev", "-W", "ignore", "-c", runner, "pytest", program]
    done = subprocess.run(command, env={}, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True\n"


def test_a_folder_of_the_name_of_the_demo_is_none(tmp_path: Path) -> None:
    script = tmp_path / "shijim"
    script.write_text("import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', sys.argv[-1]]))")
    program = "import os; from shijim_live.broker import login; print(login._test_runner_above() == os.getppid())"
    command = [sys.executable, script, "backfill", "--data-dir", "demo", program]
    done = subprocess.run(command, env={}, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", "the test above it is what is found"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("CA not activated for person_id: A123456789", "CA not activated for person_id: ***"),
        ("person_id='AB12345678', username='x'", "person_id='***', username='x'"),
        ("order 0A1234567890 of TXFD6 at 12345678", "order 0A1234567890 of TXFD6 at 12345678"),
    ],
)
def test_the_number_of_a_person_is_in_no_error(said: str, shown: str) -> None:
    assert one_line(RuntimeError(said), ()) == f"RuntimeError: {shown}"


def test_the_sdks_own_login_is_out_of_reach_of_every_test() -> None:
    quote_classes()
    sdk = sys.modules["shioaji"]
    for client in (sdk.Shioaji, sdk.ShioajiAsync):
        with pytest.raises(AssertionError, match=r"a test called the SDK's login\(\)"):
            client.login(object(), "key", "secret")


def test_a_token_cannot_be_made_by_hand_and_a_gateway_not_without_one(tmp_path: Path) -> None:
    with pytest.raises(LoginForbidden, match="made by allow_login"):
        LoginToken(object())
    with pytest.raises(LoginForbidden, match="needs the LoginToken"):
        ShioajiGateway(settings(tmp_path), object())  # type: ignore[arg-type]


def test_a_gateway_that_got_a_token_somehow_asks_again_before_it_dials(tmp_path: Path) -> None:
    stolen = object.__new__(LoginToken)
    gateway = ShioajiGateway(settings(tmp_path), stolen)
    with pytest.raises(LoginForbidden):
        gateway.login(force_refresh=False)
    for call in (
        lambda: gateway.subscribe(Topic("2330", Feed.TICK)),
        lambda: gateway.unsubscribe(Topic("2330", Feed.TICK)),
    ):
        with pytest.raises(GatewayError, match="not logged in"):
            call()
    gateway.logout()


def test_the_command_refuses_in_one_line_before_anything_is_recorded(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "shijim_live",
        "record",
        "--broker",
        "shioaji",
        "--data-dir",
        str(tmp_path / "data"),
    ]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | WELL_FORMED, capture_output=True, text=True)
    assert done.returncode == 4
    assert done.stderr.startswith("shijim-live: no login: ")
    assert done.stderr.count("\n") == 1
    assert KEY[:6] not in done.stderr
    assert not (tmp_path / "data").exists()


# The form of the keys


def test_well_formed_keys_have_no_problem(tmp_path: Path) -> None:
    assert key_problems(settings(tmp_path)) == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SHIOAJI_API_KEY": "short"}, "SHIOAJI_API_KEY is malformed: 5 characters"),
        ({"SHIOAJI_SECRET_KEY": SECRET[:-3]}, "it decodes to 29 bytes, not 32"),
        ({"SHIOAJI_SECRET_KEY": "0OIl" + SECRET[4:]}, "it is no base58"),
    ],
)
def test_a_malformed_key_is_named_without_showing_it(tmp_path: Path, variables: dict[str, str], expected: str) -> None:
    [problem] = key_problems(settings(tmp_path, **variables))
    assert expected in problem
    assert SECRET[4:20] not in problem


def recorder_of(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A recorder of the broker that is refused before anything is dialled."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("SHIOAJI_")}
    command = [sys.executable, "-m", "shijim_live", "record", "--broker", "shioaji", "--data-dir", str(tmp_path / "d")]
    environment = known | WELL_FORMED | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"} | variables
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


PFX = b"\x30\x82\x10\x00" + bytes(4096)
LIVE = {"SHIOAJI_SIMULATION": "false", "SHIOAJI_CA_PASSWORD": "A123456789"}


@pytest.mark.parametrize(
    ("variables", "contents", "expected"),
    [
        ({"SHIOAJI_API_KEY": "short"}, None, "SHIOAJI_API_KEY is malformed: 5 characters"),
        ({"SHIOAJI_SECRET_KEY": SECRET[:-3]}, None, "SHIOAJI_SECRET_KEY is malformed: it decodes to 29 bytes"),
        (
            {"SHIOAJI_SECRET_KEY": SECRET[:9] + "\u3000" + SECRET[9:]},
            None,
            "SHIOAJI_SECRET_KEY is malformed: it is no base58",
        ),
        (LIVE, b"-----BEGIN CERTIFICATE-----", "ca.pfx is no certificate of the .pfx form. Export it again"),
        (LIVE, b"", "ca.pfx is no certificate of the .pfx form. Export it again"),
        (LIVE, None, "SHIOAJI_CA_PATH"),
    ],
)
def test_what_no_login_could_change_ends_the_recorder_at_its_start_in_one_line(
    tmp_path: Path, variables: dict[str, str], contents: bytes | None, expected: str
) -> None:
    if contents is not None:
        (tmp_path / "ca.pfx").write_bytes(contents)
    path = {"SHIOAJI_CA_PATH": str(tmp_path / "ca.pfx")} if variables is LIVE else {}
    done = recorder_of(tmp_path, **variables, **path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("shijim-live: ") and expected in done.stderr
    assert not any(part in done.stderr for part in (KEY[:6], SECRET[:6], "A123456789"))
    assert not (tmp_path / "d").exists()


def test_a_certificate_of_the_right_form_is_not_opened_before_the_login(tmp_path: Path) -> None:
    (tmp_path / "ca.pfx").write_bytes(PFX)
    known = settings(tmp_path, **LIVE, SHIOAJI_CA_PATH=str(tmp_path / "ca.pfx"))
    assert key_problems(known) == []
    (tmp_path / "ca.pfx").write_bytes(b"text")
    assert "SHIOAJI_CA_PATH" in key_problems(known)[0]
    assert key_problems(settings(tmp_path, SHIOAJI_CA_PATH=str(tmp_path / "ca.pfx"), SHIOAJI_CA_PASSWORD="x")) == []


class Certified:
    """A client whose certificate expires when it is told to."""

    def __init__(self, expires: datetime) -> None:
        self.expires = expires
        self.asked: list[tuple[str, str]] = []

    def activate_ca(self, path: str, password: str) -> bool:
        self.asked.append((path, password))
        return True

    def get_ca_expiretime(self, person_id: str) -> datetime:
        return self.expires


def test_a_certificate_that_has_expired_is_a_refusal_with_its_day(tmp_path: Path) -> None:
    (tmp_path / "ca.pfx").write_bytes(PFX)
    known = settings(tmp_path, **LIVE, SHIOAJI_CA_PATH=str(tmp_path / "ca.pfx"))
    gateway = ShioajiGateway(known, object.__new__(LoginToken))

    def activated(expires: datetime) -> None:
        client = Certified(expires)
        try:
            gateway._activate_certificate(client, tmp_path / "ca.pfx", "A1")  # type: ignore[arg-type]
        finally:
            assert client.asked == [(str(tmp_path / "ca.pfx"), "A123456789")]

    activated(datetime.now(UTC) + timedelta(days=1))
    for past in (datetime(2020, 5, 4, tzinfo=UTC), datetime(2020, 5, 4)):  # noqa: DTZ001 - as the SDK has it
        with pytest.raises(LoginRefused, match=r"ca.pfx: the certificate has expired on 2020-05-04: get a new one"):
            activated(past)


def test_missing_keys_are_named_both(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"SHIOAJI_API_KEY is not set.*\n.*SHIOAJI_SECRET_KEY is not set"):
        Settings.load({}, tmp_path).require_broker_keys()


# What refusals mean

SDK = "shioaji"


def raised(name: str, text: str) -> BaseException:
    quote_classes()
    error = getattr(sys.modules[SDK], name)(text)
    assert isinstance(error, BaseException)
    return error


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("ServerError", f"StatusCode: 406, Detail: {KEY} is expired.", "the API key has expired"),
        ("TokenError", "StatusCode: 401, Detail: ip: 1.2.3.4 not allow.", "this machine's address"),
        (
            "TokenError",
            f"StatusCode: 401, Detail: key: {KEY} not match signature.",
            "is not the one of SHIOAJI_API_KEY",
        ),
        ("BadRequestError", f"StatusCode: 400, Detail: key: {KEY} not exist.", "does not know the API key"),
        ("TokenError", "StatusCode: 401, Detail: Token doesn't have production permission.", "SHIOAJI_SIMULATION=true"),
        ("TokenError", "StatusCode: 401, Detail: Token doesn't have permission", "may not read market data"),
        ("CaExpiredError", "Ca has expired!", "the certificate has expired"),
        ("CaPasswordError", "Ca Password Incorrect", "SHIOAJI_CA_PASSWORD"),
        ("CaError", "CA not activated for: A123456789", "of another person"),
        ("AccountNotSignError", "account not signed", "not signed the API agreement"),
        ("ServerError", "StatusCode: 406, Detail: Account Not Acceptable.", "not signed the API agreement"),
        ("ShioajiValueError", "invalid secret_key (base58 decode failed)", "wait 5 minutes"),
        ("SystemMaintenance", "StatusCode: 503, Detail: Please update the version of shioaji", "a newer shioaji"),
        ("SystemMaintenance", "StatusCode: 503, Detail: 登入密碼錯誤3次，請進行密碼重置", "reset the password"),
        ("AuthError", "something new", "the broker refuses the login"),
        ("TokenError", "something new", "the broker refuses the login"),
    ],
)
def test_what_a_person_must_change_is_a_refusal_that_says_what(name: str, text: str, expected: str) -> None:
    error = login_error(raised(name, text), (KEY, SECRET), forced=True)
    assert isinstance(error, LoginRefused)
    assert expected in str(error)
    assert "\n" not in str(error)
    assert not any(KEY[at : at + 6] in str(error) for at in range(len(KEY) - 5))


@pytest.mark.parametrize(
    ("name", "text", "wait_ns", "expected"),
    [
        ("ServerError", "StatusCode: 406, Detail: Sign data is timeout.", MINUTE_NS, "timedatectl"),
        ("SystemMaintenance", "StatusCode: 503, Detail: 操作異常，請1分鐘後再重新登入", SUSPENDED_NS, "suspended"),
        ("ServerError", "StatusCode: 451, Detail: Too Many Connections.", TOO_MANY_CONNECTIONS_NS, "5 connections"),
        ("SystemMaintenance", "StatusCode: 503, Detail: 系統維護", 5 * MINUTE_NS, "not available"),
        ("ShioajiConnectionError", "no route", NO_ROUTE_NS, "no route to the broker"),
        ("ShioajiTimeoutError", "Timeout Topic: api/v1/auth, Timeout: 30000ms", NO_ROUTE_NS, "did not answer"),
        ("TokenError", "StatusCode: 401, Detail: Token is expired", NO_ROUTE_NS, "not taken any more"),
        (
            "ShioajiValueError",
            "invalid secret_key (cached from a previous failure; will retry server in 212s)",
            213 * SECOND_NS,
            "earlier failure",
        ),
        ("ShioajiError", "something new", MINUTE_NS, "the login failed"),
    ],
)
def test_what_passes_by_itself_is_waited_for(name: str, text: str, wait_ns: int, expected: str) -> None:
    error = login_error(raised(name, text), (KEY, SECRET), forced=True)
    assert isinstance(error, LoginLater)
    assert error.wait_ns == wait_ns
    assert expected in str(error)


def test_a_token_in_reuse_that_is_refused_is_no_refusal_of_the_keys() -> None:
    error = raised("TokenError", "something new")
    assert isinstance(login_error(error, (), forced=False), LoginLater)
    assert isinstance(login_error(error, (), forced=True), LoginRefused)


def test_a_refused_topic_says_which_and_whether_the_connection_is_full() -> None:
    error = topic_error(raised("SubscribeError", "400 Max Num Subscriptions Exceeded"), (), "2330")
    assert isinstance(error, TopicRefused)
    assert error.full
    assert str(error) == "2330: SubscribeError: 400 Max Num Subscriptions Exceeded"
    other = topic_error(raised("SubscribeError", "Subscription ACL Denied"), (), "2330")
    assert isinstance(other, TopicRefused)
    assert not other.full
    gone = topic_error(raised("AuthError", "Not authenticated"), (), "2330")
    assert type(gone) is GatewayError, "the connection's trouble is not the topic's"


class Bare:
    """A client that keeps its callbacks, as the SDK's does; the collector does not see it."""

    def __init__(self) -> None:
        self.kept: list[object] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given: self.kept.extend(given)


def test_a_login_leaves_no_client_behind(tmp_path: Path) -> None:
    gateway = ShioajiGateway(settings(tmp_path), object.__new__(LoginToken))
    client = Bare()
    alive = weakref.ref(client)
    gateway._login = object()
    client.set_event_callback(gateway._events_of(gateway._login))
    gateway._client = client  # type: ignore[assignment]
    heard: list[tuple[object, ...]] = []
    listener = SimpleNamespace(quote=None, index=None, session_down=None, event=lambda *said: heard.append(said))
    said = client.kept[0]
    said(0, 0, "", "Session up")  # type: ignore[operator]
    gateway.listen(listener)  # type: ignore[arg-type]
    said(0, 12, "", "Session reconnecting")  # type: ignore[operator]
    assert [event[1] for event in heard] == [0, 12], "what was said early comes first"
    gateway.logout()
    said(0, 13, "", "Session reconnected")  # type: ignore[operator]
    assert len(heard) == 2, "what is said after it is of a login that is gone"
    gc.disable()
    try:
        del client, said
        assert alive() is None, "a circle, and the SDK's threads stay for ever"
    finally:
        gc.enable()
