//! Reading and writing whole messages.

#![expect(clippy::indexing_slicing, reason = "a test may fail on a bad index")]

use super::*;
use crate::sip::{Reason, ReasonProtocol};

const INVITE: &str = "INVITE sip:+493023125101@192.0.2.1:5060;user=phone SIP/2.0\r\n\
    v: SIP/2.0/UDP 192.0.2.9:5080;branch=z9hG4bKabc;rport\r\n\
    Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1, SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bK2\r\n\
    Record-Route: <sip:p2.example;lr>,<sip:p1.example;lr>\r\n\
    Max-Forwards: 68\r\n\
    f: \"Ada, \\\"L\\\"\" <sip:+491701234567@example.com>;tag=88a7\r\n\
    To: sip:+493023125101@192.0.2.1\r\n\
    i: 1234@192.0.2.9\r\n\
    CSeq: 4711\r\n  INVITE\r\n\
    m: <sip:trunk@192.0.2.9:5080>\r\n\
    x: 1800;refresher=uac\r\n\
    Supported: timer, 100rel\r\n\
    Supported: histinfo\r\n\
    c: application/SDP;charset=x\r\n\
    l: 4\r\n\r\nv=0\nrest";

fn parse_request(text: &str) -> Request {
    match Message::parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("no request: {other:?}"),
    }
}

#[test]
fn an_invite_with_compact_names_folding_and_lists_is_read() {
    let invite = parse_request(INVITE);
    assert_eq!(invite.method, Method::Invite);
    assert_eq!(invite.uri.user().as_deref(), Some("+493023125101"));
    assert_eq!(invite.via().branch.as_deref(), Some("z9hG4bKabc"));
    assert_eq!(invite.via().rport, Rport::Asked);
    assert_eq!(invite.vias_raw().count(), 3);
    assert_eq!(invite.from().display.as_deref(), Some("Ada, \"L\""));
    assert_eq!(invite.from().tag.as_deref(), Some("88a7"));
    assert_eq!(invite.cseq(), (4711, &Method::Invite));
    assert_eq!(
        invite.contact().and_then(|c| c.address()),
        Some("192.0.2.9:5080".parse().unwrap())
    );
    assert_eq!(invite.session_expires(), Some((1800, Some(Refresher::Uac))));
    assert_eq!(
        invite.supported().collect::<Vec<_>>(),
        ["timer", "100rel", "histinfo"]
    );
    assert_eq!(
        invite.record_routes(),
        ["<sip:p2.example;lr>", "<sip:p1.example;lr>"]
    );
    assert_eq!(invite.content_type().as_deref(), Some("application/sdp"));
    assert_eq!(invite.body(), b"v=0\n");
    assert_eq!(invite.max_forwards(), Some(68));
}

#[test]
fn a_response_echoes_the_request_and_is_read_again() {
    let invite = parse_request(INVITE);
    let reasons = [Reason {
        protocol: ReasonProtocol::Q850,
        cause: 16,
        text: Some("time \"used\" up\r\nX: y".to_owned()),
    }];
    let bytes = ResponseBuilder::response_to(&invite, 200, Some("ours"), "192.0.2.77:9999".parse().unwrap())
        .header("Contact", "<sip:cardline@192.0.2.1:5060>\r\nEvil: 1")
        .reasons(&reasons)
        .body("application/sdp", b"v=0\r\n".to_vec())
        .build();
    let response = Response::parse(&bytes).expect("our own response is readable");
    assert_eq!((response.status, response.reason_phrase.as_str()), (200, "OK"));
    assert_eq!(
        response.vias_raw().next(),
        Some("SIP/2.0/UDP 192.0.2.9:5080;branch=z9hG4bKabc;received=192.0.2.77;rport=9999")
    );
    assert_eq!(response.vias_raw().count(), 3);
    assert_eq!(response.to().tag.as_deref(), Some("ours"));
    assert_eq!(response.from(), invite.from());
    assert_eq!(response.cseq(), invite.cseq());
    assert_eq!(response.record_routes(), invite.record_routes());
    assert_eq!(response.header("Evil"), None);
    assert_eq!(
        response.reasons()[0].text.as_deref(),
        Some("time \"used\" upX: y")
    );
    assert_eq!(response.body(), b"v=0\r\n");
}

#[test]
fn the_session_description_is_found_in_a_plain_and_in_a_multipart_body() {
    let multipart = "--b1\r\nContent-Type: application/ISUP;version=x\r\n\r\n\0\u{1}\r\n--b1\r\n\
        Content-Language: de\r\nc: application/sdp\r\n\r\nv=0\r\ns=-\r\n--b1--\r\n";
    let without = "--b1\r\n\r\nv=0\r\n--b1--\r\n";
    let rows = [
        ("application/sdp", "v=0\r\n", Some("v=0\r\n")),
        ("Application/SDP; charset=utf-8", "v=0\r\n", Some("v=0\r\n")),
        ("application/sdp", "", None),
        ("text/plain", "v=0\r\n", None),
        (
            "multipart/mixed;boundary=\"b1\"",
            multipart,
            Some("v=0\r\ns=-\r\n"),
        ),
        ("multipart/mixed; boundary=b2", multipart, None),
        ("multipart/mixed", multipart, None),
        ("multipart/mixed;boundary=b1", without, None),
    ];
    for (kind, body, want) in rows {
        let head = INVITE
            .split("c: application")
            .next()
            .expect("the head without its end");
        let length = body.len();
        let text = format!("{head}c: {kind}\r\nl: {length}\r\n\r\n{body}");
        let request = parse_request(&text);
        assert_eq!(request.sdp(), want.map(str::as_bytes), "{kind}: {body:?}");
    }
}
