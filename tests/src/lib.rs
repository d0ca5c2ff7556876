//! What more than one of the test programs needs: the reference pages that are made from the protocol, and JSON judged by its schema.

pub mod reference;
