"""What one person may have of the broker: connections as leases, and logins. Shared by every process; logs nobody in.

A lease is a lock on a file: the kernel gives it back when its process dies, whatever it died of. Logins are an account
in a file, charged before the attempt, so that a crash keeps them.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

import orjson

from shijim_live.broker.shared_account import shared_account
from shijim_live.calendar import DAY_NS, MINUTE_NS, wall_clock

# The broker's limits page: 5 connections a person, 1,000 logins a day. Half of the day is left to other programs, and
# an earlier system was cut off after 33 logins in a quarter of an hour.
CONNECTIONS_MAX: Final = 5
PERSON_LOGINS_MAX: Final = ((20, 15 * MINUTE_NS), (500, DAY_NS))
LEASES_VERSION: Final = 1
OWNER_BYTES_MAX: Final = 4_096
# Somebody who only looks who has a lease holds its lock for an instant.
LOOK_SECONDS_MAX: Final = 0.2
LOOK_SECONDS: Final = 0.02


class NoConnectionLeft(RuntimeError):
    """Every connection that the role may have is leased. Says by whom."""


class LeasesDamaged(RuntimeError):
    """The account of logins cannot be read, so that how many are left is not known."""


class Role(StrEnum):
    """What a connection is for."""

    QUOTES = "quotes"
    TRADING = "trading"
    HISTORY = "history"


# Which of the person's connections a role may take: trading and history have one that nobody else gets.
PLACES: Final = {Role.TRADING: (0,), Role.HISTORY: (1,), Role.QUOTES: (2, 3, 4)}


@dataclass(frozen=True, slots=True)
class Lease:
    """Who has a connection."""

    number: int  # from 0
    role: str
    pid: int
    host: str
    since_ns: int

    def __str__(self) -> str:
        since = wall_clock(self.since_ns).isoformat(" ", "seconds")
        return f"{self.role}: process {self.pid} on {self.host} since {since} Taipei"


class HeldLease:
    """A lease of ours: held as long as its file is open."""

    def __init__(self, lease: Lease, file: IO[bytes]) -> None:
        self.lease = lease
        self._file = file
        file.truncate(0)
        file.write(orjson.dumps(asdict(lease)))
        file.flush()

    def close(self) -> None:
        """Gives it back."""
        self._file.close()

    def __enter__(self) -> Lease:
        return self.lease

    def __exit__(self, *_: object) -> None:
        self.close()


def logins_wait_ns(logins_ns: Sequence[int], now_ns: int, limits: Sequence[tuple[int, int]] = PERSON_LOGINS_MAX) -> int:
    """How long until one more login keeps every (count, window) of `limits`; 0 = now. `logins_ns` ascending."""
    waits = [0]
    for count, window_ns in limits:
        # A clock that went back must not forget what was done before it did.
        recent = [min(at_ns, now_ns) for at_ns in logins_ns if now_ns - at_ns < window_ns]
        if len(recent) >= count:
            waits.append(recent[-count] + window_ns - now_ns)
    return max(waits)


@dataclass(slots=True)
class _Logins:
    """What the file holds."""

    logins_ns: list[int] = field(default_factory=list)  # as far back as a window reaches
    not_before_ns: int = 0  # the broker sent one of us away until then
    sent_away_ns: int = 0  # when it did

    def bring_back(self, now_ns: int) -> None:
        """A clock that was set back: what it remembers of the future was just now, and a wait begun then is over."""
        self.logins_ns = [min(at_ns, now_ns) for at_ns in self.logins_ns]
        if now_ns < self.sent_away_ns:
            self.not_before_ns = self.sent_away_ns = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How many logins are used, and from when on there are any; 0 = now."""

    used: tuple[int, ...]  # of each of PERSON_LOGINS_MAX
    free_ns: int
    sent_away_until_ns: int


class Leases:
    """One person's connections and logins, below a folder that every process of the person shares."""

    def __init__(self, folder: Path, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.folder = folder
        self.now_ns = now_ns
        self.path = folder / "logins.json"

    def take(self, role: Role) -> HeldLease:
        """A connection until it is closed, or the process ends. NoConnectionLeft names who has them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LOOK_SECONDS_MAX
        while (held := self._try(role)) is None:
            if time.monotonic() > deadline:
                owners = "; ".join(str(lease) for lease in self.leased() if lease.number in PLACES[role])
                raise NoConnectionLeft(
                    f"no connection left for {role}: {len(PLACES[role])} of the {CONNECTIONS_MAX} a person may have "
                    f"are for it ({owners}). Stop one of these first ({self.folder})"
                )
            time.sleep(LOOK_SECONDS)
        return held

    def _try(self, role: Role) -> HeldLease | None:
        """The first free place of the role."""
        for number in PLACES[role]:
            file = self._place(number).open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            return HeldLease(Lease(number, role, os.getpid(), socket.gethostname(), self.now_ns()), file)
        return None

    def leased(self) -> list[Lease]:
        """Who has which connection now."""
        found = []
        for number in range(CONNECTIONS_MAX):
            try:
                with self._place(number).open("rb") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    except BlockingIOError:
                        found.append(_owner(number, file.read(OWNER_BYTES_MAX)))
            except FileNotFoundError:
                continue
        return found

    def _place(self, number: int) -> Path:
        return self.folder / f"connection-{number}.lock"

    def charge_login(self) -> int:
        """Takes one login and returns 0, or takes none and returns for how long there is none, in ns."""
        with self._logins() as account:
            now_ns = self.now_ns()
            wait_ns = max(logins_wait_ns(account.logins_ns, now_ns), account.not_before_ns - now_ns)
            if wait_ns > 0:
                return wait_ns
            reach_ns = max(window_ns for _, window_ns in PERSON_LOGINS_MAX)
            account.logins_ns = sorted([at for at in account.logins_ns if now_ns - at < reach_ns] + [now_ns])
            return 0

    def sent_away(self, wait_ns: int) -> None:
        """The broker takes nobody of this person for a while: the others need not find out by asking."""
        with self._logins() as account:
            now_ns = self.now_ns()
            if now_ns + wait_ns > account.not_before_ns:
                account.not_before_ns, account.sent_away_ns = now_ns + wait_ns, now_ns

    def sent_away_ns(self) -> int:
        """For how long the broker takes nobody of this person; 0 = it does now."""
        with self._logins() as account:
            return max(0, account.not_before_ns - self.now_ns())

    def logins(self) -> tuple[int, ...]:
        """When this person logged in, as far back as a limit reaches."""
        with self._logins() as account:
            return tuple(account.logins_ns)

    def standing(self) -> Standing:
        """How the account stands, without touching it: for who only looks. LeasesDamaged."""
        account = self._read(self.path.read_bytes() if self.path.exists() else None)
        now_ns = self.now_ns()
        account.bring_back(now_ns)
        used = tuple(
            sum(now_ns - at_ns < window_ns for at_ns in account.logins_ns) for _, window_ns in PERSON_LOGINS_MAX
        )
        wait_ns = logins_wait_ns(account.logins_ns, now_ns)
        return Standing(used, now_ns + wait_ns if wait_ns else 0, account.not_before_ns)

    @contextmanager
    def _logins(self) -> Iterator[_Logins]:
        with shared_account(self.path, self._read, _written) as account:
            account.bring_back(self.now_ns())
            yield account

    def _read(self, text: bytes | None) -> _Logins:
        if text is None:
            return _Logins()
        try:
            fields = orjson.loads(text)
            if fields.pop("version") != LEASES_VERSION:
                raise ValueError("another version")
            account = _Logins(**fields)
            if any(type(number) is not int or number < 0 for number in _numbers(account)):
                raise ValueError("a number is none")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LeasesDamaged(
                f"{self.path}: not an account of logins ({error}), so that how many are left is not known. Wait a "
                f"quarter of an hour, so that no limit is broken, then remove the file"
            ) from error
        return account


def _numbers(account: _Logins) -> list[int]:
    return [*account.logins_ns, account.not_before_ns, account.sent_away_ns]


def _written(account: _Logins) -> bytes:
    fields = {"version": LEASES_VERSION, **asdict(account)}
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _owner(number: int, text: bytes) -> Lease:
    """Who holds a lock; the owner writes it right behind taking it, so that it may be missing for an instant."""
    try:
        return Lease(**orjson.loads(text))
    except (ValueError, TypeError):
        return Lease(number, "unknown", 0, "unknown", 0)
