//! Where batches go.

use std::fmt;
use std::str::FromStr;

use runtime::config::{Table, kind};

const COLLECTOR: &str = "an http or https URL, such as \"http://127.0.0.1:8460\", without user, query or fragment";

/// Where batches go: an http or https URL to whose path `/v1/metrics` is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector(reqwest::Url);

/// In the order of preference: one at least, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collectors(Vec<Collector>);

impl Collectors {
    pub(super) fn build(root: &mut Table<'_>) -> Option<Self> {
        let all: Vec<Collector> = root.required_some("collector", kind::parsed(COLLECTOR))?;
        let mut is_good = true;
        for (place, collector) in all.iter().enumerate().filter(|(place, collector)| all[..*place].contains(collector))
        {
            let found = format!("{} stands twice", collector.as_str());
            root.refuse_item("collector", place, &found, "each collector once, the preferred one first");
            is_good = false;
        }
        is_good.then_some(Self(all))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Collector> {
        self.0.iter()
    }
}

impl From<Collector> for Collectors {
    fn from(alone: Collector) -> Self {
        Self(vec![alone])
    }
}

impl fmt::Display for Collectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Collector::as_str).collect();
        f.write_str(&names.join(", else "))
    }
}

impl Collector {
    pub fn metrics(&self) -> reqwest::Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/v1/metrics", self.0.path().trim_end_matches('/')));
        url
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }
}

impl FromStr for Collector {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: reqwest::Url = text.parse().map_err(|_| COLLECTOR)?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let http = matches!(url.scheme(), "http" | "https") && url.has_host();
        if http && plain && url.fragment().is_none() { Ok(Self(url)) } else { Err(COLLECTOR) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_go_below_the_collectors_path() {
        let metrics = |text: &str| text.parse::<Collector>().unwrap().metrics().to_string();
        assert_eq!(metrics("http://127.0.0.1:8460"), "http://127.0.0.1:8460/v1/metrics");
        assert_eq!(metrics("https://edge.example.com/isochrone/"), "https://edge.example.com/isochrone/v1/metrics");
    }

    #[test]
    fn a_collector_is_a_plain_http_url() {
        for refused in ["127.0.0.1:8460", "ftp://a", "http://u:p@a", "http://a?x=1", "http://a#x", "file:///a"] {
            assert!(refused.parse::<Collector>().is_err(), "{refused}");
        }
    }
}
