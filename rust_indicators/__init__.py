"""Kernels of Shijim, written in Rust. Not importable without the compiled extension: there is no slow stand-in."""

from rust_indicators._rust import BACKEND, EMPTY_PRICE_E6, EventRows, build_hft_rows, decode_l5

__all__ = ["BACKEND", "EMPTY_PRICE_E6", "EventRows", "build_hft_rows", "decode_l5"]
