//! Fair price of a local-level model behind noisy observations.
