"""The live half: records the market, owns the meaning of the data. Never imports Dagster, chDB or pandas."""
