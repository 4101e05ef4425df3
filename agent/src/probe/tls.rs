//! TLS: how long a connection and its handshake take. It is closed at once.

use std::sync::Arc;

use super::dial::Dialer;
use super::phases::carry_through;
use super::{Order, Report};

pub async fn probe(order: Order, dialer: Arc<Dialer>) -> Report {
    carry_through(order, dialer.phases(), dialer.clock, async |phases| dialer.dial(phases).await.map(drop)).await
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::super::bench::{Authority, closed, dialer, listener, order, plan, told};
    use super::*;

    async fn probed(address: &str, keys: &str, timeout: Duration) -> Vec<String> {
        let plan = plan(address, "tls", keys);
        told(&probe(order(timeout), Arc::new(dialer(&plan.probes()[0]))).await)
    }

    async fn server(tasks: &mut JoinSet<()>, authority: &Authority) -> SocketAddr {
        let ((listener, address), acceptor) = (listener().await, authority.acceptor(&[]));
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                acceptor.accept(stream).await.ok();
            }
        });
        address
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_address_has_no_dns_phase_and_a_name_has() {
        let (mut tasks, authority) = (JoinSet::new(), Authority::new());
        let address = server(&mut tasks, &authority).await;
        let by_address = probed(&address.to_string(), &authority.trusted(), LONG).await;
        assert_eq!(by_address, ["connect reply", "tls reply"]);
        let by_name = probed(&format!("localhost:{}", address.port()), &authority.trusted(), LONG).await;
        assert_eq!(by_name, ["dns reply", "connect reply", "tls reply"]);
    }

    #[tokio::test]
    async fn a_handshake_tells_when_the_certificate_ends_also_where_it_fails_of_that() {
        // One that is good, and one that is not believed.
        for year in [2099, 2020] {
            let (mut tasks, authority) = (JoinSet::new(), Authority::until(year));
            let address = server(&mut tasks, &authority).await.to_string();
            let plan = plan(&address, "tls", &authority.trusted());
            let report = probe(order(LONG), Arc::new(dialer(&plan.probes()[0]))).await;
            let Report::Phased { not_after: Some(end), .. } = report else { panic!("{report:?}") };
            assert_eq!(end.to_string(), format!("{year}-01-01T00:00:00Z"));
        }
    }

    #[tokio::test]
    async fn a_certificate_of_an_unknown_authority_or_another_name_fails_at_tls_alone() {
        let (mut tasks, authority) = (JoinSet::new(), Authority::new());
        let address = server(&mut tasks, &authority).await.to_string();
        assert_eq!(probed(&address, "", LONG).await, ["connect reply", "tls tls"]);
        let other_name = format!("{}\nserver_name = \"edge.example.com\"", authority.trusted());
        assert_eq!(probed(&address, &other_name, LONG).await, ["connect reply", "tls tls"]);
        let server_name = format!("{}\nserver_name = \"localhost\"", authority.trusted());
        assert_eq!(probed(&address, &server_name, LONG).await, ["connect reply", "tls reply"]);
    }

    #[tokio::test]
    async fn an_expired_certificate_fails_at_tls() {
        let (mut tasks, authority) = (JoinSet::new(), Authority::until(2020));
        let address = server(&mut tasks, &authority).await.to_string();
        assert_eq!(probed(&address, &authority.trusted(), LONG).await, ["connect reply", "tls tls"]);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_at_the_connection_and_at_all_that_was_to_follow() {
        let address = closed().await.to_string();
        assert_eq!(probed(&address, "", LONG).await, ["connect refused", "tls refused"]);
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_times_out_at_tls() {
        let (_listener, address) = listener().await;
        let told = probed(&address.to_string(), "", Duration::from_millis(50)).await;
        assert_eq!(told, ["connect reply", "tls timeout"]);
    }

    #[tokio::test]
    async fn a_name_that_is_not_known_is_a_dns_failure_at_every_phase() {
        let told = probed("nobody.invalid:443", "", LONG).await;
        assert_eq!(told, ["dns dns", "connect dns", "tls dns"]);
    }
}
