//! An S3 server whose conditional puts are atomic, with faults on demand.
//!
//! s3s-fs keeps objects as files, but lets two conditional puts win at once; behind one lock for all writes it does not.

pub mod fault;
pub mod server;
