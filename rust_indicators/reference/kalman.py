"""Fair price of a local-level model behind noisy observations."""

from __future__ import annotations

__all__: list[str] = []
