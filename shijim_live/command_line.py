"""How both commands refuse an option: one line, with where help is. Not a command itself."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

EXIT_USAGE = 2


class Parser(argparse.ArgumentParser):
    """An argparse parser, also for the verbs made under it, that does not put its usage before the reason."""

    def error(self, message: str) -> NoReturn:
        """Ends the process: one line on stderr, exit code 2."""
        reason = " ".join(message.split())
        print(f"{self.prog}: {reason}. See: {self.prog} --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)
