//! What version 1 wrote is read for ever.
