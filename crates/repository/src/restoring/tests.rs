//! A map that lies, made by somebody who has the keys: the leaf's own digest finds it out.

use std::sync::Arc;

use bytes::BytesMut;
use muster_common::id::{ComponentId, PackId, PointId};
use prost::Message;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{Extract, ExtractOptions};
use crate::error::Error;
use crate::format::frame::{FrameKind, Sealer, name_pages};
use crate::format::layout;
use crate::format::map::{Leaf, LeafFrame, Run};
use crate::format::message::{Entry, FrameRef, PointBody, PointHeader};
use crate::format::object::{ObjectKind, seal_object};
use crate::keys::{KdfCost, Recipient};
use crate::location::Location;
use crate::pack::OpenPack;
use crate::repository::Repository;
use crate::secret::{AgentSecret, Secret};

const COMPONENT: ComponentId = ComponentId::from_bytes([7; 16]);
const POINT: PointId = PointId::from_bytes([1; 16]);
const PACK: PackId = PackId::from_bytes([2; 16]);

/// Writes a point of one file of four pages by hand, in two frames; `lie` changes the leaf's runs after its digest was computed.
async fn restore_with(lie: impl FnOnce(&mut Vec<Run>)) -> Result<Vec<u8>, Error> {
    let folder = TempDir::new().unwrap();
    let location = Location::Folder { path: folder.path().join("repository") };
    let passphrase = Secret::new("x");
    let pin = Repository::init(&location, &passphrase, KdfCost::WEAK).await.unwrap();
    let repository = Repository::open(&location, pin).await.unwrap();
    let agent = AgentSecret::generate([1; 32]);
    let recipient = Recipient { name: "a".into(), x25519_public: agent.public() };
    repository.grant(COMPONENT, &[recipient], &passphrase).await.unwrap();
    let keys = repository.unlock(COMPONENT, &agent).await.unwrap();
    let set = keys.current().unwrap();

    let mut pack = OpenPack::new(PACK, BytesMut::new());
    let (mut sealer, mut digests, mut rows, mut frames) = (Sealer::new(1).unwrap(), Vec::new(), Vec::new(), Vec::new());
    for first in [1, 3] {
        let plain = [[first; 8192], [first + 1; 8192]].concat();
        let name = name_pages(set, &plain, 8192, &mut digests);
        pack.add(&sealer.seal(set, FrameKind::Pages, name, &plain).unwrap(), 2, &digests).unwrap();
        frames.push(LeafFrame { name, pack: 0, slots: 2, plain_len: 16_384 });
        rows.extend_from_slice(&digests);
    }
    let mut runs = vec![Run { count: 2, frame: 0, slot: 0 }, Run { count: 2, frame: 1, slot: 0 }];
    lie(&mut runs);
    let leaf = Leaf { block_size: 8192, bytes: 32_768, digest: set.leaf_digest(&rows), packs: vec![PACK], frames, runs }.encode().unwrap();
    let leaf_name = set.name(FrameKind::Leaf.number(), &leaf);
    pack.add(&sealer.seal(set, FrameKind::Leaf, leaf_name, &leaf).unwrap(), 1, &[]).unwrap();
    let entry = Entry {
        path: b"file".to_vec(),
        form: 1,
        mode: 0o600,
        group: 1,
        size: 32_768,
        block_size: 8192,
        root: 2,
        frame: Some(FrameRef { pack: 0, name: leaf_name.0.to_vec() }),
        ..Entry::default()
    };
    let list = entry.encode_length_delimited_to_vec();
    let list_name = set.name(FrameKind::List.number(), &list);
    pack.add(&sealer.seal(set, FrameKind::List, list_name, &list).unwrap(), 1, &[]).unwrap();
    let (_, bytes) = pack.close(set, COMPONENT).unwrap();
    repository.store().put_new(&layout::pack(COMPONENT, PACK), bytes).await.unwrap();

    let header = PointHeader {
        min_reader: 1,
        repository: pin.id.as_bytes().to_vec(),
        component: COMPONENT.as_bytes().to_vec(),
        point: POINT.as_bytes().to_vec(),
        packs: PACK.as_bytes().to_vec(),
        ..PointHeader::default()
    };
    let body = PointBody { files: 1, lists: vec![FrameRef { pack: 0, name: list_name.0.to_vec() }], ..PointBody::default() };
    let path = layout::point(COMPONENT, POINT);
    let object = seal_object(set, ObjectKind::Point, [5; 32], &path, &header.encode_to_vec(), &body.encode_to_vec()).unwrap();
    repository.store().put_new(&path, object.into()).await.unwrap();

    let point = repository.read_point(&keys, COMPONENT, POINT).await.unwrap();
    let destination = folder.path().join("file");
    let options = ExtractOptions { threads: 1, in_flight: 1, cancel: CancellationToken::new(), fsync: false };
    point.extract(vec![Extract { file: 0, destination: destination.clone() }], options, &Arc::default()).await?;
    Ok(std::fs::read(destination).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_tells_the_truth_restores() {
    let content = restore_with(|_| {}).await.unwrap();
    assert!(content == [[1; 8192], [2; 8192], [3; 8192], [4; 8192]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_slot_or_frame_in_a_leaf_is_found_although_every_seal_opens() {
    let lies: [fn(&mut Vec<Run>); 3] = [
        |runs| runs.swap(0, 1),
        |runs| *runs = [(0, 1), (0, 0), (1, 0), (1, 1)].map(|(frame, slot)| Run { count: 1, frame, slot }).to_vec(),
        |runs| runs[1] = runs[0],
    ];
    for (at, lie) in lies.into_iter().enumerate() {
        let outcome = restore_with(lie).await;
        let Err(Error::DamagedFiles(damaged)) = outcome else { panic!("lie {at}: {:?}", outcome.map(|content| content.len())) };
        assert!(damaged.files == 1 && damaged.damage[0].what.contains("leaf"), "{damaged:?}");
    }
}
