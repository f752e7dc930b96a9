"""Real market samples, which stand beside the project and are never part of it. Without them their tests skip."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real market data at {DATA}: its tests need the samples")
