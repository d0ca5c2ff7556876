//! The protobuf messages of format version 1, as `proto/muster-repository-v1.proto` has them.
//!
//! They are sealed or signed as they were encoded and never encoded again. Field numbers that are left out are reserved.

/// What `config` signs.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Config {
    #[prost(uint32, tag = "1")]
    pub(crate) min_reader: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) format: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) repository: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) public_key: Vec<u8>,
    /// Microseconds since 1970.
    #[prost(int64, tag = "5")]
    pub(crate) created: i64,
    /// How long what prune marked stays at least. 0: 48 hours.
    #[prost(uint32, tag = "6")]
    pub(crate) grace_seconds: u32,
}

/// What a key object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum KeyRole {
    Unspecified = 0,
    /// Wraps the 32-byte seed of the repository's Ed25519 key.
    Signer = 1,
    /// Wraps the 64 bytes of a component's data key.
    Data = 2,
}

/// What `keys/<id>` signs.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyObject {
    #[prost(uint32, tag = "1")]
    pub(crate) min_reader: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) repository: Vec<u8>,
    #[prost(enumeration = "KeyRole", tag = "3")]
    pub(crate) role: i32,
    /// Empty in the signer's.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) component: Vec<u8>,
    /// What seals name; several objects may wrap one key.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) key: Vec<u8>,
    #[prost(uint32, tag = "6")]
    pub(crate) generation: u32,
    #[prost(int64, tag = "7")]
    pub(crate) created: i64,
    #[prost(message, repeated, tag = "8")]
    pub(crate) wraps: Vec<Wrap>,
}

/// One way to open a key object.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Wrap {
    /// A label for people.
    #[prost(string, tag = "1")]
    pub(crate) recipient: String,
    /// Ciphertext and tag.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) sealed: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    pub(crate) agent: Option<AgentWrap>,
    #[prost(message, optional, tag = "4")]
    pub(crate) passphrase: Option<PassphraseWrap>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AgentWrap {
    /// The recipient's X25519 public key.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) public_key: Vec<u8>,
    /// The public half of a key that was made for this wrap.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) ephemeral: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PassphraseWrap {
    #[prost(uint32, tag = "1")]
    pub(crate) memory_kib: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) passes: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) lanes: u32,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) salt: Vec<u8>,
}

/// The clear header of a pack's frame table and digest table.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TableHeader {
    #[prost(uint32, tag = "1")]
    pub(crate) min_reader: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) domain: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) pack: Vec<u8>,
    /// What the rows' key indexes mean: 16 bytes each.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) keys: Vec<u8>,
}

/// The clear header of a point: all that prune, copy and holds go by, without a key.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PointHeader {
    #[prost(uint32, tag = "1")]
    pub(crate) min_reader: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) repository: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) component: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) point: Vec<u8>,
    /// The packs that it needs, 16 bytes each, none twice.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) packs: Vec<u8>,
    /// The data keys that it needs, 16 bytes each.
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) keys: Vec<u8>,
    /// The log ranges that it needs besides its own files. None is written yet.
    #[prost(message, repeated, tag = "7")]
    pub(crate) logs: Vec<LogRange>,
    /// The store's time when the writer loaded the marks of prune, microseconds since 1970; 0: it knew of none.
    #[prost(int64, tag = "8")]
    pub(crate) marks_loaded: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LogRange {
    #[prost(uint64, tag = "1")]
    pub(crate) system_id: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) timeline: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) fork: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) to: u64,
}

/// What prune means to remove once the grace time has passed. Open to everyone, and proved by nothing: see `docs/formats.md`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Mark {
    #[prost(uint32, tag = "1")]
    pub(crate) min_reader: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) repository: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) component: Vec<u8>,
    /// 16 bytes each.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) packs: Vec<u8>,
    /// 16 bytes each.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) points: Vec<u8>,
}

/// What must stay, until when. The highest `n` of an id counts.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hold {
    #[prost(uint32, tag = "1")]
    pub(crate) min_reader: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) repository: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) component: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) point: Vec<u8>,
    /// By the store's clock, microseconds since 1970; 0: it was let go.
    #[prost(int64, tag = "5")]
    pub(crate) until: i64,
    /// Who holds it: `restore`, `verify`, an operator's name.
    #[prost(string, tag = "6")]
    pub(crate) holder: String,
    /// Why, in words.
    #[prost(string, tag = "7")]
    pub(crate) reason: String,
}

/// The sealed part of a point.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PointBody {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "2")]
    pub(crate) instance: String,
    #[prost(int64, tag = "3")]
    pub(crate) started: i64,
    #[prost(int64, tag = "4")]
    pub(crate) finished: i64,
    #[prost(string, tag = "5")]
    pub(crate) position: String,
    #[prost(string, tag = "6")]
    pub(crate) label: String,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(crate) settings: std::collections::BTreeMap<String, String>,
    #[prost(bytes = "vec", tag = "8")]
    pub(crate) engine: Vec<u8>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) damaged: Vec<DamagedPage>,
    /// Empty where it had none.
    #[prost(bytes = "vec", tag = "10")]
    pub(crate) parent: Vec<u8>,
    #[prost(uint64, tag = "11")]
    pub(crate) files: u64,
    #[prost(uint64, tag = "12")]
    pub(crate) bytes: u64,
    #[prost(uint64, tag = "13")]
    pub(crate) bytes_stored: u64,
    #[prost(uint64, tag = "14")]
    pub(crate) folders: u64,
    #[prost(uint64, tag = "15")]
    pub(crate) symlinks: u64,
    /// The pieces of the list of files, in order.
    #[prost(message, repeated, tag = "16")]
    pub(crate) lists: Vec<FrameRef>,
}

/// A page, or a whole file, that was found bad while it was read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DamagedPage {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) path: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) block: u64,
    #[prost(string, tag = "3")]
    pub(crate) what: String,
}

/// A frame by the place of its pack in the point's clear list, and its name.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FrameRef {
    #[prost(uint32, tag = "1")]
    pub(crate) pack: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) name: Vec<u8>,
}

/// A row of the list of files. A list frame is such messages, each behind its length (protobuf varint).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) path: Vec<u8>,
    /// 1 file, 2 folder, 3 symbolic link.
    #[prost(uint32, tag = "2")]
    pub(crate) form: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) mode: u32,
    #[prost(int64, tag = "4")]
    pub(crate) mtime: i64,
    /// 1 data, 2 tablespace, 3 configuration, 4 log.
    #[prost(uint32, tag = "5")]
    pub(crate) group: u32,
    #[prost(uint32, tag = "6")]
    pub(crate) tablespace: u32,
    /// Of a symbolic link.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) target: Vec<u8>,
    #[prost(uint64, tag = "8")]
    pub(crate) size: u64,
    /// 0: a plain file.
    #[prost(uint32, tag = "9")]
    pub(crate) block_size: u32,
    /// 0 empty file, 1 one whole frame, 2 a leaf, 3 an inner node.
    #[prost(uint32, tag = "10")]
    pub(crate) root: u32,
    #[prost(message, optional, tag = "11")]
    pub(crate) frame: Option<FrameRef>,
}
