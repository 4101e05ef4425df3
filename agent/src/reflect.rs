//! A voice reflector for a host of one's own: answers IP discovery and the ping, and nothing else.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use protocols::voice;
use runtime::Shutdown;
use tokio::net::UdpSocket;

/// Longer than any question.
const PACKET: usize = 128;

/// Answers until the shutdown. A packet that cannot be answered now is not answered later: the one who asked counts it.
pub async fn run(socket: &UdpSocket, shutdown: Shutdown) -> io::Result<()> {
    let mut packet = [0; PACKET];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut packet) => received,
            () = shutdown.cancelled() => return Ok(()),
        };
        let (length, from) = match received {
            Ok(received) => received,
            // An earlier answer bounced; the socket is as good as before.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        if let Some(answer) = voice::answer(&packet[..length], from) {
            drop(socket.try_send_to(&answer, from));
        }
    }
}

/// Writes the address for a script that waits for it: it appears whole or not at all.
pub fn tell_address(file: &Path, address: SocketAddr) -> io::Result<()> {
    let draft = file.with_extension("new");
    fs::write(&draft, format!("{address}\n"))?;
    fs::rename(&draft, file)
}

#[cfg(test)]
mod tests {
    use protocols::voice::{parse_ping, ping_request};

    use super::*;

    #[tokio::test]
    async fn a_reflector_answers_questions_ignores_the_rest_and_stops() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (socket.local_addr().unwrap(), Shutdown::new());
        let asking = async {
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.send_to(b"not a question", address).await.unwrap();
            client.send_to(&ping_request(7), address).await.unwrap();
            let mut bytes = [0; PACKET];
            let length = client.recv(&mut bytes).await.unwrap();
            assert_eq!(parse_ping(&bytes[..length]), Ok(7));
            shutdown.cancel();
        };
        let (stopped, ()) = tokio::join!(run(&socket, shutdown.clone()), asking);
        stopped.unwrap();
    }

    #[test]
    fn the_address_file_holds_the_address_and_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("reflector.address");
        tell_address(&file, "127.0.0.1:4711".parse().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "127.0.0.1:4711\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
