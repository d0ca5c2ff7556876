//! The generated gRPC interface, and its conversions to our types.
//!
//! Protobuf is known at the edges only: whoever receives a message turns it into a type of ours once, here.

pub mod canonical;
pub mod codec;
pub mod convert;
pub mod descriptor;
pub mod failover;
pub mod json;
pub mod nearest;
pub mod page;
pub mod status;
pub mod yaml;

/// Generated from `proto/`: `proto::v1` is what operators and automation call, `proto::agent::v1` the agents' link.
#[allow(clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::too_many_lines, missing_docs, rustdoc::all)]
pub mod proto {
    /// `muster.v1`.
    pub mod v1 {
        tonic::include_proto!("muster.v1");
    }
    /// `muster.agent`.
    pub mod agent {
        /// `muster.agent.v1`.
        pub mod v1 {
            tonic::include_proto!("muster.agent.v1");
        }
    }
}

/// The descriptors of everything that is served, for reflection and for what walks all rpcs.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The version of the agents' link that this build speaks. A controller serves the minor version before it too; an agent sends it in its Hello.
pub const LINK_PROTOCOL: proto::agent::v1::ProtocolVersion = proto::agent::v1::ProtocolVersion { major: 1, minor: 0 };
