//! VPIN: how one-sided the volume is. From signed trades, and by bulk volume classification.
