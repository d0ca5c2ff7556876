//! The formats under pressure: known answers, round trips, and bytes that nobody wrote.

use std::collections::HashSet;

use muster_common::id::{ComponentId, KeyId, PackId};
use proptest::prelude::*;
use prost::Message;

use super::frame::{Codec, FrameHeader, FrameKind, Opener, Sealer, block_size_of, name_pages, slots_of};
use super::map::{Child, Leaf, LeafFrame, Node, Run};
use super::message::{Config, Entry, KeyObject, PointBody, PointHeader, TableHeader};
use super::object::{Envelope, ObjectKind, seal_object};
use super::signed::{body_unproved, sign, verify};
use super::subkeys::{DataKeys, Digest, FrameName, KeySet, Material};
use super::table::{Row, TRAILER, Table, Trailer, open_digests, seal_digests, seal_table};
use super::{Malformed, layout};

const DOMAIN: ComponentId = ComponentId::from_bytes([7; 16]);
const PACK: PackId = PackId::from_bytes([9; 16]);

fn keys() -> DataKeys {
    let mut material = [0; 64];
    material.iter_mut().zip(0..).for_each(|(byte, at)| *byte = at);
    DataKeys::new(DOMAIN, vec![KeySet::derive(KeyId::from_bytes([3; 16]), 1, &Material::new(material))]).unwrap()
}

fn text(length: usize) -> Vec<u8> {
    b"a row of a table, with a number: "
        .iter()
        .copied()
        .cycle()
        .zip(0_u32..)
        .map(|(byte, at)| byte ^ (at >> 9) as u8)
        .take(length)
        .collect()
}

/// Seals a frame of pages and gives its header and its bytes.
fn sealed_pages(plain: &[u8], level: i32) -> (FrameHeader, Vec<u8>) {
    let keys = keys();
    let set = keys.current().unwrap();
    let name = name_pages(set, plain, 8192, &mut Vec::new());
    let mut sealer = Sealer::new(level).unwrap();
    let sealed = sealer.seal(set, FrameKind::Pages, name, plain).unwrap();
    (sealed.header, sealed.stored.to_vec())
}

#[test]
fn names_digests_and_seals_have_known_answers() {
    let keys = keys();
    let set = keys.current().unwrap();
    let page = [5; 8192];
    let digest = set.page_digest(&page);
    let name = set.name(FrameKind::Plain.number(), b"plain");
    let leaf = set.leaf_digest(&[digest.0, digest.0]);
    let (header, stored) = sealed_pages(&page, 1);
    // Raw: what is sealed does not depend on a library's version.
    let mut sealer = Sealer::new(1).unwrap();
    let raw = sealer.seal(set, FrameKind::Plain, name, b"plain").unwrap();
    assert_eq!((raw.header.codec, header.codec), (Codec::Raw, Codec::Zstd));
    let told = format!("{digest:?} {name:?} {leaf:?} {:?} {}", header.name, hex::encode(raw.stored));
    assert_eq!(told, KNOWN);
    assert!(Opener::new().unwrap().open(&keys, &header, 1, &stored).unwrap().plain == page);
}

const KNOWN: &str = "6a6e5780a7887655106dca6ba331cf23 43d7741535caeaff65f800f12c6da68d 6bef35ddb385dfac62eab99dac722a2a \
                     0f1408939fd51656e4286613cb7d63d6 b502cf575b3954a3d06f68f04394439c90a62f8c3b95f0855e6a249ddb30a7acb4";

#[test]
fn no_key_meets_a_nonce_twice_with_other_bytes() {
    let keys = keys();
    let set = keys.current().unwrap();
    let plain = text(262_144);
    // (name, which makes the key; nonce) to what was sealed.
    let mut seen = std::collections::HashMap::new();
    let mut seals = 0;
    for level in [-3, 1, 3, 9, 19] {
        let pages = name_pages(set, &plain, 8192, &mut Vec::new());
        let small_pages = name_pages(set, &plain, 1024, &mut Vec::new());
        let mut frames = vec![(FrameKind::Pages, pages), (FrameKind::Pages, small_pages)];
        for kind in [FrameKind::Plain, FrameKind::Leaf, FrameKind::Node, FrameKind::List] {
            frames.push((kind, set.name(kind.number(), &plain)));
            // Not even a wrong name for the kind would reuse a nonce: the kind is in the associated data.
            frames.push((kind, pages));
        }
        for (kind, name) in frames {
            let mut sealer = Sealer::new(level).unwrap();
            let sealed = sealer.seal(set, kind, name, &plain).unwrap();
            let nonce: [u8; 12] = sealed.stored[..12].try_into().unwrap();
            let bytes = (sealed.header.associated(), sealed.stored.to_vec());
            seals += 1;
            let other = seen.entry((name, nonce)).or_insert_with(|| bytes.clone());
            assert!(*other == bytes, "level {level}, {kind:?}: one key and one nonce for two texts");
        }
    }
    let names: HashSet<FrameName> = seen.keys().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), 6, "one name a kind and a block size, whatever the level");
    assert!(seals == 50 && seen.len() > 40, "{} of {seals} seals have a nonce of their own", seen.len());
}

#[test]
fn a_frame_opens_as_what_it_was_sealed_as_and_as_nothing_else() {
    let keys = keys();
    let plain = text(20_000);
    let (header, stored) = sealed_pages(&plain, 1);
    let mut opener = Opener::new().unwrap();
    assert!(opener.open(&keys, &header, 3, &stored).unwrap().plain == plain);
    let wrong = [
        FrameHeader { kind: FrameKind::Plain, ..header },
        FrameHeader { codec: Codec::Raw, ..header },
        FrameHeader { plain_len: header.plain_len - 1, ..header },
        FrameHeader { name: FrameName([0; 16]), ..header },
        FrameHeader { key: KeyId::from_bytes([4; 16]), ..header },
    ];
    for header in wrong {
        assert!(opener.open(&keys, &header, 3, &stored).is_err(), "{header:?}");
    }
    assert!(opener.open(&keys, &header, 2, &stored).is_err(), "other slots are another name");
    for at in 0..stored.len() {
        let mut bad = stored.clone();
        bad[at] ^= 1;
        assert!(opener.open(&keys, &header, 3, &bad).is_err(), "byte {at}");
    }
    // What has a valid seal and another content than its name says is refused too: names bind tables and caches.
    let set = keys.current().unwrap();
    let mut sealer = Sealer::new(1).unwrap();
    let forged = sealer.seal(set, FrameKind::Plain, set.name(FrameKind::Plain.number(), b"this"), b"that").unwrap();
    assert!(matches!(opener.open(&keys, &forged.header, 1, forged.stored), Err(Malformed::Wrong(what)) if what.contains("name")));
}

#[test]
fn a_bomb_comes_out_no_longer_than_its_header_says() {
    let keys = keys();
    let set = keys.current().unwrap();
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let name = set.name(FrameKind::Plain.number(), &[0; 262_144]);
    let header =
        FrameHeader { kind: FrameKind::Plain, codec: Codec::Zstd, plain_len: 262_144, comp_len: bomb.len() as u32, key: set.id, name };
    let nonce = set.frame_nonce(&header.associated(), &bomb);
    let mut body = bomb;
    let tag = super::subkeys::seal(&set.frame_key(name).unwrap(), nonce, &header.associated(), &mut body).unwrap();
    let stored = [&nonce[..], &body, tag.as_ref()].concat();
    let refused = Opener::new().unwrap().open(&keys, &header, 1, &stored).err();
    assert!(matches!(&refused, Some(Malformed::Wrong(what)) if what.starts_with("zstd")), "{refused:?}");
}

#[test]
fn what_only_a_newer_reader_understands_is_told_as_that() {
    let keys = keys();
    let sealed = seal_object(keys.current().unwrap(), ObjectKind::Point, [1; 32], "points/x", b"clear", b"plain").unwrap();
    let mut newer = sealed.clone();
    newer[4] = 2;
    assert!(matches!(Envelope::parse(ObjectKind::Point, &newer), Err(Malformed::Newer(2))));
    let mut flagged = sealed.clone();
    flagged[6] = 1;
    assert!(matches!(Envelope::parse(ObjectKind::Point, &flagged), Err(Malformed::Wrong(_))));
    assert!(Envelope::parse(ObjectKind::FrameTable, &sealed).is_err());
    let opened = Envelope::parse(ObjectKind::Point, &sealed).unwrap();
    assert_eq!(opened.open(&keys, "points/x").unwrap(), b"plain");
    assert!(opened.open(&keys, "points/y").is_err(), "a moved object does not open");
    assert_eq!(super::check_reader(2), Err(Malformed::Newer(2)));
    let error = Malformed::Newer(2).at("points/x");
    assert_eq!(error.fault().kind, muster_common::fault::ErrorKind::Incompatible);
}

#[test]
fn the_block_size_of_a_frame_follows_from_its_length_and_its_slots() {
    for power in 10..=15 {
        let block_size = 1 << power;
        for plain in [1, 1023, 1024, 5_000, 8_192, 8_193, 32_769, 100_000, 262_143, 262_144_usize] {
            let slots = slots_of(plain, block_size);
            let found = block_size_of(plain, slots).unwrap();
            assert!(if slots == 1 { found as usize == plain } else { found == block_size }, "{plain} bytes of {block_size}");
        }
    }
    assert!(block_size_of(10_000, 10).is_ok() && block_size_of(10_000, 200).is_err());
}

fn leaf(frames: usize) -> Leaf {
    let frame = |at: usize| LeafFrame { name: FrameName([at as u8; 16]), pack: (at % 2) as u16, slots: 32, plain_len: 262_144 };
    let runs = (0..frames).map(|at| Run { count: 32, frame: at as u16, slot: 0 });
    Leaf {
        block_size: 8192,
        bytes: frames as u64 * 262_144,
        digest: Digest([8; 16]),
        packs: vec![PACK, PackId::from_bytes([10; 16])],
        frames: (0..frames).map(frame).collect(),
        runs: runs.collect(),
    }
}

#[test]
fn a_leaf_whose_runs_do_not_fit_its_frames_is_refused() {
    let good = leaf(3);
    assert_eq!(Leaf::decode(&good.encode().unwrap()).unwrap(), good);
    let broken: [fn(&mut Leaf); 8] = [
        |leaf| leaf.runs[0].slot = 1,
        |leaf| leaf.runs[0].count = 33,
        |leaf| leaf.runs[0].count = 0,
        |leaf| leaf.runs[0].frame = 3,
        |leaf| leaf.frames[0].pack = 2,
        |leaf| leaf.bytes += 1,
        |leaf| leaf.block_size = 3,
        // A short page in the middle of a file.
        |leaf| (leaf.frames[0].plain_len, leaf.bytes) = (262_143, leaf.bytes - 1),
    ];
    for (at, breaks) in broken.iter().enumerate() {
        let mut leaf = leaf(3);
        breaks(&mut leaf);
        assert!(Leaf::decode(&leaf.encode().unwrap()).is_err(), "case {at}");
    }
}

fn rows() -> Vec<Row> {
    let header = |at: u8| FrameHeader {
        kind: FrameKind::Pages,
        codec: Codec::Zstd,
        plain_len: 8192,
        comp_len: 100,
        key: KeyId::from_bytes([3; 16]),
        name: FrameName([at; 16]),
    };
    [5, 1, 9].into_iter().zip(0..).map(|(name, at)| Row { header: header(name), offset: at * 128, slots: 1 }).collect()
}

#[test]
fn a_table_is_read_back_and_refused_where_it_does_not_cover_its_frames() {
    let keys = keys();
    let set = keys.current().unwrap();
    let sealed = seal_table(set, [1; 32], DOMAIN, PACK, &rows()).unwrap();
    let table = Table::open(&keys, DOMAIN, PACK, 384, &sealed).unwrap();
    assert_eq!(table.rows, rows());
    assert_eq!(table.find(FrameName([9; 16])), Some(&rows()[2]));
    assert_eq!(table.find(FrameName([2; 16])), None);
    assert!(Table::open(&keys, DOMAIN, PACK, 385, &sealed).is_err());
    assert!(Table::open(&keys, DOMAIN, PackId::from_bytes([1; 16]), 384, &sealed).is_err());
    let mut gap = rows();
    gap[1].offset += 1;
    let gap = seal_table(set, [1; 32], DOMAIN, PACK, &gap).unwrap();
    assert!(Table::open(&keys, DOMAIN, PACK, 384, &gap).is_err());
    let digests = seal_digests(set, [2; 32], DOMAIN, PACK, &[[1; 16]; 3]).unwrap();
    assert_eq!(open_digests(&keys, DOMAIN, PACK, &digests).unwrap(), [[1; 16]; 3]);
    assert!(Table::open(&keys, DOMAIN, PACK, 384, &digests).is_err(), "one table is not the other");
}

/// Changes some bytes, cuts, or adds: what an accident or an attacker does to `bytes`.
fn spoilt(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (changes, any::<prop::sample::Index>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(
        move |(changes, cut, cuts, more)| {
            let mut bytes = bytes.clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cuts {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            bytes.extend(more);
            bytes
        },
    )
}

fn sealed_plain(plain: &[u8], kind: ObjectKind, path: &str) -> Vec<u8> {
    let clear = TableHeader { min_reader: 1, domain: DOMAIN.as_bytes().to_vec(), pack: PACK.as_bytes().to_vec(), keys: vec![3; 16] };
    seal_object(keys().current().unwrap(), kind, [1; 32], path, &clear.encode_to_vec(), plain).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_content_comes_back_from_a_frame(plain in prop::collection::vec(any::<u8>(), 1..40_000), power in 10_u32..16, level in -5_i32..5) {
        let (keys, block_size) = (keys(), 1 << power);
        let set = keys.current().unwrap();
        let mut digests = Vec::new();
        let pages = name_pages(set, &plain, block_size, &mut digests);
        let whole = set.name(FrameKind::Plain.number(), &plain);
        for (kind, name, slots) in [(FrameKind::Pages, pages, digests.len() as u16), (FrameKind::Plain, whole, 1)] {
            let mut sealer = Sealer::new(level).unwrap();
            let sealed = sealer.seal(set, kind, name, &plain).unwrap();
            let mut opener = Opener::new().unwrap();
            let opened = opener.open(&keys, &sealed.header, slots, sealed.stored).unwrap();
            prop_assert!(opened.plain == plain);
            prop_assert!(kind == FrameKind::Plain || opened.digests == digests);
        }
    }

    #[test]
    fn no_bytes_break_a_parser_and_what_is_read_is_written_the_same(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(leaf) = Leaf::decode(&bytes) {
            prop_assert_eq!(leaf.encode().unwrap(), bytes.clone());
        }
        if let Ok(node) = Node::decode(&bytes) {
            prop_assert_eq!(node.encode().unwrap(), bytes.clone());
        }
        for kind in [ObjectKind::Config, ObjectKind::Key, ObjectKind::FrameTable, ObjectKind::DigestTable, ObjectKind::Point] {
            prop_assert!(Envelope::parse(kind, &bytes).and_then(|envelope| envelope.open(&keys(), "x")).is_err());
            prop_assert!(verify(&[1; 32], kind, "x", &bytes).is_err());
            // Whether it parses is open; that it does not panic is not.
            let _parsed = body_unproved(kind, &bytes).is_ok();
        }
        if let Some(trailer) = bytes.first_chunk::<TRAILER>()
            && let Ok(read) = Trailer::decode(trailer, 1_000)
        {
            prop_assert_eq!(read.encode().unwrap(), *trailer);
        }
        let _messages = (
            Config::decode(&bytes[..]).is_ok(), KeyObject::decode(&bytes[..]).is_ok(), PointHeader::decode(&bytes[..]).is_ok(),
            PointBody::decode(&bytes[..]).is_ok(), Entry::decode_length_delimited(&bytes[..]).is_ok(),
        );
        if let Ok(path) = crate::entry::RelPath::new(bytes.clone()) {
            prop_assert!(path.as_path().components().all(|part| matches!(part, std::path::Component::Normal(_))));
        }
    }

    #[test]
    fn a_spoilt_leaf_is_refused_or_still_consistent(bytes in spoilt(leaf(5).encode().unwrap())) {
        if let Ok(leaf) = Leaf::decode(&bytes) {
            let pieces = leaf.pieces().unwrap();
            prop_assert_eq!(pieces.iter().map(|piece| u64::from(piece.length)).sum::<u64>(), leaf.bytes);
            prop_assert_eq!(pieces.iter().map(|piece| usize::from(piece.rows)).sum::<usize>(), leaf.rows());
        }
    }

    #[test]
    fn a_spoilt_node_is_refused_or_still_consistent(bytes in spoilt(node().encode().unwrap())) {
        if let Ok(node) = Node::decode(&bytes) {
            prop_assert!(node.children.iter().all(|child| usize::from(child.pack) < node.packs.len()));
            prop_assert_eq!(node.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn any_rows_in_a_sealed_table_are_refused_or_dense(plain in prop::collection::vec(any::<u8>(), 0..340), end in 0_u64..4_000) {
        let sealed = sealed_plain(&plain, ObjectKind::FrameTable, &layout::pack(DOMAIN, PACK));
        if let Ok(table) = Table::open(&keys(), DOMAIN, PACK, end, &sealed) {
            prop_assert_eq!(table.rows.iter().map(|row| row.header.stored_len()).sum::<u64>(), end);
        }
        let digests = sealed_plain(&plain, ObjectKind::DigestTable, &layout::pack(DOMAIN, PACK));
        prop_assert_eq!(open_digests(&keys(), DOMAIN, PACK, &digests).is_ok(), plain.len() % 16 == 0);
    }

    #[test]
    fn a_spoilt_object_does_not_open(bytes in spoilt(sealed_plain(b"plain", ObjectKind::Point, "x"))) {
        let good = sealed_plain(b"plain", ObjectKind::Point, "x");
        let opened = Envelope::parse(ObjectKind::Point, &bytes).and_then(|envelope| envelope.open(&keys(), "x"));
        prop_assert_eq!(opened.is_ok(), bytes == good);
    }

    #[test]
    fn a_spoilt_signed_object_is_refused(bytes in spoilt(signed())) {
        prop_assert_eq!(verify(&public(), ObjectKind::Key, "keys/1", &bytes).is_ok(), bytes == signed());
    }

    #[test]
    fn paths_are_read_back_or_are_none_of_ours(path in "(packs|points|keys)?/?[0-9a-f/]{0,70}") {
        if let Some((domain, pack)) = layout::parse_pack(&path) {
            prop_assert_eq!(layout::pack(domain, pack), path);
        } else if let Some((component, point)) = layout::parse_point(&path) {
            prop_assert_eq!(layout::point(component, point), path);
        } else if let Some(key) = layout::parse_key(&path) {
            prop_assert_eq!(layout::key(key), path);
        }
    }
}

fn node() -> Node {
    let child = |at: u8| Child { name: FrameName([at; 16]), pack: u16::from(at % 2), bytes: 1 << 25, digest: Digest([at; 16]) };
    Node { level: 1, block_size: 8192, packs: vec![PACK, PackId::from_bytes([1; 16])], children: (0..6).map(child).collect() }
}

fn pair() -> ring::signature::Ed25519KeyPair {
    ring::signature::Ed25519KeyPair::from_seed_unchecked(&[6; 32]).unwrap()
}

fn public() -> [u8; 32] {
    use ring::signature::KeyPair;
    pair().public_key().as_ref().try_into().unwrap()
}

fn signed() -> Vec<u8> {
    sign(&pair(), ObjectKind::Key, "keys/1", b"body").unwrap()
}
