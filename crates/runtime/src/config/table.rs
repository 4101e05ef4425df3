//! A table that remembers which keys were asked for and gathers what was wrong with them. Tables of an array are gone when they
//! have been read: of ten thousand targets the tree takes several times what is kept of them, and so it makes room for that.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;
use super::kind::Kind;

#[derive(Debug)]
pub struct Table<'a> {
    text: &'a str,
    entries: DeTable<'a>,
    /// Where this table begins in the file, for faults that concern it as a whole.
    header: Range<usize>,
    /// `target[2].probe[0]`; empty for the root.
    path: String,
    asked: Vec<&'static str>,
    faults: &'a RefCell<Vec<Fault>>,
}

impl<'a> Table<'a> {
    pub(super) fn read_root<T>(
        text: &'a str,
        root: DeTable<'a>,
        build: impl FnOnce(&mut Table<'_>) -> Option<T>,
    ) -> (Option<T>, Vec<Fault>) {
        let faults = RefCell::default();
        let table =
            Table { text, entries: root, header: 0..0, path: String::new(), asked: Vec::new(), faults: &faults };
        let value = table.read(build);
        (value, faults.into_inner())
    }

    /// The value of a key that must be there. `None`: a fault was reported.
    pub fn required<T>(&mut self, key: &'static str, kind: Kind<T>) -> Option<T> {
        if self.get(key).is_none() {
            self.asked.push(key);
            self.report(self.header.clone(), key, "missing", &format!("needs {key}: {}", kind.allowed));
            return None;
        }
        self.optional(key, kind)
    }

    /// The value of a key that may be absent. `None`: it is, or a fault was reported.
    #[expect(clippy::needless_pass_by_value, reason = "a kind is made where it is used")]
    pub fn optional<T>(&mut self, key: &'static str, kind: Kind<T>) -> Option<T> {
        self.asked.push(key);
        let value = self.entries.get(key)?;
        let read = (kind.read)(value.get_ref());
        if read.is_none() {
            let allowed = format!("allowed: {}", kind.allowed);
            self.report(value.span(), key, &self.found(value.span()), &allowed);
        }
        read
    }

    /// The values of a key that must be there: one, or a list of at least one. `None`: a fault was reported for each that does not
    /// fit.
    pub fn required_some<T>(&mut self, key: &'static str, kind: Kind<T>) -> Option<Vec<T>> {
        let Some(DeValue::Array(items)) = self.entries.get(key).map(Spanned::get_ref) else {
            return self.required(key, kind).map(|one| vec![one]);
        };
        self.asked.push(key);
        if items.is_empty() {
            self.refuse(key, "found []", &format!("allowed: {}, or several in a list", kind.allowed));
            return None;
        }
        let read: Vec<_> = items.iter().map(|item| (kind.read)(item.get_ref())).collect();
        for (place, item) in items.iter().enumerate().filter(|(place, _)| read[*place].is_none()) {
            self.refuse_item(key, place, &self.found(item.span()), &format!("allowed: {}", kind.allowed));
        }
        read.into_iter().collect()
    }

    /// A table inside this one.
    pub fn table<T>(&mut self, key: &'static str, build: impl FnOnce(&mut Table<'_>) -> Option<T>) -> Option<T> {
        self.asked.push(key);
        let (_, value) = self.entries.remove_entry(key)?;
        self.descend(value, self.path_of(key), build)
    }

    /// Every table of an array of tables; an absent one is empty.
    pub fn tables<T>(&mut self, key: &'static str, mut build: impl FnMut(&mut Table<'_>) -> Option<T>) -> Vec<T> {
        self.asked.push(key);
        let Some((_, value)) = self.entries.remove_entry(key) else { return Vec::new() };
        let span = value.span();
        let DeValue::Array(items) = value.into_inner() else {
            self.report(span.clone(), key, &self.found(span), &format!("allowed: tables, written [[{key}]]"));
            return Vec::new();
        };
        let path = |index| format!("{}[{index}]", self.path_of(key));
        items.into_iter().enumerate().filter_map(|(index, item)| self.descend(item, path(index), &mut build)).collect()
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Reports a fault that only the caller can see: a value that does not fit another.
    pub fn refuse(&self, key: &str, found: &str, allowed: &str) {
        let span = self.get(key).map_or(self.header.clone(), Spanned::span);
        self.report(span, key, found, allowed);
    }

    /// The same of one value in a list.
    pub fn refuse_item(&self, key: &str, place: usize, found: &str, allowed: &str) {
        let item = self.get(key).and_then(|list| list.get_ref().as_array()?.get(place));
        let span = item.map_or(self.header.clone(), Spanned::span);
        self.report_at(span, &format!("{}[{place}]", self.path_of(key)), found, allowed);
    }

    fn descend<T>(
        &self,
        value: Spanned<DeValue<'a>>,
        path: String,
        build: impl FnOnce(&mut Table<'_>) -> Option<T>,
    ) -> Option<T> {
        let (text, faults, header) = (self.text, self.faults, value.span());
        let DeValue::Table(entries) = value.into_inner() else {
            self.report_at(header.clone(), &path, &self.found(header), "allowed: a table");
            return None;
        };
        Table { text, entries, header, path, asked: Vec::new(), faults }.read(build)
    }

    fn read<T>(mut self, build: impl FnOnce(&mut Table<'_>) -> Option<T>) -> Option<T> {
        let value = build(&mut self);
        for key in self.entries.keys() {
            if !self.asked.contains(&key.get_ref().as_ref()) {
                let allowed = format!("allowed: {}", self.asked.join(", "));
                self.report(key.span(), key.get_ref(), "no such key", &allowed);
            }
        }
        value
    }

    fn get(&self, key: &str) -> Option<&Spanned<DeValue<'a>>> {
        self.entries.get(key)
    }

    fn found(&self, span: Range<usize>) -> String {
        let text: String = self.text.get(span).unwrap_or_default().chars().take(60).collect();
        format!("found {text}")
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn report(&self, span: Range<usize>, key: &str, found: &str, allowed: &str) {
        self.report_at(span, &self.path_of(key), found, allowed);
    }

    fn report_at(&self, span: Range<usize>, path: &str, found: &str, allowed: &str) {
        let fault = Fault { span, found: format!("{path}: {found}"), allowed: allowed.to_owned() };
        self.faults.borrow_mut().push(fault);
    }
}
