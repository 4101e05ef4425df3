//! A fault becomes a message, and its end another: from real packets to a receiver.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use e2e::{World, WorldOptions};
use serde_json::Value;

#[test]
fn a_service_that_dies_in_a_region_is_told_once_and_so_is_its_return() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let (url, messages) = listen();
    let collector = format!(
        "\n[[receiver]]\nname = \"oncall\"\nkind = \"webhook\"\nurl = \"{url}\"\nsecret_file = \"{}\"\nallow_private = true\n",
        secret.display()
    );
    let mut world = World::start(&WorldOptions { seed: 5, collector, ..WorldOptions::default() }).unwrap();
    let region = world
        .wait("regions that are seen well", Duration::from_mins(1), |world| {
            let regions = world.get("/api/v1/regions").ok()?;
            let regions = regions["items"].as_array()?;
            let well = regions.iter().all(|it| it["health"] == "healthy" && it["vantages"]["eligible"] == 8);
            regions.first().filter(|_| well)?["region"].as_str().map(str::to_owned)
        })
        .unwrap();

    let fault = world.planet.service_down(&region).unwrap();
    // A busy machine may say more, of other regions.
    let next = || messages.try_iter().find(|message| message["commonLabels"]["region"] == *region);
    let wait = |world: &mut World, what| world.wait(what, Duration::from_secs(90), |_| next()).unwrap();
    let firing = wait(&mut world, "a message that it is down");
    assert_eq!(firing["status"], "firing");
    assert_eq!(firing["commonLabels"]["severity"], "critical");
    assert_eq!(firing["commonAnnotations"]["summary"], format!("voice in {region} is down"));

    world.planet.heal(&fault).unwrap();
    let end = wait(&mut world, "a message that it is well again");
    assert_eq!((&end["status"], &end["groupKey"]), (&"resolved".into(), &firing["groupKey"]));
    world.stop().unwrap();
    assert_eq!(next(), None, "and nothing else");
}

/// Answers every POST with 200, and hands on its body.
fn listen() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (tell, messages) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            if tell.send(message(stream.unwrap())).is_err() {
                return;
            }
        }
    });
    (url, messages)
}

fn message(stream: TcpStream) -> Value {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    serde_json::from_slice(&body).unwrap()
}
