//! Repositories in temporary folders, and points with made-up content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_common::id::{ComponentId, PointId};
use muster_common::time::Timestamp;
use muster_repository::counters::Counters;
use muster_repository::entry::{FileEntry, FileKind, Group, RelPath};
use muster_repository::error::Error;
use muster_repository::keys::{DataKeys, KdfCost, Recipient};
use muster_repository::location::{Location, Pin};
use muster_repository::reading::{Point, PointSummary};
use muster_repository::repository::{DEFAULT_GRACE, Repository};
use muster_repository::restoring::{Extract, ExtractOptions};
use muster_repository::secret::{AgentSecret, Secret};
use muster_repository::writing::{NewPoint, PointDetails};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub const COMPONENT: ComponentId = ComponentId::from_bytes([7; 16]);

pub fn passphrase() -> Secret {
    Secret::new("correct horse")
}

pub fn agent() -> AgentSecret {
    AgentSecret::generate([9; 32])
}

pub fn recipient(name: &str, secret: &AgentSecret) -> Recipient {
    Recipient { name: name.into(), x25519_public: secret.public() }
}

/// A repository in a folder of its own, with a key for [`COMPONENT`].
pub struct World {
    pub folder: TempDir,
    pub location: Location,
    pub pin: Pin,
    pub repository: Repository,
    pub keys: DataKeys,
}

impl World {
    pub async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let location = Location::Folder { path: folder.path().to_owned() };
        Self::at(location, folder).await
    }

    pub async fn at(location: Location, folder: TempDir) -> Self {
        Self::with_grace(location, folder, DEFAULT_GRACE).await
    }

    pub async fn with_grace(location: Location, folder: TempDir, grace: Duration) -> Self {
        let pin = Repository::init_with_grace(&location, &passphrase(), KdfCost::WEAK, grace).await.unwrap();
        let repository = Repository::open(&location, pin).await.unwrap();
        repository.grant(COMPONENT, &[recipient("ankara-db1", &agent())], &passphrase()).await.unwrap();
        let keys = repository.unlock(COMPONENT, &agent()).await.unwrap();
        Self { folder, location, pin, repository, keys }
    }

    pub async fn back_up(&self, id: u8, files: &Files) -> Result<PointSummary, Error> {
        back_up(&self.repository, &self.keys, new_point(id), files).await
    }

    pub async fn point(&self, id: u8) -> Result<Point, Error> {
        self.repository.read_point(&self.keys, COMPONENT, PointId::from_bytes([id; 16])).await
    }

    /// Restores a point and compares each byte.
    pub async fn assert_restores(&self, id: u8, files: &Files) {
        let point = self.point(id).await.unwrap();
        let (folder, outcome) = restore(&point).await;
        outcome.unwrap();
        for (path, (_, content)) in files {
            let found = std::fs::read(folder.path().join(flat(path))).unwrap();
            assert!(&found == content, "{path}: {} bytes restored, {} expected, or they differ", found.len(), content.len());
        }
        assert_eq!(point.files.len(), files.len());
    }

    /// The paths of all objects under `prefix`, relative to the repository's root.
    pub fn objects(&self, prefix: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.folder.path().join(prefix), &mut found);
        found.sort();
        found
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() { walk(&entry.path(), found) } else { found.push(entry.path()) }
    }
}

pub type Files = BTreeMap<String, (FileKind, Vec<u8>)>;

pub const PAGES: FileKind = FileKind::Pages { block_size: 8192 };

pub fn new_point(id: u8) -> NewPoint {
    NewPoint {
        point: PointId::from_bytes([id; 16]),
        component: COMPONENT,
        instance: "istanbul".into(),
        parent: None,
        level: 1,
        threads: 2,
        cache: None,
        cancel: CancellationToken::new(),
    }
}

pub fn entry(path: &str, kind: FileKind, size: usize) -> FileEntry {
    FileEntry {
        path: RelPath::new(path.as_bytes()).unwrap(),
        kind,
        mode: 0o600,
        mtime: Timestamp(1_700_000_000_000_000),
        size_hint: size as u64,
        group: Group::Data,
    }
}

pub async fn back_up(repository: &Repository, keys: &DataKeys, new: NewPoint, files: &Files) -> Result<PointSummary, Error> {
    let writer = Arc::new(repository.begin_point(keys, new).await?);
    let counters = Arc::new(Counters::default());
    let mut threads = Vec::new();
    for part in 0..2 {
        let (writer, counters) = (writer.clone(), counters.clone());
        let mine: Vec<_> = files.iter().skip(part).step_by(2).map(|(path, file)| (path.clone(), file.clone())).collect();
        threads.push(tokio::task::spawn_blocking(move || {
            for (path, (kind, content)) in mine {
                writer.write_file(entry(&path, kind, content.len()), &mut content.as_slice(), &counters)?;
            }
            Ok::<_, Error>(())
        }));
    }
    let mut outcome = Ok(());
    for thread in threads {
        outcome = outcome.and(thread.await.unwrap());
    }
    let writer = Arc::into_inner(writer).unwrap();
    if let Err(error) = outcome {
        writer.abort().await;
        return Err(error);
    }
    writer.finish(PointDetails { kind: "files".into(), position_text: "0/1".into(), ..PointDetails::default() }).await
}

/// A path of a point as one file name.
pub fn flat(path: &str) -> String {
    path.replace('/', "_")
}

pub async fn restore(point: &Point) -> (TempDir, Result<(), Error>) {
    let folder = TempDir::new().unwrap();
    let jobs = point.files.iter().enumerate();
    let jobs = jobs.map(|(file, it)| Extract { file, destination: folder.path().join(flat(&it.entry.path.to_string())) }).collect();
    let options = ExtractOptions { threads: 2, in_flight: 8, cancel: CancellationToken::new(), fsync: true };
    let outcome = point.extract(jobs, options, &Arc::new(Counters::default())).await;
    (folder, outcome.map(|_| ()))
}

/// Bytes that look like nothing, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Bytes that compress about as database pages do.
pub fn rows(seed: u64, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 64);
    let mut state = seed | 1;
    while out.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.extend_from_slice(
            format!("{:>10}|{:>4}|customer name and filler|{:>6}\n", state >> 40, state % 997, out.len() / 60).as_bytes(),
        );
    }
    out.truncate(length);
    out
}

pub fn files(list: impl IntoIterator<Item = (&'static str, FileKind, Vec<u8>)>) -> Files {
    list.into_iter().map(|(path, kind, content)| (path.to_owned(), (kind, content))).collect()
}
