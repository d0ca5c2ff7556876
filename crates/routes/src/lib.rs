//! Routes: names that must point at the writer's site, changed by compare-and-swap that carries the reign.
//!
//! What a step of an operation calls is in [`route::Route`], in this order:
//!
//! | act | call | then |
//! |---|---|---|
//! | once, before the first move | `route.adopt(&site, &line)` | the TXT carries the reign |
//! | preflight | `route.preflight(&line)` | tells what would stop a change; changes nothing |
//! | before a planned move | `route.lower_ttl(&line)` | wait for `changed.old_ttl()` seconds |
//! | last step of every move | `route.cut_over(&site, &line)` | `line` ends in the **new** reign |
//! | after it | `route.settled(&site, bound)` | every server that answers has the new set |
//! | at the end | `route.restore_ttl(&line)` | |
//! | at any time | `route.show()` | what everybody answers, and the reign |
//!
//! `line` is the shard's line of reigns (`muster_failover::reign::Line`). All of them can be called again after any
//! interruption. What always holds: a name never becomes empty; it is changed in one transaction, and only from a reign on
//! the caller's own line; what was answered is not believed but read back. Knows no controller, agent or database.

pub mod change;
pub mod conform;
pub mod cutover;
pub mod dns;
pub mod domain;
pub mod exchange;
pub mod key;
pub mod message;
pub mod program;
pub mod provider;
pub mod refusal;
pub mod route;
pub mod standing;
