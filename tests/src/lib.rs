//! End-to-end scenarios live in `tests/scenarios`; this library holds nothing.
