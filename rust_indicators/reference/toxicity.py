"""VPIN: how one-sided the volume is. From signed trades, and by bulk volume classification."""

from __future__ import annotations

__all__: list[str] = []
