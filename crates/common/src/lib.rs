//! The vocabulary of Muster: ids, names, epochs, positions, sizes, error kinds. No I/O, no clock, no async.
