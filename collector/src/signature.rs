//! Standard Webhooks: how a receiver knows that a message is ours and new.
//!
//! `webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, for each key, with spaces between.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The keys that a receiver knows, or some of them: two while one takes the other's place.
#[derive(Clone)]
pub struct Keys(Vec<hmac::Key>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("no key")]
    Empty,
    #[error("line {line}: a key that is not {PREFIX} and base64")]
    Form { line: usize },
    #[error("line {line}: a key of {bytes} bytes")]
    Length { line: usize, bytes: usize },
}

impl Keys {
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let signature = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        self.0.iter().map(signature).collect::<Vec<_>>().join(" ")
    }
}

/// One key a line.
impl FromStr for Keys {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
        let keys = lines.map(|(index, text)| key(index + 1, text)).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self(keys)) }
    }
}

fn key(line: usize, text: &str) -> Result<hmac::Key, KeyError> {
    let bytes = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok()).ok_or(KeyError::Form { line })?;
    if !KEY_BYTES.contains(&bytes.len()) {
        return Err(KeyError::Length { line, bytes: bytes.len() });
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_example_of_the_standard_is_signed_as_it_says() {
        let keys: Keys = KEY.parse().unwrap();
        let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_a_key_is_replaced_both_sign() {
        let both: Keys = format!("{KEY}\nwhsec_{}\n", STANDARD.encode([7; 32])).parse().unwrap();
        let one: Keys = KEY.parse().unwrap();
        let signatures = both.sign("msg_1", 1, b"{}");
        let (first, second) = signatures.split_once(' ').unwrap();
        assert_eq!(first, one.sign("msg_1", 1, b"{}"));
        assert!(second.starts_with("v1,") && second != first);
    }

    #[test]
    fn what_is_not_a_key_is_refused_for_its_own_reason() {
        let error = |text: &str| text.parse::<Keys>().unwrap_err();
        assert_eq!(error("\n"), KeyError::Empty);
        assert_eq!(error("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), KeyError::Form { line: 1 });
        assert_eq!(error(&format!("{KEY}\nwhsec_?")), KeyError::Form { line: 2 });
        assert_eq!(error("whsec_c2hvcnQ="), KeyError::Length { line: 1, bytes: 5 });
    }
}
