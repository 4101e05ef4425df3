//! The live table. On a terminal it is drawn again each second; elsewhere only what changes is printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use e2e::World;
use serde_json::Value;

/// Clear the screen, cursor home.
const REDRAW: &str = "\x1b[H\x1b[2J";
const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";
const DRAW_EVERY: Duration = Duration::from_secs(1);
const EVENTS: usize = 6;

pub(super) struct Table {
    terminal: bool,
    page: String,
    control: String,
    drawn: Option<Duration>,
    first: BTreeMap<String, String>,
    events: Vec<String>,
    measured: bool,
}

impl Table {
    pub(super) fn new(terminal: bool, world: &World) -> Self {
        let (page, control) = (world.url("/"), world.planet.control().to_owned());
        let table =
            Self { terminal, page, control, drawn: None, first: BTreeMap::new(), events: Vec::new(), measured: false };
        if !terminal {
            println!("{}", table.head());
        }
        table
    }

    pub(super) fn note(&mut self, at: Duration, event: impl AsRef<str>) {
        let line = format!("{:>6.1} s  {}", at.as_secs_f64(), event.as_ref());
        if !self.terminal {
            println!("{line}");
        }
        self.events.push(line);
    }

    pub(super) fn show(&mut self, at: Duration, world: &World) {
        let Ok(hints) = world.get("/api/v1/hints?service=voice") else { return };
        let Some(hints) = hints["items"].as_array() else { return };
        self.changes(at, hints);
        let due = self.drawn.is_none_or(|drawn| at >= drawn + DRAW_EVERY);
        if self.terminal && due {
            self.drawn = Some(at);
            print!("{REDRAW}{}\n\n{}", self.head(), self.rows(hints));
            drop(std::io::Write::flush(&mut std::io::stdout()));
        }
    }

    fn changes(&mut self, at: Duration, hints: &[Value]) {
        for hint in hints.iter().filter(|hint| hint["basis"] != "prior") {
            let (source, best) = (word(&hint["source"]), word(&hint["ranked"][0]["region"]));
            let before = self.first.insert(source.clone(), best.clone());
            if let Some(before) = before.filter(|before| *before != best) {
                self.note(at, format!("{source}: {before} → {best}: {}", word(&hint["ranked"][0]["reason"])));
            }
        }
        if !self.measured && !self.first.is_empty() {
            self.measured = true;
            self.note(at, format!("first measured hint; {} of {} sources", self.first.len(), hints.len()));
        }
    }

    fn head(&self) -> String {
        format!(
            "Isochrone · page {}\nbreak something  curl -d '{{\"kind\":\"service_down\",\"region\":\"fra\",\"service\":\"voice\"}}' {}/faults\nheal it          curl -X DELETE {}/faults/1",
            self.page, self.control, self.control
        )
    }

    fn rows(&self, hints: &[Value]) -> String {
        let mut text =
            format!("{DIM}{:<8}{:<8}{:>9}{:>10}  {:<12}{}{PLAIN}\n", "from", "best", "p50 ms", "since", "basis", "why");
        for hint in hints {
            let best = &hint["ranked"][0];
            let p50 = best["p50_ms"].as_f64().map_or("–".to_owned(), |ms| format!("{ms:.1}"));
            let since = word(&hint["stability"]["since"]);
            let since = since.get(11..19).unwrap_or("–");
            let (source, region) = (word(&hint["source"]), word(&best["region"]));
            let (basis, why) = (word(&hint["basis"]), word(&best["reason"]));
            // A line that cannot be written into a string does not exist.
            _ = writeln!(text, "{source:<8}{BOLD}{region:<8}{PLAIN}{p50:>9}{since:>10}  {basis:<12}{why}");
        }
        let events = self.events.iter().rev().take(EVENTS).rev().cloned().collect::<Vec<_>>().join("\n");
        format!("{text}\n{events}\n{DIM}Ctrl-C ends everything{PLAIN}\n")
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("–").to_owned()
}
