//! What trading costs and moves: Kyle's λ, Amihud's illiquidity, Roll's spread.
