"""Kernels of Shijim, written in Rust. Not importable without the compiled extension: there is no slow stand-in."""

from rust_indicators._rust import BACKEND, Continuity, multiset_hash, session_window

__all__ = ["BACKEND", "Continuity", "multiset_hash", "session_window"]
