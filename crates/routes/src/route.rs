//! A route: a name, where it points for each site, and the acts on it.
//!
//! The acts are shells around `change` and `cutover`: read, decide, replace, read back. Each may be asked for again after
//! any interruption; what was done already is found done.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::name::Name;
use muster_failover::reign::Line;

use crate::change::{self, Denied, ReadBack, Verdict, Wanted};
use crate::cutover::{self, Answer, Judged, Said};
use crate::domain::Domain;
use crate::exchange::{Look, Transport};
use crate::provider::{Provider, Replaced};
use crate::standing::{Records, Standing, Target};

/// How often a replacement without a clear answer is sent. Each time it is the same compare-and-swap: it takes effect once at most.
const MOST_TRIES: u32 = 3;

/// How long a replacement that was said to be done may take to be seen.
const SETTLES: Duration = Duration::from_secs(5);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// The most servers that are asked.
pub const MOST_SERVERS: usize = 32;

/// A name that must point at the writer's site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The name.
    pub name: Domain,
    /// Its zone.
    pub zone: Domain,
    /// Who changes it.
    pub provider: Provider,
    /// Where it points for each site.
    pub sites: BTreeMap<Name, Target>,
    /// Its TTL in peace, in seconds.
    pub ttl: u32,
    /// Its TTL while it is moved, in seconds; at most [`Route::ttl`].
    pub moving_ttl: u32,
    /// The authoritative servers. Empty: those of the zone's NS records.
    pub servers: Vec<SocketAddr>,
    /// The resolvers to watch.
    pub resolvers: Vec<SocketAddr>,
}

/// What a change found and made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What stood there before; the same as wanted where nothing had to be done.
    pub before: Standing,
    /// What stands there now, read back.
    pub now: Standing,
}

impl Changed {
    /// For how long resolvers may still answer what was before, in seconds.
    #[must_use]
    pub fn old_ttl(&self) -> u32 {
        self.before.records.as_ref().map_or(0, |records| records.ttl)
    }
}

/// What everybody says about a name now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What the provider reads; the reign is in it.
    pub standing: Result<Standing, Fault>,
    /// Each authoritative server.
    pub servers: Vec<Answer>,
    /// Each resolver that is watched.
    pub resolvers: Vec<Answer>,
}

impl Route {
    fn wanted(&self, site: &Name, ttl: u32, line: &Line) -> Result<Wanted, Fault> {
        let target = self.sites.get(site).cloned().ok_or_else(|| {
            let known = self.sites.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
            Fault::refused(ErrorKind::FailedPrecondition, format!("{} has no value for the site {site}", self.name))
                .hint(format!("add the site to the route's values and `muster apply` it; it has: {known}"))
        })?;
        Ok(Wanted { records: Records { target, ttl }, mark: line.last() })
    }

    /// Gives a name that stands there without a reign, pointing at `site`, the reign at the end of `line`; makes it where it does not exist.
    ///
    /// # Errors
    /// Where it points elsewhere or is somebody's; the provider's refusal.
    pub async fn adopt(&self, site: &Name, line: &Line) -> Result<Changed, Fault> {
        let wanted = self.wanted(site, self.ttl, line)?;
        self.make("adopt", &wanted, |standing| change::decide_adoption(standing, &wanted)).await
    }

    /// Points the name at `site` in the reign at the end of `line`, with the TTL of a move.
    ///
    /// # Errors
    /// Where the reign beside it is not on `line` (somebody else moved it); the provider's refusal.
    pub async fn cut_over(&self, site: &Name, line: &Line) -> Result<Changed, Fault> {
        let wanted = self.wanted(site, self.moving_ttl, line)?;
        self.make("cut over", &wanted, |standing| change::decide(standing, &wanted, line)).await
    }

    /// Lowers the TTL for a move; the name points where it did. Resolvers forget the old TTL after [`Changed::old_ttl`].
    ///
    /// # Errors
    /// As [`Route::cut_over`].
    pub async fn lower_ttl(&self, line: &Line) -> Result<Changed, Fault> {
        self.set_ttl("lower the TTL of", self.moving_ttl, line).await
    }

    /// Puts the TTL of peace back.
    ///
    /// # Errors
    /// As [`Route::cut_over`].
    pub async fn restore_ttl(&self, line: &Line) -> Result<Changed, Fault> {
        self.set_ttl("put back the TTL of", self.ttl, line).await
    }

    async fn set_ttl(&self, doing: &str, ttl: u32, line: &Line) -> Result<Changed, Fault> {
        let standing = self.provider.read(&self.zone, &self.name).await?;
        let Some(records) = &standing.records else {
            let fault = Fault::refused(ErrorKind::FailedPrecondition, format!("{doing} {}: there is no such name", self.name));
            return Err(fault.hint(format!("adopt it first; `dig {}` shows what stands", self.name)));
        };
        let wanted = Wanted { records: Records { target: records.target.clone(), ttl }, mark: line.last() };
        self.make(doing, &wanted, |standing| change::decide(standing, &wanted, line)).await
    }

    /// Whether the name could be changed now: it is read, the reign beside it is judged, and the key is tried without a change.
    ///
    /// # Errors
    /// What would stop a change.
    pub async fn preflight(&self, line: &Line) -> Result<Standing, Fault> {
        let standing = self.provider.read(&self.zone, &self.name).await?;
        if let Some(records) = &standing.records {
            let wanted = Wanted { records: records.clone(), mark: line.last() };
            if let Verdict::Denied(denied) = change::decide(&standing, &wanted, line) {
                return Err(self.denied("change", &denied, &standing));
            }
        }
        self.provider.compare(&self.zone, &self.name, &standing).await?;
        Ok(standing)
    }

    async fn make(&self, doing: &str, wanted: &Wanted, verdict: impl Fn(&Standing) -> Verdict) -> Result<Changed, Fault> {
        let before = self.provider.read(&self.zone, &self.name).await?;
        match verdict(&before) {
            Verdict::Done => return Ok(Changed { now: before.clone(), before }),
            Verdict::Denied(denied) => return Err(self.denied(doing, &denied, &before)),
            Verdict::Replace => {}
        }
        let mut last = None;
        for _ in 0..MOST_TRIES {
            let replaced = self.provider.replace(&self.zone, &self.name, &before, wanted).await?;
            let (now, found) = self.read_back(&before, wanted, &replaced).await.map_err(|fault| fault.effect(Effect::Unknown))?;
            match (found, replaced) {
                (ReadBack::Applied, _) => return Ok(Changed { before, now }),
                (ReadBack::Other, _) => return Err(self.moved_by_another(doing, &now)),
                (ReadBack::Unchanged, Replaced::Told) => return Err(self.nothing_happened(doing, &now)),
                (ReadBack::Unchanged, Replaced::Changed(fault) | Replaced::Doubt(fault)) => last = Some(fault),
            }
        }
        let fault = last.unwrap_or_else(|| self.nothing_happened(doing, &before));
        Err(fault.effect(Effect::Unknown).evidence(format!("sent {MOST_TRIES} times; it still stands as before: {before}")))
    }

    /// Reads what stands after a replacement; where it was said to be done and nothing is seen yet, for a while.
    async fn read_back(&self, before: &Standing, wanted: &Wanted, replaced: &Replaced) -> Result<(Standing, ReadBack), Fault> {
        let looks = match replaced {
            Replaced::Told => SETTLES.as_millis() / PAUSE.as_millis(),
            Replaced::Changed(_) | Replaced::Doubt(_) => 0,
        };
        let mut left = looks;
        loop {
            let now = self.provider.read(&self.zone, &self.name).await?;
            let found = change::read_back(before, wanted, &now);
            // Three questions are no transaction: what looks like a third thing may be the middle of ours.
            if found == ReadBack::Applied || left == 0 {
                return Ok((now, found));
            }
            left -= 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn denied(&self, doing: &str, denied: &Denied, standing: &Standing) -> Fault {
        let name = &self.name;
        let (kind, why, hint) = match denied {
            Denied::NotAdopted => (
                ErrorKind::FailedPrecondition,
                "no reign stands beside it".to_owned(),
                "a name is never taken over by the way; once, by hand: muster route adopt ROUTE".to_owned(),
            ),
            Denied::Foreign => (
                ErrorKind::FailedPrecondition,
                format!("the TXT at {} is not ours", name.mark()),
                format!("`dig TXT {}` shows it; remove it in the zone where it is not needed", name.mark()),
            ),
            Denied::OtherReign(mark) => (
                ErrorKind::Conflict,
                format!("it belongs to {mark}, which is not in this reign's line: somebody else moved it"),
                "a controller that does not know that reign must not move the name; see `muster status` of the controller that does"
                    .to_owned(),
            ),
            Denied::OtherKind => (
                ErrorKind::FailedPrecondition,
                "addresses are never changed into a CNAME, nor a CNAME into addresses: a server may keep half of it".to_owned(),
                "declare the same kind of value for every site; change the kind by hand in the zone, in peace".to_owned(),
            ),
            Denied::PointsElsewhere => (
                ErrorKind::Conflict,
                "it points elsewhere than the writer's site".to_owned(),
                "correct the route's values, or point the name there in the zone, and adopt again".to_owned(),
            ),
            Denied::AlreadyMarked(mark) => (
                ErrorKind::AlreadyExists,
                format!("it belongs to {mark} already"),
                format!("another component or controller has it; `dig TXT {}` shows the reign", name.mark()),
            ),
        };
        Fault::refused(kind, format!("{doing} {name}: {why}")).evidence(format!("there stands: {standing}")).hint(hint)
    }

    fn moved_by_another(&self, doing: &str, now: &Standing) -> Fault {
        Fault::failed(ErrorKind::Conflict, format!("{doing} {}: somebody else changed it meanwhile", self.name))
            .evidence(format!("there stands: {now}"))
            .hint(format!(
                "find out who changes {} before you ask again: the zone's log, and `muster status` of every controller",
                self.name
            ))
    }

    fn nothing_happened(&self, doing: &str, now: &Standing) -> Fault {
        let fault =
            Fault::failed(ErrorKind::FailedPrecondition, format!("{doing} {}: it was answered as done, and nothing happened", self.name));
        fault.evidence(format!("there stands: {now}")).hint(format!(
            "beside a CNAME nothing may stand, and a server ignores what would break that: `dig ANY {}`; and one server only may take the zone's updates",
            self.name
        ))
    }

    /// Asks every authoritative server and every watched resolver.
    pub async fn show(&self) -> Shown {
        let standing = self.provider.read(&self.zone, &self.name).await;
        let servers = match self.authoritative().await {
            Ok(servers) => self.ask(&servers, false).await,
            Err(why) => why,
        };
        Shown { standing, servers, resolvers: self.ask(&self.resolvers, true).await }
    }

    /// One look at the authoritative servers: whether the name points at `site` for everybody.
    ///
    /// # Errors
    /// Where the route has no value for the site.
    pub async fn look(&self, site: &Name) -> Result<Judged, Fault> {
        let Some(target) = self.sites.get(site) else {
            return Err(Fault::refused(ErrorKind::NotFound, format!("{} has no value for {site}", self.name)));
        };
        Ok(cutover::judge(&self.show_servers().await, target))
    }

    /// Looks until the name is cut over for every server that answers, for at most `bound`.
    ///
    /// # Errors
    /// With each server that answers something else, when the bound is over.
    pub async fn settled(&self, site: &Name, bound: Duration) -> Result<Judged, Fault> {
        let until = tokio::time::Instant::now() + bound;
        loop {
            let judged = self.look(site).await?;
            if judged.is_cut_over() {
                return Ok(judged);
            }
            if tokio::time::Instant::now() >= until {
                let fault = Fault::refused(ErrorKind::Unavailable, format!("cut over {}: not every server answers the new set", self.name));
                let seen = judged.blocking.iter().chain(&judged.silent).map(ToString::to_string);
                let fault = seen.fold(fault.effect(Effect::Done), Fault::evidence);
                return Err(fault.hint("the change is made; a server that lags needs its zone transferred: BIND `rndc retransfer ZONE`, Knot `knotc zone-refresh ZONE`"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn show_servers(&self) -> Vec<Answer> {
        match self.authoritative().await {
            Ok(servers) => self.ask(&servers, false).await,
            Err(silent) => silent,
        }
    }

    async fn ask(&self, servers: &[SocketAddr], recursive: bool) -> Vec<Answer> {
        let mut asked = tokio::task::JoinSet::new();
        for (at, server) in servers.iter().copied().take(MOST_SERVERS).enumerate() {
            let name = self.name.clone();
            asked.spawn(async move {
                let look = Look { server, transport: Transport::Udp, key: None, recursive };
                let said = match look.records(&name).await {
                    Ok(found) => Said::Records(found.records()),
                    Err(refusal) => Said::Silent(refusal.to_string()),
                };
                (at, Answer { server, said })
            });
        }
        let mut answers: Vec<_> = asked.join_all().await;
        answers.sort_by_key(|(at, _)| *at);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// The declared servers, or those that the zone's NS records name; where these cannot be found, the primary's silence.
    async fn authoritative(&self) -> Result<Vec<SocketAddr>, Vec<Answer>> {
        if !self.servers.is_empty() {
            return Ok(self.servers.clone());
        }
        let Provider::Dns(primary) = &self.provider else { return Ok(Vec::new()) };
        let look = Look { server: primary.server, transport: primary.transport, key: None, recursive: false };
        let silent = |why: String| vec![Answer { server: primary.server, said: Said::Silent(why) }];
        let found = look.find(&self.zone, RecordType::NS).await.map_err(|refusal| silent(refusal.to_string()))?;
        let mut servers = Vec::new();
        for server in found.servers.into_iter().take(MOST_SERVERS) {
            let inside = if server.is_in(&self.zone) { look.records(&server).await.ok().map(|found| found.addresses) } else { None };
            match inside.filter(|addresses| !addresses.is_empty()) {
                Some(addresses) => servers.extend(addresses.into_iter().map(|ip| SocketAddr::new(ip, 53))),
                None => {
                    let found = tokio::net::lookup_host((server.as_str(), 53)).await;
                    servers.extend(found.map_err(|error| silent(format!("{server} has no address: {error}")))?);
                }
            }
        }
        Ok(servers)
    }
}
