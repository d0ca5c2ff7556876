//! The pauses in force, in memory, where every page and every schedule asks for them.
//!
//! What always holds: they are replaced after the store was; one that has ended counts for nothing, whether it was swept or not.

use std::sync::Arc;

use arc_swap::ArcSwap;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use tokio::sync::Mutex;

use crate::schedule::pause::{self, Pause, Scope};
use crate::store::error::StoreError;
use crate::store::{Store, pauses};

/// The pauses. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    kept: Arc<ArcSwap<Vec<Pause>>>,
    // Who changes later puts in force later.
    changing: Arc<Mutex<()>>,
}

impl Pauses {
    /// As the store has them.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        let mut read = store.read().await?;
        let kept = pauses::all(&mut read).await?;
        Ok(Self { kept: Arc::new(ArcSwap::from_pointee(kept)), changing: Arc::default() })
    }

    /// The pause that holds for a component now.
    #[must_use]
    pub fn of(&self, component: &Name, now: Timestamp) -> Option<Pause> {
        pause::of(&self.kept.load(), component, now).cloned()
    }

    /// The pause of all.
    #[must_use]
    pub fn of_all(&self, now: Timestamp) -> Option<Pause> {
        pause::of_all(&self.kept.load(), now).cloned()
    }

    /// Begins a pause; it is durable and in force when this returns.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn begin(&self, store: &Store, pause: &Pause) -> Result<(), StoreError> {
        let changing = self.changing.lock().await;
        let mut write = store.write().await?;
        let connection = write.connection();
        pauses::sweep(connection, pause.since).await?;
        pauses::put(connection, pause).await?;
        let kept = pauses::all(connection).await?;
        write.commit().await?;
        self.kept.store(Arc::new(kept));
        drop(changing);
        Ok(())
    }

    /// Ends the pause of this scope; tells it where it still held.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn end(&self, store: &Store, scope: &Scope, now: Timestamp) -> Result<Option<Pause>, StoreError> {
        let changing = self.changing.lock().await;
        let mut write = store.write().await?;
        let connection = write.connection();
        let ended = pauses::all(connection).await?.into_iter().find(|pause| pause.scope == *scope && pause.until > now);
        pauses::delete(connection, scope).await?;
        pauses::sweep(connection, now).await?;
        let kept = pauses::all(connection).await?;
        write.commit().await?;
        self.kept.store(Arc::new(kept));
        drop(changing);
        Ok(ended)
    }
}
