//! The CAs in force while the controller runs: one, or two while the first is being replaced.
//!
//! ```text
//!  one --rotate: a new key and certificate beside the old--> two, the new one signs --retire: the new one in the place of the old--> one
//! ```
//!
//! While there are two, both are trusted, new certificates are signed by the new one, and the controller shows its own certificate of the
//! old one to whoever does not say that it knows the new one only. What always holds: the files say which state it is, so that a kill at
//! any moment leaves the one or the other; nothing is signed by a CA before TLS here trusts it.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arc_swap::ArcSwap;
use muster_common::time::Timestamp;
use muster_identity::authority::Authority;
use muster_identity::fingerprint::Fingerprint;
use muster_identity::server::ReloadableServer;
use muster_identity::trust::Trusted;
use tokio::sync::{RwLock, RwLockReadGuard, watch};

use crate::ca::folder::{CaFolder, Loaded};
use crate::config::Config;
use crate::own_certificate;

/// The CAs in force. Clones are the same.
#[derive(Clone, Debug)]
pub struct Authorities {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: CaFolder,
    config: Config,
    current: ArcSwap<Current>,
    tls: Arc<ReloadableServer>,
    // Held to change, and to read by whoever must not be overtaken by a change.
    changing: RwLock<()>,
    changes: watch::Sender<u64>,
}

/// What is in force at one moment.
#[derive(Clone, Debug)]
pub struct Current {
    /// The one that everybody trusts.
    pub in_force: Arc<Authority>,
    /// The new one and since when it is there, while a rotation is open.
    pub next: Option<(Arc<Authority>, Timestamp)>,
}

impl Current {
    fn of(loaded: Loaded) -> Self {
        Self { in_force: Arc::new(loaded.in_force), next: loaded.next.map(|(next, since)| (Arc::new(next), since)) }
    }

    /// The one that signs.
    #[must_use]
    pub fn signs(&self) -> &Arc<Authority> {
        self.next.as_ref().map_or(&self.in_force, |(next, _)| next)
    }

    /// All that are trusted, the one in force first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Authority>> {
        [Some(&self.in_force), self.next.as_ref().map(|(next, _)| next)].into_iter().flatten()
    }

    /// All that are trusted, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        let next = self.next.as_ref().map_or("", |(next, _)| next.pem());
        format!("{}{next}", self.in_force.pem())
    }
}

impl Authorities {
    /// Reads them, and makes the controller's own certificate where it is due.
    ///
    /// # Errors
    /// Where there is no CA, its key cannot be opened, or a file cannot be written.
    pub fn open(config: &Config, now: Timestamp) -> Result<Self> {
        let folder = CaFolder::of(config);
        let current = Current::of(folder.load()?);
        let credentials =
            own_certificate::renewed_where_due(config, &current.in_force, now).context("take the controller's certificate")?;
        let tls = ReloadableServer::new(&credentials).context("serve with the controller's certificate")?;
        let shared = Shared {
            folder,
            config: config.clone(),
            current: ArcSwap::from_pointee(current),
            tls,
            changing: RwLock::default(),
            changes: watch::Sender::new(0),
        };
        let authorities = Self { shared: Arc::new(shared) };
        authorities.reload(now)?;
        Ok(authorities)
    }

    /// What is in force now.
    #[must_use]
    pub fn current(&self) -> Arc<Current> {
        self.shared.current.load_full()
    }

    /// The server's side of TLS.
    #[must_use]
    pub fn tls(&self) -> Arc<ReloadableServer> {
        self.shared.tls.clone()
    }

    /// Told of every change from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// As long as it is held, nothing changes.
    pub async fn steady(&self) -> RwLockReadGuard<'_, ()> {
        self.shared.changing.read().await
    }

    /// Takes the controller's certificate from disk again, a new one where it is due, and puts all in force for new connections.
    ///
    /// # Errors
    /// Where it cannot be had; then the old one stays.
    pub fn reload(&self, now: Timestamp) -> Result<()> {
        self.put_in_force(&self.current(), now)
    }

    fn put_in_force(&self, current: &Current, now: Timestamp) -> Result<()> {
        let (config, tls) = (&self.shared.config, &self.shared.tls);
        let trusted = Trusted::from_pem(&current.pem()).context("trust the CAs")?;
        let own = own_certificate::renewed_where_due(config, &current.in_force, now).context("take the certificate")?.trusting(trusted);
        match &current.next {
            None => tls.reload(&own).context("serve with the certificate"),
            Some((next, _)) => {
                let second = own_certificate::second(config, next, now).context("make the certificate of the new CA")?;
                tls.reload_both(&own, &second).context("serve with both certificates")
            }
        }
    }

    /// Makes a new CA, which signs from now on.
    ///
    /// # Errors
    /// Where a rotation is open, or a file cannot be written.
    pub async fn rotate(&self, now: Timestamp) -> Result<()> {
        let changing = self.shared.changing.write().await;
        let before = self.current();
        ensure!(before.next.is_none(), "a rotation is open already");
        let (folder, domain) = (self.shared.folder.clone(), before.in_force.trust_domain().clone());
        let next = tokio::task::spawn_blocking(move || folder.begin_rotation(&domain, now)).await.context("make the new CA")??;
        self.take_next(&before, (next, now), now)?;
        drop(changing);
        Ok(())
    }

    /// Takes in a new CA that `muster-controller ca rotate` left beside the old one. Tells whether there was one.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn look(&self, now: Timestamp) -> Result<bool> {
        if self.current().next.is_some() || !self.shared.folder.is_rotating() {
            return Ok(false);
        }
        let changing = self.shared.changing.write().await;
        let before = self.current();
        let folder = self.shared.folder.clone();
        let next = tokio::task::spawn_blocking(move || folder.load_next()).await.context("read the new CA")??;
        let Some(next) = next.filter(|_| before.next.is_none()) else { return Ok(false) };
        self.take_next(&before, next, now)?;
        drop(changing);
        Ok(true)
    }

    fn take_next(&self, before: &Current, next: (Authority, Timestamp), now: Timestamp) -> Result<()> {
        let current = Current { in_force: before.in_force.clone(), next: Some((Arc::new(next.0), next.1)) };
        self.put_in_force(&current, now)?;
        self.shared.current.store(Arc::new(current));
        self.shared.changes.send_modify(|number| *number += 1);
        Ok(())
    }

    /// Puts the new CA in the place of the old one, if `may` lets it, which nothing else can overtake. Gives the old one's fingerprint and
    /// what `may` gave.
    ///
    /// # Errors
    /// Where no rotation is open or a file cannot be written, and what `may` says.
    pub async fn retire<T, E: From<anyhow::Error>>(
        &self,
        now: Timestamp,
        may: impl AsyncFnOnce(&Current) -> Result<T, E>,
    ) -> Result<(Fingerprint, T), E> {
        let changing = self.shared.changing.write().await;
        let before = self.current();
        let Some((next, _)) = &before.next else { return Err(anyhow::anyhow!("no rotation is open").into()) };
        let given = may(&before).await?;
        let folder = self.shared.folder.clone();
        let old = before.in_force.fingerprint();
        let moved = tokio::task::spawn_blocking(move || folder.finish_rotation(&old)).await.context("retire the old CA");
        moved.and_then(|moved| moved).map_err(E::from)?;
        let current = Current { in_force: next.clone(), next: None };
        self.put_in_force(&current, now).map_err(E::from)?;
        self.shared.current.store(Arc::new(current));
        self.shared.changes.send_modify(|number| *number += 1);
        drop(changing);
        Ok((old, given))
    }
}
