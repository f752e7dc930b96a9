"""What is missing of a trading day, whether it could be had again, and what is thereby proven. Builds nothing."""
