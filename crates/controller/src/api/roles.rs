//! Operators' roles in memory, where every call asks for them; and what is revoked, put in force from the store.
//!
//! What always holds: it is replaced after the store was, so that a role that was taken away is gone when the call that took it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use muster_common::name::Name;
use muster_identity::caller::Role;
use muster_identity::revocation::{Revocations, Revoked};
use tokio::sync::Mutex;

use crate::store::error::StoreError;
use crate::store::{Connection, Store, certificates, operators};

/// The most revoked serial numbers that are looked at.
const MOST_SERIALS: u32 = 1_000_000;

/// Operators' roles. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    roles: Arc<ArcSwap<BTreeMap<Name, Role>>>,
    // Who reads later puts in force later: what was read before somebody was revoked must not come after it.
    reloading: Arc<Mutex<()>>,
}

impl Roles {
    /// The operator's role. `None`: there is no such operator, or it is revoked.
    #[must_use]
    pub fn of(&self, operator: &Name) -> Option<Role> {
        self.roles.load().get(operator).copied()
    }

    /// Reads all roles and revocations from the store and puts them in force.
    ///
    /// # Errors
    /// Where the store cannot be read, or a row of it.
    pub async fn reload(&self, store: &Store, revocations: &Revocations) -> Result<(), StoreError> {
        let reloading = self.reloading.lock().await;
        let mut read = store.read().await?;
        let operators = operators::all(&mut read).await?;
        self.roles.store(Arc::new(operators.into_iter().filter(|o| !o.revoked).map(|o| (o.name, o.role)).collect()));
        revocations.replace(revoked(&mut read).await?);
        drop(reloading);
        Ok(())
    }
}

async fn revoked(connection: &mut Connection) -> Result<Revoked, StoreError> {
    let mut revoked = Revoked::default();
    for serial in certificates::revoked_serials(connection, MOST_SERIALS).await? {
        let parsed = serial.parse().map_err(|error: muster_identity::certificate::InvalidSerial| corrupt(&serial, &error))?;
        revoked.serials.insert(parsed);
    }
    for key in certificates::revoked_keys(connection).await? {
        let parsed = key.parse().map_err(|error: muster_identity::fingerprint::InvalidFingerprint| corrupt(&key, &error))?;
        revoked.keys.insert(parsed);
    }
    Ok(revoked)
}

fn corrupt(id: &str, why: &dyn std::error::Error) -> StoreError {
    StoreError::Corrupt { what: "revocation", id: id.to_owned(), why: why.to_string() }
}
