//! What is done by hand: on a collector that runs, over its API, or on the data of one that does not.

pub mod backup;
pub mod export;
mod remote;
pub mod replay;

use std::io;
use std::path::PathBuf;

use remote::Remote;

/// Of which collector.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// One that runs, by its URL
    #[arg(long, value_name = "URL")]
    collector: Option<Remote>,
    /// One that does not, by its data directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Who reads no further is no fault.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
