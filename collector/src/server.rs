//! The listener: one port for ingest, API and dashboard.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use axum::Router;
use axum::serve::ListenerExt as _;
use runtime::Shutdown;
use tokio::net::TcpListener;

/// Binds, and writes the bound address where a script can find it.
pub async fn bind(listen: SocketAddr, address_file: Option<&Path>) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    let address = listener.local_addr().context("read the bound address")?;
    if let Some(file) = address_file {
        std::fs::write(file, address.to_string()).with_context(|| format!("write {}", file.display()))?;
    }
    Ok((listener, address))
}

pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> std::io::Result<()> {
    // Answers are small and wanted at once.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
