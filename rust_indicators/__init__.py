"""Kernels of Shijim, written in Rust: records, ring, log, continuity, datasets, and the signals.

The signals exist once more in NumPy (`rust_indicators.reference`). Where the extension is missing, or SHIJIM_NO_RUST=1
says so, they come from there, with a warning; everything else has no slow stand-in and says so when it is imported.
"""

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rust_indicators.validity import BookFlag, Restart, Validity


class KernelsMissing(ImportError):
    """Something was asked for that only the compiled extension has."""


def _backend() -> str:
    if os.environ.get("SHIJIM_NO_RUST") == "1":
        return "numpy"
    try:
        import_module("rust_indicators._rust")
    except ImportError:
        return "numpy"
    return "rust"


BACKEND: str = _backend()

if TYPE_CHECKING or BACKEND == "rust":
    from rust_indicators._rust import *
else:
    from rust_indicators.reference import *

    warnings.warn("rust_indicators: signals in NumPy, many times slower, and no recorder", stacklevel=2)

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module 'rust_indicators' has no attribute {name!r}")
        raise KernelsMissing(
            f"rust_indicators.{name} needs the compiled kernels, which are missing or turned off by SHIJIM_NO_RUST; "
            "to build them: make"
        )


__all__ = ["BACKEND", "BookFlag", "KernelsMissing", "Restart", "Validity"]
