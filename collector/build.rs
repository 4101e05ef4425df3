//! The built page is embedded: a new build of it is a new collector.

use std::fs;
use std::path::Path;

const PAGE: &str = "../dashboards/web/dist";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={PAGE}");
    // Cargo takes a folder that is not there for one that always changes, and would compile the collector each time.
    // Where nothing may be written it does; nothing else depends on it.
    if !Path::new(PAGE).exists() {
        drop(fs::create_dir(PAGE));
    }
}
