"""Typed values out of layered sources – flags, environment, .env files – remembering every problem on the way.

Not a list of settings: which variables exist and how they fit together is `settings.py`, the only user of this file.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

MASKED = "********"
_ELSEWHERE = {"SHIJIM_NO_RUST"}  # read by rust_indicators before any setting exists


class Variable(NamedTuple):
    """One row of `SETTINGS_HELP`."""

    name: str
    flag: str  # keyword of `Settings.load`, and its field except for the compound ones
    default: str  # as it would be typed; empty = not set
    meaning: str
    secret: bool = False


class SettingsError(ValueError):
    """Settings that cannot be used; the text lists every one of them, and never a secret."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        several = f"{len(problems)} settings are wrong:"
        super().__init__("\n  ".join([several, *problems]) if len(problems) > 1 else "".join(problems))


class Secret:
    """A text that no log, report or traceback shows; `reveal()` is the only way to read it."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return f"Secret({MASKED!r})" if self._text else "Secret('')"

    def __str__(self) -> str:
        return MASKED if self._text else ""


class Layer(NamedTuple):
    origin: str
    values: Mapping[str, str]
    problems: tuple[str, ...] = ()


def layers(
    variables: tuple[Variable, ...],
    environ: Mapping[str, str],
    directory: Path,
    profile: str | None,
    flags: Mapping[str, object],
) -> list[Layer]:
    """Sources of values, strongest first."""
    names = {variable.flag: variable.name for variable in variables}
    if unknown := sorted(set(flags) - set(names)):
        raise TypeError(f"no such setting: {', '.join(unknown)}")
    given = {names[flag]: _as_text(value) for flag, value in flags.items() if value is not None}
    found = [Layer("flag", given), Layer("environment", environ)]
    if profile is not None:
        found.append(_dotenv(directory / f".env.{profile}", required=True))
    found.append(_dotenv(directory / ".env", required=False))
    return found


def _as_text(value: object) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return value.reveal() if isinstance(value, Secret) else str(value)


_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_QUOTED = re.compile(r"""(?:"([^"]*)"|'([^']*)')\s*(?:#.*)?""")


def _dotenv(path: Path, *, required: bool) -> Layer:
    """NAME=value lines; # starts a comment; single or double quotes keep a value as it is."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        missing = (f"{path} does not exist: create it, or leave the profile out",) if required else ()
        return Layer(path.name, {}, missing)
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error.strerror}"
        return Layer(path.name, {}, (f"{path} {reason}",))
    values: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        matched = _LINE.fullmatch(stripped)
        value = _unquote(matched[2]) if matched else None
        if matched is None or value is None:
            # The line is not shown: it may hold a key.
            problems.append(f"{path}:{number}: not a NAME=value line, or a quote that does not close")
        else:
            values[matched[1]] = value
    return Layer(path.name, values, tuple(problems))


def _unquote(raw: str) -> str | None:
    """The value of a .env line without quotes and comment; None if a quote does not close."""
    if raw[:1] in ("'", '"'):
        quoted = _QUOTED.fullmatch(raw)
        return (quoted[1] or quoted[2] or "") if quoted else None
    return re.sub(r"(^|\s+)#.*", "", raw).strip()


class Reader:
    """Takes one value after another out of the layers and remembers what was wrong with each."""

    def __init__(self, variables: tuple[Variable, ...], directory: Path, sources: list[Layer]) -> None:
        self._variables = {variable.name: variable for variable in variables}
        self._directory = directory.absolute()
        self._layers = sources
        self.problems = [problem for layer in sources for problem in layer.problems]
        self.wrong_names: set[str] = set()
        self.notes: list[str] = []
        self.origins: list[tuple[str, str, str]] = []
        for layer in sources:
            if layer.origin.startswith(".env"):
                self._note_strangers(layer)

    def _note_strangers(self, layer: Layer) -> None:
        for name in layer.values:
            if (
                name.startswith(("SHIJIM_", "SHIOAJI_", "UNIVERSE_"))
                and name not in self._variables.keys() | _ELSEWHERE
            ):
                close = get_close_matches(name, self._variables, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                self.notes.append(f"{name} in {layer.origin} is no setting of Shijim and was ignored{hint}")

    def _find(self, name: str) -> tuple[str, str]:
        """(value, origin); the default where no layer has a value."""
        found = ((value, layer.origin) for layer in self._layers if (value := layer.values.get(name, "").strip()))
        return next(found, (self._variables[name].default, "default"))

    def _hides(self, name: str, value: str) -> bool:
        """A secret, or a URL that carries a login where none belongs."""
        return bool(value) and (self._variables[name].secret or ("://" in value and "@" in value))

    def text(self, name: str) -> str:
        """The value as typed, noted down with its origin."""
        value, origin = self._find(name)
        self.origins.append((name, MASKED if self._hides(name, value) else value, origin))
        return value

    def text_is_set(self, name: str) -> bool:
        return bool(self._find(name)[0])

    def wrong(self, name: str, problem: str) -> None:
        """Remember what is wrong with `name`, with its value unless that is a secret, and where it came from."""
        self.wrong_names.add(name)
        value, origin = self._find(name)
        shown = f"={value!r}" if value else ""
        if self._hides(name, value):
            shown = " (value hidden)"
        self.problems.append(f"{name}{shown} [{origin}]: {problem}")

    def integer(self, name: str, low: int, high: int) -> int:
        text = self.text(name)
        if re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII) and low <= int(text) <= high:
            return int(text)
        self.wrong(name, f"must be a whole number from {low} to {high}")
        return low

    def milliseconds(self, name: str, low: Decimal, high: Decimal) -> int:
        """Seconds as typed, up to three decimals → whole milliseconds."""
        try:
            seconds = Decimal(self.text(name))
        except InvalidOperation:
            seconds = Decimal("NaN")
        if seconds.is_finite() and low <= seconds <= high and seconds * 1_000 == int(seconds * 1_000):
            return int(seconds * 1_000)
        self.wrong(name, f"must be a number of seconds from {low} to {high}, with at most three decimals")
        return 0

    def boolean(self, name: str) -> bool:
        text = self.text(name).lower()
        if text not in ("true", "1", "yes", "on", "false", "0", "no", "off"):
            self.wrong(name, "must be true or false")
        return text in ("true", "1", "yes", "on")

    def _absolute(self, name: str, text: str) -> Path:
        try:
            return self._directory / Path(text).expanduser()
        except RuntimeError:
            self.wrong(name, "there is no such user: write the path without ~")
            return self._directory

    def path(self, name: str, default: Path | None = None) -> Path:
        """An absolute path, which may not exist yet but whose nearest existing parent must be a directory."""
        text = self.text(name)
        if not text and default is not None:
            return default
        path = self._absolute(name, text)
        try:
            existing = next(parent for parent in (path, *path.parents) if parent.exists())
            if not existing.is_dir():
                self.wrong(name, f"{existing} is a file: name a directory")
        except OSError as error:
            self.wrong(name, f"cannot be used: {error.strerror}")
        return path

    def file(self, name: str) -> Path | None:
        text = self.text(name)
        if not text:
            return None
        path = self._absolute(name, text)
        if not path.is_file():
            self.wrong(name, f"there is no file {path}")
        return path

    def matching(self, name: str, pattern: str, expected: str) -> str | None:
        text = self.text(name)
        if text and not re.fullmatch(pattern, text, re.ASCII):
            self.wrong(name, expected)
        return text or None
