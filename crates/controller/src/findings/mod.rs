//! Findings: what a person should know now. `judge` is pure over a `World`; `damping` is pure over what was judged; `gather` reads the
//! world, `look` does it each second, records what changed and tells whoever watches.

pub mod damping;
pub mod gather;
pub mod judge;
pub mod look;
pub mod rule;
pub mod seen;
pub mod shown;
pub mod subject;
pub mod table;
pub mod watch;
pub mod world;
