"""Kernels of Shijim, written in Rust. Not importable without the compiled extension: there is no slow stand-in."""

from typing import TYPE_CHECKING

from rust_indicators._rust import BACKEND, SimulatedDay

if TYPE_CHECKING:
    from rust_indicators._rust import SimulatedTruth as SimulatedTruth

__all__ = ["BACKEND", "SimulatedDay"]
