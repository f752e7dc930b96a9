"""What trading costs and moves: Kyle's λ, Amihud's illiquidity, Roll's spread."""

from __future__ import annotations

__all__: list[str] = []
