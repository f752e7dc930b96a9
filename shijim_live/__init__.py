"""The live half: records the market, owns the meaning of the data. Never imports Dagster, chDB or pandas."""

from importlib.metadata import version

__version__ = version("shijim")
