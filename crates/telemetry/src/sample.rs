//! What tests of every crate begin from. A feature for it would compile this crate twice, for tests and for binaries.

use crate::{Family, Labels, Name, Series, Standing};

/// The voice ping of `fra-1`, in fra, to `iad-voice-1`.
pub fn series() -> Series {
    let name = |text: &str| text.parse::<Name>().expect("a name");
    Series {
        agent: "fra-1".parse().expect("a name"),
        source: "fra".parse().expect("a name"),
        target: "iad-voice-1".parse().expect("a name"),
        region: "iad".parse().expect("a name"),
        service: "voice".parse().expect("a name"),
        probe: name("voice"),
        phase: name("rtt"),
        family: Family::Ipv4,
        standing: Standing::Regular,
        labels: Labels::new(),
    }
}
