//! The whole thing, on the real binaries; and the shape of its code.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod backup;
mod bones;
mod broken_disk;
mod clocks;
mod collectors;
mod crash;
mod delivery;
mod direction;
mod herd;
mod history;
mod outage;
mod replay;
mod router;
mod standstill;
