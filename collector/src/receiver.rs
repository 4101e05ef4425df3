//! `[[receiver]]`: who hears alerts, and what it takes to reach them. The keys are read with the configuration, so that a
//! missing one is told at the start and not when the first alert is to leave.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;

use reqwest::Url;
use runtime::config::{Table, kind};
use xxhash_rust::xxh3::xxh3_64;

use crate::addresses::is_public;
use crate::policy;
use crate::signature::Keys;

const ALLOWED_FILE: &str =
    "a file with a key a line, whsec_ and the base64 of 24 to 64 random bytes, that others may not read";
/// Whoever is neither the owner nor of the group.
const OTHERS: u32 = 0o007;

#[derive(Debug, Clone)]
pub struct Receiver {
    pub url: Url,
    pub keys: Keys,
    /// Whether it may stand at an address that is not public.
    pub allow_private: bool,
}

impl Receiver {
    pub fn read(table: &mut Table<'_>) -> Option<Self> {
        let kind: Option<String> = table.required("kind", kind::text());
        let webhook = kind.as_deref().is_none_or(|kind| served(table, kind));
        let url: Option<Url> =
            table.required("url", kind::parsed("a URL, such as \"https://alerts.example.org/isochrone\""));
        let file: Option<String> = table.required("secret_file", kind::text());
        let allow_private = table.optional("allow_private", kind::boolean()).unwrap_or(false);
        let keys = file.and_then(|file| keys(table, &file));
        let url = url.filter(|url| reachable(table, url, allow_private));
        (kind.is_some() && webhook).then_some(())?;
        Some(Self { url: url?, keys: keys?, allow_private })
    }

    /// What decisions depend on.
    pub fn policy(&self) -> policy::Receiver {
        policy::Receiver { endpoint: xxh3_64(self.url.as_str().as_bytes()) }
    }
}

fn served(table: &Table<'_>, kind: &str) -> bool {
    let allowed = match kind {
        "webhook" => return true,
        "alertmanager" | "pagerduty" | "slack" | "discord" => "not served yet; allowed: \"webhook\"",
        _ => "allowed: \"webhook\"",
    };
    table.refuse("kind", &format!("found \"{kind}\""), allowed);
    false
}

fn reachable(table: &Table<'_>, url: &Url, allow_private: bool) -> bool {
    let allowed = if !matches!(url.scheme(), "http" | "https") {
        "allowed: a URL that begins with http:// or https://"
    } else if literal(url).is_some_and(|address| !allow_private && !is_public(address)) {
        "a private address; allowed: a public one, or allow_private = true"
    } else {
        return true;
    };
    table.refuse("url", &format!("found \"{url}\""), allowed);
    false
}

fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

fn keys(table: &Table<'_>, file: &str) -> Option<Keys> {
    let read = || -> Result<Keys, String> {
        let metadata = fs::metadata(file).map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return Err("not a file".to_owned());
        }
        let mode = metadata.permissions().mode();
        if mode & OTHERS != 0 {
            return Err(format!("its mode is {:03o}", mode & 0o777));
        }
        let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
        text.parse().map_err(|error: crate::signature::KeyError| error.to_string())
    };
    let refuse = |why| table.refuse("secret_file", &format!("\"{file}\": {why}"), &format!("allowed: {ALLOWED_FILE}"));
    read().map_err(refuse).ok()
}
