//! `probe` as a person sees it: a line that is rewritten while it runs, Ctrl-C, and what stands there in the end.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocols::voice::answer;
use serde_json::Value;

use crate::by_hand::{answer as named, name_server};
use crate::commands::agent;

/// A terminal so wide, and the end that a program gets.
fn terminal(columns: u16) -> (File, OwnedFd) {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    // As copies, which no program that is started inherits.
    (File::from(pty.master.try_clone().unwrap()), pty.slave.try_clone().unwrap())
}

/// All that was ever written, until the program has closed its end: that is told as an error.
fn read_all(mut screen: File) -> String {
    let (mut text, mut bytes) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = screen.read(&mut bytes) {
        text.extend_from_slice(&bytes[..length]);
    }
    String::from_utf8(text).unwrap()
}

/// What stands in each line at the end: whatever is written after a carriage return covers what was there.
fn shown(written: &str) -> Vec<String> {
    let cover = |line: &str| {
        let mut cells = Vec::new();
        for text in line.split('\r') {
            let text: Vec<_> = text.chars().collect();
            let rest = cells.split_off(text.len().min(cells.len()));
            cells = [text, rest].concat();
        }
        cells.into_iter().collect::<String>().trim_end().to_owned()
    };
    written.split('\n').map(cover).collect()
}

fn interrupt(process: &Child) {
    kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGINT).unwrap();
}

/// A voice server that answers so many pings; it panics when they do not come.
fn answering(count: usize) -> (String, thread::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let serving = thread::spawn(move || {
        for _ in 0..count {
            let mut packet = [0; 128];
            let (length, from) = socket.recv_from(&mut packet).unwrap();
            socket.send_to(&answer(&packet[..length], from).unwrap(), from).unwrap();
        }
    });
    (address, serving)
}

#[test]
fn without_a_count_it_goes_on_until_ctrl_c_and_then_tells_what_it_has() {
    let (address, answered) = answering(5);
    let mut command = agent();
    command.args(["probe", "voice", &address, "--every", "10ms", "--timeout", "9s", "--json"]);
    let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    answered.join().unwrap();
    interrupt(&process);
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    let told: Value = serde_json::from_str(&said).unwrap();
    let counted = ["received", "lost"].iter().map(|what| told[what].as_u64().unwrap()).sum::<u64>();
    let out = told["missed"]["stopped"].as_u64().unwrap_or_default();
    assert_eq!(counted + out, told["sent"].as_u64().unwrap(), "each probe ended once: {told}");
    assert!(told["received"].as_u64().unwrap() >= 4, "{told}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "nothing is rewritten where there is no terminal");
}

#[test]
fn on_a_terminal_a_line_says_how_far_it_is_and_is_gone_when_the_summary_comes() {
    let server = name_server(|query| vec![named(query, 0)]);
    let (screen, program) = terminal(78);
    let mut command = agent();
    command.args(["probe", "dns", &server.address, "--name", "www.example.com", "--count", "40", "--every", "10ms"]);
    command.stdout(program.try_clone().unwrap()).stderr(program);
    let mut process = command.spawn().unwrap();
    drop(command);
    let written = read_all(screen);
    assert!(process.wait().unwrap().success(), "{written}");
    let lines: Vec<_> = written.split('\r').filter(|line| line.contains(" s  ")).collect();
    assert!(lines.len() >= 2, "it was rewritten: {written}");
    assert!(lines.iter().all(|line| line.chars().count() <= 77), "{written}");
    let full = lines.last().unwrap();
    for word in ["sent", "received", "0 lost", "last", "p50", "p99"] {
        assert!(full.contains(word), "{word} in {full:?}");
    }
    let shown = shown(&written);
    assert!(shown[0].starts_with(&format!("dns {}: 40 sent, 40 received, 0 lost", server.address)), "{shown:#?}");
    assert!(shown.iter().all(|line| line.chars().count() <= 78), "{shown:#?}");
    assert!(shown.iter().any(|line| line.contains('█')), "{shown:#?}");
    assert!(!written.contains('\u{1b}'), "no code that some terminal does not know");
}

#[test]
fn whoever_holds_the_terminal_holds_up_no_probe() {
    let (address, answered) = answering(400);
    // Nobody reads the screen before every probe was answered: what it holds is soon full.
    let (screen, program) = terminal(4000);
    let mut command = agent();
    command.args(["probe", "voice", &address, "--count", "400", "--every", "5ms", "--json"]);
    let mut process = command.stdout(Stdio::piped()).stderr(program).spawn().unwrap();
    drop(command);
    if answered.join().is_err() {
        process.kill().unwrap();
        panic!("probes waited for the terminal");
    }
    let reading = thread::spawn(move || read_all(screen));
    let output = process.wait_with_output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["sent"], &told["received"]), (&400.into(), &400.into()), "{told}");
    reading.join().unwrap();
}

#[test]
fn a_command_that_warns_does_so_on_a_terminal_too() {
    let (screen, program) = terminal(80);
    let mut command = agent();
    command.args(["probe", "icmp", "nobody.invalid"]).stdout(Stdio::null()).stderr(program);
    let mut process = command.spawn().unwrap();
    drop(command);
    let written = read_all(screen);
    assert_eq!(process.wait().unwrap().code(), Some(1), "{written}");
    assert!(written.contains("nobody.invalid") && !written.contains("panicked"), "{written}");
}

#[test]
fn run_logs_in_colour_on_a_terminal_and_goes_on() {
    let (screen, program) = terminal(200);
    let mut command = agent();
    command.args(["reflect", "--listen", "127.0.0.1:0"]).env_remove("NO_COLOR").stderr(program);
    let mut process = command.spawn().unwrap();
    drop(command);
    let mut screen = BufReader::new(screen);
    let mut first = String::new();
    screen.read_line(&mut first).unwrap();
    assert!(first.contains("\u{1b}[") && first.contains("reflecting probes"), "{first:?}");
    interrupt(&process);
    assert_eq!(process.wait().unwrap().code(), Some(0));
}
