"""What the design promises in numbers, measured by `make bench`. Not tests: nothing here fails, it reports."""
