"""Intensity of events that excite each other: uni- and bivariate, exponential kernel. Not the fit (calibrate.py)."""

from __future__ import annotations

__all__: list[str] = []
