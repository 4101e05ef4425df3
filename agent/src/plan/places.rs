//! Where a target's probes go: to its one address, to wherever its name stands, or to each address of the name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use telemetry::{Family, Label, Labels};

use crate::config::{AddressChoice, Config, MAX_ADDRESSES, Target};
use crate::endpoint::{self, Host};
use crate::names::{Addresses, Spot};

/// Where a probe goes to.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Fixed(IpAddr),
    Named(Spot),
}

pub(super) type Spots = BTreeMap<(String, Family), Spot>;

/// A place with its family, and what tells it from the target's others.
pub(super) struct At {
    pub(super) place: Place,
    pub(super) family: Family,
    pub(super) labels: Labels,
}

/// Where the probes of a target go: one place in each family, or one for each address where all are asked for.
pub(super) fn places(config: &Config, target: &Target, addresses: &Addresses, spots: &mut Spots) -> Vec<At> {
    let name = match &target.endpoint.host {
        Host::Address(address) => {
            let family = endpoint::family(*address);
            return vec![At { place: Place::Fixed(*address), family, labels: Labels::new() }];
        }
        Host::Name(name) => name,
    };
    let found = addresses.get(name).map_or(&[][..], Vec::as_slice);
    let mut places = Vec::new();
    for family in target.family.of_series(found, config.source_address) {
        let of_it: Vec<_> = found.iter().copied().filter(|address| endpoint::family(*address) == family).collect();
        if target.addresses == AddressChoice::All && !of_it.is_empty() {
            let pinned = |address: IpAddr| {
                let value = address.to_string().parse().expect("an address is a label");
                At { place: Place::Fixed(address), family, labels: Labels::from([(Label::Address, value)]) }
            };
            places.extend(of_it.into_iter().take(MAX_ADDRESSES).map(pinned));
        } else {
            let spot =
                spots.entry((name.clone(), family)).or_insert_with(|| Spot::new(name, family, of_it.first().copied()));
            places.push(At { place: Place::Named(spot.clone()), family, labels: Labels::new() });
        }
    }
    places
}
