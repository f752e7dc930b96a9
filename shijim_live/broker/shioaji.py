"""The broker's SDK: the only file that imports it. Not a session: nothing here logs in.

The SDK writes a log into the working directory and keeps tokens in the home directory unless told otherwise before it
is imported, so it is imported here, late, and told first.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shioaji import BidAskFOPv1, BidAskSTKv1, TickFOPv1, TickSTKv1


@dataclass(frozen=True, slots=True)
class QuoteClasses:
    """The broker's own quote classes; the static `from_msgpack(bytes)` of each decodes on first attribute read."""

    tick_stk: "type[TickSTKv1]"
    tick_fop: "type[TickFOPv1]"
    bidask_stk: "type[BidAskSTKv1]"
    bidask_fop: "type[BidAskFOPv1]"


def quote_classes(state_dir: Path | None = None) -> QuoteClasses:
    """Import the SDK (20 ms, no network) with its log and token files in `state_dir`, and hand out its classes.

    Without a directory, paths already in SJ_LOG_PATH and SJ_HOME_PATH stay, and others go to the user's state folder.
    Only the first call in a process has a say: the SDK reads the paths once.
    """
    _place_sdk_files(state_dir)
    # The SDK panics over a malformed quote when it is read. With stack traces it took a third of a second to quarantine
    # one, without them it takes 0.05 ms.
    os.environ["RUST_BACKTRACE"] = "0"
    from shioaji import BidAskFOPv1, BidAskSTKv1, TickFOPv1, TickSTKv1

    return QuoteClasses(TickSTKv1, TickFOPv1, BidAskSTKv1, BidAskFOPv1)


def _place_sdk_files(state_dir: Path | None) -> None:
    state_home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    folder = (state_dir or state_home / "shijim" / "sdk").absolute()
    paths = {"SJ_LOG_PATH": str(folder / "shioaji.log"), "SJ_HOME_PATH": str(folder)}
    wanted = paths if state_dir else {name: path for name, path in paths.items() if not os.environ.get(name)}
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(wanted)
