//! Line and card: which lines may be remembered (I8, policy A3).
