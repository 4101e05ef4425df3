//! Asks a name server, and `/etc/hosts` before it. Where it is the system's and knows no such name, the C library is asked as
//! well, which may have it from elsewhere (`nsswitch.conf`: the machine's own name, mDNS). Nothing is cached here: the times to live are those of the server. The
//! system's files are read for each question, as the C library does, so that a change of them needs no restart.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use telemetry::Family;

use super::Answer;

const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// Of what the C library says, since it does not tell.
const TTL: Duration = Duration::from_mins(1);

/// Whom to ask.
#[derive(Debug, Clone, Copy)]
pub struct Resolver {
    /// `None`: what the system says.
    server: Option<SocketAddr>,
}

impl Resolver {
    pub fn new(server: Option<SocketAddr>) -> Self {
        Self { server }
    }

    pub fn is_the_systems(self) -> bool {
        self.server.is_none()
    }

    pub async fn ask(&self, name: &str, family: Family) -> Answer {
        let answer = self.ask_servers(name, family).await;
        if self.server.is_some() || !matches!(answer, Answer::Absent { .. }) {
            return answer;
        }
        let found = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((name, 0))).await;
        let found = found.ok().and_then(Result::ok).into_iter().flatten().map(|address| address.ip());
        or_from_elsewhere(answer, found, family)
    }

    async fn ask_servers(self, name: &str, family: Family) -> Answer {
        let resolver = match self.resolver() {
            Ok(resolver) => resolver,
            Err(error) => return Answer::Silent(error.to_string()),
        };
        let kind = match family {
            Family::Ipv4 => RecordType::A,
            Family::Ipv6 => RecordType::AAAA,
        };
        match resolver.lookup(name, kind).await {
            Ok(found) => {
                let records = found.answers().iter().filter_map(|record| Some((address(&record.data)?, record.ttl)));
                let (addresses, ttls): (Vec<_>, Vec<_>) = records.unzip();
                match ttls.into_iter().min() {
                    Some(ttl) => Answer::Found { addresses, ttl: Duration::from_secs(ttl.into()) },
                    None => Answer::Absent { ttl: None },
                }
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                Answer::Absent { ttl: none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into())) }
            }
            Err(error) => Answer::Silent(error.to_string()),
        }
    }

    fn resolver(self) -> Result<TokioResolver, NetError> {
        let mut builder = match self.server {
            Some(server) => given(server),
            // Without a file, the C library asks this machine.
            None => TokioResolver::builder_tokio().unwrap_or_else(|_| given(([127, 0, 0, 1], 53).into())),
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Always;
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        builder.build()
    }
}

fn or_from_elsewhere(absent: Answer, found: impl Iterator<Item = IpAddr>, family: Family) -> Answer {
    let addresses: Vec<_> = found.filter(|address| super::family(*address) == family).collect();
    if addresses.is_empty() { absent } else { Answer::Found { addresses, ttl: TTL } }
}

fn given(server: SocketAddr) -> hickory_resolver::ResolverBuilder<TokioRuntimeProvider> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_name_servers_do_not_know_the_system_may_have_from_elsewhere() {
        let absent = Answer::Absent { ttl: Some(Duration::from_secs(9)) };
        let [v4, v6] = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap());
        let known = |found: &[IpAddr]| or_from_elsewhere(absent.clone(), found.iter().copied(), Family::Ipv6);
        assert_eq!(known(&[v4, v6]), Answer::Found { addresses: vec![v6], ttl: TTL });
        assert_eq!(known(&[v4]), absent);
    }
}
