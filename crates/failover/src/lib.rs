//! Who may write: reigns, epochs, grants. Pure: no I/O, no clock, no randomness, no async.
