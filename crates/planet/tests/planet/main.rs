//! A planet in this process, and the binary: real sockets, port 0.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod binary;
mod edges;
mod endpoints;
mod faults;
mod gateways;
mod support;
