//! The backup store: frames, packs, maps, points, keys. Knows object stores; no gRPC, no database.
