//! What must be on the machine beside Rust: a C compiler, for the crates that bind C; Node, which builds the page; and for tests
//! a browser, and the programs that they hold us against. Installed where we may, named where not.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// A program, and Debian's package that brings it.
pub(crate) type Tool = (&'static str, &'static str);

pub(crate) const TO_BUILD: [Tool; 3] = [("cc", "build-essential"), ("node", "nodejs"), ("npm", "npm")];
pub(crate) const TO_TEST: [Tool; 9] = [
    ("chromium", "chromium"),
    ("nginx", "nginx-light"),
    ("prometheus", "prometheus"),
    ("turnserver", "coturn"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("strace", "strace"),
    ("faketime", "faketime"),
];
pub(crate) const TO_BENCH: [Tool; 8] = [
    ("fping", "fping"),
    ("irtt", "irtt"),
    ("ip", "iproute2"),
    ("nginx", "nginx-light"),
    ("prometheus", "prometheus"),
    ("prometheus-blackbox-exporter", "prometheus-blackbox-exporter"),
    ("taskset", "util-linux"),
    ("victoria-metrics", "victoria-metrics"),
];

pub(crate) fn ensure(tools: &[Tool]) -> anyhow::Result<()> {
    let mut missing: Vec<_> = tools.iter().filter(|(program, _)| !runs(program)).map(|(_, package)| *package).collect();
    missing.dedup();
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

/// From the path or from where Debian puts servers; some say their version to another word alone.
fn runs(program: &str) -> bool {
    let quiet = || Stdio::null();
    let tells = |program: &str, flag| {
        let mut command = Command::new(program);
        command.arg(flag).stdin(quiet()).stdout(quiet()).stderr(quiet()).status().is_ok_and(|it| it.success())
    };
    let places = [program.to_owned(), format!("/usr/sbin/{program}")];
    places.iter().any(|place| ["--version", "-v", "-V", "version"].into_iter().any(|flag| tells(place, flag)))
}

fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").output();
    answer.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0")
}
