//! What outlives the agent's process.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use agent::spool::{Limits, Spool as _, Stored};
use axum::body::Bytes;
use journal::RealDisk;
use telemetry::{Boot, Outcome};
use tempfile::TempDir;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::task::JoinSet;

use crate::collector::{Collector, Request, until};
use crate::commands::{agent_file, run};
use crate::end_to_end::{Answered, Sums, reflect};

fn spooling(folder: &TempDir, url: &str, address: &str) -> PathBuf {
    let file = agent_file(folder, url, address, ["1s", "50ms"]);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("data_dir = \"{}\"\n{text}", folder.path().display())).unwrap();
    file
}

/// What waits on disk, read from a copy: the agent holds its own. Name (boot and sequence) and body.
fn on_disk(spool: &Path) -> Vec<(String, Bytes)> {
    let copy = TempDir::new().unwrap();
    for file in fs::read_dir(spool).into_iter().flatten() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let disk = RealDisk::open(copy.path()).unwrap();
    let mut spool = Stored::open(disk, Boot(0), Limits::default());
    let mut waiting = Vec::new();
    while let Some(batch) = spool.oldest() {
        spool.forget(batch.name);
        waiting.push((format!("{} {}", batch.name.boot, batch.name.sequence.0), batch.body));
    }
    waiting
}

fn name(request: &Request) -> String {
    let header = |name: &str| request.headers[name].to_str().unwrap();
    format!("{} {}", header("isochrone-boot"), header("isochrone-seq"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_agent_could_not_push_the_next_one_pushes_once_under_its_first_name() {
    let (folder, mut outside) = (TempDir::new().unwrap(), JoinSet::new());
    // Bound and not listening: every connection is refused.
    let absent = TcpSocket::new_v4().unwrap();
    absent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (socket, answered) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), Answered::default());
    let address = socket.local_addr().unwrap().to_string();
    let reflector = outside.spawn(reflect(socket, answered.clone()));
    let counts = |bodies: &[(String, Bytes)]| {
        let sums = Sums::of_bodies(bodies.iter().map(|(_, body)| &body[..]));
        ["rtt", "discovery"].map(|phase| sums.count("iad-1", phase, Outcome::Reply))
    };
    let oracle = || [&answered.pings, &answered.discoveries].map(|count| count.load(Ordering::SeqCst));

    let first = run(&spooling(&folder, &format!("http://{}", absent.local_addr().unwrap()), &address));
    let spool = folder.path().join("spool");
    until("three batches on disk", || on_disk(&spool).len() >= 3).await;
    reflector.abort();
    until("every answer on disk", || counts(&on_disk(&spool)) == oracle()).await;
    // SIGKILL.
    drop(first);
    let left = on_disk(&spool);

    let collector = Collector::default();
    let url = collector.listen(&mut outside).await;
    let second = run(&spooling(&folder, &url, "127.0.0.1:9"));
    let pushed = || collector.requests().iter().map(|r| (name(r), r.body.clone())).collect::<Vec<_>>();
    until("all that was left, and more", || pushed().len() > left.len() + 1).await;
    let (code, log) = second.stop();
    assert_eq!(code, Some(0), "{log}");
    let pushed = pushed();
    for batch in &left {
        let times = pushed.iter().filter(|(name, _)| *name == batch.0).count();
        assert!(times == 1 && pushed.contains(batch), "{} came {times} times, or with another body", batch.0);
    }
    assert_eq!(counts(&pushed), oracle(), "what was answered, once each");
    let names: BTreeSet<_> = pushed.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), pushed.len(), "none twice");
    assert_eq!(on_disk(&spool), [], "what was taken is forgotten");
}
