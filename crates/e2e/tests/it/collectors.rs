//! Two collectors: what is measured goes on to the second while the first is dead, and comes back to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Binary, Process, WorldOptions, http, until};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_mins(1);

/// One that can be killed and started again where it was.
struct Collector {
    name: &'static str,
    address: String,
    process: Option<Process>,
}

impl Collector {
    fn start(&mut self, programs: &Path, dir: &Path) {
        let file = |name: String| dir.join(name).display().to_string();
        let address = file(format!("{}.address", self.name));
        drop(fs::remove_file(&address));
        let [config, data] = [file("collector.toml".to_owned()), file(self.name.to_owned())];
        let args = ["run", "--config", &config, "--listen", &self.address, "--data", &data, "--address-file", &address];
        let mut process = Process::start((Binary::Collector, programs), self.name, dir, args).unwrap();
        self.address = process.address(Path::new(&address)).unwrap();
        self.process = Some(process);
    }

    /// What it has of the agent's path.
    fn samples(&self) -> u64 {
        let paths = http::get(&format!("http://{}/api/v1/paths?source=fra&window=15m", self.address));
        let paths = paths.ok().and_then(|paths| paths["items"].as_array().cloned()).unwrap_or_default();
        paths.iter().filter_map(|path| path["samples"].as_u64()).sum()
    }

    fn grows(&self, what: &str) {
        let before = self.samples();
        until(what, DEADLINE, || (self.samples() > before).then_some(())).unwrap();
    }
}

#[test]
fn windows_go_on_at_the_second_collector_while_the_first_is_dead_and_return_to_it() {
    let (programs, dir) = (WorldOptions::default().programs, TempDir::new().unwrap());
    let file = |name: &str| -> PathBuf { dir.path().join(name) };
    let narrow = |text: &str| text.replace("window = \"10s\"", "window = \"1s\"");
    fs::write(file("collector.toml"), narrow(&fs::read_to_string("../../config/collector.toml").unwrap())).unwrap();
    let any = || "127.0.0.1:0".to_owned();
    let [mut first, mut second] = ["first", "second"].map(|name| Collector { name, address: any(), process: None });
    first.start(&programs, dir.path());
    second.start(&programs, dir.path());

    let reflects = file("reflect.address");
    let args = ["reflect", "--listen", "127.0.0.1:0", "--address-file", reflects.to_str().unwrap()];
    let mut reflector = Process::start((Binary::Agent, &programs), "reflect", dir.path(), args).unwrap();
    let target = reflector.address(&reflects).unwrap();
    let config = format!(
        "region = \"fra\"\ncollector = [\"http://{}\", \"http://{}\"]\nwindow = \"1s\"\n\
         [[target]]\nid = \"iad-voice-1\"\nservice = \"voice\"\nregion = \"iad\"\naddress = \"{target}\"\n\
         [[target.probe]]\nkind = \"voice\"\nevery = \"200ms\"\n",
        first.address, second.address
    );
    fs::write(file("agent.toml"), config).unwrap();
    let args = ["run", "--config", file("agent.toml").to_str().unwrap()].map(str::to_owned);
    let agent = Process::start((Binary::Agent, &programs), "agent", dir.path(), args).unwrap();

    first.grows("windows at the preferred");
    assert_eq!(second.samples(), 0, "the other one is not asked");
    first.process.take().unwrap().kill().unwrap();
    second.grows("windows at the second");
    first.start(&programs, dir.path());
    first.grows("windows at the preferred again");
    assert!(agent.stop().unwrap().success());
    let said = fs::read_to_string(file("agent.log")).unwrap();
    let line =
        |what: &str| said.lines().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {said}"));
    assert!(line("batches go to another collector") < line("batches go to a preferred collector again"));
    reflector.stop().unwrap();
}
