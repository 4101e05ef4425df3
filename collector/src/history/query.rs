//! What a path saw from one moment to another, in steps; and what every path saw in a minute.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use journal::Position;
use telemetry::{RegionName, Series, Standing, Wall};

use super::gather::{Held, Kind, Memory};
use super::key::Number;
use super::question::{Floors, Question};
use super::store::Store;
use super::tier::Tier;
use super::view::View;
use super::{History, StoreError};
use crate::rings::Seen;

/// One step of a path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slot {
    /// Of its regular series, merged.
    pub seen: Seen,
    /// Confirming probes, answered or not.
    pub confirms: u64,
}

/// By source and region.
pub type Cells = BTreeMap<(RegionName, RegionName), Seen>;

impl History {
    /// What is older is not kept, or not whole any more.
    pub fn floors(&self, now: Wall) -> Result<Floors, StoreError> {
        let store = self.shared.store.load_full().ok_or(StoreError::Closed)?;
        let view = store.view();
        let floor = |tier| Ok::<_, StoreError>(view.floor(tier)?.begin().max(now - self.retention.of(tier)));
        Ok(Floors { raw: floor(Tier::Raw)?, minute: floor(Tier::Minute)?, hour: floor(Tier::Hour)? })
    }

    /// The steps in which anything was seen. `None`: the path was never seen.
    pub fn read(&self, question: &Question) -> Result<Option<BTreeMap<Wall, Slot>>, StoreError> {
        let store = self.shared.store.load_full().ok_or(StoreError::Closed)?;
        let mut steps = Steps { question, slots: BTreeMap::new() };
        let view = self.store_and_memory(&store, |memory, position| {
            let (handed, gathering) = memory.behind(position);
            for gathered in handed.iter().map(|part| &part.gathered).chain([gathering]) {
                for Held { series, windows } in question.live.iter().filter_map(|id| gathered.get(*id)) {
                    let windows = windows.range(question.from..question.to);
                    windows.for_each(|(begin, seen)| steps.add(*begin, seen, series.standing));
                }
            }
        })?;
        let series: Vec<_> = store.catalog().of_path(question.path).map(owned).collect();
        if series.is_empty() && question.live.is_empty() {
            return Ok(None);
        }
        let range = question.from..question.to;
        for (number, series) in series.iter().filter(|(_, series)| series.standing != Standing::Suspect) {
            view.read(question.tier, *number, &range, |begin, seen| steps.add(begin, &seen, series.standing))?;
        }
        Ok(Some(steps.slots))
    }

    /// What the regular series of this kind saw in this range, of minutes, by source and region.
    pub fn cells(&self, range: &Range<Wall>, kind: &Kind) -> Result<Cells, StoreError> {
        let store = self.shared.store.load_full().ok_or(StoreError::Closed)?;
        let mut cells = Gathering::default();
        let mut handed = Vec::new();
        let view = self.store_and_memory(&store, |memory, position| {
            let (parts, gathering) = memory.behind(position);
            handed = parts;
            gathering.of_kind(kind, range).for_each(|(series, seen)| cells.add(series, seen.cloned()));
        })?;
        for (series, seen) in handed.iter().flat_map(|part| part.gathered.of_kind(kind, range)) {
            cells.add(series, seen.cloned());
        }
        let series: Vec<_> = store.catalog().of_kind(kind).map(owned).collect();
        let regular = series.into_iter().filter(|(_, series)| series.standing == Standing::Regular);
        let (numbers, series): (Vec<_>, Vec<_>) = regular.unzip();
        let mut read: Vec<_> = numbers.iter().map(|_| Vec::new()).collect();
        view.read_all(&numbers, range, |number, _, seen| {
            if let Ok(place) = numbers.binary_search(&number) {
                read[place].push(seen);
            }
        })?;
        series.iter().zip(read).for_each(|(series, seen)| cells.add(series, seen));
        Ok(cells.merged())
    }

    /// Both under one lock: what is stored in between is neither missed nor told twice.
    fn store_and_memory<'a>(
        &self,
        store: &'a Store,
        look: impl FnOnce(&Memory, Position),
    ) -> Result<View<'a>, StoreError> {
        let memory = self.shared.memory();
        let view = store.view();
        look(&memory, view.position()?);
        Ok(view)
    }
}

/// What was seen of each cell, to be merged at once.
#[derive(Default)]
struct Gathering(BTreeMap<(RegionName, RegionName), Vec<Seen>>);

impl Gathering {
    fn add(&mut self, series: &Series, seen: impl IntoIterator<Item = Seen>) {
        let mut seen = seen.into_iter().peekable();
        if seen.peek().is_some() {
            self.0.entry((series.source.clone(), series.region.clone())).or_default().extend(seen);
        }
    }

    fn merged(self) -> Cells {
        self.0.into_iter().map(|(key, seen)| (key, Seen::total(&seen))).collect()
    }
}

fn owned((number, series): (Number, &Arc<Series>)) -> (Number, Arc<Series>) {
    (number, Arc::clone(series))
}

struct Steps<'a> {
    question: &'a Question,
    slots: BTreeMap<Wall, Slot>,
}

impl Steps<'_> {
    fn add(&mut self, begin: Wall, seen: &Seen, standing: Standing) {
        if !(self.question.from..self.question.to).contains(&begin) {
            return;
        }
        let step = begin.slot(self.question.step);
        match standing {
            Standing::Regular => self.slots.entry(step).or_default().seen.merge(seen),
            Standing::Confirming => self.slots.entry(step).or_default().confirms += seen.samples(),
            Standing::Suspect => {}
        }
    }
}
