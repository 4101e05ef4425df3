use std::ops::Range;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use rand_pcg::Pcg64;
use telemetry::Histogram;
use telemetry::histogram::{Bucket, Scratch};

use super::*;

const BASE: Wall = Wall::from_secs(1_800_000_000);

const ALL: Range<Wall> = Wall(0)..Wall(u64::MAX);

fn read(row: &[u8]) -> Result<Windows, RowError> {
    let mut windows = Windows::new();
    decode(BASE, row, &ALL, |begin, seen| drop(windows.insert(begin, seen)))?;
    Ok(windows)
}

fn a_histogram() -> impl Strategy<Value = Histogram> {
    let scale = prop_oneof![Just(SCALE), -10..=SCALE];
    let count = prop_oneof![1..4_u32, Just(u32::MAX)];
    let index = prop_oneof![-2000..-1800_i32, any::<i32>()];
    (scale, prop_oneof![Just(0), any::<u32>()], btree_map(index, count, 0..12)).prop_map(|(scale, zeros, buckets)| {
        Histogram::from_buckets(scale, zeros, buckets.into_iter().map(|(index, count)| Bucket { index, count }))
    })
}

fn a_window() -> impl Strategy<Value = Seen> {
    let kind = (0..KINDS.len()).prop_map(|place| KINDS[place]);
    let failures = prop_oneof![Just(BTreeMap::new()), btree_map(kind, 1..=u64::MAX >> 1, 0..4)];
    (a_histogram(), failures).prop_map(|(replies, failures)| Seen { replies, failures, ..Seen::default() })
}

fn some_windows() -> impl Strategy<Value = Windows> {
    let offset = prop_oneof![(0..360_u64).prop_map(|slot| slot * 10_000), 0..3_600_000_u64];
    btree_map(offset.prop_map(|millis| BASE + Duration::from_millis(millis)), a_window(), 0..40)
}

proptest! {
    #[test]
    fn a_row_reads_back_what_was_written(windows in some_windows()) {
        prop_assert_eq!(read(&encode(BASE, &windows)).unwrap(), windows);
    }

    #[test]
    fn of_a_range_a_row_tells_what_begins_in_it(windows in some_windows(), from in 0..3600_u64, length in 0..600_u64) {
        let from = BASE + Duration::from_secs(from);
        let range = from..from + Duration::from_secs(length);
        let mut told = Windows::new();
        decode(BASE, &encode(BASE, &windows), &range, |begin, seen| drop(told.insert(begin, seen))).unwrap();
        let expected: Windows = windows.range(range).map(|(begin, seen)| (*begin, seen.clone())).collect();
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn what_is_no_row_is_refused_or_told_within_its_bytes(mut row in vec(any::<u8>(), 0..200), ours in any::<bool>()) {
        if let Some(version) = row.first_mut().filter(|_| ours) {
            *version = VERSION;
        }
        let (mut windows, mut buckets) = (0, 0);
        let told = decode(BASE, &row, &ALL, |_, seen| {
            windows += 1;
            buckets += seen.replies.buckets().len();
        });
        prop_assert!(told.is_err() || row.first() == Some(&VERSION));
        // Three bits are the least that a window takes, two a bucket.
        prop_assert!(3 * windows + 2 * buckets <= 8 * row.len());
    }

    #[test]
    fn a_row_that_was_cut_or_flipped_is_refused_or_is_another(windows in some_windows(), at in any::<prop::sample::Index>()) {
        let mut row = encode(BASE, &windows);
        row.truncate(at.index(row.len()));
        drop(read(&row));
        let mut row = encode(BASE, &windows);
        let at = at.index(row.len() * 8);
        row[at / 8] ^= 1 << (at % 8);
        drop(read(&row));
    }
}

#[test]
fn an_hour_of_ten_probes_a_window_takes_at_most_ten_bytes_each() {
    use rand::RngExt as _;
    let mut random = Pcg64::new(7, 11);
    let mut scratch = Scratch::default();
    // 80 ms with the planet's kind of jitter: exponential, 2 ms in the mean.
    let mut window = || {
        let sample = |uniform: f64| Duration::from_secs_f64(0.08 - 0.002 * uniform.ln());
        scratch.fold((0..10).map(|_| sample(random.random_range(f64::MIN_POSITIVE..1.0))))
    };
    let begin = |slot: u64| BASE + Duration::from_secs(10 * slot);
    let windows: Windows = (0..360).map(|slot| (begin(slot), Seen { replies: window(), ..Seen::default() })).collect();
    let bytes = encode(BASE, &windows).len() as f64 / 360.0;
    assert!(bytes <= 10.0, "{bytes} bytes a window");
    let slots: Windows = windows.iter().map(|(begin, seen)| (*begin, seen.clone())).take(30).collect();
    let bytes = encode(BASE, &slots).len() as f64 / 30.0;
    assert!(bytes <= 10.0, "{bytes} bytes a window in a part of five minutes");
}
