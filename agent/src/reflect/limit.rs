//! How many questions a neighbourhood may ask: a forged sender cannot turn a reflector on somebody for long, and one loud
//! network does not silence the others.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use runtime::Mono;

/// Neighbourhoods that share a bucket are limited together; which do is anyone's guess.
const BUCKETS: usize = 4096;
const SECOND: u64 = 1_000_000_000;

/// A token bucket for each neighbourhood (IPv4 /24, IPv6 /48), one second deep, in memory that does not grow.
#[derive(Debug)]
pub(super) struct Limit {
    per_second: u64,
    /// When each bucket will be full again, by GCRA.
    full_at: Vec<Mono>,
    hasher: RandomState,
}

impl Limit {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second: u64::from(per_second).max(1),
            full_at: vec![Mono::default(); BUCKETS],
            hasher: RandomState::new(),
        }
    }

    pub(super) fn allows(&mut self, from: IpAddr, now: Mono) -> bool {
        let bucket = self.hasher.hash_one(neighbourhood(from)) as usize % BUCKETS;
        let full_at = self.full_at[bucket].0.max(now.0);
        let allowed = full_at - now.0 <= SECOND - SECOND / self.per_second;
        if allowed {
            self.full_at[bucket] = Mono(full_at + SECOND / self.per_second);
        }
        allowed
    }
}

fn neighbourhood(address: IpAddr) -> [u8; 6] {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            // No IPv6 neighbourhood begins with a zero byte and then anything else.
            [0, 4, 0, a, b, c]
        }
        IpAddr::V6(address) => address.octets()[..6].try_into().expect("an address has more than six bytes"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowed(limit: &mut Limit, from: &str, asked: u32, now: Mono) -> usize {
        (0..asked).filter(|_| limit.allows(from.parse().unwrap(), now)).count()
    }

    #[test]
    fn a_neighbourhood_gets_its_rate_and_a_second_of_it_at_once() {
        let mut limit = Limit::new(100);
        assert_eq!(allowed(&mut limit, "192.0.2.1", 150, Mono(0)), 100);
        assert_eq!(allowed(&mut limit, "192.0.2.9", 10, Mono(0)), 0, "the same /24");
        assert_eq!(allowed(&mut limit, "192.0.2.1", 150, Mono(SECOND / 2)), 50);
        assert_eq!(allowed(&mut limit, "192.0.2.1", 150, Mono(SECOND * 60)), 100, "no more is saved up");
    }

    #[test]
    fn one_loud_neighbourhood_does_not_silence_the_others() {
        let mut limit = Limit::new(10);
        allowed(&mut limit, "2001:db8:1::1", 100, Mono(0));
        assert_eq!(allowed(&mut limit, "2001:db8:1:2::3", 1, Mono(0)), 0, "the same /48");
        let others = (2..22).filter(|n| allowed(&mut limit, &format!("2001:db8:{n:x}::1"), 1, Mono(0)) == 1);
        assert!(others.count() >= 18, "but for the rare one that shares a bucket");
    }

    #[test]
    fn an_ipv4_neighbourhood_is_the_same_on_a_socket_of_both_families() {
        let mut limit = Limit::new(10);
        assert_eq!(allowed(&mut limit, "192.0.2.1", 6, Mono(0)), 6);
        assert_eq!(allowed(&mut limit, "::ffff:192.0.2.9", 6, Mono(0)), 4);
    }

    proptest! {
        /// Whoever they are and whenever they ask: never more than a second's worth at once and the rate after it.
        #[test]
        fn no_neighbourhood_gets_more_than_its_rate_over_any_time(
            per_second in 1..50_u32, asked in prop::collection::vec((any::<u8>(), 0..SECOND / 2), 1..300),
        ) {
            let (mut limit, mut now, mut allowed) = (Limit::new(per_second), Mono(SECOND), 0);
            for (host, later) in asked {
                now += std::time::Duration::from_nanos(later);
                allowed += u64::from(limit.allows(IpAddr::from([192, 0, 2, host]), now));
            }
            let seconds = (now.0 - SECOND) as f64 / SECOND as f64;
            prop_assert!(allowed as f64 <= f64::from(per_second) * (1.0 + seconds) + 1.0, "{} in {} s", allowed, seconds);
        }
    }
}
