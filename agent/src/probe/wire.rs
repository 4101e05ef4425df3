//! The pacer's way out: its own sockets for datagrams, orders to tasks for the rest, and one wait for all that comes back.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::timer::Poller;
use runtime::{Clock, Mono, Tasks};
use telemetry::{FailureKind, Family, Labels, TargetId};
use tokio::sync::mpsc::{self, Sender};

use super::dial::{Dialer, Roots};
use super::dns::Dns;
use super::floor::Floor;
use super::http::Http;
use super::icmp::Icmp;
use super::inbox::{self, Bell, Inbox, Reporter};
use super::stamp::Stamp;
use super::stun::Stun;
use super::voice::Voice;
use super::websocket::WebSocket;
use super::why::Why;
use super::{Heard, Launch, Order, Prober, Report, SendFault, surge, tcp, tls, user_agent};
use crate::endpoint::family;
use crate::now::Now;
use crate::plan::{Errand, Plan, Planned, ProbeIndex, Purpose};

/// How long an answer may lie unread: little beside any timeout.
const UNREAD: Duration = Duration::from_millis(10);
/// How many orders may wait for a task to take them.
const ORDERS: usize = 1024;

#[derive(Debug)]
pub struct Wire {
    clock: Clock,
    voice: Voice,
    dns: Dns,
    stun: Stun,
    stamp: Stamp,
    icmp: Icmp,
    floor: Option<Floor>,
    surge: [Option<Sender<Order>>; 2],
    tcp: Sender<Order>,
    /// One for each probe that has a task of its own.
    dialled: HashMap<ProbeIndex, Sender<Order>>,
    why: Why,
    inbox: Inbox,
    bell: Bell,
    /// The last answer to a datagram came with the kernel's stamp, so it may lie a while before it is read.
    stamped: bool,
    /// What sending alone has told.
    told: Vec<Report>,
}

impl Wire {
    /// Opens what the plan needs. What the machine refuses is logged, and its probes will be missed.
    pub fn open(plan: &Plan, source: Option<IpAddr>, clock: Clock, tasks: &Tasks) -> io::Result<Self> {
        let (inbox, reporter) = inbox::open()?;
        let families = |asks: fn(Errand) -> Option<IpAddr>| plan.families(|errand| asks(errand).map(family));
        let voice = Voice::open(
            &families(|errand| match errand {
                Errand::VoicePing(to) | Errand::VoiceDiscovery(to) => Some(to.ip()),
                _ => None,
            }),
            source,
        );
        let dns = Dns::open(plan, source, rand::random());
        let stunned = families(|errand| if let Errand::Stun(to) = errand { Some(to.ip()) } else { None });
        let stun = Stun::open(&stunned, source, rand::random());
        let stamped = families(|errand| if let Errand::Stamp(to) = errand { Some(to.ip()) } else { None });
        let stamp = Stamp::open(&stamped, source, rand::random());
        let echoed = families(|errand| if let Errand::Icmp(to) = errand { Some(to) } else { None });
        let icmp = Icmp::open(&echoed, source, rand::random());
        let surged = families(|errand| if let Errand::SurgePing(to) = errand { Some(to) } else { None });
        let surge = [Family::Ipv4, Family::Ipv6].map(|family| {
            let client = surged.contains(&family).then(|| surge::open(family, source)).flatten()?;
            let probe = move |order| surge::probe(order, client.clone(), clock);
            Some(desk("surge-ping", tasks, &reporter, probe))
        });
        let connected = families(|errand| if let Errand::Tcp(to) = errand { Some(to.ip()) } else { None });
        let (sources, beside) = (Arc::new(tcp::Sources::open(&connected, source)), reporter.clone());
        let tcp = desk("tcp", tasks, &reporter, move |order| tcp::probe(order, sources.clone(), clock, beside.clone()));
        let why = Why::default();
        let dialled = dialled(plan, source, clock, tasks, (&reporter, &why));
        let (bell, told) = (reporter.bell(), Vec::new());
        let (floor, stamped) = (None, false);
        Ok(Self { clock, voice, dns, stun, stamp, icmp, floor, surge, tcp, dialled, why, inbox, bell, stamped, told })
    }

    /// From now on it has a reflector inside.
    pub fn measure_floor(&mut self, floor: Option<Floor>) {
        self.floor = floor;
    }

    pub fn now(&self) -> Now {
        Now::read(&self.clock)
    }

    /// Why what was opened by tasks failed.
    pub fn why(&self) -> &Why {
        &self.why
    }

    /// Ends a wait from another thread.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Waits until something is heard, the bell rings, or it is time. What tasks report, and datagrams that the kernel stamps,
    /// were measured elsewhere and do not end a short wait: they are read after it, which spares a wake-up for each.
    pub fn wait_until(&mut self, moment: Option<Mono>) -> io::Result<()> {
        let timeout = moment.map(|moment| moment.since(self.clock.mono()));
        let short = timeout.is_some_and(|timeout| timeout <= UNREAD);
        let bell = (!short).then(|| self.inbox.fd());
        let floor = self.floor.as_ref().and_then(Floor::fd);
        let datagrams = [self.voice.fd(), self.dns.fd(), self.stun.fd(), self.stamp.fd(), self.icmp.fd(), floor];
        let datagrams = datagrams.into_iter().flatten().filter(|_| !(short && self.stamped));
        let heard = Poller::new(bell.into_iter().chain(datagrams)).wait(timeout)?.any(|place| place == 0);
        if heard && !short {
            self.inbox.silence();
        }
        Ok(())
    }
}

impl Prober for Wire {
    fn send(&mut self, order: Order) -> Result<Launch, SendFault> {
        let desk = match order.errand {
            Errand::VoicePing(_) | Errand::VoiceDiscovery(_) => {
                return self.voice.send(&order, &self.clock, &mut self.told);
            }
            Errand::Dns(..) => return self.dns.send(&order, &self.clock, &mut self.told),
            Errand::Stun(_) => return self.stun.send(&order, &self.clock, &mut self.told),
            Errand::Stamp(_) => return self.stamp.send(&order, &self.clock, &mut self.told),
            Errand::Icmp(_) => return self.icmp.send(&order, &self.clock, &mut self.told),
            Errand::Floor => {
                let floor = self.floor.as_mut().ok_or(SendFault::NoSocket)?;
                return floor.send(&order, &self.clock, &mut self.told);
            }
            Errand::Nowhere => {
                let (token, after) = (order.token, Duration::ZERO);
                self.told.push(Report::Failed { token, kind: FailureKind::Dns, after });
                return Ok(Launch::OnTheWire(self.clock.mono()));
            }
            Errand::SurgePing(to) => self.surge[usize::from(to.is_ipv6())].as_ref().ok_or(SendFault::NoSocket)?,
            Errand::Tcp(_) => &self.tcp,
            Errand::Dial(probe) => self.dialled.get(&probe).ok_or(SendFault::NoSocket)?,
        };
        desk.try_send(order).map_err(|_| SendFault::Busy)?;
        Ok(Launch::Handed)
    }

    fn heard(&mut self, heard: &mut Vec<Report>) {
        heard.append(&mut self.told);
        let datagrams = heard.len();
        self.voice.receive(&self.clock, heard);
        self.dns.receive(&self.clock, heard);
        self.stun.receive(&self.clock, heard);
        self.stamp.receive(&self.clock, heard);
        self.icmp.receive(&self.clock, heard);
        self.floor.iter_mut().for_each(|floor| floor.receive(&self.clock, heard));
        let stamp = |report: &Report| match report {
            Report::Answer { heard: Heard::ByPacer { kernel, .. }, .. } => Some(kernel.is_some()),
            _ => None,
        };
        self.stamped = heard[datagrams..].iter().rev().find_map(stamp).unwrap_or(self.stamped);
        self.inbox.take(heard);
    }
}

fn dialled(
    plan: &Plan,
    source: Option<IpAddr>,
    clock: Clock,
    tasks: &Tasks,
    (reporter, why): (&Reporter, &Why),
) -> HashMap<ProbeIndex, Sender<Order>> {
    let mut roots = Roots::default();
    let mut gateways = HashMap::new();
    let mut desks = HashMap::new();
    for planned in plan.probes() {
        let (Errand::Dial(probe), Some(dial)) = (planned.toward(), &planned.dial) else { continue };
        let dialer = Dialer::new(dial, &planned.subject.series, source, clock, &mut roots, why.clone());
        let Some(dialer) = dialer else { continue };
        let labels = planned.subject.series.labels.clone();
        let desk = match &dial.purpose {
            Purpose::Tls(_) => {
                let dialer = Arc::new(dialer);
                desk("tls", tasks, reporter, move |order| labelled(tls::probe(order, dialer.clone()), labels.clone()))
            }
            Purpose::Http(http) => {
                let http = Arc::new(Http::new(dialer, http, &planned.subject.series));
                desk("http", tasks, reporter, move |order| labelled(http.clone().probe(order), labels.clone()))
            }
            Purpose::GatewayConnection(config) => {
                let user_agent = user_agent(&planned.subject.series);
                let Some(gateway) = WebSocket::new(dialer, config, &user_agent).map(Arc::new) else { continue };
                gateways.insert(place(planned), gateway.clone());
                desk("websocket", tasks, reporter, move |order| {
                    labelled(gateway.clone().connect(order), labels.clone())
                })
            }
            Purpose::GatewayBeat(_) => {
                // The plan has the connection's probe before the beat's.
                let Some(gateway) = gateways.get(&place(planned)).cloned() else { continue };
                desk("heartbeat", tasks, reporter, move |order| labelled(gateway.clone().beat(order), labels.clone()))
            }
        };
        desks.insert(probe, desk);
    }
    desks
}

/// Which connection of a gateway's is meant.
fn place(planned: &Planned) -> (&TargetId, Family, &Labels) {
    let series = &planned.subject.series;
    (&series.target, series.family, &series.labels)
}

/// What was measured, with what tells its place from the target's others.
async fn labelled(probe: impl Future<Output = Report>, labels: Labels) -> Report {
    let mut report = probe.await;
    if let Report::Phased { samples, .. } = &mut report {
        for sample in samples {
            sample.aspect.labels.extend(labels.clone());
        }
    }
    report
}

/// A task that takes orders; it ends when the wire is dropped.
fn desk<F, Fut>(name: &'static str, tasks: &Tasks, reporter: &Reporter, probe: F) -> Sender<Order>
where
    F: Fn(Order) -> Fut + Send + 'static,
    Fut: Future<Output = Report> + Send + 'static,
{
    let (desk, orders) = mpsc::channel(ORDERS);
    let reporter = reporter.clone();
    tasks.spawn(name, async move {
        inbox::carry_out(orders, reporter, probe).await;
        Ok::<_, Infallible>(())
    });
    desk
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use telemetry::Outcome;

    use super::super::{Token, Way, bench};
    use super::*;

    #[tokio::test]
    async fn an_answer_that_the_kernel_stamps_is_read_after_a_short_wait_and_measured_by_its_stamp() {
        let (clock, server) = (Clock::start(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let to = server.local_addr().unwrap();
        let plan = bench::plan(&to.to_string(), "stun", "");
        let mut wire = Wire::open(&plan, None, clock, &Tasks::default()).unwrap();
        let ask = |token, wire: &mut Wire| {
            let order = Order {
                token: Token(token),
                errand: Errand::Stun(to),
                timeout: Duration::from_mins(1),
                way: Way::default(),
            };
            wire.send(order).unwrap();
            let (mut packet, mut heard) = ([0; 128], Vec::new());
            let (length, from) = server.recv_from(&mut packet).unwrap();
            let answer = protocols::stun::answer(&packet[..length], from).unwrap();
            server.send_to(&answer, from).unwrap();
            let moment = clock.mono() + UNREAD / 2;
            while heard.is_empty() {
                wire.wait_until(Some(moment)).unwrap();
                wire.heard(&mut heard);
            }
            let [Report::Answer { outcome: Outcome::Reply, heard: Heard::ByPacer { at, kernel }, .. }] = heard[..]
            else {
                panic!("{heard:?}")
            };
            (moment, at, kernel.unwrap())
        };
        ask(1, &mut wire);
        let (moment, at, kernel) = ask(2, &mut wire);
        assert!(kernel <= at && moment <= at, "came {kernel:?}, waited until {moment:?}, read {at:?}");
    }
}
