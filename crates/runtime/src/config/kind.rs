//! The kinds of value that our files hold: how each is read, and how it is described to whoever got it wrong.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use toml::de::{DeInteger, DeValue};

pub struct Kind<T> {
    pub(super) allowed: Cow<'static, str>,
    #[expect(clippy::type_complexity, reason = "a reader is just a function of the value")]
    pub(super) read: Box<dyn Fn(&DeValue<'_>) -> Option<T>>,
}

/// Any text.
pub fn text() -> Kind<String> {
    kind("text in quotes", |value| as_text(value).map(str::to_owned))
}

pub fn boolean() -> Kind<bool> {
    kind("true or false", |value| match value {
        DeValue::Boolean(boolean) => Some(*boolean),
        _ => None,
    })
}

/// `"10s"`, `"250ms"`: from a microsecond to ten years.
pub fn duration() -> Kind<Duration> {
    const TEN_YEARS: Duration = Duration::from_hours(3660 * 24);
    kind("a duration with its unit, such as \"10s\" or \"250ms\"", |value| {
        let duration = humantime::parse_duration(as_text(value)?).ok()?;
        (Duration::from_micros(1)..=TEN_YEARS).contains(&duration).then_some(duration)
    })
}

/// A name of `telemetry`'s: of a region, a service, a target, an agent.
pub fn name<T: FromStr + 'static>() -> Kind<T> {
    parsed("a name of 1 to 63 of the characters a-z, 0-9 and -")
}

/// Text that the type itself can read.
pub fn parsed<T: FromStr + 'static>(allowed: &'static str) -> Kind<T> {
    kind(allowed, |value| as_text(value)?.parse().ok())
}

/// One of a few words.
pub fn choice<T: Clone + 'static>(words: &'static [(&'static str, T)]) -> Kind<T> {
    let allowed: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    kind(allowed.join(", "), |value| {
        let text = as_text(value)?;
        words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| meaning.clone())
    })
}

/// A whole number.
pub fn integer(range: RangeInclusive<i64>) -> Kind<i64> {
    let allowed = format!("a whole number from {} to {}", range.start(), range.end());
    kind(allowed, move |value| match value {
        DeValue::Integer(integer) => whole(integer).filter(|integer| range.contains(integer)),
        _ => None,
    })
}

/// A number, whole or not.
pub fn number(range: RangeInclusive<f64>) -> Kind<f64> {
    let allowed = format!("a number from {} to {}", range.start(), range.end());
    kind(allowed, move |value| {
        let number = match value {
            DeValue::Float(float) => float.as_str().parse().ok()?,
            DeValue::Integer(integer) => whole(integer)? as f64,
            _ => return None,
        };
        range.contains(&number).then_some(number)
    })
}

/// A list of one kind.
pub fn list<T: 'static>(each: Kind<T>) -> Kind<Vec<T>> {
    let allowed = format!("a list, each {}", each.allowed);
    kind(allowed, move |value| match value {
        DeValue::Array(items) => items.iter().map(|item| (each.read)(item.get_ref())).collect(),
        _ => None,
    })
}

fn kind<T>(allowed: impl Into<Cow<'static, str>>, read: impl Fn(&DeValue<'_>) -> Option<T> + 'static) -> Kind<T> {
    Kind { allowed: allowed.into(), read: Box::new(read) }
}

fn whole(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn as_text<'a>(value: &'a DeValue<'_>) -> Option<&'a str> {
    match value {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

impl<T> fmt::Debug for Kind<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}
