//! The tests of the repository as its callers see it: one binary.

mod support;

mod round_trip;
