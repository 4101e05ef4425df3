use std::sync::atomic::{AtomicU64, Ordering};

use runtime::{Shutdown, Tasks};

use super::server::{Says, Server};
use super::*;

#[derive(Clone, Default)]
struct Moves(Arc<AtomicU64>);

impl Tally for Moves {
    fn asked(&self, _: &Answer) {}

    fn moved(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

const NAME: &str = "voice.example.com";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn found(addresses: &[&str], ttl: u64) -> Answer {
    Answer::Found { addresses: addresses.iter().map(|text| ip(text)).collect(), ttl: Duration::from_secs(ttl) }
}

fn silent() -> Answer {
    Answer::Silent("no answer".to_owned())
}

#[test]
fn an_address_stands_until_the_servers_leave_it_out_and_silence_takes_nothing_away() {
    let (first, second) = (Some(ip("192.0.2.1")), Some(ip("192.0.2.2")));
    let absent = Answer::Absent { ttl: None };
    let strip = [
        (silent(), News::Kept, None),
        (found(&["192.0.2.1"], 1), News::Moved { from: None, to: first }, first),
        (found(&["192.0.2.2", "192.0.2.1"], 1), News::Same, first),
        (silent(), News::Kept, first),
        (found(&["192.0.2.2"], 1), News::Moved { from: first, to: second }, second),
        (absent.clone(), News::Moved { from: second, to: None }, None),
        (absent, News::Same, None),
    ];
    let spot = Spot::new(NAME, Family::Ipv4, None);
    for (answer, news, stands) in strip {
        assert_eq!((spot.hear(&answer), spot.address()), (news, stands), "{answer:?}");
    }
}

#[test]
fn a_wait_is_the_ttl_within_bounds_and_doubles_while_nobody_answers() {
    let bounds = Bounds::default();
    let wait = |answer: &Answer, silences| bounds.wait(answer, silences, 0.0).as_secs();
    assert_eq!([1, 30, 86_400].map(|ttl| wait(&found(&["192.0.2.1"], ttl), 0)), [5, 30, 300]);
    assert_eq!([1, 2, 3, 4, 5, 1000].map(|silences| wait(&silent(), silences)), [5, 10, 20, 40, 60, 60]);
    let absent = |ttl: Option<u64>| wait(&Answer::Absent { ttl: ttl.map(Duration::from_secs) }, 0);
    assert_eq!([None, Some(1), Some(20), Some(900)].map(absent), [5, 5, 20, 60]);
    assert_eq!(bounds.wait(&found(&["192.0.2.1"], 30), 0, 1.0), Duration::from_secs(33));
}

#[tokio::test]
async fn a_server_is_asked_in_each_family_and_its_ttl_its_no_and_its_trouble_are_told_apart() {
    let mut tasks = JoinSet::new();
    let server = Server::start(Says::Addresses(vec![ip("192.0.2.1"), ip("2001:db8::1")], 7), &mut tasks).await;
    let resolver = Resolver::new(Some(server.address));
    assert_eq!(resolver.ask(NAME, Family::Ipv4).await, found(&["192.0.2.1"], 7));
    assert_eq!(resolver.ask(NAME, Family::Ipv6).await, found(&["2001:db8::1"], 7));
    server.say(Says::Addresses(vec![ip("192.0.2.2")], 1));
    assert_eq!(resolver.ask(NAME, Family::Ipv4).await, found(&["192.0.2.2"], 1), "nothing is cached");
    assert!(matches!(resolver.ask(NAME, Family::Ipv6).await, Answer::Absent { .. }), "no record of the type");
    server.say(Says::NoSuchName);
    assert!(matches!(resolver.ask(NAME, Family::Ipv4).await, Answer::Absent { .. }));
    server.say(Says::ServFail);
    assert!(matches!(resolver.ask(NAME, Family::Ipv4).await, Answer::Silent(_)));
}

#[tokio::test]
async fn a_server_that_says_nothing_says_nothing_of_the_name() {
    let mut tasks = JoinSet::new();
    let server = Server::start(Says::Nothing, &mut tasks).await;
    assert!(matches!(Resolver::new(Some(server.address)).ask(NAME, Family::Ipv4).await, Answer::Silent(_)));
    assert!(server.asked() >= 1);
}

#[tokio::test]
async fn the_hosts_file_comes_before_any_server() {
    let mut tasks = JoinSet::new();
    let server = Server::start(Says::NoSuchName, &mut tasks).await;
    let answer = Resolver::new(Some(server.address)).ask("localhost", Family::Ipv4).await;
    let Answer::Found { addresses, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((addresses, server.asked()), (vec![ip("127.0.0.1")], 0));
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("{what}: not within 30 s"));
}

#[tokio::test]
async fn a_kept_name_follows_its_server_and_outlives_it() {
    let (mut outside, tasks, moves) = (JoinSet::new(), Tasks::default(), Moves::default());
    let server = Server::start(Says::Addresses(vec![ip("192.0.2.1")], 1), &mut outside).await;
    let spot = Spot::new(NAME, Family::Ipv4, None);
    let pace = Duration::from_millis(20);
    let bounds = Bounds { pace: pace..=pace, retry: pace };
    let (resolver, shutdown): (_, Shutdown) = (Resolver::new(Some(server.address)), tasks.shutdown());
    outside.spawn(keep(vec![spot.clone()], resolver, bounds, moves.clone(), shutdown));

    until("the first address", || spot.address() == Some(ip("192.0.2.1"))).await;
    server.say(Says::Addresses(vec![ip("192.0.2.2")], 1));
    until("the second address", || spot.address() == Some(ip("192.0.2.2"))).await;
    server.say(Says::ServFail);
    let asked = server.asked();
    until("some answers that say nothing", || server.asked() > asked + 4).await;
    assert_eq!(spot.address(), Some(ip("192.0.2.2")));
    server.say(Says::NoSuchName);
    until("that there is no such name", || spot.address().is_none()).await;
    assert_eq!(moves.0.load(Ordering::SeqCst), 3);
}
