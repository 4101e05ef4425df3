//! A batch on the wire: an OTLP `ExportMetricsServiceRequest`.
//!
//! One metric carries the measurement: [`PROBE_DURATION`], unit `s`, exponential histogram, delta temporality. A failure is a
//! point of the same metric with `error.type`. [`build`] makes a batch, [`record`] one of what was kept, [`walk`] reads one without decoding what it has seen
//! before, [`labels`] reads a point's attributes the first time they are met.

pub mod build;
pub mod labels;
pub mod record;
pub mod walk;
mod wire;

pub const PROBE_DURATION: &str = "isochrone.probe.duration";
/// A gauge, unit `s`: the Unix time at which the first certificate of the chain that a target showed ends. Its own time is that
/// of the handshake.
pub const TLS_NOT_AFTER: &str = "isochrone.tls.certificate.not_after";
/// A gauge, unit `1`: the share of a probe's source ports that lose what goes out from them while the others do not. Told while
/// it is more than nothing, and once more when it is nothing again.
pub const PORTS_LOSING: &str = "isochrone.probe.ports.losing";
/// A sum, delta, unit `{probe}`: probes that say nothing through a fault of the agent's own, which is their `error.type`. They are
/// no outcomes, and nothing judges by them: a series with less to say says so.
pub const PROBE_MISSED: &str = "isochrone.probe.missed";
pub const AGENT_LATENESS: &str = "isochrone.agent.lateness";
/// Round trips to a reflector inside the agent: nothing it measures is finer than these.
pub const AGENT_NOISE_FLOOR: &str = "isochrone.agent.noise_floor";
pub const AGENT_SPOOL_BATCHES: &str = "isochrone.agent.spool.batches";
pub const AGENT_SPOOL_BYTES: &str = "isochrone.agent.spool.bytes";
/// A gauge, unit `{batch}`: batches of one boot, the first and the last by their sequence, of which those that were not taken
/// are lost. Told until a batch that tells it is taken.
pub const AGENT_SPOOL_GAP: &str = "isochrone.agent.spool.gap";

/// Headers (gRPC metadata) that make a batch of ours countable once.
pub const HEADER_AGENT: &str = "isochrone-agent";
pub const HEADER_BOOT: &str = "isochrone-boot";
pub const HEADER_SEQUENCE: &str = "isochrone-seq";

/// Attribute names: OpenTelemetry's where it has one.
pub mod attribute {
    pub const SERVICE_NAME: &str = "service.name";
    pub const INSTANCE: &str = "service.instance.id";
    pub const VERSION: &str = "service.version";
    pub const SOURCE: &str = "cloud.region";
    pub const ZONE: &str = "cloud.availability_zone";

    pub const TARGET: &str = "isochrone.target.id";
    pub const REGION: &str = "isochrone.target.region";
    pub const SERVICE: &str = "isochrone.service";
    pub const PROBE: &str = "isochrone.probe";
    pub const PHASE: &str = "isochrone.phase";
    pub const CONFIRM: &str = "isochrone.confirm";
    pub const SUSPECT: &str = "isochrone.suspect";
    pub const ADDRESS: &str = "server.address";
    pub const PORT: &str = "server.port";
    pub const TRANSPORT: &str = "network.transport";
    pub const FAMILY: &str = "network.type";
    pub const ERROR: &str = "error.type";

    /// Of a gap, as text: a boot as in its header, and sequences.
    pub const BOOT: &str = "isochrone.boot";
    pub const FROM: &str = "isochrone.seq.from";
    pub const TO: &str = "isochrone.seq.to";
}

#[cfg(test)]
mod tests;
