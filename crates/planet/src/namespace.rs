//! Network namespaces. A namespace lives as long as this process, its handle open, or anyone in it: one that was killed leaves
//! nothing to clean up.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

#[derive(Debug)]
pub struct Namespace {
    handle: File,
}

/// Whose namespaces they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The machine's root, or who has its capabilities.
    Root,
    /// A user namespace of this process.
    Ourselves,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no network namespace can be made here ({0}): be root (CAP_SYS_ADMIN, CAP_NET_ADMIN), or allow unprivileged user \
         namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
    )]
    NotAllowed(Errno),
    #[error(
        "{TUN} cannot be opened ({0}): load the module (modprobe tun), hand it to the container (--device {TUN}), or be root"
    )]
    NoTun(io::Error),
    #[error("{doing}")]
    Kernel { doing: &'static str, source: io::Error },
}

pub const TUN: &str = "/dev/net/tun";
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Sees to it that this process may make namespaces. To be called before it has a second thread: who is not allowed to becomes
/// root of a user namespace of its own, and the kernel wants that of a process as a whole.
pub fn permit() -> Result<Owner, Error> {
    File::options().read(true).write(true).open(TUN).map_err(Error::NoTun)?;
    let kernel = |doing| move |source| Error::Kernel { doing, source };
    let status = fs::read_to_string("/proc/self/status").map_err(kernel("read /proc/self/status"))?;
    if has(&status, CAP_SYS_ADMIN) && has(&status, CAP_NET_ADMIN) {
        return Ok(Owner::Root);
    }
    let whose = fs::metadata("/proc/self").map_err(kernel("see who runs this"))?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(Error::NotAllowed)?;
    // The kernel takes a map of groups only from who cannot drop groups any more.
    for (file, text) in [
        ("/proc/self/uid_map", format!("0 {} 1", whose.uid())),
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/gid_map", format!("0 {} 1", whose.gid())),
    ] {
        fs::write(file, text).map_err(kernel("map ourselves into a user namespace"))?;
    }
    Ok(Owner::Ourselves)
}

impl Namespace {
    pub fn new() -> Result<Self, Error> {
        let made = apart(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(Error::NotAllowed)?;
            File::open("/proc/thread-self/ns/net")
                .map_err(|source| Error::Kernel { doing: "open a network namespace", source })
        });
        Ok(Self { handle: made? })
    }

    /// Does it in there, on a thread of its own: sockets keep the namespace in which they were made, threads need not.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        apart(|| {
            let entered = setns(&self.handle, CloneFlags::CLONE_NEWNET);
            entered.map_err(|errno| Error::Kernel { doing: "enter a network namespace", source: errno.into() })?;
            Ok(work())
        })
    }

    /// Where others find it while this process lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.handle.as_raw_fd()).into()
    }
}

/// On a thread that nothing else will use.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Whether the capability is in the effective set.
fn has(status: &str, capability: u32) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set >> capability & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_read_from_the_effective_set() {
        let status = |set| format!("Name:\tplanet\nCapPrm:\tffffffffffffffff\nCapEff:\t{set}\nCapBnd:\t0\n");
        for (set, admin) in [("0000000000000000", false), ("0000000000200000", true), ("000001fffeffffff", true)] {
            assert_eq!(has(&status(set), CAP_SYS_ADMIN), admin, "{set}");
        }
        assert!(!has("Name:\tplanet\n", CAP_SYS_ADMIN));
    }
}
