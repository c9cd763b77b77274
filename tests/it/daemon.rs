//! One whole call through the daemon: real sockets, real time, a caller and an advisor who speak
//! SIP and RTP by hand. What the store then holds is compared with the telephones' own stopwatch.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use cardline::serve;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::admin::desk::ask;
use super::serve::config_in;

const NUMBER: &str = "+493023125101";
const LINE: &str = "+493045678901";
const TALK: Duration = Duration::from_secs(2);
const PACKET: Duration = Duration::from_millis(20);
/// A wait that long is a failure; nothing waits for it when all is well.
const FAILED: Duration = Duration::from_secs(30);
/// What each says: A-law values that no prompt and no silence is made of alone.
const CALLER_SAYS: u8 = 0x2a;
const ADVISOR_SAYS: u8 = 0xb3;

#[tokio::test(flavor = "multi_thread")]
async fn a_talk_through_the_daemon_is_in_the_books_as_the_telephones_measured_it() {
    let folder = tempfile::tempdir().unwrap();
    let running = serve::start(config_in(folder.path(), ""), None).await.unwrap();
    let (caller, advisor) = (Phone::new(running.sip[0]), Phone::new(running.sip[0]));
    let socket = folder.path().join("admin.sock");
    let serial = a_bound_card(&socket, advisor.sip_port()).await;

    let call = tokio::task::spawn_blocking(move || talk(&caller, &advisor));
    let measured = i64::try_from(call.await.unwrap().as_millis()).unwrap();

    let row = the_ended_call(&socket).await;
    let raw = row["raw_ms"].as_i64().unwrap();
    assert!((raw - measured).abs() <= 1000, "measured {measured} ms: {row}");
    assert_eq!(row["end_cause"], "caller_bye", "{row}");
    assert_eq!(
        (&row["card"], &row["caller"], &row["codec"]),
        (&json!(serial), &json!(LINE), &json!("PCMA")),
        "{row}"
    );
    for time in ["answered_at", "ringing_at", "advisor_answered_at", "bridged_at"] {
        assert!(row[time].is_string(), "{time}: {row}");
    }
    let card = get(&socket, &format!("/api/v1/cards/{serial}")).await;
    let billed = row["billed_ms"].as_i64().unwrap();
    assert!(billed >= raw, "{row}");
    assert_eq!(card["reserved_ms"], 0, "{card}");
    assert_eq!(card["balance_ms"], 600_000 - billed, "{card}");
    let check = post(&socket, "/api/v1/ledger/check", json!({})).await;
    assert_eq!(check["clean"], true, "{check}");
    running.stop().await;
}

/// A project with one number and one advisor; a card of ten minutes that the caller's line is bound to.
pub(super) async fn a_bound_card(socket: &Path, advisor: u16) -> String {
    let target = format!("sip:advisor@127.0.0.1:{advisor}");
    for (path, body) in [
        (
            "projects",
            json!({ "name": "test1", "language": "en", "free_under_ms": 0 }),
        ),
        (
            "numbers",
            json!({ "number": NUMBER, "project": "test1", "role": "both" }),
        ),
        ("targets", json!({ "project": "test1", "address": target })),
    ] {
        post(socket, &format!("/api/v1/{path}"), body).await;
    }
    let card = post(
        socket,
        "/api/v1/cards",
        json!({ "project": "test1", "minutes": 10 }),
    )
    .await;
    let serial = card["serial"].as_str().unwrap().to_owned();
    post(
        socket,
        &format!("/api/v1/cards/{serial}/lines"),
        json!({ "number": LINE }),
    )
    .await;
    serial
}

/// The one call's row, once it is closed.
async fn the_ended_call(socket: &Path) -> Value {
    let begin = stopwatch();
    loop {
        let calls = get(socket, "/api/v1/calls").await;
        let row = &calls["calls"][0];
        if row["state"] == "ended" {
            return row.clone();
        }
        assert!(begin.elapsed() < FAILED, "the call's row is not closed: {calls}");
    }
}

pub(super) async fn get(socket: &Path, path: &str) -> Value {
    operate(socket, "GET", path, "").await
}

pub(super) async fn post(socket: &Path, path: &str, body: Value) -> Value {
    operate(socket, "POST", path, &body.to_string()).await
}

async fn operate(socket: &Path, method: &str, path: &str, body: &str) -> Value {
    let stream = UnixStream::connect(socket).await.unwrap();
    let reply = ask(TokioIo::new(stream), method, path, body, &[]).await;
    assert!(reply.status < 300, "{method} {path}: {}", reply.json);
    reply.json
}

/// Rings, talks, hangs up. Gives what a stopwatch at the advisor's telephone shows.
fn talk(caller: &Phone, advisor: &Phone) -> Duration {
    let (dialog, begin) = connect(caller, advisor);
    hang_up(caller, advisor, &dialog, begin)
}

/// The caller is answered.
pub(super) fn ring(caller: &Phone) -> (Dialog, SocketAddr) {
    let uri = format!("sip:{NUMBER}@{}", caller.daemon);
    let mut dialog = Dialog {
        uri: uri.clone(),
        from: format!("<sip:{LINE}@127.0.0.1>;tag=caller"),
        to: format!("<{uri}>"),
    };
    caller.request(&dialog, "INVITE", 1, &caller.description());
    let answer = caller.hears("SIP/2.0 200");
    dialog.to = header(&answer, "To").to_owned();
    dialog.uri = between(header(&answer, "Contact"), "<", ">").to_owned();
    caller.request(&dialog, "ACK", 1, "");
    (dialog, audio(&answer))
}

/// Rings and talks for a while; the stopwatch began with the advisor's answer.
pub(super) fn connect(caller: &Phone, advisor: &Phone) -> (Dialog, Instant) {
    let (dialog, caller_rtp) = ring(caller);
    let invite = advisor.hears("INVITE sip:advisor@");
    advisor.respond(&invite, "180 Ringing", "");
    advisor.respond(&invite, "200 OK", &advisor.description());
    let begin = stopwatch();
    advisor.hears("ACK ");
    both_speak(caller, caller_rtp, advisor, audio(&invite));
    (dialog, begin)
}

pub(super) fn hang_up(caller: &Phone, advisor: &Phone, dialog: &Dialog, begin: Instant) -> Duration {
    caller.request(dialog, "BYE", 2, "");
    let bye = advisor.hears("BYE ");
    let measured = begin.elapsed();
    advisor.respond(&bye, "200 OK", "");
    caller.hears("SIP/2.0 200");
    measured
}

/// Both send a packet each 20 ms, and each hears the other.
fn both_speak(caller: &Phone, caller_rtp: SocketAddr, advisor: &Phone, advisor_rtp: SocketAddr) {
    let begin = stopwatch();
    let (mut at_caller, mut at_advisor) = (0, 0);
    for n in 1.. {
        caller.speaks(n, CALLER_SAYS, caller_rtp);
        advisor.speaks(n, ADVISOR_SAYS, advisor_rtp);
        let next = PACKET * u32::from(n);
        while let Some(left) = next
            .checked_sub(begin.elapsed())
            .filter(|left| left.as_millis() > 0)
        {
            at_advisor += advisor.listens(left / 2, CALLER_SAYS);
            at_caller += caller.listens(left / 2, ADVISOR_SAYS);
        }
        if begin.elapsed() >= TALK {
            break;
        }
    }
    for (who, heard) in [("caller", at_caller), ("advisor", at_advisor)] {
        assert!(heard >= 50, "the {who} heard {heard} packets of the other side");
    }
}

pub(super) struct Dialog {
    /// Request-URI.
    uri: String,
    from: String,
    to: String,
}

/// A telephone of two sockets.
pub(super) struct Phone {
    sip: UdpSocket,
    rtp: UdpSocket,
    daemon: SocketAddr,
}

impl Phone {
    pub(super) fn new(daemon: SocketAddr) -> Phone {
        let open = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (sip, rtp) = (open(), open());
        sip.set_read_timeout(Some(FAILED)).unwrap();
        Phone { sip, rtp, daemon }
    }

    pub(super) fn sip_port(&self) -> u16 {
        self.sip.local_addr().unwrap().port()
    }

    fn description(&self) -> String {
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {} RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n",
            self.rtp.local_addr().unwrap().port()
        )
    }

    fn request(&self, dialog: &Dialog, method: &str, cseq: u32, body: &str) {
        let me = self.sip.local_addr().unwrap();
        let Dialog { uri, from, to } = dialog;
        let text = format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {me};rport;branch=z9hG4bK{method}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: talk@{me}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:phone@{me}>\r\n{}",
            content(body)
        );
        self.sip.send_to(text.as_bytes(), self.daemon).unwrap();
    }

    pub(super) fn respond(&self, request: &str, status: &str, body: &str) {
        let me = self.sip.local_addr().unwrap();
        let [via, from, to, call_id, cseq] =
            ["Via", "From", "To", "Call-ID", "CSeq"].map(|name| header(request, name));
        let tag = if to.contains("tag=") { "" } else { ";tag=phone" };
        let text = format!(
            "SIP/2.0 {status}\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to}{tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq}\r\nContact: <sip:phone@{me}>\r\n{}",
            content(body)
        );
        self.sip.send_to(text.as_bytes(), self.daemon).unwrap();
    }

    /// The next message that begins so, past others.
    pub(super) fn hears(&self, begin: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let received = self.sip.recv_from(&mut buffer);
            let (length, from) = received.unwrap_or_else(|fault| panic!("no {begin:?}: {fault}"));
            assert_eq!(from, self.daemon);
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.starts_with(begin) {
                return text;
            }
        }
    }

    /// One packet of 20 ms (RFC 3550 §5.1: version 2, payload type 8).
    fn speaks(&self, n: u16, value: u8, to: SocketAddr) {
        let mut packet = vec![0x80, 8];
        packet.extend(n.to_be_bytes());
        packet.extend((u32::from(n) * 160).to_be_bytes());
        packet.extend([0, 0, 0, value]);
        packet.extend([value; 160]);
        self.rtp.send_to(&packet, to).unwrap();
    }

    /// 1 if what comes within `limit` is a packet of this value.
    fn listens(&self, limit: Duration, value: u8) -> u32 {
        let mut buffer = [0; 2048];
        let limit = limit.max(Duration::from_micros(100));
        self.rtp.set_read_timeout(Some(limit)).unwrap();
        let received = self.rtp.recv_from(&mut buffer);
        u32::from(received.is_ok_and(|(length, _)| length == 172 && buffer[12..172] == [value; 160]))
    }
}

fn content(body: &str) -> String {
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/sdp\r\n"
    };
    format!("{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The one header of that name.
fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let line = message
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {message}")).trim()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap();
    rest.split_once(after).map_or(rest, |(inside, _)| inside)
}

/// Where a description wants its audio.
fn audio(message: &str) -> SocketAddr {
    let port = between(message, "m=audio ", " ").parse().unwrap();
    SocketAddr::new(between(message, "c=IN IP4 ", "\r\n").parse().unwrap(), port)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the telephones measure by a clock of their own"
)]
pub(super) fn stopwatch() -> Instant {
    Instant::now()
}
