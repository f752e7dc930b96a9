"""From a callback to the durable log, and reading that log back."""
