//! What names stand for, while the agent runs. Each name is asked for again when its time to live is over, in each family of
//! its own; a probe takes the address that stands at the moment of its send, and its pace and its series stay.
//!
//! An answer counts at once, also the answer that there is no such name: then the probes fail of `dns`. No answer changes
//! nothing: the last address goes on being probed, since a dead name server must not blind us to what it names.

mod keep;
mod resolver;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use telemetry::Family;
use tokio::task::JoinSet;
use tracing::warn;

pub use keep::{Bounds, keep};
pub use resolver::Resolver;

use crate::config::{Config, FamilyChoice};
use crate::endpoint::{Host, family};

/// A name server that says nothing must not keep the other targets waiting.
const AT_START: Duration = Duration::from_secs(5);

/// What the names of a plan stood for at start, those first that this machine prefers. A name without an address is absent.
pub type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// What a name server said of a name in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// At least one, good for so long.
    Found { addresses: Vec<IpAddr>, ttl: Duration },
    /// There is no such name, or it has no address of that family.
    Absent { ttl: Option<Duration> },
    /// Nothing that says anything of the name: silence, or a server that cannot tell.
    Silent(String),
}

/// Where a name stands in one family: shared by all its probes and by the task that keeps it.
#[derive(Debug, Clone)]
pub struct Spot {
    pub name: String,
    pub family: Family,
    now: Arc<Mutex<Option<IpAddr>>>,
}

/// Who counts what is asked, and what moves.
pub trait Tally: Clone + Send + 'static {
    fn asked(&self, answer: &Answer);
    fn moved(&self);
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Same,
    /// There was no answer; what was known stands.
    Kept,
    Moved {
        from: Option<IpAddr>,
        to: Option<IpAddr>,
    },
}

impl Spot {
    pub fn new(name: &str, family: Family, now: Option<IpAddr>) -> Self {
        Self { name: name.to_owned(), family, now: Arc::new(Mutex::new(now)) }
    }

    pub fn address(&self) -> Option<IpAddr> {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of several addresses the one that stands goes on standing: servers turn their lists, and a path is no lottery.
    pub fn hear(&self, answer: &Answer) -> News {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let to = match answer {
            Answer::Silent(_) => return News::Kept,
            Answer::Absent { .. } => None,
            Answer::Found { addresses, .. } => now.filter(|now| addresses.contains(now)).or(addresses.first().copied()),
        };
        let from = std::mem::replace(&mut *now, to);
        if from == to { News::Same } else { News::Moved { from, to } }
    }
}

/// Asks for every name of the configuration, all at once, in the families that its targets want.
pub async fn resolve(config: &Config) -> Addresses {
    let resolver = Resolver::new(config.resolver);
    let mut lookups = JoinSet::new();
    for target in &config.targets {
        if let Host::Name(name) = target.endpoint.host.clone() {
            let (target, resolver, wanted) = (target.id.clone(), resolver, target.family.families());
            lookups.spawn(async move {
                let found = at_start(&resolver, &name, &wanted).await;
                if found.is_empty() {
                    warn!(%target, name, "the name has no address yet; its probes count as dns failures");
                }
                (name, found)
            });
        }
    }
    let mut addresses = Addresses::new();
    for (name, found) in lookups.join_all().await {
        let known = addresses.entry(name).or_default();
        known.extend(found.into_iter().filter(|address| !known.contains(address)).collect::<Vec<_>>());
    }
    addresses.retain(|_, found| !found.is_empty());
    addresses
}

async fn at_start(resolver: &Resolver, name: &str, families: &[Family]) -> Vec<IpAddr> {
    let mut asked = JoinSet::new();
    for (place, family) in families.iter().copied().enumerate() {
        let (resolver, name) = (*resolver, name.to_owned());
        asked.spawn(async move { (place, tokio::time::timeout(AT_START, resolver.ask(&name, family)).await) });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    let found = |(_, answer)| if let Ok(Answer::Found { addresses, .. }) = answer { addresses } else { Vec::new() };
    let found: Vec<IpAddr> = answers.into_iter().flat_map(found).collect();
    preferred(resolver, name, found).await
}

/// Those first that a connection by this name would take: the C library knows, where it is the one that is asked; else those
/// to which the kernel knows a way, IPv6 before IPv4 among them (RFC 6724, rules 1 and 6). Sends nothing.
async fn preferred(resolver: &Resolver, name: &str, mut found: Vec<IpAddr>) -> Vec<IpAddr> {
    if found.iter().all(|address| address.is_ipv4() == found[0].is_ipv4()) {
        return found;
    }
    let usual = if resolver.is_the_systems() { usual_family(name).await } else { None };
    found.sort_by_key(|address| match usual {
        Some(usual) => (family(*address) != usual, false),
        None => (!has_way(*address), address.is_ipv4()),
    });
    found
}

async fn usual_family(name: &str) -> Option<Family> {
    let found = tokio::time::timeout(AT_START, tokio::net::lookup_host((name, 0))).await.ok()?;
    found.ok()?.next().map(|address| family(address.ip()))
}

fn has_way(address: IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, 9))).is_ok()
}

impl FamilyChoice {
    /// That may be asked for; IPv6 first.
    pub fn families(self) -> Vec<Family> {
        match self {
            Self::Usual | Self::Both => vec![Family::Ipv6, Family::Ipv4],
            Self::One(family) => vec![family],
        }
    }

    /// In which series are made, of a name that stood for those addresses at start.
    pub fn of_series(self, found: &[IpAddr], source: Option<IpAddr>) -> Vec<Family> {
        match self {
            Self::One(family) => vec![family],
            Self::Both => vec![Family::Ipv4, Family::Ipv6],
            Self::Usual => {
                let ours = source.map(family).filter(|ours| found.iter().any(|address| family(*address) == *ours));
                let usual = ours.or(found.first().map(|address| family(*address)));
                vec![usual.or(source.map(family)).unwrap_or(Family::Ipv4)]
            }
        }
    }
}
