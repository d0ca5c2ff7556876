//! A repository in a bucket of a real S3 server, which throttles, fails, falls silent and loses replies on demand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_common::fault::ErrorKind;
use muster_common::id::{ComponentId, PointId};
use muster_common::time::Timestamp;
use muster_repository::check::CheckOptions;
use muster_repository::counters::Counters;
use muster_repository::entry::{FileEntry, FileKind, Group, RelPath};
use muster_repository::error::Error;
use muster_repository::keys::{DataKeys, KdfCost, Recipient};
use muster_repository::location::{Credentials, Location, Pin, S3Location};
use muster_repository::reading::PointSummary;
use muster_repository::repository::Repository;
use muster_repository::restoring::{Extract, ExtractOptions};
use muster_repository::secret::{AgentSecret, Secret};
use muster_repository::writing::{NewPoint, PointDetails};
use muster_testbed::account::RunAs;
use muster_testbed::s3::fault::{Fault, Kind};
use muster_testbed::s3::server::{ACCESS_KEY, REGION, S3, SECRET_KEY};
use muster_testbed::world::World;
use tokio_util::sync::CancellationToken;

const COMPONENT: ComponentId = ComponentId::from_bytes([7; 16]);

struct Bucket {
    world: World,
    server: S3,
    location: Location,
    pin: Pin,
    repository: Repository,
    keys: DataKeys,
}

fn location(world: &World, endpoint: &str, bucket: &str) -> Location {
    let file = world.file("access-key", &format!("{ACCESS_KEY}\n{SECRET_KEY}\n"), RunAs::Caller, 0o600).unwrap();
    Location::S3(S3Location {
        bucket: bucket.into(),
        prefix: "/some/where/".into(),
        region: REGION.into(),
        endpoint: Some(endpoint.into()),
        path_style: true,
        ca_file: None,
        credentials: Credentials::File(file),
    })
}

impl Bucket {
    async fn new() -> Self {
        let world = World::new().unwrap();
        let server = S3::start(&world, "backups").await.unwrap();
        let location = location(&world, server.endpoint(), server.bucket());
        let passphrase = Secret::new("correct horse");
        let pin = Repository::init(&location, &passphrase, KdfCost::WEAK).await.unwrap();
        let repository = Repository::open(&location, pin).await.unwrap();
        let agent = AgentSecret::generate([9; 32]);
        let recipient = Recipient { name: "ankara-db1".into(), x25519_public: agent.public() };
        repository.grant(COMPONENT, &[recipient], &passphrase).await.unwrap();
        let keys = repository.unlock(COMPONENT, &agent).await.unwrap();
        Self { world, server, location, pin, repository, keys }
    }

    async fn back_up(&self, id: u8, content: Vec<u8>, cancel: CancellationToken) -> Result<PointSummary, Error> {
        let new = NewPoint {
            point: PointId::from_bytes([id; 16]),
            component: COMPONENT,
            instance: "ankara".into(),
            parent: None,
            level: 1,
            threads: 1,
            cache: None,
            cancel,
        };
        let writer = self.repository.begin_point(&self.keys, new).await?;
        let entry = FileEntry {
            path: RelPath::new(*b"base/1").unwrap(),
            kind: FileKind::Pages { block_size: 8192 },
            mode: 0o600,
            mtime: Timestamp(0),
            size_hint: 0,
            group: Group::Data,
        };
        let work = move || {
            let written = writer.write_file(entry, &mut content.as_slice(), &Counters::default());
            (writer, written)
        };
        let (writer, written) = tokio::task::spawn_blocking(work).await.unwrap();
        if let Err(error) = written {
            writer.abort().await;
            return Err(error);
        }
        writer.finish(PointDetails::default()).await
    }

    async fn assert_restores(&self, id: u8, content: &[u8]) {
        let point = self.repository.read_point(&self.keys, COMPONENT, PointId::from_bytes([id; 16])).await.unwrap();
        let destination = self.world.path(&format!("restored-{id}"));
        let options = ExtractOptions { threads: 2, in_flight: 8, cancel: CancellationToken::new(), fsync: false };
        point.extract(vec![Extract { file: 0, destination: destination.clone() }], options, &Arc::default()).await.unwrap();
        assert!(std::fs::read(destination).unwrap() == content, "point {id} came back with other bytes");
    }
}

/// Bytes that do not compress: several packs.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_probed_backed_up_to_checked_and_restored_from() {
    let bucket = Bucket::new().await;
    let report = bucket.repository.probe().await.unwrap();
    assert_eq!((report.missing.clone(), report.weak.clone()), (vec![], vec![]), "{report:?}");
    let content = noise(1, 80_000_000);
    let first = bucket.back_up(1, content.clone(), CancellationToken::new()).await.unwrap();
    assert!(first.bytes_stored >= 80_000_000);
    let second = bucket.back_up(2, content.clone(), CancellationToken::new()).await.unwrap();
    assert!(second.bytes_stored < 1_000, "{} bytes stored again", second.bytes_stored);
    bucket.assert_restores(2, &content).await;
    let options = CheckOptions { read_data: Some((1, 1)), ..CheckOptions::default() };
    let report = bucket.repository.check(std::slice::from_ref(&bucket.keys), options, &Arc::default()).await.unwrap();
    assert_eq!((report.points, report.problems), (2, vec![]));
    assert!(report.packs >= 3 && report.frames_read > 300);
    // Everything lies under the prefix, and the probes are gone.
    let names: Vec<_> = std::fs::read_dir(bucket.server.objects()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == "some" || name.to_string_lossy().starts_with('.')), "{names:?}");
    assert!(!bucket.server.objects().join("some/where/probe").read_dir().is_ok_and(|mut left| left.next().is_some()));
    // A second repository in the same place is refused.
    let again = Repository::init(&bucket.location, &Secret::new("x"), KdfCost::WEAK).await;
    assert!(matches!(again, Err(Error::RepositoryExists { .. })), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_throttles_fails_and_loses_replies_is_asked_again_until_all_is_stored() {
    let bucket = Bucket::new().await;
    for (id, kind) in [(1, Kind::Throttle), (2, Kind::Error), (3, Kind::LostReply)] {
        let faults = bucket.server.faults();
        faults.add(Fault { path: "/packs/".into(), ..Fault::on(kind, "PUT", 2) }).unwrap();
        faults.add(Fault { path: "/points/".into(), ..Fault::on(kind, "PUT", 1) }).unwrap();
        let before = faults.struck();
        let content = noise(u64::from(id), 70_000_000);
        bucket.back_up(id, content.clone(), CancellationToken::new()).await.unwrap();
        assert_eq!(faults.struck() - before, 3, "{kind:?}");
        faults.add(Fault { path: "/packs/".into(), ..Fault::on(kind, "GET", 2) }).unwrap();
        bucket.assert_restores(id, &content).await;
        assert_eq!(faults.struck() - before, 5, "{kind:?}");
    }
    assert_eq!(bucket.repository.trouble(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_told_while_a_backup_waits_for_it() {
    let bucket = Arc::new(Bucket::new().await);
    bucket.server.faults().add(Fault { path: "/packs/".into(), ..Fault::on(Kind::Throttle, "PUT", 10_000) }).unwrap();
    let content = noise(1, 5_000_000);
    let (running, copy) = (bucket.clone(), content.clone());
    let backup = tokio::spawn(async move { running.back_up(1, copy, CancellationToken::new()).await });
    let started = Instant::now();
    while bucket.repository.trouble().is_none() {
        assert!(started.elapsed() < Duration::from_secs(20), "nobody tells that the store is away");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let trouble = bucket.repository.trouble().unwrap();
    assert!(trouble.what.contains("packs/"), "{trouble:?}");
    assert!(!backup.is_finished());
    bucket.server.faults().clear().unwrap();
    backup.await.unwrap().unwrap();
    assert_eq!(bucket.repository.trouble(), None);
    bucket.assert_restores(1, &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_cancelled_while_the_store_is_silent() {
    let bucket = Arc::new(Bucket::new().await);
    bucket.server.faults().add(Fault { path: "/packs/".into(), ..Fault::on(Kind::Silence, "PUT", 100) }).unwrap();
    let cancel = CancellationToken::new();
    let (running, token) = (bucket.clone(), cancel.clone());
    let backup = tokio::spawn(async move { running.back_up(1, noise(1, 200_000_000), token).await });
    let started = Instant::now();
    while bucket.server.faults().struck() == 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "no pack was put");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cancel.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), backup).await.expect("a cancelled backup ends").unwrap();
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert_eq!(bucket.repository.list_points(None).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_reached_is_unavailable_and_one_that_refuses_us_is_not() {
    let bucket = Bucket::new().await;
    let patience = Duration::from_millis(500);
    bucket.server.faults().add(Fault { method: None, ..Fault::on(Kind::Silence, "GET", 1_000) }).unwrap();
    let silent = Repository::open_within(&bucket.location, bucket.pin, patience).await.unwrap_err();
    assert!(silent.is_unavailable(), "{silent:?}");
    bucket.server.faults().clear().unwrap();
    let refused = location(&bucket.world, "http://127.0.0.1:1", "backups");
    let refused = Repository::open_within(&refused, bucket.pin, patience).await.unwrap_err();
    assert!(refused.is_unavailable(), "{refused:?}");
    assert_eq!(refused.fault().kind, ErrorKind::Unavailable);
    assert!(!refused.to_string().contains(SECRET_KEY) && !refused.fault().hint.is_empty());
    let wrong_key = bucket.world.file("wrong-key", "TESTACCESSKEY\nwrong\n", RunAs::Caller, 0o600).unwrap();
    let Location::S3(s3) = &bucket.location else { unreachable!() };
    let wrong = Location::S3(S3Location { credentials: Credentials::File(wrong_key), ..s3.clone() });
    let denied = Repository::open_within(&wrong, bucket.pin, patience).await.unwrap_err();
    assert_eq!(denied.fault().kind, ErrorKind::PermissionDenied, "{denied:?}");
    let no_bucket = location(&bucket.world, bucket.server.endpoint(), "nothing");
    let absent = Repository::open_within(&no_bucket, bucket.pin, patience).await.unwrap_err();
    assert!(matches!(absent, Error::NoRepository { .. }), "{absent:?}");
}
