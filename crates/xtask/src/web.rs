//! The page that the collector serves: built before the collector, which embeds it, and only when something it is made of changed.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::cargo;

/// What Vite needs.
const NODE: (u32, u32) = (20, 19);

/// What the packages are installed by, and what the page is made of beside them.
const PACKAGES: &[&str] = &["package.json", "package-lock.json"];
const SOURCES: &[&str] =
    &["index.html", "openapi.json", "public", "src", "svelte.config.js", "tsconfig.json", "vite.config.ts"];

/// The page, built.
pub(crate) fn build() -> anyhow::Result<()> {
    install()?;
    when_changed("page", &[PACKAGES, SOURCES].concat(), folder().join("dist/index.html").exists(), || {
        npm(&["run", "build"])
    })
}

/// Its types, and the tests of its pure parts.
pub(crate) fn check() -> anyhow::Result<()> {
    install()?;
    npm(&["run", "check"])?;
    npm(&["test"])
}

/// The page in a browser, over the binaries of this profile.
pub(crate) fn browse() -> anyhow::Result<()> {
    let programs = cargo::programs()?;
    run(command(&["run", "test:browser"]).env("ISOCHRONE_PROGRAMS", programs), "npm run test:browser")
}

fn install() -> anyhow::Result<()> {
    ensure_node()?;
    when_changed("packages", PACKAGES, true, || npm(&["ci", "--no-audit", "--no-fund"]))
}

fn ensure_node() -> anyhow::Result<()> {
    let output = Command::new("node").arg("--version").output().context("run node, which builds the page")?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
    let found = (numbers.next().and_then(Result::ok), numbers.next().and_then(Result::ok));
    let enough = matches!(found, (Some(major), Some(minor)) if (major, minor) >= NODE);
    anyhow::ensure!(enough, "found node {version}; the page is built by node {}.{} or newer", NODE.0, NODE.1);
    Ok(())
}

/// Does it, unless what it was last done with is the same. The note of that lies with the packages and goes with them.
fn when_changed(
    what: &str,
    inputs: &[&str],
    stands: bool,
    act: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let note = folder().join("node_modules").join(format!(".isochrone-{what}"));
    let print = fingerprint(inputs)?;
    if stands && fs::read_to_string(&note).is_ok_and(|last| last == print) {
        return Ok(());
    }
    act()?;
    fs::write(&note, print).with_context(|| format!("write {}", note.display()))
}

fn fingerprint(inputs: &[&str]) -> anyhow::Result<String> {
    let mut hasher = DefaultHasher::new();
    for path in inputs.iter().map(|input| folder().join(input)).filter(|path| path.exists()) {
        for file in files(&path)? {
            file.hash(&mut hasher);
            fs::read(&file).with_context(|| format!("read {}", file.display()))?.hash(&mut hasher);
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// In a lasting order.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("list {}", path.display()))?;
    let mut paths: Vec<_> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let nested: Vec<_> = paths.iter().map(|path| files(path)).collect::<anyhow::Result<_>>()?;
    Ok(nested.concat())
}

fn npm(arguments: &[&str]) -> anyhow::Result<()> {
    run(&mut command(arguments), &format!("npm {}", arguments.join(" ")))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(arguments).current_dir(folder());
    command
}

fn run(command: &mut Command, words: &str) -> anyhow::Result<()> {
    println!("$ {words}");
    let status = command.status().context("run npm, which builds the page")?;
    anyhow::ensure!(status.success(), "{words} failed");
    Ok(())
}

fn folder() -> PathBuf {
    cargo::root().join("dashboards/web")
}
