//! Covariance and lead–lag of two series that tick at different times. Hayashi & Yoshida (2005).
