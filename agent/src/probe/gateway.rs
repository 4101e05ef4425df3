//! A gateway's frames, as far as a probe that never logs in needs them: what a frame is (`op`), and who says hello (the first
//! entry of `_trace`). The rest of the JSON is passed over, so that a server may say more than we know.

pub const HEARTBEAT: &str = r#"{"op":1,"d":null}"#;

pub const OP_HELLO: u32 = 10;
pub const OP_HEARTBEAT_ACK: u32 = 11;

/// The `op` of the outermost object. `None`: this is no frame.
pub fn op(frame: &str) -> Option<u32> {
    let (mut depth, mut rest) = (0_u32, frame);
    while let Some(at) = rest.find(['"', '{', '[', '}', ']']) {
        let (mark, after) = (rest.as_bytes()[at], &rest[at + 1..]);
        match mark {
            b'{' | b'[' => (depth, rest) = (depth + 1, after),
            b'}' | b']' => (depth, rest) = (depth.checked_sub(1)?, after),
            _ => {
                let (text, after) = string(after)?;
                let value = after.trim_start().strip_prefix(':').filter(|_| depth == 1 && text == "op");
                if let Some(value) = value {
                    let value = value.trim_start();
                    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
                    return value[..end].parse().ok();
                }
                rest = after;
            }
        }
    }
    None
}

/// The node that says hello. Some servers write it plainly, some as the first string of a list that is itself in a string.
pub fn node(hello: &str) -> Option<&str> {
    let (_, after) = hello.split_once("\"_trace\"")?;
    let within = after.trim_start().strip_prefix(':')?.trim_start().strip_prefix('[')?;
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begin = within.trim_start_matches(['"', '\\', '[', ' ']);
    let node = &begin[..begin.find(|c| !named(c)).unwrap_or(begin.len())];
    (!node.is_empty()).then_some(node)
}

/// What a string holds, escapes as they are, and what comes after it.
fn string(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_op_is_that_of_the_outermost_object() {
        for (frame, expected) in [
            (r#"{"op":11}"#, Some(11)),
            (r#"{"t":null,"s":null,"d":{"op":4,"x":["op"]}, "op" : 10 }"#, Some(10)),
            (r#"{"t":"\"op\":3","op":11}"#, Some(11)),
            (r#"{"d":{"op":4}}"#, None),
            (r#"{"op":"11"}"#, None),
            (r#"}{"op":11}"#, None),
            (r#"{"op"#, None),
            ("", None),
        ] {
            assert_eq!(op(frame), expected, "{frame}");
        }
    }

    #[test]
    fn the_node_is_read_plain_and_out_of_a_list_in_a_string() {
        let plain = r#"{"op":10,"d":{"heartbeat_interval":41250,"_trace":["gateway-1.iad"]}}"#;
        assert_eq!(node(plain), Some("gateway-1.iad"));
        let nested = r#"{"op":10,"d":{"_trace":["[\"gateway-prd-4xk2\",{\"micros\":0.0}]"]}}"#;
        assert_eq!(node(nested), Some("gateway-prd-4xk2"));
        assert_eq!(node(r#"{"op":10,"d":{"_trace":[]}}"#), None);
        assert_eq!(node(r#"{"op":10,"d":{}}"#), None);
    }
}
