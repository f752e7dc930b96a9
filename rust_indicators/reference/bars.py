"""Bars of trades: by time, count, volume and value. Not their storage."""

from __future__ import annotations

__all__: list[str] = []
