"""What one book says: best levels, mid, imbalance, depth, micro-price. Not what changed since the book before."""

from __future__ import annotations

__all__: list[str] = []
