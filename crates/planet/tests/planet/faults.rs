use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};

use protocols::voice::ping_request;
use serde_json::json;

use crate::support::{ask, asker, start, stated, wait_until};

#[test]
fn a_target_that_is_down_is_silent_and_refuses_until_the_fault_is_closed() {
    let planet = start();
    let (asker, target) = (asker(Ipv4Addr::LOCALHOST), planet.target("iad-voice-1"));
    wait_until("the door is open", || TcpStream::connect(target).is_ok());

    let (status, opened) = planet.post("/faults", r#"{"kind":"target_down","target":"iad-voice-1"}"#);
    assert_eq!((status, &opened), (201, &json!({"id": 1})));
    let items = planet.get("/faults")["items"].clone();
    assert_eq!(
        (&items[0]["id"], &items[0]["kind"], &items[0]["target"]),
        (&json!(1), &json!("target_down"), &json!("iad-voice-1"))
    );
    assert!(items[0]["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{items}");
    asker.send_to(&ping_request(1), target).unwrap();
    let dropped = json!({"source": "unknown", "target": "iad-voice-1", "reason": "down"});
    planet.wait_for_count("dropped", &dropped, 1);
    wait_until("the door is closed", || {
        TcpStream::connect(target).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    TcpStream::connect(planet.target("iad-voice-2")).expect("the other target is up");
    let connected = json!({"source": "unknown", "target": "iad-voice-2", "probe": "tcp", "phase": "connect"});
    planet.wait_for_count("items", &connected, 1);
    let truth = planet.get("/truth");
    let up = ["iad-gateway", "iad-voice-1"].map(|target| stated(&truth, "fra", target)["up"].clone());
    assert_eq!(up, [true, false]);

    assert_eq!(planet.delete("/faults/1").0, 204);
    ask(&asker, target, &ping_request(2));
    wait_until("the door is open again", || TcpStream::connect(target).is_ok());
    assert_eq!(planet.get("/faults"), json!({"items": []}));
}

#[test]
fn what_cannot_be_done_is_answered_with_a_problem() {
    let planet = start();
    let (status, problem) = planet.post("/faults", r#"{"kind":"region_down","region":"xyz"}"#);
    let expected = json!({
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "no region xyz; known: iad, fra, sin",
        "code": "unknown_region",
    });
    assert_eq!((status, problem), (400, expected));
    let (status, problem) = planet.post("/faults", r#"{"kind":"earthquake"}"#);
    assert_eq!((status, &problem["code"]), (400, &json!("malformed_fault")));
    assert!(problem["detail"].as_str().unwrap().contains("`region_down`"), "{problem}");
    for missing in ["/faults/1", "/faults/first", "/nowhere"] {
        let (status, problem) = planet.delete(missing);
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{missing}");
    }
    let (status, problem) = planet.post("/truth", "");
    assert_eq!((status, &problem["code"]), (405, &json!("method_not_allowed")));
}
