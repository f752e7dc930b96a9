"""What both commands have in common: how a verb is added, run, refused and failed. Not a command itself."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import date
from typing import NoReturn, TypeAlias

from shijim_live import __version__
from shijim_live.settings import SETTINGS_HELP, SettingsError

EXIT_USAGE = 2
EXIT_FAILED = 4  # 1 to 3 are verify's findings


class Parser(argparse.ArgumentParser):
    """An argparse parser, also for the verbs made under it, that does not put its usage before the reason."""

    def error(self, message: str) -> NoReturn:
        """Ends the process: one line on stderr, exit code 2."""
        reason = " ".join(message.split())
        print(f"{self.prog}: {reason}. See: {self.prog} --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"  # generic for a type checker only


def command(name: str, description: str, exit_codes: str) -> tuple[Parser, Verbs]:
    """A command whose help also teaches its exit codes and the environment, and the place for its verbs."""
    variables = "\n".join(f"  {row.name:<29} {row.meaning}" for row in SETTINGS_HELP)
    epilog = (
        f"exit codes: {exit_codes}\n\n"
        f"environment (flags win over it, it wins over .env.<profile>, that over .env):\n{variables}"
    )
    top = Parser(
        prog=name, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"{name} {__version__}")
    return top, top.add_subparsers(dest="verb", required=True, metavar="verb")


def add_verb(verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Parser:
    """A verb and the function that does it; `text` is its help and, as a sentence, its description."""
    verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    verb.set_defaults(run=run)
    return verb


def add_place(verb: Parser) -> None:
    """Where everything is read and written."""
    verb.add_argument("--data-dir", help="home of everything written (SHIJIM_DATA_DIR, default ./data)")
    verb.add_argument("--profile", help="also read .env.<profile>")


def day(text: str) -> date:
    """The type of an option that is a day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day: write YYYY-MM-DD") from None


class Progress:
    """How far long work is: one line on a terminal's stderr that writes over itself, and nothing anywhere else."""

    def __init__(self, what: str, unit: str, total: int) -> None:
        self.what, self.unit, self.total = what, unit, total
        # Where the work's own lines go to the same terminal, they are the progress.
        self.shown = sys.stderr.isatty() and not sys.stdout.isatty()

    def at(self, done: int) -> None:
        if self.shown:
            end = "\n" if done == self.total else ""
            print(f"\r{self.what} {done:,} of {self.total:,} {self.unit}", end=end, file=sys.stderr, flush=True)


def run_verb(parser: Parser, argv: list[str] | None) -> int:
    """Runs the verb that was asked for; returns the exit code. Every foreseen failure is one line on stderr."""
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except SettingsError as error:
        return _fail(parser, str(error), EXIT_USAGE)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, RuntimeError) as error:
        return _fail(parser, str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail(parser, "stopped; nothing half-written is visible, run it again", EXIT_FAILED)


def _fail(parser: Parser, text: str, code: int) -> int:
    print(f"{parser.prog}: {text}", file=sys.stderr)
    return code
