//! The body that receivers get: Alertmanager's webhook, version 4, one alert a message.
//!
//! `alertname`, `service` and `region` name the alert: they make its `fingerprint` and its group, and stay the same from its
//! firing to its end, whatever its severity becomes.

use std::collections::BTreeMap;

use serde::Serialize;
use telemetry::Wall;
use xxhash_rust::xxh3::xxh3_64;

use super::Notice;

/// The one rule there is.
pub const NAME: &str = "RegionHealth";
/// What Alertmanager writes for a time that is not yet known.
const NOT_ENDED: &str = "0001-01-01T00:00:00Z";

type Labels<'a> = BTreeMap<&'static str, &'a str>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    version: &'static str,
    group_key: String,
    truncated_alerts: u32,
    status: &'static str,
    receiver: &'a str,
    group_labels: Labels<'a>,
    common_labels: Labels<'a>,
    common_annotations: BTreeMap<&'static str, String>,
    #[serde(rename = "externalURL")]
    external_url: &'static str,
    alerts: [Alert<'a>; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    status: &'static str,
    labels: Labels<'a>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'static str,
    fingerprint: String,
}

/// The same notice gives the same bytes.
pub fn body(receiver: &str, notice: &Notice) -> Result<Vec<u8>, serde_json::Error> {
    let group = named(notice);
    let labels: Labels<'_> = group.clone().into_iter().chain([("severity", notice.severity.as_str())]).collect();
    let annotations = BTreeMap::from([("summary", notice.summary()), ("description", notice.finding.to_string())]);
    let status = if notice.ended.is_some() { "resolved" } else { "firing" };
    let group_key = group_key(&group);
    let alert = Alert {
        status,
        labels: labels.clone(),
        annotations: annotations.clone(),
        starts_at: notice.since.to_string(),
        ends_at: notice.ended.as_ref().map_or(NOT_ENDED.to_owned(), Wall::to_string),
        generator_url: "",
        fingerprint: format!("{:016x}", xxh3_64(group_key.as_bytes())),
    };
    serde_json::to_vec(&Message {
        version: "4",
        group_key,
        truncated_alerts: 0,
        status,
        receiver,
        group_labels: group,
        common_labels: labels,
        common_annotations: annotations,
        external_url: "",
        alerts: [alert],
    })
}

/// The labels that name the alert.
pub fn named(notice: &Notice) -> Labels<'_> {
    Labels::from([("alertname", NAME), ("service", notice.service.as_str()), ("region", notice.region.as_str())])
}

/// As Alertmanager writes the root route's group: `{}:{alertname="RegionHealth", …}`. Names need no quoting.
fn group_key(group: &Labels<'_>) -> String {
    let labels: Vec<_> = group.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{{}}:{{{}}}", labels.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::{Finding, Severity};
    use crate::regions::{Health, RegionHealth};

    #[test]
    fn a_message_is_what_alertmanager_would_send_and_its_end_has_the_same_name() {
        let (since, ended) = (Wall::from_secs(1_800_000_000), Wall::from_secs(1_800_000_060));
        let down = RegionHealth { health: Health::Down, since, eligible: 4, bad: 3, down: 3 };
        let well = RegionHealth { health: Health::Healthy, since: ended, eligible: 4, bad: 0, down: 0 };
        let firing = Notice {
            service: "voice".parse().unwrap(),
            region: "fra".parse().unwrap(),
            severity: Severity::Critical,
            finding: Finding::Unwell(down),
            since,
            ended: None,
        };
        let resolved = Notice { finding: Finding::Recovered(well), ended: Some(ended), ..firing.clone() };
        let read = |notice| serde_json::from_slice::<serde_json::Value>(&body("oncall", notice).unwrap()).unwrap();
        let (firing, resolved) = (read(&firing), read(&resolved));
        for field in ["groupKey", "groupLabels", "commonLabels"] {
            assert_eq!(firing[field], resolved[field]);
        }
        assert_eq!(firing["alerts"][0]["fingerprint"], resolved["alerts"][0]["fingerprint"]);
        insta::assert_snapshot!(serde_json::to_string_pretty(&[firing, resolved]).unwrap());
    }
}
