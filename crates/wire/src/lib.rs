//! The generated gRPC interface, and its conversions to our types.
