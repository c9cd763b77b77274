//! PIN rules: generation, length, attempt counting, delay, lock.
