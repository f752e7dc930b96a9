"""Where a resting order stands in its queue, as hftbacktest 2.4 estimates it."""

from __future__ import annotations

__all__: list[str] = []
