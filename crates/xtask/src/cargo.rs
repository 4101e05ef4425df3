//! Cargo, in the workspace, with the profile that tests and demo share.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

pub(crate) const PROFILE: &str = "ci";

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    println!("$ cargo {}", arguments.join(" "));
    let status = command().args(arguments).status().context("run cargo")?;
    anyhow::ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}

/// Whether a subcommand is installed.
pub(crate) fn has(subcommand: &str) -> bool {
    command().args([subcommand, "--version"]).output().is_ok_and(|output| output.status.success())
}

pub(crate) fn root() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.ancestors().nth(2).unwrap_or(folder).to_owned()
}

/// Where the binaries of [`PROFILE`] are: this program's own folder is that of another profile, beside it.
pub(crate) fn programs() -> anyhow::Result<PathBuf> {
    programs_of(PROFILE)
}

pub(crate) fn programs_of(profile: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    Ok(this.ancestors().nth(2).unwrap_or(&this).join(profile))
}

fn command() -> Command {
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    // What Cargo told us of ourselves is not for what it builds: a build script that asks for it would run again, and all that
    // depends on it be compiled again, whenever builds by hand and by us take turns.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command.current_dir(root());
    command
}
