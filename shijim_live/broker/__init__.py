"""Where market data comes from: the broker's SDK, the simulated exchange, a recorded log."""
