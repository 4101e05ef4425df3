use std::collections::VecDeque;
use std::slice;
use std::sync::Mutex;

use runtime::meters::Meters;
use tokio::time::Instant;

use super::patience::{FIRST_WAIT, LONGEST_WAIT};
use super::*;
use telemetry::{Boot, Wall};

use crate::spool::{Limits, Memory};

/// Answers as its script says, then takes everything.
struct Scripted {
    script: Mutex<VecDeque<Verdict>>,
    posts: Mutex<Vec<(Instant, Batch)>>,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Verdict>) -> Self {
        Self { script: Mutex::new(script.into_iter().collect()), posts: Mutex::default() }
    }

    /// How long after the one before each post came, and which batch it was.
    fn waits(&self) -> Vec<(Duration, u64)> {
        let posts = self.posts.lock().unwrap();
        posts.windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[1].1.name.sequence.0)).collect()
    }

    fn sequences(&self) -> Vec<u64> {
        self.posts.lock().unwrap().iter().map(|(_, batch)| batch.name.sequence.0).collect()
    }
}

impl Collector for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn post(&self, batch: &Batch) -> Verdict {
        self.posts.lock().unwrap().push((Instant::now(), batch.clone()));
        self.script.lock().unwrap().pop_front().unwrap_or(Verdict::Taken { refused: 0, why: String::new() })
    }
}

fn later(after: Option<u64>) -> Verdict {
    Verdict::Later { trouble: Trouble::Failing, after: after.map(Duration::from_secs), why: "503".to_owned() }
}

/// A closed spool of batches `one` and `two`, pushed to the end of it; answers the meters' text.
async fn pushed(collector: &Scripted) -> String {
    let (spool, meters) = (Shared::new(Memory::new(Boot(1), Limits::default())), Meters::new("test"));
    spool.offer(vec!["one".into(), "two".into()], Vec::new(), Wall(0));
    spool.close();
    run(&spool, slice::from_ref(collector), &Instruments::new(&meters), Shutdown::new()).await.unwrap();
    assert_eq!(spool.depth().batches, 0);
    meters.render()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_tried_until_it_is_taken_and_the_next_one_waits_for_it() {
    let collector = Scripted::new([later(None), later(None)]);
    let meters = pushed(&collector).await;
    assert_eq!(collector.sequences(), [2, 2, 2, 1]);
    assert!(meters.contains("isochrone_agent_push_retries_total 2"), "{meters}");
}

#[tokio::test(start_paused = true)]
async fn the_newest_goes_first_and_the_backlog_has_every_other_turn() {
    let (spool, collector) = (Shared::new(Memory::new(Boot(1), Limits::default())), Scripted::new([]));
    spool.offer((1..=6).map(|number| vec![number].into()).collect(), Vec::new(), Wall(0));
    spool.close();
    run(&spool, slice::from_ref(&collector), &Instruments::new(&Meters::new("test")), Shutdown::new()).await.unwrap();
    assert_eq!(collector.sequences(), [6, 1, 5, 2, 4, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_is_counted_and_never_tried_again() {
    let collector = Scripted::new([Verdict::Refused { status: 400, why: "no OTLP".to_owned() }]);
    let meters = pushed(&collector).await;
    assert_eq!(collector.sequences(), [2, 1]);
    assert!(meters.contains("isochrone_agent_push_batches_total{fate=\"refused\"} 1"), "{meters}");
}

#[tokio::test(start_paused = true)]
async fn a_collectors_wish_to_be_left_alone_is_obeyed_up_to_a_minute() {
    let collector = Scripted::new([later(Some(7)), later(Some(3600))]);
    pushed(&collector).await;
    let waits = collector.waits();
    let between = |low, high| Duration::from_secs(low)..Duration::from_secs(high);
    assert!(between(7, 8).contains(&waits[0].0) && between(60, 61).contains(&waits[1].0), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn waits_are_spread_below_a_ceiling_that_doubles_to_ten_seconds() {
    let collector = Scripted::new((0..40).map(|_| later(None)));
    pushed(&collector).await;
    let mut ceiling = FIRST_WAIT;
    for (wait, _) in &collector.waits()[..40] {
        assert!(*wait <= ceiling + Duration::from_millis(1), "{wait:?} above {ceiling:?}");
        ceiling = (ceiling * 2).min(LONGEST_WAIT);
    }
    let late: Vec<_> = collector.waits()[10..40].iter().map(|(wait, _)| *wait).collect();
    assert!(late.iter().max() > Some(&Duration::from_secs(5)), "{late:?}");
    assert!(late.iter().min() < Some(&Duration::from_secs(5)), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_got_through_makes_the_next_wait_a_short_one() {
    let taken = Verdict::Taken { refused: 0, why: String::new() };
    let collector = Scripted::new((0..12).map(|_| later(None)).chain([taken, later(None)]));
    pushed(&collector).await;
    let (wait, sequence) = *collector.waits().last().unwrap();
    assert_eq!(sequence, 1);
    assert!(wait <= FIRST_WAIT + Duration::from_millis(1), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_the_collector_so_long_and_no_longer() {
    let collector = Scripted::new((0..1000).map(|_| later(None)));
    let (spool, meters, shutdown) =
        (Shared::new(Memory::new(Boot(1), Limits::default())), Meters::new("test"), Shutdown::new());
    spool.offer(vec!["one".into()], Vec::new(), Wall(0));
    spool.close();
    shutdown.cancel();
    let began = Instant::now();
    run(&spool, slice::from_ref(&collector), &Instruments::new(&meters), shutdown).await.unwrap();
    assert!(began.elapsed() >= DRAIN && began.elapsed() < DRAIN + Duration::from_millis(10));
    assert_eq!(spool.depth().batches, 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_one_collector_did_not_take_goes_to_the_next_as_it_is_and_at_once() {
    let collectors = [Scripted::new([later(Some(30))]), Scripted::new([])];
    let (spool, meters) = (Shared::new(Memory::new(Boot(1), Limits::default())), Meters::new("test"));
    spool.offer(vec!["one".into(), "two".into()], Vec::new(), Wall(0));
    spool.close();
    run(&spool, &collectors, &Instruments::new(&meters), Shutdown::new()).await.unwrap();
    let posts = collectors.map(|collector| collector.posts.into_inner().unwrap());
    let [refused, taken] = [&posts[0][0], &posts[1][0]];
    assert_eq!(refused.1, taken.1, "the same bytes under the same name");
    assert_eq!(refused.0, taken.0, "nobody waits while there is another to ask");
    assert_eq!((posts[0].len(), posts[1].len()), (1, 2));
    let meters = meters.render();
    assert!(meters.contains("isochrone_agent_push_collector 1\n"), "{meters}");
    assert!(meters.contains("isochrone_agent_push_moves_total{reason=\"failing\"} 1"), "{meters}");
}
