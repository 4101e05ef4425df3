//! Hints: for a source and a service, the regions in the order in which a router should use them, with weights and reasons.
//!
//! Never empty: before anything is measured the order is by distance; after data stops the last order stands. Never jumping:
//! see [`ranking`].

mod cost;
mod document;
mod ranking;
mod weights;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use telemetry::{RegionName, ServiceName, Wall};

pub use cost::Cost;
pub use document::{Excluded, HintDocument, Ranked, Stability};
pub use ranking::{Basis, Exclusion, Why};

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
    /// One document for each source and service that has any region.
    pub fn rank(
        &mut self,
        view: &View<'_>,
        sources: &[RegionName],
        services: &[&ServiceName],
    ) -> Vec<Arc<HintDocument>> {
        let mut documents = Vec::with_capacity(sources.len() * services.len());
        for (source, service) in
            sources.iter().flat_map(|source| services.iter().map(move |service| (source, *service)))
        {
            if view.policy.regions_of(service).is_empty() {
                continue;
            }
            let ranking = self.all.entry((source.clone(), service.clone())).or_default();
            ranking.review(view, source, service);
            documents.push(Arc::new(ranking.document(view, source, service)));
        }
        documents
    }
}
