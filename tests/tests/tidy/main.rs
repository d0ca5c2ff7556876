//! Tidy: what clippy cannot hold. Which crate may know which, what pure crates may not name, how long a file may be,
//! that every file says what it is for, that golden files of a released format never change, and that no file names a
//! machine's own path. Reads the files that git tracks or would track; starts nothing.

mod documents;
mod edges;
mod golden;
mod metrics;
mod sources;
mod tree;
