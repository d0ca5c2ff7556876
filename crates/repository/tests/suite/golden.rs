//! What version 1 wrote is read for ever: `golden/v1` is a repository as it was written on 2026-11-23.
//!
//! `MUSTER_WRITE_GOLDEN=1` writes one where none is, for a new version; a golden folder is never written again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_common::id::PointId;
use muster_common::time::Timestamp;
use muster_repository::check::CheckOptions;
use muster_repository::counters::Counters;
use muster_repository::entry::{FileKind, FolderEntry, Group, RelPath, SymlinkEntry};
use muster_repository::keys::KdfCost;
use muster_repository::location::{Location, Pin};
use muster_repository::repository::Repository;
use muster_repository::writing::{BadPage, PointDetails};

use crate::support::{COMPONENT, Files, PAGES, agent, entry, files, new_point, noise, passphrase, recipient, restore, rows};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1")
}

/// A leaf, an inner node over two leaves, single frames, raw and compressed, an empty file.
fn content() -> Files {
    files([
        ("base/1/1259", PAGES, rows(1, 600_000)),
        ("base/1/2608", PAGES, [vec![0; 40_000_000], rows(2, 5_000)].concat()),
        ("base/1/3455", FileKind::Pages { block_size: 32768 }, noise(3, 40_000)),
        ("PG_VERSION", FileKind::Plain, b"15\n".to_vec()),
        ("empty", FileKind::Plain, Vec::new()),
        ("pg_wal/000000010000000000000001", FileKind::Plain, rows(4, 300_000)),
    ])
}

fn details() -> PointDetails {
    PointDetails {
        kind: "postgres.physical".into(),
        started: Timestamp(1_795_000_000_000_000),
        finished: Timestamp(1_795_000_060_000_000),
        position_text: "0/2000100 on timeline 1".into(),
        label: "golden".into(),
        settings: [("wal_level".to_owned(), "replica".to_owned())].into(),
        engine: vec![8, 1],
        damaged: vec![BadPage { path: RelPath::new(*b"base/1/1259").unwrap(), block: 3, what: "checksum".into() }],
    }
}

async fn write() {
    std::fs::create_dir_all(folder().parent().unwrap()).unwrap();
    let location = Location::Folder { path: folder() };
    let pin = Repository::init(&location, &passphrase(), KdfCost::WEAK).await.unwrap();
    let text: String = pin.public_key.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(folder().with_extension("pin"), format!("{} {text}\n", pin.id)).unwrap();
    let repository = Repository::open(&location, pin).await.unwrap();
    repository.grant(COMPONENT, &[recipient("ankara-db1", &agent())], &passphrase()).await.unwrap();
    let keys = repository.unlock(COMPONENT, &agent()).await.unwrap();
    let writer = repository.begin_point(&keys, new_point(1)).await.unwrap();
    tokio::task::block_in_place(|| {
        for (path, (kind, content)) in content() {
            writer.write_file(entry(&path, kind, content.len()), &mut content.as_slice(), &Counters::default()).unwrap();
        }
        writer.add_folder(&FolderEntry { path: RelPath::new(*b"pg_tblspc").unwrap(), mode: 0o700, group: Group::Data }).unwrap();
        let link = RelPath::new(*b"pg_tblspc/16400").unwrap();
        writer.add_symlink(&SymlinkEntry { path: link, target: b"/srv/fast".to_vec(), group: Group::Data }).unwrap();
    });
    writer.finish(details()).await.unwrap();
}

fn pin() -> Pin {
    let text = std::fs::read_to_string(folder().with_extension("pin")).unwrap();
    let (id, key) = text.trim().split_once(' ').unwrap();
    let mut public_key = [0; 32];
    for (at, byte) in public_key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&key[at * 2..at * 2 + 2], 16).unwrap();
    }
    Pin { id: id.parse().unwrap(), public_key }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_of_version_1_is_read_as_it_was_written() {
    if std::env::var_os("MUSTER_WRITE_GOLDEN").is_some() && !folder().exists() {
        write().await;
    }
    let location = Location::Folder { path: folder() };
    assert_eq!(Repository::look(&location).await.unwrap(), pin());
    let repository = Repository::open(&location, pin()).await.unwrap();
    let keys = repository.unlock(COMPONENT, &agent()).await.unwrap();
    repository.unlock_with_passphrase(COMPONENT, &passphrase()).await.unwrap();
    let point = repository.read_point(&keys, COMPONENT, PointId::from_bytes([1; 16])).await.unwrap();
    assert_eq!(point.summary.details, details());
    assert_eq!((point.summary.instance.as_str(), point.summary.parent), ("istanbul", None));
    assert_eq!(point.folders[0].path.as_bytes(), b"pg_tblspc");
    assert_eq!(point.symlinks[0].target, b"/srv/fast");
    let (restored, outcome) = restore(&point).await;
    outcome.unwrap();
    for (path, (kind, content)) in content() {
        assert_eq!(std::fs::read(restored.path().join(crate::support::flat(&path))).unwrap(), content, "{path}");
        assert!(point.files.iter().any(|file| file.entry.path.as_bytes() == path.as_bytes() && file.entry.kind == kind));
    }
    let options = CheckOptions { read_data: Some((1, 1)), ..CheckOptions::default() };
    let report = repository.check(&[keys], options, &Arc::default()).await.unwrap();
    assert_eq!((report.points, report.problems), (1, vec![]));
}
