"""Whether keys, certificate and .env file have the form they should. Says nothing of their content, and asks nobody.

Every text here is made of constants and paths: no part of a key, not even its length, goes into a finding.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shijim_live.broker.key_form import SECRET_BYTES, base58_bytes, pfx_problem
from shijim_live.settings import SETTINGS_HELP, Settings
from shijim_live.watch.finding import Finding, unseen, warning, well, wrong

KEY_CHARACTERS: Final = (32, 64)  # of an API key; the broker does not say how many it has, those seen have 44
PRIVATE: Final = stat.S_IRWXG | stat.S_IRWXO

_AGAIN: Final = "copy it again from the API page of the broker's site"
_NAMES: Final = {variable.name for variable in SETTINGS_HELP if variable.secret}


def keys(settings: Settings, *, wanted: bool) -> Iterator[Finding]:
    """Both keys of the broker; without them all is well unless the broker is wanted."""
    if not settings.api_key:
        text = "SHIOAJI_API_KEY and SHIOAJI_SECRET_KEY are not set"
        if wanted:
            yield wrong("keys", text, "put the keys of your broker account into .env, and: chmod 600 .env")
        else:
            yield well("keys", f"{text}: only --broker shioaji needs them")
        return
    yield _api_key(settings.api_key.reveal())
    yield _secret_key(settings.secret_key.reveal(), same=settings.api_key == settings.secret_key)
    service = "the broker's test service" if settings.simulation else "the real broker"
    yield well("service", f"{service} (SHIOAJI_SIMULATION={str(settings.simulation).lower()})")


def _api_key(text: str) -> Finding:
    if re.fullmatch(r"[A-Za-z0-9]+", text, re.ASCII) is None:
        return warning("API key", "SHIOAJI_API_KEY has characters that no key has", _AGAIN)
    if not KEY_CHARACTERS[0] <= len(text) <= KEY_CHARACTERS[1]:
        length = "short" if len(text) < KEY_CHARACTERS[0] else "long"
        return warning("API key", f"SHIOAJI_API_KEY is too {length} for a key", _AGAIN)
    return well("API key", "SHIOAJI_API_KEY has the form of a key")


def _secret_key(text: str, *, same: bool) -> Finding:
    decoded = base58_bytes(text)
    if same:
        return wrong("secret key", "SHIOAJI_SECRET_KEY is the API key once more", _AGAIN)
    if decoded is None:
        return wrong("secret key", "SHIOAJI_SECRET_KEY has characters that no key has (0, O, I, l, a blank, a quote)",
                     _AGAIN)  # fmt: skip
    if decoded != SECRET_BYTES:
        length = "short" if decoded < SECRET_BYTES else "long"
        return wrong("secret key", f"SHIOAJI_SECRET_KEY is too {length}: the broker's SDK will refuse it", _AGAIN)
    return well("secret key", f"SHIOAJI_SECRET_KEY decodes to {SECRET_BYTES} bytes, as it should")


def certificate(settings: Settings, *, wanted: bool) -> Iterator[Finding]:
    """The file and its mode. Whether its password opens it, and when it expires, the broker says after login."""
    path = settings.ca_path
    if path is None:
        if wanted and not settings.simulation:
            yield warning("certificate", "SHIOAJI_CA_PATH is not set: quotes come, live orders cannot be signed",
                          "set SHIOAJI_CA_PATH and SHIOAJI_CA_PASSWORD")  # fmt: skip
        else:
            yield well("certificate", "none set: only live orders need one")
        return
    if problem := pfx_problem(path):
        yield wrong("certificate", problem, "correct its owner and mode, or export it again from the broker's "
                    "certificate program, with a password")  # fmt: skip
        if not path.exists():
            return
    else:
        yield well("certificate", f"{path} has the form of a .pfx, its password is set")
        yield unseen("expiry", "when the certificate expires cannot be read without opening it",
                     "the broker's certificate program shows it")  # fmt: skip
    yield _mode("certificate", path)


def env_files(settings: Settings, folder: Path) -> Iterator[Finding]:
    """Those that secrets were read from."""
    for origin in sorted({origin for _, _, origin in settings.origins if origin.startswith(".env")}):
        path = folder / origin
        secrets = [name for name, value, where in settings.origins if where == origin and name in _NAMES and value]
        if secrets:
            yield _mode(origin, path)
        elif path.exists():
            yield well(origin, f"{path} holds no secret")


def _mode(about: str, path: Path) -> Finding:
    mode = path.stat().st_mode
    if mode & PRIVATE:
        return wrong(about, f"{path} may be read by others (mode {stat.S_IMODE(mode):04o})", f"chmod 600 {path}")
    return well(about, f"{path} is its owner's alone (mode {stat.S_IMODE(mode):04o})")
