use proptest::collection::vec;
use proptest::prelude::*;
use runtime::Wall;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Mono {
    Mono(millis * 1_000_000)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ping() -> Errand {
    Errand::VoicePing("192.0.2.1:50000".parse().unwrap())
}

fn due(series: u32, moment: Mono) -> Due {
    Due { probe: ProbeIndex(series), at: moment, wall: Wall(moment.0) }
}

fn launched(flights: &mut Flights, sent: Mono) -> Token {
    let token = flights.token(ProbeIndex(0)).unwrap();
    let order = Order { token, errand: ping(), timeout: TIMEOUT, way: Way(3) };
    flights.begin(due(0, sent), order, Launch::OnTheWire(sent), Standing::Regular, sent);
    token
}

fn answer(token: Token, at: Mono, kernel: Option<Mono>) -> Report {
    Report::Answer { token, errand: ping(), outcome: Outcome::Reply, heard: Heard::ByPacer { at, kernel } }
}

fn end(settled: (Option<Ended>, Option<Noise>)) -> Option<End> {
    assert_eq!(settled.1, None);
    settled.0.map(|ended| ended.end)
}

fn reply(rtt: Duration) -> End {
    End::Counted(Outcome::Reply, rtt)
}

#[test]
fn a_reply_is_timed_from_its_send_by_the_kernels_stamp_where_that_can_be_believed() {
    for (kernel, expected) in [
        (None, millis(30)),
        (Some(at(120)), millis(20)),
        (Some(at(99)), millis(30)),  // before it was sent
        (Some(at(131)), millis(30)), // after it was read
    ] {
        let mut flights = Flights::new(7);
        let token = launched(&mut flights, at(100));
        assert_eq!(end(flights.settle(answer(token, at(130), kernel))), Some(reply(expected)), "{kernel:?}");
        assert!(flights.is_empty());
    }
}

#[test]
fn a_probe_times_out_at_its_deadline_and_not_before() {
    let mut flights = Flights::new(7);
    launched(&mut flights, at(100));
    assert_eq!(flights.expire(at(1099)), None);
    let ended = flights.expire(at(1101)).unwrap();
    assert_eq!(
        ended,
        Ended { due: due(0, at(100)), way: Some(Way(3)), standing: Standing::Regular, end: timeout(millis(1001)) }
    );
    assert_eq!(flights.expire(at(9999)), None);
}

#[test]
fn an_answer_after_the_timeout_is_late_and_a_second_one_a_double() {
    let mut flights = Flights::new(7);
    let token = launched(&mut flights, at(0));
    flights.expire(at(1000)).unwrap();
    assert_eq!(flights.settle(answer(token, at(1200), None)), (None, Some(Noise::Late)));
    assert_eq!(flights.settle(answer(token, at(1201), None)), (None, Some(Noise::Double)));
}

#[test]
fn an_answer_from_elsewhere_is_a_strangers_also_after_the_timeout() {
    let mut flights = Flights::new(7);
    let token = launched(&mut flights, at(0));
    flights.expire(at(1000)).unwrap();
    let stranger = Errand::VoicePing("192.0.2.66:50000".parse().unwrap());
    let heard = Heard::ByPacer { at: at(1100), kernel: None };
    let from_elsewhere = Report::Answer { token, errand: stranger, outcome: Outcome::Reply, heard };
    assert_eq!(flights.settle(from_elsewhere), (None, Some(Noise::Stranger)));
    assert_eq!(flights.settle(answer(token, at(1200), None)), (None, Some(Noise::Late)));
}

#[test]
fn an_answer_read_late_counts_by_its_stamp() {
    let mut flights = Flights::new(7);
    let (slow, stalled) = (launched(&mut flights, at(0)), launched(&mut flights, at(1)));
    // Both are read at 3 s, after a stall of ours; the kernel had the second in time.
    let (ended, noise) = flights.settle(answer(slow, at(3000), Some(at(1500))));
    assert_eq!((ended.unwrap().end, noise), (timeout(millis(1500)), Some(Noise::Late)));
    assert_eq!(end(flights.settle(answer(stalled, at(3000), Some(at(41))))), Some(reply(millis(40))));
}

#[test]
fn an_answer_that_would_have_come_before_its_question_is_no_reply() {
    let mut flights = Flights::new(7);
    let token = launched(&mut flights, at(10));
    let failed = End::Counted(Outcome::Failure(FailureKind::Protocol), Duration::ZERO);
    assert_eq!(end(flights.settle(answer(token, at(9), None))), Some(failed));
}

#[test]
fn what_answers_no_probe_of_ours_is_told_by_its_reason() {
    let mut flights = Flights::new(7);
    let token = launched(&mut flights, at(0));
    let noise = |flights: &mut Flights, report| flights.settle(report).1;
    let stranger = Errand::VoicePing("192.0.2.66:50000".parse().unwrap());
    let heard = Heard::ByPacer { at: at(10), kernel: None };
    assert_eq!(
        noise(&mut flights, Report::Answer { token, errand: stranger, outcome: Outcome::Reply, heard }),
        Some(Noise::Stranger)
    );
    assert_eq!(noise(&mut flights, answer(Token(4711), at(10), None)), Some(Noise::Unasked));
    assert_eq!(noise(&mut flights, Report::Malformed), Some(Noise::Malformed));
    assert_eq!(
        end(flights.settle(answer(token, at(20), None))),
        Some(reply(millis(20))),
        "none of them ended the probe"
    );
    assert_eq!(noise(&mut flights, answer(token, at(21), None)), Some(Noise::Double));
}

#[test]
fn what_left_from_another_port_than_its_ways_counts_for_none() {
    let mut flights = Flights::new(7);
    let [moved, stayed] = [launched(&mut flights, at(0)), launched(&mut flights, at(1))];
    assert_eq!(flights.settle(Report::OtherPort { token: moved }), (None, None));
    let mut way = |token| flights.settle(answer(token, at(20), None)).0.unwrap().way;
    assert_eq!((way(moved), way(stayed)), (None, Some(Way(3))));
}

#[test]
fn a_task_that_never_reports_makes_its_probe_missed_not_lost() {
    let mut flights = Flights::new(7);
    let token = flights.token(ProbeIndex(0)).unwrap();
    let order = Order { token, errand: ping(), timeout: TIMEOUT, way: Way(3) };
    flights.begin(due(0, at(0)), order, Launch::Handed, Standing::Regular, at(0));
    assert_eq!(flights.expire(at(2999)), None);
    assert_eq!(flights.expire(at(3000)).unwrap().end, End::Missed(Miss::Unreported));
}

#[test]
fn a_probe_has_a_bounded_number_in_flight() {
    let mut flights = Flights::new(u32::MAX - 3);
    let tokens: Vec<_> = (0..MAX_IN_FLIGHT).map(|_| launched(&mut flights, at(0))).collect();
    assert_eq!(flights.token(ProbeIndex(0)), None);
    assert!(flights.token(ProbeIndex(1)).is_some());
    end(flights.settle(answer(tokens[0], at(1), None))).unwrap();
    assert!(flights.token(ProbeIndex(0)).is_some());
}

#[derive(Debug, Clone)]
enum Step {
    Send { handed: bool },
    Answer { which: prop::sample::Index, stranger: bool },
    Fail { which: prop::sample::Index },
    NotSent { which: prop::sample::Index },
    Wait { millis: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = any::<prop::sample::Index>;
    let step = prop_oneof![
        3 => any::<bool>().prop_map(|handed| Step::Send { handed }),
        3 => (which(), prop::bool::weighted(0.2)).prop_map(|(which, stranger)| Step::Answer { which, stranger }),
        1 => which().prop_map(|which| Step::Fail { which }),
        1 => which().prop_map(|which| Step::NotSent { which }),
        2 => (0..1500_u64).prop_map(|millis| Step::Wait { millis }),
    ];
    vec(step, 1..120)
}

proptest! {
    #[test]
    fn every_probe_ends_exactly_once_whatever_is_heard(steps in steps()) {
        let mut flights = Flights::new(u32::MAX - 10);
        let (mut sent, mut ended, mut now) = (Vec::new(), Vec::new(), 0);
        for step in steps {
            let token = |which: prop::sample::Index| {
                if sent.is_empty() { Token(1) } else { *which.get(&sent) }
            };
            let report = match step {
                Step::Send { handed } => {
                    let launch = if handed { Launch::Handed } else { Launch::OnTheWire(at(now)) };
                    let token = flights.token(ProbeIndex(0)).unwrap();
                    let order = Order { token, errand: ping(), timeout: TIMEOUT, way: Way(3) };
                    flights.begin(due(0, Mono(sent.len() as u64)), order, launch, Standing::Regular, at(now));
                    sent.push(token);
                    continue;
                }
                Step::Wait { millis } => {
                    now += millis;
                    ended.extend(std::iter::from_fn(|| flights.expire(at(now))));
                    continue;
                }
                Step::Answer { which, stranger } => {
                    let errand = if stranger { Errand::Nowhere } else { ping() };
                    let heard = Heard::ByPacer { at: at(now), kernel: None };
                    Report::Answer { token: token(which), errand, outcome: Outcome::Reply, heard }
                }
                Step::Fail { which } => {
                    Report::Failed { token: token(which), kind: FailureKind::Refused, after: millis(1) }
                }
                Step::NotSent { which } => Report::NotSent { token: token(which), fault: SendFault::Busy },
            };
            let answered = matches!(report, Report::Answer { .. });
            let (end, noise) = flights.settle(report);
            prop_assert!(!answered || end.is_some() || noise.is_some(), "an answer is never passed over");
            ended.extend(end);
        }
        ended.extend(std::iter::from_fn(|| flights.abandon()));
        let mut probes: Vec<_> = ended.iter().map(|ended| ended.due.at.0).collect();
        probes.sort_unstable();
        prop_assert_eq!(probes, (0..sent.len() as u64).collect::<Vec<_>>());
    }
}
