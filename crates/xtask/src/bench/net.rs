//! A network for the bench alone: a namespace with nothing but its loopback, so that no other traffic is measured and every
//! port is free. It goes with the bench.

use std::fs;
use std::process::Command;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};

/// Moves this process, and all that it starts from now on, into a network of its own. Before any thread is started.
pub(super) fn enter() -> anyhow::Result<()> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => {}
        Err(Errno::EPERM) => become_root_of_our_own()?,
        Err(errno) => return Err(errno).context("make a network namespace"),
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("run ip")?;
    anyhow::ensure!(up.success(), "ip link set lo up failed");
    // The kernel's ping sockets are given to root's group, in this network only.
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").context("allow ping sockets")
}

/// Whoever may not make a network may make a user who may.
fn become_root_of_our_own() -> anyhow::Result<()> {
    let (user, group) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .context("make a network namespace, as root or by an unprivileged user namespace")?;
    for (file, text) in
        [("uid_map", format!("0 {user} 1")), ("setgroups", "deny".to_owned()), ("gid_map", format!("0 {group} 1"))]
    {
        fs::write(format!("/proc/self/{file}"), text).with_context(|| format!("write {file}"))?;
    }
    Ok(())
}
