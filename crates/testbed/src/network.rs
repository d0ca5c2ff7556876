//! Networks of their own, and cuts between them. A place is a network namespace; all places of a network hang on one bridge, which lies in
//! a namespace too, so that nothing of the machine's own network is touched. Needs root.
//!
//! A cut makes no noise: whoever is cut off hears neither a reset nor an error, as behind a dead router. It is made by giving the other
//! one's address a hardware address that nobody has, so that it can be made in one direction alone.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::account::RunAs;
use crate::eventually::until;
use crate::process::Process;
use crate::world::World;

const SOON: Duration = Duration::from_secs(10);
/// A locally administered hardware address of nobody.
const NOWHERE: &str = "02:00:00:00:00:fe";

/// Places that reach each other.
#[derive(Debug)]
pub struct Network {
    world: World,
    bridge: Process,
    holders: Mutex<Vec<Process>>,
}

/// A namespace with one address. It lasts as long as its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    name: String,
    holder: i32,
    address: Ipv4Addr,
}

/// In which direction nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// From the first to the second.
    There,
    /// Both.
    Both,
}

impl Place {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The namespace, as `nsenter --net=` takes it.
    #[must_use]
    pub fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder).into()
    }
}

impl Network {
    /// One without places.
    ///
    /// # Errors
    /// Where this process may make no namespaces: it is not root.
    pub async fn new(world: &World) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "network namespaces need root: run these tests as root");
        let bridge = hold(world, "bridge").await?;
        let network = Self { world: world.clone(), bridge, holders: Mutex::default() };
        network.ip(network.bridge.pid(), "link add br0 type bridge").await?;
        network.ip(network.bridge.pid(), "link set br0 up").await?;
        Ok(network)
    }

    /// One more place.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub async fn place(&self, name: &str) -> Result<Place> {
        let holder = hold(&self.world, name).await?;
        let number = self.holders.lock().map_err(|_| anyhow!("a thread panicked with the network"))?.len() + 1;
        let place = Place { name: name.to_owned(), holder: holder.pid(), address: Ipv4Addr::new(10, 77, 0, u8::try_from(number)?) };
        let bridge = self.bridge.pid();
        self.ip(bridge, &format!("link add p{number} type veth peer name eth0 netns {}", place.holder)).await?;
        self.ip(bridge, &format!("link set p{number} master br0 up")).await?;
        self.ip(place.holder, &format!("addr add {}/24 dev eth0", place.address)).await?;
        self.ip(place.holder, "link set eth0 up").await?;
        self.ip(place.holder, "link set lo up").await?;
        self.holders.lock().map_err(|_| anyhow!("a thread panicked with the network"))?.push(holder);
        Ok(place)
    }

    /// From now on nothing passes.
    ///
    /// # Errors
    /// What `ip` says.
    pub async fn cut(&self, one: &Place, other: &Place, cut: Cut) -> Result<()> {
        let command = |to: &Place| format!("neigh replace {} lladdr {NOWHERE} dev eth0 nud permanent", to.address);
        self.ip(one.holder, &command(other)).await?;
        match cut {
            Cut::There => Ok(()),
            Cut::Both => self.ip(other.holder, &command(one)).await,
        }
    }

    /// Everything passes again.
    ///
    /// # Errors
    /// What `ip` says.
    pub async fn mend(&self, one: &Place, other: &Place) -> Result<()> {
        for (from, to) in [(one, other), (other, one)] {
            let known = self.enter(from.holder, &format!("neigh show {}", to.address)).await?;
            if known.contains(NOWHERE) {
                self.ip(from.holder, &format!("neigh del {} dev eth0", to.address)).await?;
            }
        }
        Ok(())
    }

    async fn ip(&self, namespace: i32, arguments: &str) -> Result<()> {
        self.enter(namespace, arguments).await.map(drop)
    }

    async fn enter(&self, namespace: i32, arguments: &str) -> Result<String> {
        let (target, words) = (namespace.to_string(), arguments.split(' '));
        let all: Vec<_> = ["-t", &target, "-n", "--", "ip"].into_iter().chain(words).collect();
        self.world.run(RunAs::Caller, "/usr/bin/nsenter", &all, SOON).await?.success().with_context(|| format!("ip {arguments}"))
    }
}

/// A process that keeps a new namespace alive.
async fn hold(world: &World, name: &str) -> Result<Process> {
    let process = world.start(&format!("network-{name}"), RunAs::Caller, "/usr/bin/unshare", &["--net", "--", "/bin/sleep", "infinity"])?;
    let ours = std::fs::read_link("/proc/self/ns/net").context("read our own namespace")?;
    let path = format!("/proc/{}/ns/net", process.pid());
    until(&format!("the namespace {name}"), SOON, async || {
        ensure!(process.status()?.is_none(), "unshare ended: {}", process.written()?);
        // It is another one only after `unshare` did it.
        Ok(std::fs::read_link(&path).is_ok_and(|theirs| theirs != ours))
    })
    .await?;
    Ok(process)
}
