//! A hundred lives; `cargo xtask bench sim` lives ten thousand.

use simulation::{Life, run};

fn live(seeds: impl Iterator<Item = u64>) {
    let (mut made, mut lost) = (0, 0);
    for seed in seeds {
        let life =
            run(seed).unwrap_or_else(|fault| panic!("{fault:?}\nalone: cargo run -p simulation -- --seed {seed}"));
        made += life.made;
        lost += life.lost;
    }
    assert!(made > 3000, "{made} batches show little");
    assert!(lost > 100 && lost < made / 2, "{lost} of {made} were given up");
}

/// Where a seed is even, the log is the journal; where it is odd, the simulated engine.
#[test]
fn in_fifty_lives_on_the_journal_nothing_is_lost_in_silence_and_nothing_is_counted_twice() {
    live((0..100).step_by(2));
}

#[test]
fn in_fifty_lives_on_an_engine_that_takes_every_liberty_nothing_is_lost_in_silence_and_nothing_is_counted_twice() {
    live((1..100).step_by(2));
}

#[test]
fn a_seed_is_the_same_life_each_time() {
    let lives = |_| (0..6).map(|seed| run(seed).unwrap()).collect::<Vec<Life>>();
    let [one, other] = [0, 1].map(lives);
    assert_eq!(one, other);
    assert!(one.windows(2).all(|pair| pair[0].trace != pair[1].trace), "seeds differ");
}
