//! Writers, pruners and holders over one store in memory, taken step by step in any order, with a clock that jumps between the steps:
//! whatever they do, nothing of an acknowledged point that stays is ever missing. The real code, at the rung of its requests.

use std::cell::RefCell;
use std::pin::Pin as Pinned;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use muster_common::id::{KeyId, RepositoryId};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::format::MIN_READER;
use crate::format::message::{PointBody, PointHeader};
use crate::format::object::{ObjectKind, seal_object};
use crate::format::subkeys::{KeySet, Material};
use crate::location::Pin;
use crate::store::Store;
use crate::store::memory::Memory;

const COMPONENT: ComponentId = ComponentId::from_bytes([7; 16]);
const REPOSITORY: RepositoryId = RepositoryId::from_bytes([8; 16]);
const GRACE: Duration = Duration::from_secs(100);
const LAST_ONE: Rules = Rules { keep_within: None, keep_last: Some(1) };

fn keys() -> DataKeys {
    DataKeys::new(COMPONENT, vec![KeySet::derive(KeyId::from_bytes([3; 16]), 1, &Material::new([4; 64]))]).unwrap()
}

struct Stage {
    memory: Memory,
    repository: Repository,
    /// What a writer put or was about to put: its marks' time and its packs.
    published: RefCell<BTreeMap<PointId, (Timestamp, Vec<PackId>)>>,
    /// What somebody was told of.
    acknowledged: RefCell<BTreeMap<PointId, (Timestamp, Vec<PackId>)>>,
    holds: RefCell<Vec<(PointId, Timestamp)>>,
}

impl Stage {
    fn new() -> Rc<Self> {
        let memory = Memory::default();
        memory.set_clock(Timestamp(1_000_000_000));
        let pin = Pin { id: REPOSITORY, public_key: [0; 32] };
        let repository = Repository::in_memory(Store::in_memory(memory.clone()), pin, GRACE);
        let (published, acknowledged, holds) = (RefCell::default(), RefCell::default(), RefCell::default());
        Rc::new(Self { memory, repository, published, acknowledged, holds })
    }

    fn advance(&self, by: Duration) {
        self.memory.set_clock(self.memory.clock().plus(by));
    }

    /// Writes a point as `PointWriter` does: marks, points, packs, marks again, the point, a last look. It leans on what it finds.
    async fn write(self: Rc<Self>, seed: u8) -> Result<(), Error> {
        let at = (COMPONENT, PointId::from_bytes(rand::random()));
        let marks = self.repository.load_marks(COMPONENT).await?;
        let mut points = self.repository.list_points(Some(COMPONENT)).await?;
        points.retain(|point| !point.is_late(GRACE));
        let sizes = self.repository.pack_sizes(COMPONENT).await?;
        let known = points.iter().rev().take(4).flat_map(|point| point.packs.iter().copied());
        let known = known.filter(|pack| marks.allows(*pack) && sizes.contains_key(pack)).enumerate();
        let mut packs: Vec<PackId> = known.filter(|(n, _)| (seed >> (n % 8)) & 1 == 1).map(|(_, pack)| pack).collect();
        packs.sort_unstable();
        packs.dedup();
        let new = PackId::from_bytes(rand::random());
        self.repository.store().put_new(&layout::pack(COMPONENT, new), Bytes::from_static(b"pack")).await?;
        packs.push(new);
        let needed: Vec<(PackId, u64)> = packs.iter().map(|pack| (*pack, 4)).collect();
        let loaded = self.repository.settle_marks(at, &marks, &needed).await?;
        self.repository.check_needed(COMPONENT, &needed).await?;
        let path = layout::point(COMPONENT, at.1);
        self.published.borrow_mut().insert(at.1, (loaded, packs.clone()));
        self.repository.store().put_new(&path, sealed(&path, at.1, &packs, loaded)).await?;
        let stored_at = self.repository.acknowledge(at, loaded, &needed).await?;
        self.acknowledged.borrow_mut().insert(at.1, (stored_at, packs));
        Ok(())
    }

    async fn prune(self: Rc<Self>) -> Result<(), Error> {
        let options = PruneOptions { rules: LAST_ONE, ..PruneOptions::default() };
        self.repository.prune(COMPONENT, Some(&keys()), &options, &AtomicU64::new(0)).await.map(|_| ())
    }

    async fn hold(self: Rc<Self>, seed: u8) -> Result<(), Error> {
        let points = self.repository.list_points(Some(COMPONENT)).await?;
        let Some(point) = points.get(usize::from(seed) % points.len().max(1)) else { return Ok(()) };
        let hold = self.repository.hold((COMPONENT, point.point), Duration::from_secs(150), "a test", "to see").await?;
        self.holds.borrow_mut().push((point.point, hold.until));
        if seed.is_multiple_of(2) {
            let hold = self.repository.renew(&hold, Duration::from_secs(300)).await?;
            self.holds.borrow_mut().push((point.point, hold.until));
        }
        Ok(())
    }

    /// Whether a point that counts is at least as new, of which a writer that was killed could not tell any more. It restores all the same.
    fn is_superseded(&self, stored_at: Timestamp) -> bool {
        self.published.borrow().iter().any(|(point, (loaded, packs))| {
            let written = self.memory.written_at(&layout::point(COMPONENT, *point));
            let counts = written.is_some_and(|written| written >= stored_at && !crate::marks::is_late(*loaded, written, GRACE));
            counts && packs.iter().all(|pack| self.memory.has(&layout::pack(COMPONENT, *pack)))
        })
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let acknowledged = self.acknowledged.borrow();
        let is_there = |point: &PointId| self.memory.has(&layout::point(COMPONENT, *point));
        for (point, (_, packs)) in acknowledged.iter().filter(|(point, _)| is_there(point)) {
            for pack in packs {
                prop_assert!(self.memory.has(&layout::pack(COMPONENT, *pack)), "point {point} lost pack {pack}");
            }
        }
        let newest = acknowledged.iter().max_by_key(|(point, (stored_at, _))| (*stored_at, **point));
        prop_assert!(
            newest.is_none_or(|(point, (stored_at, _))| is_there(point) || self.is_superseded(*stored_at)),
            "the newest point is gone, and no whole one is newer"
        );
        for (point, until) in self.holds.borrow().iter().filter(|(_, until)| *until > self.memory.clock()) {
            prop_assert!(is_there(point), "point {point} is gone and held until {until:?}");
            // A point that nobody was told of may be held too, and promises nothing but itself.
        }
        Ok(())
    }
}

fn sealed(path: &str, point: PointId, packs: &[PackId], loaded: Timestamp) -> Bytes {
    let header = PointHeader {
        min_reader: MIN_READER,
        repository: REPOSITORY.as_bytes().to_vec(),
        component: COMPONENT.as_bytes().to_vec(),
        point: point.as_bytes().to_vec(),
        packs: packs.iter().flat_map(|pack| *pack.as_bytes()).collect(),
        marks_loaded: loaded.0,
        ..PointHeader::default()
    };
    let body = PointBody { kind: "files".into(), ..PointBody::default() };
    let keys = keys();
    let set = keys.current().unwrap();
    seal_object(set, ObjectKind::Point, rand::random(), path, &header.encode_to_vec(), &body.encode_to_vec()).unwrap().into()
}

#[derive(Clone, Debug)]
enum Step {
    Writer(u8),
    Pruner,
    Holder(u8),
    /// Goes on with one of them, so many requests.
    Go(u8, u8),
    Kill(u8),
    Wait(u16),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<u8>().prop_map(Step::Writer),
        2 => Just(Step::Pruner),
        1 => any::<u8>().prop_map(Step::Holder),
        24 => (any::<u8>(), 1..30_u8).prop_map(|(who, steps)| Step::Go(who, steps)),
        1 => any::<u8>().prop_map(Step::Kill),
        5 => (0..70_u16).prop_map(Step::Wait),
    ]
}

type Actor = Pinned<Box<dyn Future<Output = Result<(), Error>>>>;

/// Takes the steps; gives how many points were acknowledged and how many of them are gone.
fn play(steps: &[Step]) -> Result<(usize, usize), TestCaseError> {
    let stage = Stage::new();
    let mut actors: Vec<Actor> = Vec::new();
    for step in steps {
        let actor: Option<Actor> = match step {
            Step::Writer(seed) => Some(Box::pin(stage.clone().write(*seed))),
            Step::Pruner => Some(Box::pin(stage.clone().prune())),
            Step::Holder(seed) => Some(Box::pin(stage.clone().hold(*seed))),
            Step::Go(..) | Step::Kill(_) => None,
            Step::Wait(seconds) => {
                stage.advance(Duration::from_secs(u64::from(*seconds)));
                None
            }
        };
        actors.extend(actor.map(|actor| Box::pin(tokio::task::unconstrained(actor)) as Actor));
        if actors.is_empty() {
            continue;
        }
        match step {
            Step::Go(who, steps) => {
                let who = usize::from(*who) % actors.len();
                for _ in 0..*steps {
                    let polled = actors[who].as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    stage.check()?;
                    if let Poll::Ready(ended) = polled {
                        drop(actors.swap_remove(who));
                        let expected = matches!(
                            ended,
                            Ok(())
                                | Err(Error::TooLate { .. } | Error::BeingRemoved { .. } | Error::NoPoint { .. } | Error::Damaged(_))
                                | Err(Error::PruneStopped { .. } | Error::Store(_))
                        );
                        prop_assert!(expected, "{ended:?}");
                        break;
                    }
                }
            }
            Step::Kill(who) => drop(actors.swap_remove(usize::from(*who) % actors.len())),
            Step::Writer(_) | Step::Pruner | Step::Holder(_) | Step::Wait(_) => {}
        }
        stage.check()?;
    }
    let acknowledged = stage.acknowledged.borrow();
    let gone = acknowledged.keys().filter(|point| !stage.memory.has(&layout::point(COMPONENT, **point))).count();
    Ok((acknowledged.len(), gone))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_of_writers_pruners_and_holders_loses_what_an_acknowledged_point_needs(
        steps in proptest::collection::vec(any_step(), 50..600)
    ) {
        let runtime = runtime();
        let _inside = runtime.enter();
        play(&steps)?;
    }
}

/// `make soak` asks for many.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40)
}

fn to_the_end(stage: &Rc<Stage>, act: impl Future<Output = Result<(), Error>>) {
    runtime().block_on(act).unwrap();
    stage.check().unwrap();
}

#[test]
fn two_prunes_a_grace_time_apart_remove_what_no_rule_keeps_and_the_second_one_cleans_up() {
    let stage = Stage::new();
    for seed in [0, 1, 1] {
        to_the_end(&stage, stage.clone().write(seed));
        stage.advance(Duration::from_secs(1));
    }
    to_the_end(&stage, stage.clone().prune());
    assert_eq!((stage.memory.paths("points/").len(), stage.memory.paths("marks/").len()), (3, 1));
    stage.advance(GRACE - Duration::from_secs(1));
    to_the_end(&stage, stage.clone().prune());
    assert_eq!(stage.memory.paths("points/").len(), 3, "one second too early");
    stage.advance(Duration::from_secs(1));
    to_the_end(&stage, stage.clone().prune());
    assert_eq!((stage.memory.paths("points/").len(), stage.memory.paths("marks/").len()), (1, 0));
    let newest = stage.acknowledged.borrow().values().max().unwrap().1.len();
    assert_eq!(stage.memory.paths("packs/").len(), newest);
    assert_eq!(stage.memory.paths("probe/").len(), 0);
}

#[test]
fn packs_of_a_killed_backup_go_and_those_of_a_running_one_stay() {
    let stage = Stage::new();
    to_the_end(&stage, stage.clone().write(0));
    let put = |n: u8| layout::pack(COMPONENT, PackId::from_bytes([n; 16]));
    runtime().block_on(stage.repository.store().put_new(&put(1), Bytes::from_static(b"pack"))).unwrap();
    stage.advance(GRACE);
    runtime().block_on(stage.repository.store().put_new(&put(2), Bytes::from_static(b"pack"))).unwrap();
    to_the_end(&stage, stage.clone().prune());
    stage.advance(GRACE - Duration::from_secs(1));
    to_the_end(&stage, stage.clone().prune());
    assert!(stage.memory.has(&put(1)), "one second too early");
    stage.advance(Duration::from_secs(1));
    to_the_end(&stage, stage.clone().prune());
    assert!(!stage.memory.has(&put(1)) && stage.memory.has(&put(2)));
}
