use telemetry::Outcome;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::collector::{Collector, until};
use crate::commands::run;
use crate::names::Outcomes;

/// Its other probe, of the same kind but by `every`, comes once an hour: within the test never, or once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_by_cron_is_sent_at_its_times_and_told_in_windows() {
    let (folder, collector, mut outside) = (TempDir::new().unwrap(), Collector::default(), JoinSet::new());
    let url = collector.listen(&mut outside).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    outside.spawn(async move {
        loop {
            drop(server.accept().await.unwrap());
        }
    });
    let head = format!("region = \"fra\"\nagent = \"fra-1\"\ncollector = \"{url}\"\nwindow = \"500ms\"\n");
    let target = |id: &str, pace: &str| {
        format!(
            "[[target]]\nid = \"{id}\"\nservice = \"edge\"\nregion = \"iad\"\naddress = \"{address}\"\n\
             [[target.probe]]\nkind = \"tcp\"\n{pace}\n"
        )
    };
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, [head, target("a", "cron = \"* * * * * *\""), target("b", "every = \"1h\"")].concat())
        .unwrap();
    let run = run(&file);
    until("replies, by the second", || Outcomes::count(&collector, "connect", Outcome::Reply) >= 4).await;
    let (code, log) = run.stop();
    assert_eq!(code, Some(0), "{log}");
}
