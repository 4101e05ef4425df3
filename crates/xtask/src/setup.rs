//! What must be on the machine beside Rust: a C compiler, for the crates that bind C. Installed where we may, named where not.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// A program, and Debian's package that brings it.
const NEEDED: [(&str, &str); 1] = [("cc", "build-essential")];

pub(crate) fn ensure_tools() -> anyhow::Result<()> {
    let missing: Vec<_> =
        NEEDED.into_iter().filter(|(program, _)| !runs(program)).map(|(_, package)| package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_root() || !runs("apt-get") {
        bail!("missing: {packages}. As root: apt-get install {packages}");
    }
    println!("installing {packages}");
    for arguments in [vec!["update"], [vec!["install", "-y", "--no-install-recommends"], missing].concat()] {
        let status = Command::new("apt-get").args(&arguments).status().context("run apt-get")?;
        anyhow::ensure!(status.success(), "apt-get {} failed", arguments.join(" "));
    }
    Ok(())
}

fn runs(program: &str) -> bool {
    let quiet = || Stdio::null();
    Command::new(program)
        .arg("--version")
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .status()
        .is_ok_and(|it| it.success())
}

fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").output();
    answer.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0")
}
