"""Covariance and lead–lag of two series that tick at different times. Hayashi & Yoshida (2005)."""

from __future__ import annotations

__all__: list[str] = []
