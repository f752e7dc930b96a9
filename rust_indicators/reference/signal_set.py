"""Every live signal of every instrument in one object: one call an event, whatever its symbol."""

from __future__ import annotations

__all__: list[str] = []
