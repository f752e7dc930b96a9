"""A person's own list of symbols, and what it comes to on a day. Ranks nothing; the universe file is made of it.

    # anything behind a number sign is a comment
    TXF* MXFR1      codes, patterns with * and ?, continuous codes; by blanks, commas or lines
    2330
    @top:200        the first of the ranked universe
    -2317 -00*      not these, of what stands above

Order counts: what comes first gets trades and books first. A list with a mistake is refused as a whole, line by line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from shijim_live.instruments import UnknownInstrument, concrete_code, instrument

LIST_BYTES_MAX: Final = 1 << 20  # 1,200 codes are 8 KB; more is another kind of file
MISTAKES_SHOWN_MAX: Final = 20

_TOP: Final = re.compile(r"@TOP:([1-9][0-9]{0,5})")


class SymbolsRefused(ValueError):
    """A list that does not mean what was meant; names every line, with the nearest code there is."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One word of a list."""

    where: str  # file:line, as an editor jumps to
    word: str  # in capitals, without the minus
    takes_away: bool


@dataclass(frozen=True, slots=True)
class Symbol:
    """One code that was chosen, and by which word."""

    code: str
    reason: str


def read_symbols(given: str) -> tuple[Rule, ...]:
    """The rules of a file, or of the words themselves where there is no such file. Raises SymbolsRefused."""
    path = Path(given)
    if not path.is_file():
        if "/" in given or given.endswith(".list"):
            raise SymbolsRefused(f"{given}: no such list of symbols")
        return parse_symbols(given, "--symbols")
    contents = path.read_bytes()
    if len(contents) > LIST_BYTES_MAX:
        raise SymbolsRefused(f"{path}: {len(contents):,} bytes are no list of symbols (at most {LIST_BYTES_MAX:,})")
    try:
        return parse_symbols(contents.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise SymbolsRefused(f"{path}: is no text in UTF-8 (byte {error.start})") from None


def parse_symbols(text: str, where: str) -> tuple[Rule, ...]:
    """The words of a list, in order. Raises SymbolsRefused where there is none."""
    rules: list[Rule] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].replace(",", " ").split()
        rules += [Rule(f"{where}:{number}", word.removeprefix("-").upper(), word.startswith("-")) for word in words]
    if not rules:
        raise SymbolsRefused(f"{where}: the list is empty. Write codes like 2330, patterns like TXF*, or @top:200")
    return tuple(rules)


def top_of(rules: Sequence[Rule]) -> int:
    """How many of the ranked universe the rules ask for, at most."""
    return max((int(found[1]) for rule in rules if (found := _TOP.fullmatch(rule.word))), default=0)


def resolve(
    rules: Sequence[Rule], names: Mapping[str, str], ranked: Sequence[str], day: date
) -> tuple[tuple[Symbol, ...], list[str]]:
    """(what the rules choose of the codes listed on a day, code → name, in order, each once; what took nothing away).

    `ranked` are the codes that can be ranked, best first. A list stands for many days: what is to be taken away may be
    ranked lower today, or be gone, and that is no mistake. Raises SymbolsRefused.
    """
    listed = _Listed(names, ranked, day)
    chosen: dict[str, Symbol] = {}
    mistakes, idle = [], []
    for rule in rules:
        codes = listed.codes_of(rule)
        if isinstance(codes, str) and rule.takes_away and not rule.word.startswith("@"):
            idle.append(f"{rule.where}: -{rule.word} takes nothing away: {codes}")
        elif isinstance(codes, str):
            mistakes.append(f"{rule.where}: {codes}")
        elif rule.takes_away:
            if not chosen.keys() & set(codes):
                idle.append(f"{rule.where}: -{rule.word} takes nothing away of what stands above it")
            for code in codes:
                chosen.pop(code, None)
        else:
            for code in codes:
                chosen.setdefault(code, Symbol(code, f"{rule.where} {rule.word}"))
    if mistakes:
        more = [f"… and {len(mistakes) - MISTAKES_SHOWN_MAX} more"] if len(mistakes) > MISTAKES_SHOWN_MAX else []
        raise SymbolsRefused("\n".join(mistakes[:MISTAKES_SHOWN_MAX] + more))
    if not chosen:
        raise SymbolsRefused(f"{rules[-1].where}: nothing is left of the list")
    return tuple(chosen.values()), idle


class _Listed:
    """What can be meant on a day."""

    def __init__(self, names: Mapping[str, str], ranked: Sequence[str], day: date) -> None:
        self.names = names
        self.ranked = ranked
        self.day = day
        self.recordable = sorted(code for code in names if _is_recordable(code))

    def codes_of(self, rule: Rule) -> Sequence[str] | str:
        """The codes of one rule, or what is wrong with it."""
        word = rule.word
        if word.startswith("@"):
            return self._top(word)
        if "*" in word or "?" in word:
            found = [code for code in self.recordable if fnmatchcase(code, word)]
            return found or f"{word} matches nothing that is listed on {self.day}{self._near(word.strip('*?'))}"
        code = concrete_code(word, self.day)
        if code not in self.names:
            what = word if code == word else f"{word}, which is {code},"
            return f"{what} is not listed on {self.day}{self._near(word)}"
        if not _is_recordable(code):
            return f"{word} is listed, but it is none of what Shijim records (a warrant, a bond, an option, an index)"
        return [code]

    def _top(self, word: str) -> Sequence[str] | str:
        matched = _TOP.fullmatch(word)
        if matched is None:
            return f"{word.lower()} is not understood: write @top:200"
        return self.ranked[: int(matched[1])]

    def _near(self, word: str) -> str:
        """The code, or the code of the name, that was probably meant."""
        by_name = {self.names[code].upper(): code for code in self.recordable}
        near = get_close_matches(word, [*self.recordable, *by_name], n=1, cutoff=0.5)
        if not near:
            return ""
        code = by_name.get(near[0], near[0])
        name = self.names[code]
        return f"; nearest: {code}" + (f" ({name})" if name != code else "")


def _is_recordable(code: str) -> bool:
    try:
        instrument(code)
    except UnknownInstrument:
        return False
    return True
