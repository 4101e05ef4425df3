//! Everything that CI checks, the quickest first.

use crate::cargo::{self, PROFILE};
use crate::{setup, web};

pub(crate) fn run() -> anyhow::Result<()> {
    cargo::run(&["fmt", "--all", "--check"])?;
    setup::ensure(&setup::TO_TEST)?;
    web::check()?;
    // Before anything that compiles the collector: a new page is a new collector.
    web::build()?;
    cargo::run(&["clippy", "--workspace", "--all-targets", "--profile", PROFILE, "--locked", "--", "-D", "warnings"])?;
    // The tests start the real binaries, which no test target of their own builds.
    cargo::run(&["build", "--workspace", "--bins", "--profile", PROFILE, "--locked"])?;
    if cargo::has("nextest") {
        cargo::run(&["nextest", "run", "--workspace", "--cargo-profile", PROFILE, "--locked"])?;
    } else {
        cargo::run(&["test", "--workspace", "--exclude", "e2e", "--profile", PROFILE, "--locked"])?;
        // Worlds measure time; two at once would measure each other.
        cargo::run(&["test", "--package", "e2e", "--profile", PROFILE, "--locked", "--", "--test-threads=1"])?;
    }
    web::browse()
}
