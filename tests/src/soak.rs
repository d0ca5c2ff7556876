//! The same test, short in `make test` and long in `make soak`; and the seed by which a run is done again.

/// `short`, or `long` where `MUSTER_SOAK` is set, as `make soak` does.
#[must_use]
pub fn size(short: u32, long: u32) -> u32 {
    if std::env::var_os("MUSTER_SOAK").is_some() { long } else { short }
}

/// The seed of `MUSTER_SEED`, else a new one. Print it: a run is done again by it.
///
/// # Panics
/// Where the variable holds no number.
#[must_use]
pub fn seed() -> u64 {
    match std::env::var("MUSTER_SEED") {
        Ok(text) => text.parse().expect("MUSTER_SEED is a number"),
        Err(_) => rand::random(),
    }
}
