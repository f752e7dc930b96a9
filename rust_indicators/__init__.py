"""Kernels of Shijim, written in Rust. Not importable without the compiled extension: there is no slow stand-in."""

from rust_indicators._rust import BACKEND

__all__ = ["BACKEND"]
