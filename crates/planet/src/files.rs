//! The configuration of a collector and of one agent a region, ready to start, and the authority that the agents are to trust.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use telemetry::{RegionName, TargetId};

use crate::Planet;
use crate::model::{Mode, Region, RegionNo, Service, Target};

/// Where the collector listens: `http://ADDRESS:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collector(pub SocketAddr);

/// What the files are made from.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    pub planet: &'a Planet,
    /// Of the targets, in their order.
    pub addresses: &'a [SocketAddr],
    pub collector: Collector,
    /// The same, as its agents reach it.
    pub seen_by_agents: Collector,
    /// The certificate of the planet's authority, in PEM.
    pub ca: &'a str,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{0} is not UTF-8, and the files would have to name it")]
    Path(PathBuf),
    #[error("write TOML")]
    Toml(#[from] toml::ser::Error),
}

const SERVICE_CAPACITY: u32 = 100;

#[derive(Serialize)]
struct CollectorFile<'a> {
    listen: SocketAddr,
    data_dir: String,
    region: Vec<RegionTable<'a>>,
    service: [ServiceTable; Service::ALL.len()],
    target: Vec<TargetTable<'a>>,
}

#[derive(Serialize)]
struct RegionTable<'a> {
    name: &'a RegionName,
    lat: f64,
    lon: f64,
    capacity: u32,
    users: u32,
}

#[derive(Serialize)]
struct ServiceTable {
    name: Service,
    primary: &'static str,
    mode: &'static str,
}

#[derive(Serialize)]
struct TargetTable<'a> {
    id: &'a TargetId,
    service: Service,
    region: &'a RegionName,
    /// Where it is probed: the collector has no use for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
    advertise: [SocketAddr; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    probe: Vec<ProbeTable>,
}

#[derive(Clone, Serialize)]
struct ProbeTable {
    kind: &'static str,
    every: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<&'static str>,
    #[serde(flatten)]
    over: Option<Over>,
}

/// What a probe over TLS needs beside.
#[derive(Clone, Serialize)]
struct Over {
    path: &'static str,
    reconnect_every: &'static str,
    ca_file: String,
}

#[derive(Serialize)]
struct AgentFile<'a> {
    region: &'a RegionName,
    agent: String,
    collector: String,
    source_address: Ipv4Addr,
    data_dir: String,
    target: Vec<TargetTable<'a>>,
}

const CA_FILE: &str = "ca.pem";

impl Files<'_> {
    /// Writes `collector.toml`, `agent-<region>.toml` and `ca.pem`, each whole or not at all.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let dir = std::path::absolute(dir).map_err(|source| Error::Write { path: dir.to_owned(), source })?;
        fs::create_dir_all(&dir).map_err(|source| Error::Write { path: dir.clone(), source })?;
        write_whole(&dir.join(CA_FILE), self.ca).map_err(|source| Error::Write { path: dir.join(CA_FILE), source })?;
        self.write_one(&dir.join("collector.toml"), "", &self.collector_file(&dir)?)?;
        for region in self.planet.regions() {
            let path = dir.join(format!("agent-{}.toml", region.name));
            let how_to_start = match self.planet.mode() {
                Mode::Loopback => String::new(),
                Mode::Router => how_to_start(&dir, region, &path),
            };
            self.write_one(&path, &how_to_start, &self.agent_file(&dir, region)?)?;
        }
        Ok(())
    }

    fn write_one(&self, path: &Path, how_to_start: &str, file: &impl Serialize) -> Result<(), Error> {
        let made_by = format!(
            "# Made by isochrone-planet: {} regions, seed {}. It lasts as long as that planet runs, and is written anew by the next.\n{how_to_start}\n",
            self.planet.regions().len(),
            self.planet.seed().0,
        );
        let text = made_by + &toml::to_string(file)?;
        write_whole(path, &text).map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    fn collector_file(&self, dir: &Path) -> Result<CollectorFile<'_>, Error> {
        let regions = self.planet.regions().iter().map(|region| RegionTable {
            name: &region.name,
            lat: region.at.lat,
            lon: region.at.lon,
            capacity: SERVICE_CAPACITY,
            users: region.users,
        });
        Ok(CollectorFile {
            listen: self.collector.0,
            data_dir: data_dir(dir, "collector")?,
            region: regions.collect(),
            service: Service::ALL.map(|name| ServiceTable { name, primary: primary(name), mode: "enforce" }),
            target: self.targets().map(|(target, address)| self.advertised(target, address)).collect(),
        })
    }

    fn agent_file<'a>(&'a self, dir: &Path, region: &'a Region) -> Result<AgentFile<'a>, Error> {
        let agent = format!("{}-1", region.name);
        let ca_file = text(dir.join(CA_FILE))?;
        Ok(AgentFile {
            region: &region.name,
            data_dir: data_dir(dir, &agent)?,
            agent,
            collector: self.seen_by_agents.to_string(),
            source_address: region.address,
            target: self.targets().map(|(target, address)| self.probed(target, address, &ca_file)).collect(),
        })
    }

    fn targets(&self) -> impl Iterator<Item = (&Target, SocketAddr)> {
        self.planet.targets().iter().zip(self.addresses.iter().copied())
    }

    fn advertised<'a>(&'a self, target: &'a Target, at: SocketAddr) -> TargetTable<'a> {
        TargetTable {
            id: &target.id,
            service: target.service,
            region: self.region_name(target.region),
            address: None,
            advertise: [at],
            probe: Vec::new(),
        }
    }

    fn probed<'a>(&'a self, target: &'a Target, at: SocketAddr, ca_file: &str) -> TargetTable<'a> {
        let probe = probes(target.service, ca_file);
        TargetTable { address: Some(at), probe, ..self.advertised(target, at) }
    }

    fn region_name(&self, no: RegionNo) -> &RegionName {
        &self.planet.region(no).name
    }
}

/// A reader sees the old content or the new, never a part.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, text)?;
    fs::rename(new, path)
}

impl FromStr for Collector {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        address
            .and_then(|address| address.parse().ok())
            .map(Self)
            .ok_or("allowed: http:// and an IP address with its port")
    }
}

impl std::fmt::Display for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// In the region's namespace, to which [`crate::network::Network::link`] has linked; a planet without privileges has a user
/// namespace around it.
fn how_to_start(dir: &Path, region: &Region, file: &Path) -> String {
    let (net, user) = (dir.join("net").join(region.name.as_str()), dir.join("net/user"));
    let user =
        if user.is_symlink() { format!("--preserve-credentials --user={} ", user.display()) } else { String::new() };
    let (net, file) = (net.display(), file.display());
    format!("# To start it in its region: nsenter {user}--net={net} isochrone-agent run --config {file}\n")
}

/// The measurement that drives a service's cells.
fn primary(service: Service) -> &'static str {
    match service {
        Service::Gateway => "websocket/heartbeat",
        Service::Voice => "voice/rtt",
        Service::Cdn => "http/first_byte",
    }
}

/// The primary one each second; what tells which layer broke more slowly.
fn probes(service: Service, ca_file: &str) -> Vec<ProbeTable> {
    let over = |path| Some(Over { path, reconnect_every: "10s", ca_file: ca_file.to_owned() });
    let (kind, timeout, over) = match service {
        Service::Gateway => ("websocket", "2s", over("/?v=10&encoding=json")),
        Service::Voice => ("voice", "1s", None),
        Service::Cdn => ("http", "2s", over("/probe/1k.bin")),
    };
    let beneath = |kind| ProbeTable { kind, every: "10s", timeout: None, over: None };
    vec![ProbeTable { kind, every: "1s", timeout: Some(timeout), over }, beneath("icmp"), beneath("tcp")]
}

fn data_dir(dir: &Path, whose: &str) -> Result<String, Error> {
    text(dir.join("data").join(whose))
}

fn text(path: PathBuf) -> Result<String, Error> {
    path.clone().into_os_string().into_string().map_err(|_| Error::Path(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn the_files_hold_the_keys_that_the_programs_read() {
        let planet = Planet::new(1, Seed(1)).unwrap();
        let addresses = [1001, 1002, 1003, 1004].map(|port| SocketAddr::from(([127, 77, 1, 1], port)));
        let collector = "http://127.0.0.1:8460".parse().unwrap();
        let files = Files { planet: &planet, addresses: &addresses, collector, seen_by_agents: collector, ca: "" };
        let dir = Path::new("/srv/planet");
        insta::assert_snapshot!("collector", toml::to_string(&files.collector_file(dir).unwrap()).unwrap());
        let agent = files.agent_file(dir, &planet.regions()[0]).unwrap();
        insta::assert_snapshot!("agent", toml::to_string(&agent).unwrap());
    }

    #[test]
    fn where_packets_are_routed_an_agents_file_says_how_to_start_it() {
        let planet = Planet::with(Mode::Router, 1, Seed(1)).unwrap();
        let addresses = [SocketAddr::from(([198, 19, 1, 1], 1)); 4];
        let [collector, seen_by_agents] = [[127, 0, 0, 1], [198, 19, 0, 1]].map(|ip| Collector((ip, 8460).into()));
        let dir = tempfile::tempdir().unwrap();
        Files { planet: &planet, addresses: &addresses, collector, seen_by_agents, ca: "" }.write(dir.path()).unwrap();
        let [agent, collector] =
            ["agent-iad.toml", "collector.toml"].map(|name| fs::read_to_string(dir.path().join(name)).unwrap());
        let dir = dir.path().display();
        let told = format!("nsenter --net={dir}/net/iad isochrone-agent run --config {dir}/agent-iad.toml\n");
        assert!(agent.contains(&told), "{agent}");
        assert!(agent.contains("collector = \"http://198.19.0.1:8460\"\n"), "{agent}");
        assert!(collector.contains("listen = \"127.0.0.1:8460\"\n") && !collector.contains("nsenter"), "{collector}");
    }

    #[test]
    fn a_file_a_region_is_written_and_nothing_else_is_left() {
        let planet = Planet::new(3, Seed(1)).unwrap();
        let addresses = [SocketAddr::from(([127, 77, 1, 1], 1)); 8];
        let dir = tempfile::tempdir().unwrap();
        let collector = Collector(SocketAddr::from(([127, 0, 0, 1], 1)));
        for _again in 0..2 {
            let ca = "-----\n";
            let files = Files { planet: &planet, addresses: &addresses, collector, seen_by_agents: collector, ca };
            files.write(dir.path()).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["agent-fra.toml", "agent-iad.toml", "agent-sin.toml", "ca.pem", "collector.toml"]);
        let text = fs::read_to_string(dir.path().join("agent-fra.toml")).unwrap();
        assert!(text.starts_with("# Made by isochrone-planet: 3 regions, seed 1."), "{text}");
    }

    #[test]
    fn a_collector_is_named_by_an_http_url_with_an_address() {
        let address = "[::1]:8460".parse().map(Collector).unwrap();
        assert_eq!("http://[::1]:8460/".parse(), Ok(address));
        assert_eq!(address.to_string(), "http://[::1]:8460");
        for refused in ["127.0.0.1:8460", "https://127.0.0.1:8460", "http://127.0.0.1", "http://127.0.0.1:8460/v1"] {
            assert!(refused.parse::<Collector>().is_err(), "{refused}");
        }
    }
}
