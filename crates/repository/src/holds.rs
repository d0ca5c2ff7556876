//! Holds: points that stay whatever the rules say, until an instant by the store's clock. Restores and verifications take them, and
//! operators.
//!
//! What always holds: once a hold was given, its point stays until it ends. A hold is never changed: its next word stands beside it,
//! and the last one counts.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use muster_common::id::{ComponentId, HoldId, PointId};
use muster_common::time::Timestamp;
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::error::{Damage, Error, StoreErrorKind};
use crate::format::clear::{self, MAX_CLEAR_OBJECT};
use crate::format::object::ObjectKind;
use crate::format::{MIN_READER, Malformed, check_reader, layout, message};
use crate::keys::random;
use crate::marks::is_late;
use crate::repository::{AT_ONCE, Repository};

/// The longest holder and reason, in bytes.
const MAX_TEXT: usize = 500;
/// The longest hold: a hundred years.
const MAX_LASTING: Duration = Duration::from_secs(100 * 366 * 86_400);

/// How long before it ends a hold has to be followed by another, for all who list holds to see one of them.
const MARGIN: Duration = Duration::from_secs(300);

/// How long the hold of a restore or a verification lasts, which is renewed while it runs.
const WORK: Duration = Duration::from_secs(86_400);

/// A hold as its last word tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// How many words it has.
    pub words: u32,
    /// The component of its point.
    pub component: ComponentId,
    /// What it holds.
    pub point: PointId,
    /// Until when, by the store's clock; 1970: it was let go.
    pub until: Timestamp,
    /// Who holds.
    pub holder: String,
    /// Why.
    pub reason: String,
    /// When the store took its last word.
    pub stored_at: Timestamp,
}

impl Hold {
    /// Whether it still holds at `now`, by the store's clock.
    #[must_use]
    pub fn stands(&self, now: Timestamp) -> bool {
        self.until > now
    }
}

impl Repository {
    /// Holds a point for `lasting` from now on. Proves afterwards that prune has not begun to remove it.
    ///
    /// # Errors
    /// [`Error::NoPoint`], [`Error::BeingRemoved`]; what a store can do, where it refuses us or is full too.
    pub async fn hold(
        &self,
        (component, point): (ComponentId, PointId),
        lasting: Duration,
        holder: &str,
        reason: &str,
    ) -> Result<Hold, Error> {
        if lasting > MAX_LASTING || holder.len() > MAX_TEXT || reason.len() > MAX_TEXT {
            return Err(Error::Invalid(format!("a hold of {lasting:?} by {holder:.40}: a hundred years and {MAX_TEXT} bytes at most")));
        }
        self.look_at_point(component, point).await?;
        let now = self.store().now().await?;
        let new = Hold {
            id: HoldId::from_bytes(random()?),
            words: 1,
            component,
            point,
            until: now.plus(lasting),
            holder: holder.to_owned(),
            reason: reason.to_owned(),
            stored_at: now,
        };
        let hold = self.say(new).await?;
        if let Err(refused) = self.prove_hold(&hold, None).await {
            // Nobody was told of it; one that stays would only keep others from being removed.
            if let Err(error) = self.release(&hold).await {
                tracing::warn!(hold = %hold.id, "a hold that was not given stays until it ends: {error}");
            }
            return Err(refused);
        }
        Ok(hold)
    }

    /// A point whose mark is younger than half the grace time is removed only after somebody has listed this hold; and one that another
    /// hold keeps, only after that one has ended. Another hold counts only where it came in time itself: of two that come late, each would
    /// be kept by the other, and whoever removes has seen neither.
    async fn prove_hold(&self, hold: &Hold, before: Option<Timestamp>) -> Result<(), Error> {
        let marks = self.read_marks(hold.component, hold.stored_at).await?;
        if let Some(damage) = marks.unreadable.first() {
            return Err(damage.clone().into());
        }
        if let Some(since) = marks.points.get(&hold.point)
            && is_late(*since, hold.stored_at, self.grace())
        {
            let others = self.holds(hold.component).await?;
            let keeps = |other: &&Hold| other.point == hold.point && other.id != hold.id && !is_late(*since, other.stored_at, self.grace());
            let others = others.iter().filter(keeps).map(|other| other.until);
            let in_time = hold.stored_at.plus(MARGIN.min(self.grace() / 2));
            if others.chain(before).all(|until| until < in_time) {
                return Err(Error::BeingRemoved { component: hold.component, point: hold.point });
            }
        }
        self.look_at_point(hold.component, hold.point).await
    }

    async fn look_at_point(&self, component: ComponentId, point: PointId) -> Result<(), Error> {
        match self.store().look(&layout::point(component, point)).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => Err(Error::NoPoint { component, point }),
            other => other.map(|_| ()).map_err(Error::from),
        }
    }

    /// Lets a hold that stands last for `lasting` from now on.
    ///
    /// # Errors
    /// [`Error::NoPoint`] where it has ended and its point is gone; as [`Repository::hold`].
    pub async fn renew(&self, hold: &Hold, lasting: Duration) -> Result<Hold, Error> {
        let now = self.store().now().await?;
        let renewed = self.say(Hold { words: hold.words + 1, until: now.plus(lasting), ..hold.clone() }).await?;
        self.prove_hold(&renewed, Some(hold.until)).await?;
        Ok(renewed)
    }

    /// Lets a hold go.
    ///
    /// # Errors
    /// What a store can do.
    pub async fn release(&self, hold: &Hold) -> Result<(), Error> {
        self.say(Hold { words: hold.words + 1, until: Timestamp(0), ..hold.clone() }).await.map(|_| ())
    }

    /// Lets all holds of a point go. Gives how many stood.
    ///
    /// # Errors
    /// As [`Repository::holds`].
    pub async fn release_point(&self, component: ComponentId, point: PointId) -> Result<usize, Error> {
        let now = self.store().here();
        let holds: Vec<Hold> = self.holds(component).await?.into_iter().filter(|hold| hold.point == point && hold.stands(now)).collect();
        for hold in &holds {
            self.release(hold).await?;
        }
        Ok(holds.len())
    }

    /// Runs `work` while its point is held. A store that takes no hold (read-only, full) stops no restore: then it runs without one.
    pub async fn while_held<T>(
        &self,
        at: (ComponentId, PointId),
        (holder, reason): (&str, &str),
        cancel: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> T {
        let taken = tokio::select! {
            taken = self.hold(at, WORK, holder, reason) => taken,
            () = cancel.cancelled() => Err(Error::Cancelled),
        };
        let mut hold = match taken {
            Ok(hold) => hold,
            Err(error) => {
                tracing::warn!(point = %at.1, "it goes on without a hold, and a prune may remove the point meanwhile: {error}");
                return work.await;
            }
        };
        let mut work = std::pin::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(WORK / 4) => match self.renew(&hold, WORK).await {
                    Ok(renewed) => hold = renewed,
                    Err(error) => tracing::warn!(point = %at.1, "renew its hold, which ends at {:?}: {error}", hold.until),
                },
            }
        };
        if let Err(error) = self.with_patience(Duration::from_secs(5)).release(&hold).await {
            tracing::warn!(point = %at.1, "it stays held for up to a day: {error}");
        }
        done
    }

    async fn say(&self, hold: Hold) -> Result<Hold, Error> {
        let body = message::Hold {
            min_reader: MIN_READER,
            repository: self.pin().id.as_bytes().to_vec(),
            component: hold.component.as_bytes().to_vec(),
            point: hold.point.as_bytes().to_vec(),
            until: hold.until.0,
            holder: hold.holder.clone(),
            reason: hold.reason.clone(),
        };
        let path = layout::hold(hold.component, hold.id, hold.words);
        let bytes = clear::write(ObjectKind::Hold, &path, &body.encode_to_vec()).map_err(|wrong| Error::Defect(wrong.to_string()))?;
        self.store().put_new(&path, bytes.into()).await?;
        let stored_at = self.store().look(&path).await?.modified;
        Ok(Hold { stored_at, ..hold })
    }

    /// The holds of a component, those that have ended too, as long as prune has not collected them.
    ///
    /// # Errors
    /// [`Error::Damaged`] where one cannot be read: nobody knows what it holds. What a store can do.
    pub async fn holds(&self, component: ComponentId) -> Result<Vec<Hold>, Error> {
        let listed = self.store().list(&layout::holds_of(component)).await?;
        let mut last: BTreeMap<HoldId, (u32, crate::store::Listed)> = BTreeMap::new();
        for listed in listed {
            let Some((id, n)) = layout::parse_hold(component, &listed.path) else {
                return Err(Damage { object: listed.path, offset: None, what: "is no hold".into() }.into());
            };
            if last.get(&id).is_none_or(|(known, _)| *known < n) {
                last.insert(id, (n, listed));
            }
        }
        let read = stream::iter(last).map(|(id, (words, listed))| async move {
            let bytes = match self.store().get(&listed.path, MAX_CLEAR_OBJECT).await {
                Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            let parsed = self.parse_hold(component, &listed.path, &bytes).map_err(|wrong| wrong.at(&listed.path))?;
            Ok::<_, Error>(Some(Hold { id, words, stored_at: listed.modified, ..parsed }))
        });
        let holds: Vec<Option<Hold>> = read.buffered(AT_ONCE).try_collect().await?;
        Ok(holds.into_iter().flatten().collect())
    }

    /// Everything but the id, the number of words and the time.
    fn parse_hold(&self, component: ComponentId, path: &str, bytes: &[u8]) -> Result<Hold, Malformed> {
        let body = message::Hold::decode(clear::read(ObjectKind::Hold, path, bytes)?);
        let body = body.map_err(|error| Malformed::wrong(error.to_string()))?;
        check_reader(body.min_reader)?;
        if body.repository != self.pin().id.as_bytes() || body.component != component.as_bytes() {
            return Err(Malformed::wrong("it is of another repository or component"));
        }
        let point = body.point.as_slice().try_into().map_err(|_| Malformed::wrong("it names no point"))?;
        Ok(Hold {
            id: HoldId::from_bytes([0; 16]),
            words: 0,
            component,
            point: PointId::from_bytes(point),
            until: Timestamp(body.until),
            holder: body.holder,
            reason: body.reason,
            stored_at: Timestamp(0),
        })
    }
}
