//! Intensity of events that excite each other: uni- and bivariate, exponential kernel. Not the fit (calibrate.py).
