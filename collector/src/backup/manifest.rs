//! What a backup says of itself.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use telemetry::Wall;

use crate::stopped::MANIFEST;

/// Counts up with every change of what a backup holds. Another is not read.
pub const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Of the program that took it.
    pub version: String,
    /// RFC 3339.
    pub taken: String,
    /// Everything before this position of the log is in it.
    pub end: u64,
    /// Up to there history has the log, or further.
    pub history: u64,
    /// By their path.
    pub files: BTreeMap<String, Sum>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sum {
    pub bytes: u64,
    pub crc32c: u32,
}

impl Manifest {
    pub(super) fn new(taken: Wall) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, version, taken: taken.to_string(), end: 0, history: 0, files: BTreeMap::new() }
    }

    /// Of the backup in that directory.
    pub fn read(dir: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(dir.join(MANIFEST))?)?)
    }

    pub fn bytes(&self) -> u64 {
        self.files.values().map(|sum| sum.bytes).sum()
    }

    pub(super) fn add(&mut self, file: &str, sum: Sum) {
        self.files.insert(file.to_owned(), sum);
    }
}
