//! The first provider: a zone's primary, by RFC 2136 updates signed with TSIG.
//!
//! Its three verbs are read, compare and replace. Questions are signed too: what is read is believed as much as what is done.

use std::net::SocketAddr;

use hickory_proto::rr::RecordType;
use muster_common::fault::Fault;

use crate::change::Wanted;
use crate::domain::Domain;
use crate::exchange::{self, Look, Transport};
use crate::key::{Key, KeyFile};
use crate::message;
use crate::provider::Replaced;
use crate::refusal::{Asked, Refusal};
use crate::standing::{Marked, Standing};

/// A zone's primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// The one server that takes this zone's updates.
    pub server: SocketAddr,
    /// Over what it is spoken to.
    pub transport: Transport,
    /// The key.
    pub key: KeyFile,
}

impl Primary {
    /// What stands there.
    ///
    /// # Errors
    /// The key's or the server's refusal.
    pub async fn read(&self, zone: &Domain, name: &Domain) -> Result<Standing, Fault> {
        let key = self.key.load()?;
        let look = Look { server: self.server, transport: self.transport, key: Some(&key), recursive: false };
        let told = |refusal: Refusal| refusal.fault(&format!("read {name}"), &self.asked(zone, name, &key));
        let found = look.records(name).await.map_err(told)?;
        let mark = look.find(&name.mark(), RecordType::TXT).await.map_err(told)?;
        Ok(Standing { records: found.records(), mark: Marked::of(mark.texts) })
    }

    /// Whether it stands as `before` and this key is known: an update with prerequisites and nothing else (RFC 2136, 2.4).
    ///
    /// # Errors
    /// The key's or the server's refusal; `Conflict` where it stands otherwise.
    pub async fn compare(&self, zone: &Domain, name: &Domain, before: &Standing) -> Result<(), Fault> {
        let key = self.key.load()?;
        let compared = self.send(zone, name, before, None, &key).await;
        compared.map_err(|refusal| refusal.fault(&format!("compare {name}"), &self.asked(zone, name, &key)))
    }

    /// Makes `before` into `wanted` in one transaction, once.
    ///
    /// # Errors
    /// The key's or the server's refusal, where it is sure that nothing was done.
    pub async fn replace(&self, zone: &Domain, name: &Domain, before: &Standing, wanted: &Wanted) -> Result<Replaced, Fault> {
        let key = self.key.load()?;
        let told = |refusal: &Refusal| refusal.fault(&format!("change {name}"), &self.asked(zone, name, &key));
        match self.send(zone, name, before, Some(wanted), &key).await {
            Ok(()) => Ok(Replaced::Told),
            Err(refusal @ Refusal::Changed { .. }) => Ok(Replaced::Changed(told(&refusal))),
            Err(refusal) if refusal.leaves_doubt() => Ok(Replaced::Doubt(told(&refusal))),
            Err(refusal) => Err(told(&refusal)),
        }
    }

    async fn send(&self, zone: &Domain, name: &Domain, before: &Standing, wanted: Option<&Wanted>, key: &Key) -> Result<(), Refusal> {
        let mut question = message::update(zone, name, before, wanted, key, exchange::now())?;
        exchange::exchange(self.server, self.transport, &mut question).await?.updated()
    }

    fn asked(&self, zone: &Domain, name: &Domain, key: &Key) -> Asked {
        Asked { server: self.server, zone: zone.clone(), name: name.clone(), key: Some(key.name.clone()) }
    }
}
