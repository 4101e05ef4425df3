//! Logs on stderr: one line for a change of state, none for steady state.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl std::str::FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("allowed: text, json"),
        }
    }
}

/// Installs the subscriber. Call once, at the start of `main`.
pub fn init(format: Format) {
    install(format, "info,surge_ping=error,tokio_cron_scheduler=warn");
}

/// The same for a command that a person waits for: what it has to say stands on stdout.
pub fn warnings() {
    install(Format::Text, "warn,surge_ping=error");
}

fn install(format: Format, filter: &str) {
    let filter = EnvFilter::new(filter);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    match format {
        Format::Text => logs.with_ansi(io::stderr().is_terminal()).init(),
        Format::Json => logs.json().init(),
    }
}
