//! The gateway WebSocket, as chat gateways speak it: JSON objects in text frames, told apart by `op`.
//!
//! The server speaks first: HELLO, `{"op":10,"d":{"heartbeat_interval":41250}}`, where `_trace` may name the node that
//! serves. The client beats with `{"op":1,"d":null}` and is told `{"op":11}`. Servers differ in what they say to a heartbeat
//! before a login, so what one does is found out, never assumed: see [`Kind`].

use std::time::Duration;

use serde_json::{Value, json};

/// The longest text that a server takes from a client, in bytes.
pub const LONGEST_BYTES: usize = 4096;

/// What the server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub heartbeat_interval: Duration,
    /// The nodes that serve the connection, as the server tells them.
    pub trace: Vec<String>,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Hello(Hello),
    Ack,
    /// Of an operation that measuring has no use for.
    Other {
        op: u64,
    },
}

/// What a server does with a heartbeat before a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers it.
    Answering,
    /// Answers it, and closes with 4009 when nobody has logged in for [`PATIENCE`].
    Timed,
    /// Closes with 4003 at once.
    Strict,
}

/// What a server answers to one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Ack,
    Close(Close),
}

/// Why a server closes, in the codes that gateways use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    UnknownOpcode,
    Undecodable,
    NotAuthenticated,
    TimedOut,
}

/// Why a text is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{found} bytes, more than {LONGEST_BYTES}")]
    Size { found: usize },
    #[error("not JSON: {0}")]
    Json(String),
    #[error("no op that is a whole number")]
    Op,
    #[error("a HELLO without a heartbeat_interval of whole milliseconds above 0")]
    Interval,
}

/// How long a [`Kind::Timed`] server waits for a login.
pub const PATIENCE: Duration = Duration::from_secs(30);

const HEARTBEAT: u64 = 1;
const HELLO: u64 = 10;
const ACK: u64 = 11;

pub fn heartbeat() -> String {
    json!({"op": HEARTBEAT, "d": null}).to_string()
}

pub fn ack() -> String {
    json!({"op": ACK}).to_string()
}

/// What a server said. Its texts may be longer than a client's.
pub fn parse(text: &str) -> Result<Said, Malformed> {
    let (op, message) = open(text)?;
    Ok(match op {
        HELLO => Said::Hello(Hello::of(&message["d"])?),
        ACK => Said::Ack,
        op => Said::Other { op },
    })
}

/// What a server of that kind says to a client's text before a login.
pub fn answer(text: &str, kind: Kind) -> Answer {
    let op = if text.len() > LONGEST_BYTES { Err(Malformed::Size { found: text.len() }) } else { open(text) };
    match (op, kind) {
        (Err(_), _) => Answer::Close(Close::Undecodable),
        (Ok((HEARTBEAT, _)), Kind::Answering | Kind::Timed) => Answer::Ack,
        (Ok((HEARTBEAT, _)), Kind::Strict) => Answer::Close(Close::NotAuthenticated),
        (Ok(_), _) => Answer::Close(Close::UnknownOpcode),
    }
}

impl Hello {
    /// The node that says hello. Some servers write it plainly, some as the first string of a list that is itself in a string.
    pub fn node(&self) -> Option<String> {
        let first = self.trace.first()?;
        match serde_json::from_str::<Vec<Value>>(first) {
            Ok(list) => list.first()?.as_str().map(str::to_owned),
            Err(_) => Some(first.clone()),
        }
    }

    pub fn text(&self) -> String {
        let mut data = json!({"heartbeat_interval": u64::try_from(self.heartbeat_interval.as_millis()).ok()});
        if !self.trace.is_empty() {
            data["_trace"] = json!(self.trace);
        }
        json!({"op": HELLO, "d": data}).to_string()
    }

    fn of(data: &Value) -> Result<Self, Malformed> {
        let interval = data["heartbeat_interval"].as_u64().filter(|&millis| millis > 0).ok_or(Malformed::Interval)?;
        let trace = data["_trace"].as_array().map(Vec::as_slice).unwrap_or_default();
        let trace = trace.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Self { heartbeat_interval: Duration::from_millis(interval), trace })
    }
}

impl Kind {
    /// How long after the upgrade a server of that kind hangs up on who has not logged in.
    pub fn patience(self) -> Option<Duration> {
        (self == Self::Timed).then_some(PATIENCE)
    }
}

impl Close {
    pub fn code(self) -> u16 {
        match self {
            Self::UnknownOpcode => 4001,
            Self::Undecodable => 4002,
            Self::NotAuthenticated => 4003,
            Self::TimedOut => 4009,
        }
    }

    /// Whether a server that closes so merely refuses heartbeats before a login: no outage.
    pub fn refuses_heartbeats(code: u16) -> bool {
        [Self::Undecodable, Self::NotAuthenticated].iter().any(|close| close.code() == code)
    }
}

fn open(text: &str) -> Result<(u64, Value), Malformed> {
    let message: Value = serde_json::from_str(text).map_err(|error| Malformed::Json(error.to_string()))?;
    let op = message["op"].as_u64().ok_or(Malformed::Op)?;
    Ok((op, message))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_node_is_read_plain_and_out_of_a_list_in_a_string() {
        let node = |hello: &str| match parse(hello) {
            Ok(Said::Hello(hello)) => hello.node(),
            other => panic!("{other:?}"),
        };
        let plain = r#"{"op":10,"d":{"heartbeat_interval":41250,"_trace":["gateway-1.iad"]}}"#;
        assert_eq!(node(plain).as_deref(), Some("gateway-1.iad"));
        let nested =
            r#"{"op":10,"d":{"heartbeat_interval":41250,"_trace":["[\"gateway-prd-4xk2\",{\"micros\":0.0}]"]}}"#;
        assert_eq!(node(nested).as_deref(), Some("gateway-prd-4xk2"));
        assert_eq!(node(r#"{"op":10,"d":{"heartbeat_interval":41250,"_trace":[]}}"#), None);
    }

    proptest! {
        #[test]
        fn a_hello_is_read_as_it_was_said(millis in 1..u64::MAX, trace in vec(any::<String>(), 0..4)) {
            let hello = Hello { heartbeat_interval: Duration::from_millis(millis), trace };
            prop_assert_eq!(parse(&hello.text()), Ok(Said::Hello(hello)));
        }

        #[test]
        fn no_text_breaks_a_reader_or_is_answered_as_if_it_were_a_heartbeat(text: String) {
            let is_message = parse(&text).is_ok();
            for kind in [Kind::Answering, Kind::Timed, Kind::Strict] {
                prop_assert!(is_message || answer(&text, kind) == Answer::Close(Close::Undecodable));
            }
        }

        #[test]
        fn a_hello_that_is_cut_or_changed_is_malformed_or_reads_as_what_it_says(
            millis in 1..1_000_000_u64, at: prop::sample::Index, with: char, end: prop::sample::Index,
        ) {
            let text = Hello { heartbeat_interval: Duration::from_millis(millis), trace: vec!["node".to_owned()] }.text();
            prop_assert!(parse(&text[..end.index(text.len())]).is_err());
            let mut letters: Vec<_> = text.chars().collect();
            let at = at.index(letters.len());
            letters[at] = with;
            if let Ok(Said::Hello(hello)) = parse(&letters.into_iter().collect::<String>()) {
                prop_assert!(!hello.heartbeat_interval.is_zero());
                prop_assert_eq!(parse(&hello.text()), Ok(Said::Hello(hello)));
            }
        }

        #[test]
        fn json_of_any_shape_under_our_keys_breaks_nothing(op in any_json(), interval in any_json(), trace in any_json()) {
            let text = json!({"op": op, "d": {"heartbeat_interval": interval, "_trace": trace}}).to_string();
            if let Ok(Said::Hello(hello)) = parse(&text) {
                hello.node();
            }
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(json!(10)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| vec(inner, 0..4).prop_map(Value::from))
    }

    #[test]
    fn a_text_nested_beyond_all_measure_is_refused_and_not_followed_to_its_end() {
        let nested = "[".repeat(1 << 20);
        assert!(matches!(parse(&nested), Err(Malformed::Json(_))));
        let hello = format!(r#"{{"op":10,"d":{{"heartbeat_interval":1,"_trace":["{nested}"]}}}}"#);
        let Ok(Said::Hello(hello)) = parse(&hello) else { panic!() };
        assert_eq!(hello.node(), Some(nested), "no list, so it is a plain name");
    }

    #[test]
    fn the_texts_are_those_of_the_protocol() {
        let hello = Hello { heartbeat_interval: Duration::from_millis(41_250), trace: Vec::new() };
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(value(&hello.text()), value(r#"{"op":10,"d":{"heartbeat_interval":41250}}"#));
        assert_eq!(value(&heartbeat()), value(r#"{"op":1,"d":null}"#));
        assert_eq!(value(&ack()), value(r#"{"op":11}"#));
    }

    #[test]
    fn each_kind_of_server_does_with_a_heartbeat_what_such_servers_do() {
        assert_eq!(answer(&heartbeat(), Kind::Answering), Answer::Ack);
        assert_eq!(answer(&heartbeat(), Kind::Timed), Answer::Ack);
        assert_eq!(answer(&heartbeat(), Kind::Strict), Answer::Close(Close::NotAuthenticated));
        let patience = [Kind::Answering, Kind::Timed, Kind::Strict].map(Kind::patience);
        assert_eq!(patience, [None, Some(Duration::from_secs(30)), None]);
    }

    #[test]
    fn whatever_else_a_client_says_closes_with_the_code_for_it() {
        let code = |text: &str| match answer(text, Kind::Answering) {
            Answer::Ack => 0,
            Answer::Close(close) => close.code(),
        };
        assert_eq!(code(r#"{"op":2,"d":{}}"#), 4001);
        assert_eq!(code("{"), 4002);
        assert_eq!(code(r#"{"op":-1}"#), 4002);
        let padded = format!("{}{}", heartbeat(), " ".repeat(LONGEST_BYTES - heartbeat().len()));
        assert_eq!([code(&padded), code(&format!("{padded} "))], [0, 4002]);
    }

    #[test]
    fn a_strange_message_says_what_is_strange_about_it() {
        assert_eq!(parse(r#"{"op":0,"t":"READY"}"#), Ok(Said::Other { op: 0 }));
        assert_eq!(parse(r#"{"op":"10"}"#), Err(Malformed::Op));
        assert_eq!(parse("[]"), Err(Malformed::Op));
        assert_eq!(parse(r#"{"op":10,"d":{"heartbeat_interval":0}}"#), Err(Malformed::Interval));
        assert_eq!(parse(r#"{"op":10}"#), Err(Malformed::Interval));
        assert!(matches!(parse("{"), Err(Malformed::Json(_))));
    }

    #[test]
    fn a_refusal_of_heartbeats_is_told_from_a_failure() {
        assert_eq!([4002, 4003, 4009, 1011].map(Close::refuses_heartbeats), [true, true, false, false]);
    }
}
