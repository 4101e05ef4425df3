//! Every packet that probes and reflectors speak, without I/O: bytes in, meaning out, and the other way round.

pub mod dns;
pub mod gateway;
pub mod icmp;
pub mod stamp;
pub mod stun;
pub mod voice;
