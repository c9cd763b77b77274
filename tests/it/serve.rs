//! The whole daemon on ephemeral ports: it answers, refuses to start in words, and ends.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use cardline::config::{self, Config};
use cardline::serve::{self, StartFault};

use crate::database::{Database, Kind, server};

/// A wait that long is a failure; nothing waits for it when all is well.
const FAILED: Duration = Duration::from_secs(10);

pub fn config_in(folder: &Path, more: &str) -> Config {
    let folder = folder.display();
    let text = format!(
        r#"
        [sip]
        listen = ["udp://127.0.0.1:0"]
        [media]
        listen = "127.0.0.1"
        ports = "45000-45999"
        stock = 4
        [store]
        url = "sqlite://{folder}/cardline.db"
        [admin]
        socket = "{folder}/admin.sock"
        http = ""
        [[trunk]]
        name = "carrier"
        peers = ["127.0.0.1"]
        {more}
        "#
    );
    config::parse("test.toml", &text).unwrap()
}

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(FAILED)).unwrap();
    socket
}

/// Sends a request outside any dialog and gives the answer.
fn ask(socket: &UdpSocket, to: SocketAddr, method: &str, branch: &str) -> String {
    let me = socket.local_addr().unwrap();
    let request = format!(
        "{method} sip:{to} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {me};rport;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:peer@{me}>;tag=1\r\n\
         To: <sip:{to}>\r\n\
         Call-ID: {branch}@{me}\r\n\
         CSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    socket.send_to(request.as_bytes(), to).unwrap();
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer in time");
    assert_eq!(from, to);
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_is_answered_and_a_stop_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let running = serve::start(config_in(folder.path(), ""), None).await.unwrap();
    let line = running.ready_line();
    assert!(line.contains(&format!("udp://{}", running.sip[0])), "{line}");
    assert!(running.prompts > 300);
    let socket = peer();
    let answer = ask(&socket, running.sip[0], "OPTIONS", "one");
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    let answer = ask(&socket, running.sip[0], "PUBLISH", "two");
    assert!(
        answer.starts_with("SIP/2.0 405") || answer.starts_with("SIP/2.0 501"),
        "{answer}"
    );
    let sip = running.sip[0];
    running.stop().await;
    assert!(!folder.path().join("admin.sock").exists());
    UdpSocket::bind(sip).expect("the port is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_database_serves_one_daemon_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = serve::start(config_in(folder.path(), ""), None).await.unwrap();
    let mut second = config_in(folder.path(), "");
    second.admin.socket = folder.path().join("second.sock");
    let refusal = serve::start(second, None).await.unwrap_err().to_string();
    assert!(refusal.contains("another cardline is serving it"), "{refusal}");
    assert!(refusal.contains("cardline.db.lock"), "{refusal}");
    first.stop().await;
    let next = serve::start(config_in(folder.path(), ""), None).await.unwrap();
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_daemon_without_calls_ends() {
    let folder = tempfile::tempdir().unwrap();
    let running = serve::start(config_in(folder.path(), ""), None).await.unwrap();
    running.drain().await;
    running.wait().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stops_a_start_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let refused = async |config: Config, words: &[&str]| {
        let fault: StartFault = serve::start(config, None).await.unwrap_err();
        for word in words {
            assert!(fault.to_string().contains(word), "{fault}: want {word:?}");
        }
    };
    let taken = peer();
    let mut config = config_in(path, "");
    config.sip.listen[0].udp = taken.local_addr().unwrap();
    refused(config, &["cannot listen on udp://127.0.0.1", "another program"]).await;

    let mut config = config_in(path, "");
    config.prompts.dir = Some(path.join("nowhere"));
    refused(config, &["prompts.dir", "nowhere"]).await;

    let mut config = config_in(path, "");
    config.store.url = format!("sqlite://{}/nowhere/cardline.db", path.display());
    refused(config, &["nowhere"]).await;

    let mut config = config_in(path, "");
    config.store.url = "postgres://nobody@127.0.0.1:1/none".to_owned();
    config.store.pin_key_file = Some(path.join("pin.key"));
    refused(config, &["postgres://nobody@127.0.0.1:1/none", "store.url"]).await;

    let blocker = peer();
    let port = blocker.local_addr().unwrap().port();
    let mut config = config_in(path, "");
    let first = port - port % 2;
    config.media.ports = first..=first + 1;
    refused(config, &["media.ports", "127.0.0.1"]).await;

    let secret = path.join("no-password");
    let more = format!(
        "proxy = \"sip:127.0.0.1:9\"\nusername = \"me\"\npassword_file = \"{}\"",
        secret.display()
    );
    refused(config_in(path, &more), &["carrier", "no-password"]).await;
}

/// On PostgreSQL two daemons share the books; each needs a name of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_of_one_name_is_refused_until_the_first_has_ended() {
    if server().is_none() {
        return;
    }
    let database = Database::new(Kind::Postgres).await;
    let folders: Vec<tempfile::TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let config = |n: usize, name: &str| {
        let mut config = config_in(folders[n].path(), "");
        config.store.url.clone_from(&database.url);
        // One key for all of them.
        config.store.pin_key_file = Some(database.dir.path().join("pin.key"));
        config.store.journal = Some(folders[n].path().join("cardline.journal"));
        config.node.name = name.to_owned();
        config
    };
    let first = serve::start(config(0, "one"), None).await.unwrap();
    let other = serve::start(config(1, "two"), None).await.unwrap();
    let fault = serve::start(config(2, "one"), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(fault.contains("\"one\" is served by another cardline"), "{fault}");
    let nodes = other.store.nodes().await.unwrap();
    let names: Vec<&str> = nodes.iter().map(|row| row.node.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(
        nodes
            .iter()
            .all(|row| row.lease_ms.is_some_and(|ms| ms <= 10_000))
    );
    first.stop().await;
    let third = serve::start(config(2, "one"), None).await.unwrap();
    third.stop().await;
    other.stop().await;
}
