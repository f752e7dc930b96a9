"""The Dagster project: a trading day from its universe to its certificate, with what starts it and who is told."""
