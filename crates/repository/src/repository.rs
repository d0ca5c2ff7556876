//! A repository: made once, opened by its pin, listed without any key.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use muster_common::id::{ComponentId, KeyId, PackId, PointId, RepositoryId};
use muster_common::time::Timestamp;
use prost::Message;

use crate::error::{Damage, Error, StoreErrorKind};
use crate::format::bytes::rows16;
use crate::format::message::{Config, PointHeader};
use crate::format::object::{Envelope, MAX_CLEAR, ObjectKind};
use crate::format::signed::{MAX_SIGNED, body_unproved, sign, verify};
use crate::format::{MIN_READER, Malformed, VERSION, check_reader, layout};
use crate::keys::{KdfCost, new_signer, public_of, random};
use crate::location::{Location, Pin};
use crate::secret::Secret;
use crate::store::{Listed, Store, Trouble, lock, wall_clock};

/// Requests that run at once where many small objects are read.
pub(crate) const AT_ONCE: usize = 16;

/// How long what prune marked stays at least, where the repository does not say otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(48 * 3600);

/// An open repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    store: Store,
    pin: Arc<Pin>,
    /// How long what prune marked stays at least.
    grace: Duration,
    /// Packs in which this process found damage: nothing is deduplicated against them.
    hurt_packs: Arc<Mutex<BTreeSet<PackId>>>,
}

/// A recovery point as its clear header tells it; **not authenticated** before it is read with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointListing {
    /// Its component.
    pub component: ComponentId,
    /// Its id.
    pub point: PointId,
    /// When the store took it, by the store's clock.
    pub stored_at: Timestamp,
    /// The size of its object in bytes (not of what it needs).
    pub object_bytes: u64,
    /// The packs that it needs.
    pub packs: Vec<PackId>,
    /// The data keys that it needs.
    pub keys: Vec<KeyId>,
    /// The store's time when its writer had looked at the marks of prune. `None`: its writer knew of none.
    pub marks_loaded: Option<Timestamp>,
    /// Why its header cannot be read, where that is so. Such a point stops whatever would remove packs.
    pub problem: Option<Damage>,
}

impl Repository {
    /// Makes a repository: a signing key sealed under the passphrase, then `config`, last. A folder is made where only its
    /// last part is missing.
    ///
    /// # Errors
    /// [`Error::RepositoryExists`] where there is one; what a store can do.
    pub async fn init(location: &Location, passphrase: &Secret, cost: KdfCost) -> Result<Pin, Error> {
        Self::init_with_grace(location, passphrase, cost, DEFAULT_GRACE).await
    }

    /// The same, where what prune marks stays for `grace` at least, in whole seconds. Everyone who ever opens the repository keeps
    /// to it: a backup that lasts longer than that may have to be taken again.
    ///
    /// # Errors
    /// As [`Repository::init`].
    pub async fn init_with_grace(location: &Location, passphrase: &Secret, cost: KdfCost, grace: Duration) -> Result<Pin, Error> {
        let grace_seconds = u32::try_from(grace.as_secs()).ok().filter(|seconds| *seconds > 0);
        let grace_seconds = grace_seconds.ok_or_else(|| Error::Invalid(format!("a grace time of {grace:?}; expected 1 s to 136 years")))?;
        if let Location::Folder { path } = location
            && !path.exists()
        {
            tokio::fs::create_dir(path).await.map_err(|source| Error::Destination {
                doing: "make folder",
                path: path.clone(),
                source: Arc::new(source),
            })?;
        }
        let store = Store::open(location)?;
        let exists = || Error::RepositoryExists { at: store.at().to_owned() };
        match store.size(layout::CONFIG).await {
            Ok(_) => return Err(exists()),
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let id = random::<16>()?;
        let passphrase = passphrase.clone();
        let signer = tokio::task::spawn_blocking(move || new_signer(&id, &passphrase, cost)).await;
        let (pair, key_path, key_bytes) = signer.map_err(|ended| Error::Defect(format!("a thread ended: {ended}")))??;
        let pin = Pin { id: RepositoryId::from_bytes(id), public_key: public_of(&pair)? };
        let config = Config {
            min_reader: MIN_READER,
            format: u32::from(VERSION),
            repository: id.to_vec(),
            public_key: pin.public_key.to_vec(),
            created: wall_clock().0,
            grace_seconds,
        };
        let bytes = sign(&pair, ObjectKind::Config, layout::CONFIG, &config.encode_to_vec());
        let bytes = bytes.map_err(|wrong| Error::Defect(wrong.to_string()))?;
        store.put_new(&key_path, key_bytes.into()).await?;
        match store.put_new(layout::CONFIG, bytes.into()).await {
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => Err(exists()),
            other => other.map(|()| pin).map_err(Error::from),
        }
    }

    /// Opens the repository that has this pin.
    ///
    /// # Errors
    /// [`Error::NoRepository`], [`Error::OtherRepository`], [`Error::Damaged`] where `config` is not signed by the pinned key.
    pub async fn open(location: &Location, pin: Pin) -> Result<Self, Error> {
        Self::open_within(location, pin, crate::store::PATIENCE).await
    }

    /// The same, where a store that does not answer is asked again for `patience` only; the repository keeps it.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub async fn open_within(location: &Location, pin: Pin, patience: Duration) -> Result<Self, Error> {
        let store = Store::open(location)?.with_patience(patience);
        let bytes = config_bytes(&store).await?;
        let (found, grace) = parse_config(&bytes).map_err(|wrong| wrong.at(layout::CONFIG))?;
        if found.id != pin.id {
            return Err(Error::OtherRepository { at: store.at().to_owned(), found: found.id, expected: pin.id });
        }
        verify(&pin.public_key, ObjectKind::Config, layout::CONFIG, &bytes).map_err(|wrong| wrong.at(layout::CONFIG))?;
        store.require_config();
        Ok(Self { store, pin: Arc::new(pin), grace, hurt_packs: Arc::default() })
    }

    /// What a place says that it is: signed by itself only, so that anyone can have put it there. Pin it once somebody looked.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub async fn look(location: &Location) -> Result<Pin, Error> {
        let bytes = config_bytes(&Store::open(location)?).await?;
        let (pin, _) = parse_config(&bytes).map_err(|wrong| wrong.at(layout::CONFIG))?;
        verify(&pin.public_key, ObjectKind::Config, layout::CONFIG, &bytes).map_err(|wrong| wrong.at(layout::CONFIG))?;
        Ok(pin)
    }

    /// Opens a repository of which no pin is left: that the passphrase opens its signing key is the proof.
    ///
    /// # Errors
    /// [`crate::error::KeyError::WrongPassphrase`], and as [`Repository::open`].
    pub async fn open_with_passphrase(location: &Location, passphrase: &Secret) -> Result<Self, Error> {
        let repository = Self::open(location, Self::look(location).await?).await?;
        repository.check_passphrase(passphrase).await?;
        Ok(repository)
    }

    /// A repository over a store in memory, for tests.
    #[cfg(test)]
    pub(crate) fn in_memory(store: Store, pin: Pin, grace: Duration) -> Self {
        Self { store, pin: Arc::new(pin), grace, hurt_packs: Arc::default() }
    }

    /// The same repository, where a store that does not answer is asked again for `patience`.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { store: self.store.with_patience(patience), ..self.clone() }
    }

    /// What it is recognised by.
    #[must_use]
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// How long what prune marked stays at least.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Set while the store does not answer and somebody waits for it; for progress.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.store.trouble()
    }

    /// Damage was found: where it is in a pack, later points store anew what they would have taken from it.
    pub(crate) fn distrust(&self, damage: &Damage) {
        if let Some((_, pack)) = layout::parse_pack(&damage.object) {
            lock(&self.hurt_packs).insert(pack);
        }
    }

    pub(crate) fn is_distrusted(&self, pack: PackId) -> bool {
        lock(&self.hurt_packs).contains(&pack)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The points, of one component or of all, oldest first by the store's clock. Needs no key.
    ///
    /// # Errors
    /// What a store can do. A point whose header cannot be read is listed with its problem.
    pub async fn list_points(&self, component: Option<ComponentId>) -> Result<Vec<PointListing>, Error> {
        let prefix = component.map_or_else(|| layout::POINTS.to_owned(), layout::points_of);
        let listed = self.store.list(&prefix).await?;
        let found = listed.into_iter().filter_map(|listed| layout::parse_point(&listed.path).map(|ids| (ids, listed)));
        let found: Vec<_> = found.collect();
        let found: Vec<Option<PointListing>> = stream::iter(found)
            .map(|((component, point), listed)| async move { self.list_one(component, point, listed).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut points: Vec<PointListing> = found.into_iter().flatten().collect();
        points.sort_by_key(|point| (point.stored_at, point.point));
        Ok(points)
    }

    /// One point as its clear header tells it.
    pub(crate) async fn listing(&self, component: ComponentId, point: PointId) -> Result<Option<PointListing>, Error> {
        match self.store.look(&layout::point(component, point)).await {
            Ok(listed) => self.list_one(component, point, listed).await,
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// `None`: a prune removed it since it was listed.
    async fn list_one(&self, component: ComponentId, point: PointId, listed: Listed) -> Result<Option<PointListing>, Error> {
        let mut listing = PointListing {
            component,
            point,
            stored_at: listed.modified,
            object_bytes: listed.size,
            packs: Vec::new(),
            keys: Vec::new(),
            marks_loaded: None,
            problem: None,
        };
        let bytes = match self.store.get(&listed.path, MAX_POINT).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let read = |bytes: &[u8]| {
            let header = parse_point_header(&self.pin, component, point, &Envelope::parse(ObjectKind::Point, bytes)?)?;
            Ok::<_, Malformed>((
                rows16(&header.packs)?.into_iter().map(PackId::from_bytes).collect(),
                rows16(&header.keys)?.into_iter().map(KeyId::from_bytes).collect(),
                (header.marks_loaded != 0).then_some(Timestamp(header.marks_loaded)),
            ))
        };
        match read(&bytes) {
            Ok((packs, keys, marks_loaded)) => (listing.packs, listing.keys, listing.marks_loaded) = (packs, keys, marks_loaded),
            Err(wrong) => listing.problem = Some(Damage { object: listed.path, offset: None, what: wrong.to_string() }),
        }
        Ok(Some(listing))
    }
}

impl PointListing {
    /// Whether the store took it more than half the grace time after its writer had looked at the marks of prune: then packs that it
    /// needs may be gone, and it was never acknowledged.
    #[must_use]
    pub fn is_late(&self, grace: Duration) -> bool {
        self.marks_loaded.is_some_and(|loaded| crate::marks::is_late(loaded, self.stored_at, grace))
    }
}

/// The longest point: its clear header and one seal.
pub(crate) const MAX_POINT: u64 = (MAX_CLEAR + crate::format::object::MAX_SEAL + 4096) as u64;

/// Decodes and checks a point's clear header.
pub(crate) fn parse_point_header(
    pin: &Pin,
    component: ComponentId,
    point: PointId,
    envelope: &Envelope<'_>,
) -> Result<PointHeader, Malformed> {
    let header = PointHeader::decode(envelope.clear).map_err(|error| Malformed::wrong(error.to_string()))?;
    check_reader(header.min_reader)?;
    if header.repository != pin.id.as_bytes() || header.component != component.as_bytes() || header.point != point.as_bytes() {
        return Err(Malformed::wrong("its header names another point"));
    }
    Ok(header)
}

async fn config_bytes(store: &Store) -> Result<bytes::Bytes, Error> {
    store.get(layout::CONFIG, MAX_SIGNED).await.map_err(|error| {
        if error.kind == StoreErrorKind::NotFound { Error::NoRepository { at: store.at().to_owned() } } else { error.into() }
    })
}

/// The pin and the grace time.
fn parse_config(bytes: &[u8]) -> Result<(Pin, Duration), Malformed> {
    let config = Config::decode(body_unproved(ObjectKind::Config, bytes)?).map_err(|error| Malformed::wrong(error.to_string()))?;
    check_reader(config.min_reader)?;
    let id: [u8; 16] = config.repository.as_slice().try_into().map_err(|_| Malformed::wrong("has no repository id"))?;
    let public_key = config.public_key.as_slice().try_into().map_err(|_| Malformed::wrong("has no public key"))?;
    // Who made it before there was prune wrote 0.
    let grace = if config.grace_seconds == 0 { DEFAULT_GRACE } else { Duration::from_secs(u64::from(config.grace_seconds)) };
    Ok((Pin { id: RepositoryId::from_bytes(id), public_key }, grace))
}
