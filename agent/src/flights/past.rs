//! How the last probes ended: what is heard afterwards is late, a double, a stranger's, or nothing that anybody asked for.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Noise;
use crate::plan::Errand;
use crate::probe::Token;

/// Tokens are given out one after the other, so that so many of the last ones have a place each.
const REMEMBERED: usize = if cfg!(test) { 1024 } else { 65_536 };

#[derive(Debug)]
pub(super) struct Past(Vec<Option<Ended>>);

/// Eight bytes, of which there are many.
#[derive(Debug, Clone, Copy)]
struct Ended {
    token: Token,
    /// A digest: of who might guess a token one in 65,536 passes for whom we asked.
    asked: u16,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Replied,
    TimedOut,
    Other,
}

impl Default for Past {
    fn default() -> Self {
        Self(vec![None; REMEMBERED])
    }
}

impl Past {
    pub(super) fn remember(&mut self, token: Token, asked: Errand, fate: Fate) {
        let place = self.place(token);
        *place = Some(Ended { token, asked: digest(asked), fate });
    }

    /// What an answer from there to that token is. A late one is late once; then it is a double.
    pub(super) fn explain(&mut self, token: Token, from: Errand) -> Noise {
        let Some(ended) = self.place(token).as_mut().filter(|ended| ended.token == token) else {
            return Noise::Unasked;
        };
        match ended.fate {
            _ if ended.asked != digest(from) => Noise::Stranger,
            Fate::TimedOut => {
                ended.fate = Fate::Replied;
                Noise::Late
            }
            Fate::Replied => Noise::Double,
            Fate::Other => Noise::Unasked,
        }
    }

    fn place(&mut self, token: Token) -> &mut Option<Ended> {
        &mut self.0[token.0 as usize % REMEMBERED]
    }
}

fn digest(errand: Errand) -> u16 {
    let mut hasher = DefaultHasher::new();
    errand.hash(&mut hasher);
    hasher.finish() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_the_last_are_remembered_and_no_more() {
        let mut past = Past::default();
        let errand = Errand::Icmp([192, 0, 2, 1].into());
        for token in 0..=REMEMBERED as u32 {
            past.remember(Token(token), errand, Fate::Replied);
        }
        assert_eq!(past.explain(Token(0), errand), Noise::Unasked);
        for token in 1..=REMEMBERED as u32 {
            assert_eq!(past.explain(Token(token), errand), Noise::Double);
        }
        assert_eq!(size_of::<Option<Ended>>(), 8);
    }
}
