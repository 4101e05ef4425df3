use super::*;
use crate::config::MAX_ADDRESSES;
use crate::names;

fn config(address: &str, kind: &str) -> Config {
    let text = format!(
        "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"http://127.0.0.1:1\"\n[[target]]\nid = \"iad-1\"\n\
         service = \"voice\"\nregion = \"iad\"\naddress = \"{address}\"\n[[target.probe]]\nkind = \"{kind}\"\n"
    );
    Config::parse("agent.toml", text).unwrap()
}

#[test]
fn a_voice_probe_makes_a_ping_and_a_discovery_series() {
    let config = config("192.0.2.7:50000", "voice");
    let plan = Plan::new(&config, &Addresses::new());
    let to = "192.0.2.7:50000".parse().unwrap();
    let met: Vec<_> = plan
        .probes()
        .iter()
        .map(|planned| (planned.subject.series.phase.to_string(), planned.errand(), planned.every.as_secs()))
        .collect();
    let expected =
        [("rtt".to_owned(), Errand::VoicePing(to), 1), ("discovery".to_owned(), Errand::VoiceDiscovery(to), 10)];
    assert_eq!(met, expected);
    assert_eq!(config.series(), 2);
}

#[test]
fn a_voice_probe_with_trains_makes_a_series_of_them_too() {
    let config = config("192.0.2.7:50000", "voice\"\ntrain_every = \"1m");
    let plan = Plan::new(&config, &Addresses::new());
    let planned = plan.probes().last().unwrap();
    let Planned { phase, train, every, .. } = planned;
    assert_eq!((*phase, *train, *every), ("train", Some(50), Duration::from_mins(1)));
    assert_eq!(planned.errand(), Errand::VoicePing("192.0.2.7:50000".parse().unwrap()));
    assert_eq!(config.series(), 4, "ping, discovery, train, jitter");
}

#[test]
fn an_icmp_series_has_no_port_and_the_family_of_its_address() {
    let plan = Plan::new(&config("[2001:db8::1]:443", "icmp\"\n[[target.probe]]\nkind = \"tcp"), &Addresses::new());
    let planned @ Planned { subject, .. } = &plan.probes()[0];
    assert_eq!((subject.port, subject.address.as_str(), subject.transport), (None, "2001:db8::1", "icmp"));
    assert_eq!((subject.series.family, planned.errand()), (Family::Ipv6, Errand::Icmp("2001:db8::1".parse().unwrap())));
}

#[test]
fn a_dns_probe_asks_its_own_question_at_port_53_unless_the_address_says_otherwise() {
    let plan = |address| Plan::new(&config(address, "dns\"\nname = \"www.example.com"), &Addresses::new());
    let plain = plan("192.0.2.53");
    let planned @ Planned { subject, question, .. } = &plain.probes()[0];
    assert_eq!((subject.port, subject.transport, subject.series.phase.as_str()), (Some(53), "udp", "rtt"));
    assert_eq!(planned.errand(), Errand::Dns("192.0.2.53:53".parse().unwrap(), ProbeIndex(0)));
    assert!(question.is_some());
    let elsewhere = plan("192.0.2.53:5353").probes()[0].errand();
    assert_eq!(elsewhere, Errand::Dns("192.0.2.53:5353".parse().unwrap(), ProbeIndex(0)));
}

#[test]
fn a_name_that_was_not_resolved_leads_nowhere() {
    let plan = |addresses| Plan::new(&config("edge.example.com:443", "tcp"), &addresses).probes()[0].errand();
    assert_eq!(plan(Addresses::new()), Errand::Nowhere);
    let known = Addresses::from([("edge.example.com".to_owned(), vec!["192.0.2.9".parse().unwrap()])]);
    assert_eq!(plan(known), Errand::Tcp("192.0.2.9:443".parse().unwrap()));
}

fn targeted(keys: &str) -> Config {
    let mut text =
        "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"http://127.0.0.1:1\"\n[[target]]\nid = \"iad-1\"\n\
                    service = \"edge\"\nregion = \"iad\"\naddress = \"edge.example.com:443\"\n"
            .to_owned();
    text.extend([keys, "\n[[target.probe]]\nkind = \"tcp\"\n[[target.probe]]\nkind = \"tls\"\n"]);
    Config::parse("agent.toml", text).unwrap()
}

fn known(addresses: &[&str]) -> Addresses {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Addresses::from([("edge.example.com".to_owned(), addresses)])
}

/// Of each probe: kind, family, where it goes to now, its label.
fn told(plan: &Plan) -> Vec<String> {
    let told = |planned: &Planned| {
        let Series { probe, family, labels, .. } = &planned.subject.series;
        let to = match (planned.errand(), planned.dial.as_deref()) {
            (Errand::Tcp(to), _) => to.to_string(),
            (_, Some(Dial { pinned: Some(address), .. })) => format!("pinned {address}"),
            (Errand::Dial(_), _) => "looked up".to_owned(),
            (errand, _) => format!("{errand:?}"),
        };
        let label = labels.get(&telemetry::Label::Address).map_or(String::new(), |address| format!(" {address}"));
        format!("{probe} {}: {to}{label}", family.as_str())
    };
    plan.probes().iter().map(told).collect()
}

#[test]
fn a_name_is_probed_in_the_family_that_is_preferred_or_of_the_source_or_asked_for() {
    let both = ["2001:db8::1", "192.0.2.1"];
    let plan = |keys: &str, addresses: &[&str]| told(&Plan::new(&targeted(keys), &known(addresses)));
    let v6 = ["tcp ipv6: [2001:db8::1]:443", "tls ipv6: looked up"];
    let v4 = ["tcp ipv4: 192.0.2.1:443", "tls ipv4: looked up"];
    assert_eq!(plan("", &both), v6);
    assert_eq!(plan("family = \"ipv4\"", &both), v4);
    assert_eq!(plan("family = \"ipv6\"", &both), v6);
    assert_eq!(plan("family = \"ipv6\"", &["192.0.2.1"])[0], "tcp ipv6: Nowhere");
    assert_eq!(plan("family = \"both\"", &both), [v4, v6].concat());
    assert_eq!(targeted("family = \"both\"").series(), 2 * targeted("").series());
    let mut from_v4 = targeted("");
    from_v4.source_address = Some("192.0.2.200".parse().unwrap());
    assert_eq!(told(&Plan::new(&from_v4, &known(&both))), v4);
}

#[test]
fn a_probe_goes_where_its_name_stands_when_it_is_sent() {
    let plan = Plan::new(&targeted("family = \"both\""), &known(&["192.0.2.1"]));
    let [spot, _] = &plan.spots()[..] else { panic!("a name in two families") };
    assert_eq!(told(&plan)[..1], ["tcp ipv4: 192.0.2.1:443"]);
    let addresses = vec!["192.0.2.9".parse().unwrap()];
    spot.hear(&names::Answer::Found { addresses, ttl: Duration::from_secs(1) });
    assert_eq!([&told(&plan)[0], &told(&plan)[2]], ["tcp ipv4: 192.0.2.9:443", "tcp ipv6: Nowhere"]);
    assert_eq!(plan.families(|errand| matches!(errand, Errand::Tcp(_)).then_some(Family::Ipv6)), [Family::Ipv6]);
}

#[test]
fn all_addresses_of_a_name_are_series_of_their_own_told_apart_by_a_label() {
    let plan = Plan::new(&targeted("addresses = \"all\"\nfamily = \"ipv4\""), &known(&["192.0.2.1", "192.0.2.2"]));
    let expected = [
        "tcp ipv4: 192.0.2.1:443 192.0.2.1",
        "tls ipv4: pinned 192.0.2.1 192.0.2.1",
        "tcp ipv4: 192.0.2.2:443 192.0.2.2",
        "tls ipv4: pinned 192.0.2.2 192.0.2.2",
    ];
    assert_eq!(told(&plan), expected);
    let aspect = plan.probes()[2].aspect();
    assert_eq!(plan.probes()[2].subject_of(&aspect, Standing::Regular).series.labels, aspect.labels);
    let many: Vec<_> = (1..=20).map(|last| format!("192.0.2.{last}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let bounded = Plan::new(&targeted("addresses = \"all\""), &known(&many));
    assert_eq!(bounded.probes().len(), 2 * MAX_ADDRESSES);
    let unknown = Plan::new(&targeted("addresses = \"all\""), &Addresses::new());
    assert_eq!(told(&unknown)[0], "tcp ipv4: Nowhere");
}
