//! Where a resting order stands in its queue, as hftbacktest 2.4 estimates it.
