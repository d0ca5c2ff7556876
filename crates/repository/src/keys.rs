//! Key objects: the repository's signing key and the components' data keys, wrapped to agents and to a passphrase.
//!
//! What always holds: a key object counts only where the pinned repository key signed it for the very path it lies at. A new
//! one is read back and opened by the passphrase before it is told of: keys that only an agent has burn with its site.

use argon2::{Algorithm, Argon2, Params, Version};
use muster_common::id::{ComponentId, KeyId};
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::error::{Damage, Error, KeyError};
use crate::format::message::{AgentWrap, KeyObject, KeyRole, PassphraseWrap, Wrap};
use crate::format::object::ObjectKind;
use crate::format::signed::{MAX_SIGNED, sign, verify};
use crate::format::subkeys::{CONTEXT_WRAP_AGENT, CONTEXT_WRAP_PASSPHRASE, KeySet, Material, aes, open, seal};
use crate::format::{MIN_READER, Malformed, check_reader, layout};
use crate::repository::Repository;
use crate::secret::{AgentSecret, Secret, agree};
use crate::store::{Store, wall_clock};

pub use crate::format::subkeys::DataKeys;

/// The most agents that one grant wraps to.
pub const MAX_RECIPIENTS: usize = 1_000;

/// What a guess at the passphrase costs (Argon2id, RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory in KiB, 8 to 1 GiB.
    pub memory_kib: u32,
    /// Passes, 1 to 16.
    pub passes: u32,
    /// Lanes, 1 to 16.
    pub lanes: u32,
}

impl KdfCost {
    /// 256 MiB, 3 passes, 4 lanes: about half a second.
    pub const STANDARD: Self = Self { memory_kib: 262_144, passes: 3, lanes: 4 };
    /// As little as it can be: for tests.
    pub const WEAK: Self = Self { memory_kib: 64, passes: 1, lanes: 1 };

    pub(crate) fn check(self) -> Result<Self, Malformed> {
        let fits =
            (1..=16).contains(&self.lanes) && (1..=16).contains(&self.passes) && (8 * self.lanes..=1 << 20).contains(&self.memory_kib);
        if fits {
            Ok(self)
        } else {
            Err(Malformed::wrong(format!("passphrase cost {self:?}; expected at most 1 GiB, 16 passes, 16 lanes")))
        }
    }
}

/// An agent that a data key is wrapped to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// A label for people.
    pub name: String,
    /// The agent's X25519 public key.
    pub x25519_public: [u8; 32],
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Defect("the operating system gives no random bytes".into()))?;
    Ok(bytes)
}

/// A key object that the pinned key signed.
struct Verified {
    path: String,
    object: KeyObject,
}

async fn load(store: &Store, public_key: &[u8; 32], repository: &[u8]) -> Result<(Vec<Verified>, Vec<Damage>), Error> {
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    let mut listed = store.list(layout::KEYS).await?;
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    for listed in listed {
        if layout::parse_key(&listed.path).is_none() {
            continue;
        }
        let bytes = store.get(&listed.path, MAX_SIGNED).await?;
        match parse(public_key, repository, &listed.path, &bytes) {
            Ok(object) => good.push(Verified { path: listed.path, object }),
            Err(Malformed::Wrong(what)) => refused.push(Damage { object: listed.path, offset: None, what }),
            Err(newer @ Malformed::Newer(_)) => return Err(newer.at(listed.path)),
        }
    }
    Ok((good, refused))
}

fn parse(public_key: &[u8; 32], repository: &[u8], path: &str, bytes: &[u8]) -> Result<KeyObject, Malformed> {
    let body = verify(public_key, ObjectKind::Key, path, bytes)?;
    let object = KeyObject::decode(body).map_err(|error| Malformed::wrong(error.to_string()))?;
    check_reader(object.min_reader)?;
    if object.repository != repository {
        return Err(Malformed::wrong("is of another repository"));
    }
    Ok(object)
}

/// What each wrap is bound to, besides the signature over the whole.
fn associated(object: &KeyObject) -> Vec<u8> {
    let role = object.role.to_le_bytes();
    [&object.repository[..], &role, &object.component, &object.key, &object.generation.to_le_bytes()].concat()
}

fn seal_wrap(key: &[u8; 32], object: &KeyObject, material: &[u8]) -> Result<Vec<u8>, Malformed> {
    // The key is made for this one wrap, so the nonce can be zero.
    let mut sealed = material.to_vec();
    let tag = seal(&aes(key)?, [0; 12], &associated(object), &mut sealed)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn open_wrap(key: &[u8; 32], object: &KeyObject, wrap: &Wrap) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    let mut sealed = Zeroizing::new(wrap.sealed.clone());
    let length = open(&aes(key)?, [0; 12], &associated(object), &mut sealed)?.len();
    sealed.truncate(length);
    Ok(sealed)
}

fn passphrase_key(passphrase: &Secret, wrap: &PassphraseWrap) -> Result<Zeroizing<[u8; 32]>, Malformed> {
    let cost = KdfCost { memory_kib: wrap.memory_kib, passes: wrap.passes, lanes: wrap.lanes }.check()?;
    let wrong = |error: argon2::Error| Malformed::wrong(format!("argon2: {error}"));
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(wrong)?;
    let mut stretched = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose(), &wrap.salt, &mut *stretched)
        .map_err(wrong)?;
    Ok(Zeroizing::new(blake3::derive_key(CONTEXT_WRAP_PASSPHRASE, &*stretched)))
}

fn agent_key(shared: &[u8; 32], ephemeral: &[u8; 32], recipient: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(blake3::derive_key(CONTEXT_WRAP_AGENT, Zeroizing::new([*shared, *ephemeral, *recipient].concat()).as_slice()))
}

fn wrap_to_passphrase(object: &KeyObject, material: &[u8], passphrase: &Secret, cost: KdfCost) -> Result<Wrap, Error> {
    let salt = random::<32>()?.to_vec();
    let how = PassphraseWrap { memory_kib: cost.memory_kib, passes: cost.passes, lanes: cost.lanes, salt };
    let wrap = || {
        let key = passphrase_key(passphrase, &how)?;
        Ok(Wrap {
            recipient: "recovery passphrase".into(),
            sealed: seal_wrap(&key, object, material)?,
            agent: None,
            passphrase: Some(how.clone()),
        })
    };
    wrap().map_err(|wrong: Malformed| Error::Invalid(wrong.to_string()))
}

fn wrap_to_agent(object: &KeyObject, material: &[u8], recipient: &Recipient) -> Result<Wrap, Error> {
    let ephemeral = StaticSecret::from(random::<32>()?);
    let public = PublicKey::from(&ephemeral).to_bytes();
    let shared = agree(&ephemeral, recipient.x25519_public)
        .ok_or_else(|| Error::Invalid(format!("the X25519 public key of {} is of small order", recipient.name)))?;
    let key = agent_key(&shared, &public, &recipient.x25519_public);
    let sealed = seal_wrap(&key, object, material).map_err(|wrong| Error::Defect(wrong.to_string()))?;
    let agent = AgentWrap { public_key: recipient.x25519_public.to_vec(), ephemeral: public.to_vec() };
    Ok(Wrap { recipient: recipient.name.clone(), sealed, agent: Some(agent), passphrase: None })
}

/// Opens an object by the passphrase. `None` where it has no such wrap.
fn open_by_passphrase(object: &KeyObject, passphrase: &Secret) -> Result<Option<Zeroizing<Vec<u8>>>, Malformed> {
    for wrap in &object.wraps {
        if let Some(how) = &wrap.passphrase {
            let key = passphrase_key(passphrase, how)?;
            return open_wrap(&key, object, wrap).map(Some);
        }
    }
    Ok(None)
}

/// Opens an object by an agent's secret. `None` where it has no wrap to it.
fn open_by_agent(object: &KeyObject, secret: &AgentSecret) -> Result<Option<Zeroizing<Vec<u8>>>, Malformed> {
    let public = secret.public();
    for wrap in &object.wraps {
        let Some(agent) = wrap.agent.as_ref().filter(|agent| agent.public_key == public) else { continue };
        let ephemeral: [u8; 32] = agent.ephemeral.as_slice().try_into().map_err(|_| Malformed::wrong("a wrap without a key"))?;
        let shared = secret.agree(ephemeral).ok_or_else(|| Malformed::wrong("a wrap with a key of small order"))?;
        return open_wrap(&agent_key(&shared, &ephemeral, &public), object, wrap).map(Some);
    }
    Ok(None)
}

fn key_set(object: &KeyObject, material: &[u8]) -> Result<KeySet, Malformed> {
    let bytes: [u8; 64] = material.try_into().map_err(|_| Malformed::wrong("wraps no data key"))?;
    let id = object.key.as_slice().try_into().map_err(|_| Malformed::wrong("has no key id"))?;
    Ok(KeySet::derive(KeyId::from_bytes(id), object.generation, &Material::new(bytes)))
}

/// Makes the repository's signing key and its key object, and gives the pair.
pub(crate) fn new_signer(repository: &[u8; 16], passphrase: &Secret, cost: KdfCost) -> Result<(Ed25519KeyPair, String, Vec<u8>), Error> {
    let seed = Zeroizing::new(random::<32>()?);
    let pair = pair(&seed[..]).map_err(|wrong| Error::Defect(wrong.to_string()))?;
    let cost = cost.check().map_err(|wrong| Error::Invalid(wrong.to_string()))?;
    let id = random::<16>()?;
    let mut object = KeyObject {
        min_reader: MIN_READER,
        repository: repository.to_vec(),
        role: KeyRole::Signer.into(),
        key: id.to_vec(),
        generation: 1,
        created: wall_clock().0,
        ..KeyObject::default()
    };
    object.wraps.push(wrap_to_passphrase(&object, &seed[..], passphrase, cost)?);
    let path = layout::key(KeyId::from_bytes(id));
    let bytes = sign(&pair, ObjectKind::Key, &path, &object.encode_to_vec()).map_err(|wrong| Error::Defect(wrong.to_string()))?;
    Ok((pair, path, bytes))
}

fn pair(seed: &[u8]) -> Result<Ed25519KeyPair, Malformed> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Malformed::wrong("wraps no Ed25519 seed"))
}

/// The public half as bytes.
pub(crate) fn public_of(pair: &Ed25519KeyPair) -> Result<[u8; 32], Error> {
    pair.public_key().as_ref().try_into().map_err(|_| Error::Defect("an Ed25519 key of another length".into()))
}

async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|ended| Error::Defect(format!("a thread ended: {ended}")))?
}

/// Opens by the passphrase on the blocking pool: it takes a second and hundreds of MiB.
async fn open_by_passphrase_slowly(object: &KeyObject, passphrase: &Secret) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let (object, passphrase) = (object.clone(), passphrase.clone());
    // The object was signed: what does not open was given a wrong passphrase.
    off_runtime(move || open_by_passphrase(&object, &passphrase).map_err(|_| KeyError::WrongPassphrase.into())).await
}

impl Repository {
    async fn key_objects(&self) -> Result<(Vec<Verified>, Vec<Damage>), Error> {
        load(self.store(), &self.pin().public_key, self.pin().id.as_bytes()).await
    }

    /// The signing key, opened by the passphrase; the cost that its wrap has.
    async fn signer(&self, objects: &[Verified], passphrase: &Secret) -> Result<(Ed25519KeyPair, KdfCost), Error> {
        let signer = objects.iter().find(|verified| verified.object.role() == KeyRole::Signer);
        let lost = || Damage { object: layout::KEYS.into(), offset: None, what: "the signing key's object is missing or forged".into() };
        let signer = signer.ok_or_else(lost)?;
        let wrap = signer.object.wraps.iter().find_map(|wrap| wrap.passphrase.as_ref()).ok_or_else(lost)?;
        let cost = KdfCost { memory_kib: wrap.memory_kib, passes: wrap.passes, lanes: wrap.lanes };
        let seed = open_by_passphrase_slowly(&signer.object, passphrase).await?.ok_or_else(lost)?;
        let pair = pair(&seed).map_err(|wrong| wrong.at(&signer.path))?;
        if public_of(&pair)? != self.pin().public_key {
            return Err(lost().into());
        }
        Ok((pair, cost))
    }

    /// Proves that the passphrase opens the repository's signing key.
    ///
    /// # Errors
    /// [`KeyError::WrongPassphrase`], or where the store or its key objects fail.
    pub async fn check_passphrase(&self, passphrase: &Secret) -> Result<(), Error> {
        let (objects, _) = self.key_objects().await?;
        self.signer(&objects, passphrase).await.map(|_| ())
    }

    /// Wraps the component's data key to these agents and to the passphrase: makes it, or takes the one that is there. What
    /// was stored is read back and opened by the passphrase as proof. Granting again what was granted changes nothing.
    ///
    /// # Errors
    /// [`KeyError::WrongPassphrase`] and [`KeyError::ProofFailed`] besides what a store can do.
    pub async fn grant(&self, component: ComponentId, recipients: &[Recipient], passphrase: &Secret) -> Result<KeyId, Error> {
        if recipients.len() > MAX_RECIPIENTS {
            return Err(Error::Invalid(format!("{} recipients; at most {MAX_RECIPIENTS} in one grant", recipients.len())));
        }
        let (objects, _) = self.key_objects().await?;
        let (pair, cost) = self.signer(&objects, passphrase).await?;
        let mut own: Vec<&Verified> = of_component(&objects, component).collect();
        own.sort_by_key(|verified| verified.object.generation);
        let newest = own.last().map(|newest| newest.object.clone());
        let (key, generation, material) = match newest {
            Some(object) => {
                let material = open_by_passphrase_slowly(&object, passphrase).await?.ok_or(KeyError::WrongPassphrase)?;
                (object.key.clone(), object.generation, material)
            }
            None => (random::<16>()?.to_vec(), 1, Zeroizing::new(random::<64>()?.to_vec())),
        };
        let id: [u8; 16] = key.as_slice().try_into().map_err(|_| Error::Defect("a key without an id".into()))?;
        let id = KeyId::from_bytes(id);
        let has = |recipient: &Recipient| {
            let of_key = own.iter().filter(|verified| verified.object.key == key);
            of_key
                .flat_map(|verified| &verified.object.wraps)
                .any(|w| w.agent.as_ref().is_some_and(|a| a.public_key == recipient.x25519_public))
        };
        let missing: Vec<Recipient> = recipients.iter().filter(|recipient| !has(recipient)).cloned().collect();
        if missing.is_empty() && !own.is_empty() {
            return Ok(id);
        }
        let object_id = if own.is_empty() { id } else { KeyId::from_bytes(random()?) };
        let path = layout::key(object_id);
        let object = KeyObject {
            min_reader: MIN_READER,
            repository: self.pin().id.as_bytes().to_vec(),
            role: KeyRole::Data.into(),
            component: component.as_bytes().to_vec(),
            key,
            generation,
            created: wall_clock().0,
            wraps: Vec::new(),
        };
        let (secret, plain) = (passphrase.clone(), material.clone());
        let object = off_runtime(move || wrap_all(object, &plain, &missing, &secret, cost)).await?;
        let bytes = sign(&pair, ObjectKind::Key, &path, &object.encode_to_vec()).map_err(|wrong| Error::Defect(wrong.to_string()))?;
        self.store().put_new(&path, bytes.into()).await?;
        self.prove(&path, &material, passphrase).await?;
        Ok(id)
    }

    async fn prove(&self, path: &str, material: &[u8], passphrase: &Secret) -> Result<(), Error> {
        let failed = |what: String| KeyError::ProofFailed { object: path.to_owned(), what };
        let stored = self.store().get(path, MAX_SIGNED).await?;
        let object = parse(&self.pin().public_key, self.pin().id.as_bytes(), path, &stored).map_err(|wrong| failed(wrong.to_string()))?;
        let opened = open_by_passphrase_slowly(&object, passphrase).await?;
        if opened.is_some_and(|opened| *opened == *material) { Ok(()) } else { Err(failed("it wraps another key".into()).into()) }
    }

    /// The component's keys, for an agent.
    ///
    /// # Errors
    /// [`KeyError::NotGranted`] where no valid key object names the agent, besides what a store can do.
    pub async fn unlock(&self, component: ComponentId, secret: &AgentSecret) -> Result<DataKeys, Error> {
        let (objects, refused) = self.key_objects().await?;
        let mut sets: Vec<KeySet> = Vec::new();
        for verified in of_component(&objects, component) {
            let opened = open_by_agent(&verified.object, secret).map_err(|wrong| wrong.at(&verified.path))?;
            if let Some(material) = opened {
                add_set(&mut sets, key_set(&verified.object, &material).map_err(|wrong| wrong.at(&verified.path))?);
            }
        }
        DataKeys::new(component, sets).ok_or_else(|| KeyError::NotGranted { component, refused }.into())
    }

    /// The same, refusing a generation older than one that was seen before.
    ///
    /// # Errors
    /// [`KeyError::WentBack`], and as [`Repository::unlock`].
    pub async fn unlock_from(&self, component: ComponentId, secret: &AgentSecret, seen_generation: u32) -> Result<DataKeys, Error> {
        let keys = self.unlock(component, secret).await?;
        if keys.generation() < seen_generation {
            return Err(KeyError::WentBack { component, found: keys.generation(), expected: seen_generation }.into());
        }
        Ok(keys)
    }

    /// The component's keys by the recovery passphrase, when all agents are gone.
    ///
    /// # Errors
    /// [`KeyError::WrongPassphrase`], or [`KeyError::NotGranted`] where the component never had a key.
    pub async fn unlock_with_passphrase(&self, component: ComponentId, passphrase: &Secret) -> Result<DataKeys, Error> {
        let (objects, refused) = self.key_objects().await?;
        let mut sets: Vec<KeySet> = Vec::new();
        for verified in of_component(&objects, component) {
            let key = &verified.object.key;
            if sets.iter().any(|set| set.id.as_bytes().as_slice() == key.as_slice()) {
                continue;
            }
            if let Some(material) = open_by_passphrase_slowly(&verified.object, passphrase).await? {
                add_set(&mut sets, key_set(&verified.object, &material).map_err(|wrong| wrong.at(&verified.path))?);
            }
        }
        DataKeys::new(component, sets).ok_or_else(|| KeyError::NotGranted { component, refused }.into())
    }

    /// The components that have a key here, and the key objects that are refused.
    ///
    /// # Errors
    /// What a store can do.
    pub async fn granted(&self) -> Result<(Vec<ComponentId>, Vec<Damage>), Error> {
        let (objects, refused) = self.key_objects().await?;
        let ids = objects.iter().filter(|verified| verified.object.role() == KeyRole::Data);
        let mut ids: Vec<ComponentId> =
            ids.filter_map(|verified| verified.object.component.as_slice().try_into().ok().map(ComponentId::from_bytes)).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok((ids, refused))
    }
}

fn wrap_all(
    mut object: KeyObject,
    material: &[u8],
    recipients: &[Recipient],
    passphrase: &Secret,
    cost: KdfCost,
) -> Result<KeyObject, Error> {
    let mut wraps = recipients.iter().map(|recipient| wrap_to_agent(&object, material, recipient)).collect::<Result<Vec<_>, _>>()?;
    wraps.push(wrap_to_passphrase(&object, material, passphrase, cost)?);
    object.wraps = wraps;
    Ok(object)
}

fn of_component(objects: &[Verified], component: ComponentId) -> impl Iterator<Item = &Verified> {
    objects.iter().filter(move |verified| verified.object.role() == KeyRole::Data && verified.object.component == component.as_bytes())
}

fn add_set(sets: &mut Vec<KeySet>, set: KeySet) {
    if !sets.iter().any(|known| known.id == set.id) {
        sets.push(set);
    }
}
