//! The door itself: strangers, junk, requests outside dialogs, A legs before their answer, limits.

use expect_test::{Expect, expect};

use super::pair::{dial_to, sdp};
use super::solo::{Caller, PEER, Solo, offer, response};
use crate::ids::LegKey;
use crate::sip::{Counter, EndpointInput, LegCommand, Rejection};

fn check(script: impl FnOnce(&mut Solo), ladder: &Expect) {
    let mut solo = Solo::new();
    script(&mut solo);
    solo.settle();
    ladder.assert_eq(&solo.ladder);
}

/// A request outside any dialog that can be changed piece by piece.
fn plain(method: &str) -> String {
    Caller::new().request(method, "", "")
}

#[test]
fn a_stranger_gets_silence() {
    check(
        |solo| {
            solo.say_from("203.0.113.5:5060", &plain("OPTIONS"));
            solo.say_from("203.0.113.5:5060", &plain("INVITE"));
            solo.datagram("203.0.113.5:5060", b"junk".to_vec());
        },
        &expect![[r#"
            < OPTIONS
            # Stranger
            < INVITE
            # Stranger
            # Stranger
        "#]],
    );
}

#[test]
fn the_destination_of_a_b_leg_is_no_stranger_while_it_lives() {
    check(
        |solo| {
            let invite = solo.dial_with(dial_to("198.51.100.7:5060".parse().unwrap()));
            solo.say_from("198.51.100.7:5060", &plain("OPTIONS"));
            solo.say_from("198.51.100.7:5060", &plain("INVITE"));
            solo.say_from("198.51.100.7:5060", &Caller::new().ack_refusal_of_first());
            solo.say_from("198.51.100.7:5060", &response(&invite, "486 Busy", "a", "", ""));
            solo.run_ms(40_000);
            solo.say_from("198.51.100.7:5060", &plain("OPTIONS"));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
            < INVITE
            > 403 INVITE
            < ACK
            < 486 INVITE
            > ACK
            * Rejected 486
            < OPTIONS
            # Stranger
        "#]],
    );
}

#[test]
fn junk_is_counted_and_keep_alives_are_not() {
    check(
        |solo| {
            for bytes in [
                "\r\n\r\n",
                "\0",
                "",
                "GET / HTTP/1.1\r\n\r\n",
                "SIP/2.0 200 OK\r\n\r\n",
                "x",
            ] {
                solo.datagram(PEER, bytes.into());
            }
        },
        &expect![[r#"
            # Junk
            # Junk
            # Junk
        "#]],
    );
}

#[test]
fn a_malformed_request_gets_400_once_per_datagram() {
    check(
        |solo| {
            solo.say(&plain("OPTIONS").replace("CSeq: 101 OPTIONS\n", ""));
            solo.say(&plain("OPTIONS").replace("Content-Length: 0", "Content-Length: 10"));
            solo.say(&plain("OPTIONS").replace("SIP/2.0\nVia", "SIP/7.0\nVia"));
            solo.say(&plain("ACK").replace("CSeq: 100 ACK\n", ""));
        },
        &expect![[r#"
            < OPTIONS
            # Malformed
            > SIP/2.0 400 Bad Request (no CSeq, or two)
            < OPTIONS
            # Malformed
            > 400 OPTIONS
            < OPTIONS
            # Malformed
            > 505 OPTIONS
            < ACK
            # Junk
        "#]],
    );
}

#[test]
fn a_response_to_nothing_is_counted() {
    check(
        |solo| {
            let invite = solo.dial();
            solo.say(&response(&invite, "200 OK", "a", "", "").replace("z9hG4bK", "z9hG4bKx"));
            let two = response(&invite, "200 OK", "a", "", "").replacen(
                "Via",
                "Via: SIP/2.0/UDP other;branch=z9hG4bK1\nVia",
                1,
            );
            solo.say(&two);
            let wrong_method = response(&invite, "200 OK", "a", "", "").replace(" INVITE", " BYE");
            solo.say(&wrong_method);
            solo.say(&response(&invite, "486 Busy", "a", "", ""));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 200 INVITE
            # StrayResponse
            < 200 INVITE
            # StrayResponse
            < 200 BYE
            # StrayResponse
            < 486 INVITE
            > ACK
            * Rejected 486
        "#]],
    );
}

#[test]
fn options_says_what_we_can_and_503_when_drained() {
    check(
        |solo| {
            solo.say(&plain("OPTIONS"));
            solo.say(&plain("OPTIONS"));
            solo.give(EndpointInput::Drain(true));
            solo.say(
                &plain("OPTIONS")
                    .replace("peer1", "peer9")
                    .replace("CSeq: 101", "CSeq: 102"),
            );
            let zero = plain("OPTIONS").replace("Max-Forwards: 70", "Max-Forwards: 0");
            solo.give(EndpointInput::Drain(false));
            solo.say(&zero.replace("peer1", "peer8").replace("CSeq: 101", "CSeq: 103"));
        },
        &expect![[r#"
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
            < OPTIONS
            (again)
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
            < OPTIONS
            > 503 OPTIONS | Retry-After: 10
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
        "#]],
    );
}

#[test]
fn methods_that_we_do_not_take() {
    check(
        |solo| {
            for method in [
                "REGISTER",
                "SUBSCRIBE",
                "MESSAGE",
                "PUBLISH",
                "REFER",
                "NEWMETHOD",
                "invite",
                "BYE",
                "INFO",
                "UPDATE",
            ] {
                solo.say(&plain(method));
            }
        },
        &expect![[r#"
            < REGISTER
            > 405 REGISTER | Allow
            < SUBSCRIBE
            > 405 SUBSCRIBE | Allow
            < MESSAGE
            > 405 MESSAGE | Allow
            < PUBLISH
            > 405 PUBLISH | Allow
            < REFER
            > 405 REFER | Allow
            < NEWMETHOD
            > 501 NEWMETHOD | Allow
            < invite
            > 501 invite | Allow
            < BYE
            > 481 BYE
            < INFO
            > 481 INFO
            < UPDATE
            > 481 UPDATE
        "#]],
    );
}

#[test]
fn what_an_invite_may_not_be() {
    check(
        |solo| {
            let invite = || Caller::new().request("INVITE", "", &offer(4000));
            for (old, new) in [
                ("Max-Forwards: 70", "Max-Forwards: 0"),
                ("sip:+493023125101@192.0.2.2 SIP", "mailto:a@b.invalid SIP"),
                (
                    "sip:+493023125101@192.0.2.2 SIP",
                    "sips:+493023125101@192.0.2.2 SIP",
                ),
                (
                    "Max-Forwards: 70",
                    "Max-Forwards: 70\nRequire: 100rel, timer\nRequire: nothing",
                ),
                ("application/sdp", "text/html"),
                ("Max-Forwards: 70", "Max-Forwards: 70\nContent-Encoding: gzip"),
                ("Max-Forwards: 70", "Max-Forwards: 70\nAccept: text/plain"),
                (
                    "To: <sip:+493023125101@192.0.2.2>",
                    "To: <sip:+493023125101@192.0.2.2>;tag=gone",
                ),
            ] {
                solo.say(&invite().replace(old, new));
                let ack = Caller::new().ack_refusal_of_first();
                solo.say(&ack);
                solo.run_ms(6_000);
            }
        },
        &expect![[r#"
            < INVITE
            # Loop
            > 483 INVITE
            < ACK
            < INVITE
            > 416 INVITE
            < ACK
            < INVITE
            > 416 INVITE
            < ACK
            < INVITE
            > 420 INVITE | Unsupported: 100rel | Unsupported: nothing
            < ACK
            < INVITE
            > 415 INVITE | Accept: application/sdp
            < ACK
            < INVITE
            > 415 INVITE
            < ACK
            < INVITE
            > 406 INVITE
            < ACK
            < INVITE
            # NoDialog
            > 481 INVITE
            < ACK
        "#]],
    );
}

#[test]
fn our_own_invite_that_comes_back_is_a_loop() {
    check(
        |solo| {
            let ours = solo.dial();
            let marker = format!("X-Cardline-Loop: {}\n", ours.header("X-Cardline-Loop").unwrap());
            let looped = Caller::new().request("INVITE", &marker, &offer(4000));
            solo.say(&looped);
            solo.say(&Caller::new().ack_refusal_of_first());
            solo.run_ms(6_000);
            let via = format!("Via: {}\n", ours.via().raw);
            let looped = Caller::new().request("INVITE", &via, &offer(4000));
            solo.say(&looped);
            solo.say(&Caller::new().ack_refusal_of_first());
            solo.say(&response(&ours, "482 Loop", "a", "", ""));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < INVITE
            # Loop
            > 482 INVITE
            < ACK
            (again)
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            (again)
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            (again)
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < INVITE
            # Loop
            > 482 INVITE
            < ACK
            < 482 INVITE
            > ACK
            * Rejected 482
        "#]],
    );
}

#[test]
fn the_same_request_over_two_ways_is_merged() {
    check(
        |solo| {
            let invite = Caller::new().request("INVITE", "", &offer(4000));
            solo.say(&invite);
            solo.say(&invite);
            solo.say(&invite.replace("peer1", "other"));
            solo.say(&Caller::new().ack_refusal_of_first().replace("peer1", "other"));
            solo.command(LegCommand::HangUp(Vec::new()));
            solo.say(&Caller::new().ack_refusal_of_first());
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            < INVITE
            (again)
            > 100 INVITE
            < INVITE
            > 482 INVITE
            < ACK
            > 603 INVITE
            * Ended ByUs
            < ACK
        "#]],
    );
}

#[test]
fn cancel_and_ack_that_fit_nothing() {
    check(
        |solo| {
            solo.say(&plain("CANCEL"));
            solo.say(&plain("ACK"));
        },
        &expect![[r#"
            < CANCEL
            > 481 CANCEL
            < ACK
        "#]],
    );
}

#[test]
fn requests_that_share_a_branch_are_told_apart() {
    check(
        |solo| {
            let options = plain("OPTIONS");
            solo.say(&options);
            solo.say(&options.replace("CSeq: 101", "CSeq: 7"));
            solo.say(&options.replace("call@", "other@"));
            solo.say(&options.replace("UDP 192.0.2.1:5060", "UDP 192.0.2.1:5061"));
            solo.say(&options.replace("OPTIONS", "REGISTER"));
        },
        &expect![[r#"
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
            < REGISTER
            > 405 REGISTER | Allow
        "#]],
    );
}

#[test]
fn a_peer_of_rfc_2543_without_cookie_and_tags() {
    check(
        |solo| {
            let old = |method: &str| {
                let extra = if method == "INVITE" {
                    offer(4000)
                } else {
                    String::new()
                };
                Caller::new()
                    .request(method, "", &extra)
                    .replace(";branch=z9hG4bKpeer1", "")
                    .replace(";tag=peer", "")
                    .replace(&format!("101 {method}"), &format!("100 {method}"))
            };
            solo.say(&old("INVITE"));
            solo.say(&old("INVITE"));
            solo.command(LegCommand::Reject(Rejection {
                status: 404,
                reasons: Vec::new(),
                retry_after_s: None,
            }));
            solo.say(&old("ACK"));
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            < INVITE
            (again)
            > 100 INVITE
            > 404 INVITE
            * Ended ByUs
            < ACK
        "#]],
    );
}

#[test]
fn a_late_offer_is_ours_in_the_200() {
    check(
        |solo| {
            let mut caller = Caller::new();
            let invite = caller.request("INVITE", "", "");
            solo.say(&invite);
            solo.command(LegCommand::Answer { sdp: sdp(5000) });
            caller.learn_tag(solo);
            let ack = caller.request("ACK", "", &offer(4000));
            solo.say(&ack);
            let bye = caller.request("BYE", "", "");
            solo.say(&bye);
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming without offer
            > 200 INVITE | Session-Expires: 1800;refresher=uas | Supported: timer | Allow | sdp
            < ACK
            * Acked with answer
            < BYE
            > 200 BYE
            * Ended ByPeer
        "#]],
    );
}

#[test]
fn a_late_offer_that_the_ack_does_not_answer() {
    check(
        |solo| {
            let mut caller = Caller::new();
            let invite = caller.request("INVITE", "", "");
            solo.say(&invite);
            solo.command(LegCommand::Answer { sdp: sdp(5000) });
            caller.learn_tag(solo);
            let ack = caller.request("ACK", "", "");
            solo.say(&ack);
            let bye = solo.last_request("BYE");
            solo.say(&response(&bye, "200 OK", "", "", ""));
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming without offer
            > 200 INVITE | Session-Expires: 1800;refresher=uas | Supported: timer | Allow | sdp
            < ACK
            * Ended BadAnswer
            > BYE
            < 200 BYE
        "#]],
    );
}

#[test]
fn requests_in_an_early_dialog() {
    check(
        |solo| {
            let mut caller = Caller::new();
            let invite = caller.request("INVITE", "", &offer(4000));
            solo.say(&invite);
            solo.command(LegCommand::Progress {
                status: 183,
                sdp: Some(sdp(5000)),
            });
            caller.learn_tag(solo);
            for (method, body) in [
                ("UPDATE", ""),
                ("UPDATE", "v=0\n"),
                ("PRACK", ""),
                ("OPTIONS", ""),
                ("BYE", ""),
            ] {
                let request = caller.request(method, "", body);
                solo.say(&request);
            }
            let ack = Caller::new().ack_refusal_of_first();
            solo.say(&ack);
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            > 183 INVITE | Allow | sdp
            < UPDATE
            > 200 UPDATE
            < UPDATE
            > 500 UPDATE | Retry-After: 6
            < PRACK
            > 481 PRACK
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
            < BYE
            > 200 BYE
            > 487 INVITE
            * Cancelled
            < ACK
        "#]],
    );
}

#[test]
fn an_ack_of_a_2xx_under_the_branch_of_its_invite() {
    check(
        |solo| {
            let mut caller = Caller::new();
            let invite = caller.request("INVITE", "", &offer(4000));
            solo.say(&invite);
            solo.command(LegCommand::Answer { sdp: sdp(5000) });
            caller.learn_tag(solo);
            let ack = caller.ack_refusal();
            solo.say(&ack);
            solo.say(&ack);
            let bye = caller.request("BYE", "", "");
            solo.say(&bye);
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            > 200 INVITE | Session-Expires: 1800;refresher=uas | Supported: timer | Allow | sdp
            < ACK
            * Acked
            < ACK
            < BYE
            > 200 BYE
            * Ended ByPeer
        "#]],
    );
}

#[test]
fn responses_go_where_the_via_and_the_source_say() {
    for (via, from, to) in [
        ("192.0.2.1:5060", "192.0.2.1:5060", "192.0.2.1:5060"),
        ("192.0.2.1:5060", "192.0.2.1:40000", "192.0.2.1:5060"),
        ("192.0.2.1", "192.0.2.1:40000", "192.0.2.1:5060"),
        ("10.0.0.9:5070", "192.0.2.1:40000", "192.0.2.1:5070"),
        ("10.0.0.9:5070;rport", "192.0.2.1:40000", "192.0.2.1:40000"),
        (
            "10.0.0.9:5070;maddr=203.0.113.9",
            "192.0.2.1:40000",
            "192.0.2.1:5070",
        ),
        ("host.invalid:5071;rport", "192.0.2.1:6", "192.0.2.1:6"),
    ] {
        let mut solo = Solo::new();
        solo.say_from(
            from,
            &plain("OPTIONS").replace("UDP 192.0.2.1:5060", &format!("UDP {via}")),
        );
        assert_eq!(solo.sent[0].0, to.parse().unwrap(), "{via} from {from}");
    }
}

#[test]
fn full_tables_refuse_new_calls_and_let_running_ones_end() {
    let mut solo = Solo::with(|config| {
        config.max_legs = 1;
        config.max_transactions = 4;
    });
    let mut caller = Caller::connected(&mut solo, "");
    let other = Caller::new()
        .request("INVITE", "", &offer(4000))
        .replace("call@", "other@");
    solo.say(&other);
    assert_eq!(solo.counts, [Counter::Full]);
    for _ in 0..5 {
        let info = caller.request("INFO", "", "");
        solo.say(&info);
    }
    assert_eq!(solo.endpoint.load().transactions, 5);
    let bye = caller.request("BYE", "", "");
    solo.say(&bye);
    assert!(solo.ladder.ends_with("* Ended ByPeer\n"), "{}", solo.ladder);
    // Without room for a transaction the answer still comes, and a leg cannot be dialled.
    solo.say(&other);
    solo.leg = LegKey(9);
    let dial = Box::new(dial_to(PEER.parse().unwrap()));
    solo.give(EndpointInput::Dial { leg: LegKey(9), dial });
    assert!(solo.ladder.ends_with("* Rejected 503\n"), "{}", solo.ladder);
    solo.settle();
}

#[test]
fn a_second_leg_under_the_same_key_is_not_begun() {
    let mut solo = Solo::new();
    solo.dial();
    let dial = Box::new(dial_to(PEER.parse().unwrap()));
    solo.give(EndpointInput::Dial { leg: LegKey(1), dial });
    assert_eq!(solo.sent.len(), 1);
    assert!(solo.events.is_empty());
}

#[test]
fn no_reply_is_longer_than_a_few_requests() {
    // A forged source must not get much more than it sent (reliability T11).
    let mut solo = Solo::new();
    let options = plain("OPTIONS");
    solo.say(&options);
    assert!(
        solo.sent[0].1.len() < 2 * options.len(),
        "{}",
        solo.sent[0].1.len()
    );
}
