//! A line that is rewritten in place while a trial goes on. A thread of its own writes it: a terminal that takes nothing, since
//! somebody holds it, delays no probe.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use runtime::{Mono, Tasks};

const EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub enum Live {
    Off,
    On(Screen),
}

#[derive(Debug)]
pub struct Screen {
    columns: usize,
    next: Mono,
    lines: SyncSender<String>,
    /// Ends with the thread that writes.
    over: Receiver<Infallible>,
}

impl Live {
    /// On a terminal of so many columns.
    pub fn on(terminal: impl Write + Send + 'static, columns: usize, tasks: &Tasks) -> io::Result<Self> {
        let (lines, shown) = mpsc::sync_channel(1);
        let (open, over) = mpsc::channel();
        tasks.thread("live line", move || {
            let _open = open;
            write_each(terminal, &shown);
            Ok::<_, Infallible>(())
        })?;
        // What fills the last column may begin a new line.
        Ok(Self::On(Screen { columns: columns.saturating_sub(1), next: Mono(0), lines, over }))
    }

    /// When the line has grown old.
    pub(super) fn due(&self) -> Option<Mono> {
        match self {
            Self::Off => None,
            Self::On(screen) => Some(screen.next),
        }
    }

    pub(super) fn show(&mut self, now: Mono, line: impl FnOnce(usize) -> String) {
        let Self::On(screen) = self else { return };
        if now >= screen.next {
            screen.next = now + EVERY;
            let columns = screen.columns;
            // One that cannot be taken now is left out; the next one knows more.
            screen.lines.try_send(format!("{:<columns$}", line(columns))).ok();
        }
    }

    /// Takes the line away, and waits until it is gone.
    pub(super) fn end(self) {
        if let Self::On(Screen { columns, lines, over, .. }) = self {
            lines.send(" ".repeat(columns)).ok();
            drop(lines);
            over.recv().ok();
        }
    }
}

/// Without a code of the terminal's: spaces cover what stood there. The cursor waits at the begin, for whoever writes next.
fn write_each(mut terminal: impl Write, lines: &Receiver<String>) {
    for line in lines {
        // Where it cannot be written nobody reads it.
        write!(terminal, "\r{line}\r").and_then(|()| terminal.flush()).ok();
    }
}
