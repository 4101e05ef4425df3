//! Hints: for a source and a service, the regions in the order in which a router should use them, with weights and reasons.
//!
//! Never empty: before anything is measured the order is by distance; after data stops the last order stands. Never jumping:
//! see [`ranking`].

mod cost;
mod document;
mod eligibility;
mod ranking;
mod weights;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telemetry::{RegionName, ServiceName, Wall};

pub use cost::Cost;
pub use document::{Excluded, HintDocument, Ranked, Stability};
pub use eligibility::Exclusion;
pub use ranking::{Basis, Why};

use crate::cells::Cells;
use crate::policy::Policy;
use crate::regions::Regions;
use crate::rings::Rings;
use ranking::Ranking;

/// What a ranking looks at: the conclusions that come before it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub epoch: Wall,
    pub now: Wall,
    pub policy: &'a Policy,
    pub rings: &'a Rings,
    pub cells: &'a Cells,
    pub regions: &'a Regions,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Hints {
    all: BTreeMap<(RegionName, ServiceName), Ranking>,
}

impl Hints {
    /// Reviews the ranking of every source for every service that has a region; the others are forgotten.
    pub fn rank(&mut self, view: &View<'_>, sources: &[RegionName]) {
        self.all.retain(|(_, service), _| !view.policy.regions_of(service).is_empty());
        let services = view.policy.services.keys().filter(|service| !view.policy.regions_of(service).is_empty());
        for (service, source) in services.flat_map(|service| sources.iter().map(move |source| (service, source))) {
            let ranking = self.all.entry((source.clone(), service.clone())).or_default();
            ranking.review(view, source, service);
        }
    }

    pub fn documents(&self, view: &View<'_>) -> impl Iterator<Item = HintDocument> {
        self.all.iter().map(|((source, service), ranking)| ranking.document(view, source, service))
    }
}
