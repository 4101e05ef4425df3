//! Chance that depends on nothing but the seed and the words that name what is drawn: a pair's route is the same in a planet
//! of eight regions and of thirty.

use std::ops::Range;

use rand_pcg::Pcg64Mcg;
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// A number in the range, uniform over what the words may say.
    pub fn within(self, range: Range<f64>, words: &[&str]) -> f64 {
        // The 53 bits that a float holds exactly.
        let unit = (self.hash(words) >> 11) as f64 / (1_u64 << 53) as f64;
        range.start + unit * (range.end - range.start)
    }

    /// A stream of chance of its own.
    pub fn stream(self, words: &[&str]) -> Pcg64Mcg {
        let high = self.hash(&[words, &["high"]].concat());
        let low = self.hash(&[words, &["low"]].concat());
        Pcg64Mcg::new(u128::from(high) << 64 | u128::from(low))
    }

    pub fn hash(self, words: &[&str]) -> u64 {
        xxh3_64_with_seed(words.join("/").as_bytes(), self.0)
    }
}
