//! Real two-site worlds on one machine, for tests, demo and benches.
