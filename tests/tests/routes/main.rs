//! Routes at real name servers: BIND 9 and Knot, started by the test bed.

mod moves;
mod place;
mod program;
mod refusals;
