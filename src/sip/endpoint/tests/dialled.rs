//! B legs against a peer written by hand: forks, challenges, routes, strange answers.

use expect_test::{Expect, expect};

use super::pair::{dial_to, sdp};
use super::solo::{PEER, Solo, offer, response};
use crate::secret::Secret;
use crate::sip::message::Method;
use crate::sip::{Credentials, Dial, LegCommand};

fn check(script: impl FnOnce(&mut Solo), ladder: &Expect) {
    let mut solo = Solo::new();
    script(&mut solo);
    solo.settle();
    ladder.assert_eq(&solo.ladder);
}

const CONTACT: &str = "Contact: <sip:b@192.0.2.1:5070>\n";

fn dial_with_password() -> Dial {
    let credentials = Credentials {
        username: "u".into(),
        password: Secret::new("p".into()),
    };
    Dial {
        credentials: Some(credentials),
        ..dial_to(PEER.parse().unwrap())
    }
}

/// The peer takes our BYE.
fn take_bye(solo: &mut Solo) {
    let bye = solo.last_request("BYE");
    solo.say(&response(&bye, "200 OK", "", "", ""));
}

#[test]
fn early_dialogs_and_a_second_fork() {
    check(
        |solo| {
            let invite = solo.dial();
            solo.say(&response(&invite, "100 Trying", "", "", ""));
            solo.say(&response(&invite, "180 Ringing", "one", CONTACT, ""));
            solo.say(&response(&invite, "183 Progress", "two", CONTACT, &offer(4002)));
            solo.say(&response(&invite, "200 OK", "one", CONTACT, &offer(4000)));
            // The same fork again: only the ACK. Another: ACK and BYE. That one again: its ACK.
            solo.say(&response(&invite, "200 OK", "one", CONTACT, &offer(4000)));
            solo.say(&response(&invite, "200 OK", "two", CONTACT, &offer(4002)));
            take_bye(solo);
            solo.say(&response(&invite, "200 OK", "two", CONTACT, &offer(4002)));
            solo.command(LegCommand::HangUp(Vec::new()));
            take_bye(solo);
            // Late forks still find somebody.
            solo.say(&response(&invite, "200 OK", "three", CONTACT, &offer(4004)));
            take_bye(solo);
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 100 INVITE
            < 180 INVITE
            * Ringing 180
            < 183 INVITE
            * Ringing 183 sdp
            < 200 INVITE
            > ACK
            * Answered
            < 200 INVITE
            (again)
            > ACK
            < 200 INVITE
            > ACK
            > BYE | Reason: SIP;cause=487
            < 200 BYE
            < 200 INVITE
            (again)
            > ACK
            > BYE
            < 200 BYE
            * Ended ByUs
            < 200 INVITE
            > ACK
            > BYE | Reason: SIP;cause=487
            < 200 BYE
        "#]],
    );
}

#[test]
fn a_challenge_from_the_destination_is_answered_once() {
    check(
        |solo| {
            let invite = solo.dial_with(dial_with_password());
            let asked = "Proxy-Authenticate: Digest realm=\"x\", nonce=\"n\", algorithm=MD5\n";
            solo.say(&response(&invite, "407 Who", "a", asked, ""));
            let again = solo.last_request("INVITE");
            assert_eq!(again.cseq().0, invite.cseq().0 + 1);
            assert_eq!(again.call_id(), invite.call_id());
            assert_ne!(again.via().branch, invite.via().branch);
            solo.say(&response(&again, "407 Who", "a", asked, ""));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 407 INVITE
            > ACK
            > INVITE | Accept: application/sdp | Min-SE: 90 | Proxy-Authorization: Digest username="u", realm="x", nonce="n", uri="sip:+493023125101@192.0.2.1:5060", response="e01261ec818b7b334a3e22b16adf7d77", algorithm=MD5 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 407 INVITE
            > ACK
            * Rejected 407
        "#]],
    );
}

#[test]
fn a_challenge_from_elsewhere_is_not_answered() {
    check(
        |solo| {
            let invite = solo.dial_with(dial_with_password());
            let asked = "WWW-Authenticate: Digest realm=\"x\", nonce=\"n\"\n";
            solo.say_from("192.0.2.1:9999", &response(&invite, "401 Who", "a", asked, ""));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 401 INVITE
            > ACK
            * Rejected 401
        "#]],
    );
}

#[test]
fn a_challenge_without_a_password_is_a_refusal() {
    check(
        |solo| {
            let invite = solo.dial();
            let asked = "WWW-Authenticate: Digest realm=\"x\", nonce=\"n\"\n";
            solo.say(&response(&invite, "401 Who", "a", asked, ""));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 401 INVITE
            > ACK
            * Rejected 401
        "#]],
    );
}

#[test]
fn a_redirection_is_not_followed() {
    check(
        |solo| {
            let invite = solo.dial();
            solo.say(&response(
                &invite,
                "302 Elsewhere",
                "a",
                "Contact: <sip:+1900@192.0.2.66>\n",
                "",
            ));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 302 INVITE
            > ACK
            * Rejected 302
        "#]],
    );
}

#[test]
fn requests_follow_the_route_set() {
    check(
        |solo| {
            let invite = solo.dial();
            let routes = "Record-Route: <sip:192.0.2.31;lr>, <sip:192.0.2.32:5062;lr>\nContact: <sip:b;x=y@host.invalid>\n";
            solo.say(&response(&invite, "200 OK", "a", routes, &offer(4000)));
            assert_eq!(solo.sent.last().unwrap().0, "192.0.2.32:5062".parse().unwrap());
            assert_eq!(solo.last_request("ACK").uri.as_str(), "sip:b;x=y@host.invalid");
            solo.command(LegCommand::HangUp(Vec::new()));
            let bye = solo.last_request("BYE");
            assert_eq!(bye.cseq().0, invite.cseq().0 + 1);
            // The proxy is no trunk, but no stranger either.
            solo.say_from("192.0.2.32:5062", &response(&bye, "200 OK", "", "", ""));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 200 INVITE
            > ACK | Route: <sip:192.0.2.32:5062;lr> | Route: <sip:192.0.2.31;lr>
            * Answered
            > BYE | Route: <sip:192.0.2.32:5062;lr> | Route: <sip:192.0.2.31;lr>
            < 200 BYE
            * Ended ByUs
        "#]],
    );
}

#[test]
fn a_strict_router_takes_the_request_uri() {
    check(
        |solo| {
            let invite = solo.dial();
            let routes = "Record-Route: <sip:192.0.2.31>\nContact: <sip:b@192.0.2.50>\n";
            solo.say(&response(&invite, "200 OK", "a", routes, &offer(4000)));
            assert_eq!(solo.last_request("ACK").uri.as_str(), "sip:192.0.2.31");
            solo.command(LegCommand::HangUp(Vec::new()));
            take_bye(solo);
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 200 INVITE
            > ACK | Route: <sip:b@192.0.2.50>
            * Answered
            > BYE | Route: <sip:b@192.0.2.50>
            < 200 BYE
            * Ended ByUs
        "#]],
    );
}

#[test]
fn a_200_without_an_answer_takes_that_of_its_183() {
    check(
        |solo| {
            let invite = solo.dial();
            solo.say(&response(&invite, "183 Progress", "a", CONTACT, &offer(4002)));
            solo.say(&response(&invite, "200 OK", "a", CONTACT, ""));
            solo.command(LegCommand::HangUp(Vec::new()));
            take_bye(solo);
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 183 INVITE
            * Ringing 183 sdp
            < 200 INVITE
            > ACK
            * Answered
            > BYE
            < 200 BYE
            * Ended ByUs
        "#]],
    );
}

#[test]
fn a_200_without_any_answer_ends_the_leg() {
    check(
        |solo| {
            let invite = solo.dial();
            solo.say(&response(&invite, "183 Progress", "b", CONTACT, &offer(4002)));
            solo.say(&response(&invite, "200 OK", "a", CONTACT, ""));
            take_bye(solo);
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 183 INVITE
            * Ringing 183 sdp
            < 200 INVITE
            > ACK
            * Ended BadAnswer
            > BYE
            < 200 BYE
        "#]],
    );
}

#[test]
fn a_refusal_with_reasons() {
    check(
        |solo| {
            let invite = solo.dial();
            let why = "Reason: Q.850;cause=34;text=\"no circuit\"\nRetry-After: 30\n";
            solo.say(&response(&invite, "503 Full", "a", why, ""));
            // Repeated refusals get the ACK again.
            solo.say(&response(&invite, "503 Full", "a", why, ""));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 503 INVITE
            > ACK
            * Rejected 503 Q850 34
            < 503 INVITE
            (again)
            > ACK
        "#]],
    );
}

#[test]
fn a_peer_that_calls_back_into_an_early_dialog() {
    check(
        |solo| {
            let invite = solo.dial();
            solo.say(&response(&invite, "180 Ringing", "a", CONTACT, ""));
            for method in [Method::Update, Method::Options, Method::Bye] {
                let request = format!(
                    "{0} sip:cardline@192.0.2.2 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{0}\n\
                     From: <sip:b@192.0.2.1>;tag=a\nTo: {1}\nCall-ID: {2}\nCSeq: 1 {0}\n\n",
                    method.as_str(),
                    invite.from().raw,
                    invite.call_id(),
                );
                solo.say(&request);
            }
            solo.command(LegCommand::HangUp(Vec::new()));
            let cancel = solo.last_request("CANCEL");
            assert_eq!(cancel.via().raw, invite.via().raw);
            assert_eq!(cancel.cseq().0, invite.cseq().0);
            solo.say(&response(&cancel, "200 OK", "a", "", ""));
            solo.say(&response(&invite, "487 Ended", "a", "", ""));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 180 INVITE
            * Ringing 180
            < UPDATE
            > 500 UPDATE | Retry-After: 0
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
            < BYE
            > 481 BYE
            > CANCEL | Reason: SIP;cause=487
            < 200 CANCEL
            < 487 INVITE
            > ACK
            * Rejected 487
        "#]],
    );
}

#[test]
fn a_cancelled_invite_that_is_never_ended() {
    check(
        |solo| {
            let invite = solo.dial();
            solo.say(&response(&invite, "180 Ringing", "a", CONTACT, ""));
            solo.command(LegCommand::HangUp(Vec::new()));
            let cancel = solo.last_request("CANCEL");
            solo.say(&response(&cancel, "200 OK", "a", "", ""));
            solo.run_ms(32_000);
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 180 INVITE
            * Ringing 180
            > CANCEL | Reason: SIP;cause=487
            < 200 CANCEL
            * Rejected 487
        "#]],
    );
}

#[test]
fn a_b_leg_shows_its_own_names_only() {
    let mut solo = Solo::new();
    let invite = solo.dial();
    assert_eq!(invite.uri.as_str(), "sip:+493023125101@192.0.2.1:5060");
    assert_eq!(invite.to().uri, invite.uri);
    assert_eq!(invite.from().display.as_deref(), Some("Karte \"7\""));
    assert_eq!(invite.from().uri.as_str(), "sip:+491701234567@192.0.2.2:5060");
    assert_eq!(invite.contact().unwrap().as_str(), "sip:cardline@192.0.2.2:5060");
    assert_eq!(invite.max_forwards(), Some(69));
    assert_eq!(invite.body(), sdp(4000).to_string().as_bytes());
    assert_eq!(invite.header("User-Agent"), Some("Cardline"));
    let hidden = Dial {
        from_user: "anonymous".into(),
        ..dial_to(PEER.parse().unwrap())
    };
    solo.leg = crate::ids::LegKey(2);
    let other = solo.dial_with(hidden);
    assert_eq!(other.from().uri.as_str(), "sip:anonymous@anonymous.invalid");
    assert_ne!(other.call_id(), invite.call_id());
    assert_ne!(other.from().tag, invite.from().tag);
}
