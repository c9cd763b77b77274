//! The session timer in both roles (RFC 4028).

use expect_test::{Expect, expect};

use super::pair::{Link, Pair, Who, dial_to};
use super::solo::{Caller, PEER, Solo, offer, response};

fn check(script: impl FnOnce(&mut Solo), ladder: &Expect) {
    let mut solo = Solo::new();
    script(&mut solo);
    solo.settle();
    ladder.assert_eq(&solo.ladder);
}

fn end(solo: &mut Solo, caller: &mut Caller) {
    let bye = caller.request("BYE", "", "");
    solo.say(&bye);
}

#[test]
fn a_peer_that_wants_to_refresh_and_does_not() {
    check(
        |solo| {
            let extra = "Supported: timer\nSession-Expires: 90;refresher=uac\n";
            Caller::connected(solo, extra);
            solo.run_ms(59_999);
            solo.run_ms(1);
            let bye = solo.last_request("BYE");
            solo.say(&response(&bye, "481 Gone", "", "", ""));
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            > 200 INVITE | Require: timer | Session-Expires: 90;refresher=uac | Supported: timer | Allow | sdp
            < ACK
            * Acked
            * Ended SessionExpired
            > BYE
            < 481 BYE
        "#]],
    );
}

#[test]
fn a_peer_that_wants_to_refresh_and_does() {
    check(
        |solo| {
            let extra = "Supported: timer\nSession-Expires: 90;refresher=uac\n";
            let mut caller = Caller::connected(solo, extra);
            for _ in 0..3 {
                solo.run_ms(45_000);
                let update = caller.request("UPDATE", extra, "");
                solo.say(&update);
            }
            end(solo, &mut caller);
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            > 200 INVITE | Require: timer | Session-Expires: 90;refresher=uac | Supported: timer | Allow | sdp
            < ACK
            * Acked
            < UPDATE
            > 200 UPDATE | Require: timer | Session-Expires: 90;refresher=uac | Supported: timer | Allow
            < UPDATE
            > 200 UPDATE | Require: timer | Session-Expires: 90;refresher=uac | Supported: timer | Allow
            < UPDATE
            > 200 UPDATE | Require: timer | Session-Expires: 90;refresher=uac | Supported: timer | Allow
            < BYE
            > 200 BYE
            * Ended ByPeer
        "#]],
    );
}

#[test]
fn we_refresh_by_update_where_the_peer_takes_it() {
    check(
        |solo| {
            let extra = "Allow: INVITE, UPDATE\nSupported: timer\nSession-Expires: 100\n";
            let mut caller = Caller::connected(solo, extra);
            solo.run_ms(50_000);
            let update = solo.last_request("UPDATE");
            solo.say(&response(
                &update,
                "200 OK",
                "",
                "Session-Expires: 100;refresher=uac\n",
                "",
            ));
            solo.run_ms(50_000);
            let update = solo.last_request("UPDATE");
            solo.say(&response(&update, "481 Gone", "", "", ""));
            end(solo, &mut caller);
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            > 200 INVITE | Session-Expires: 100;refresher=uas | Supported: timer | Allow | sdp
            < ACK
            * Acked
            > UPDATE | Min-SE: 90 | Session-Expires: 100;refresher=uac | Supported: timer | Allow
            < 200 UPDATE
            > UPDATE | Min-SE: 90 | Session-Expires: 100;refresher=uac | Supported: timer | Allow
            < 481 UPDATE
            * Ended Gone
            < BYE
            # NoDialog
            > 481 BYE
        "#]],
    );
}

#[test]
fn we_refresh_by_re_invite_where_not() {
    check(
        |solo| {
            let mut caller = Caller::connected(solo, "Supported: timer\nSession-Expires: 100\n");
            solo.run_ms(50_000);
            let invite = solo.last_request("INVITE");
            let answer = response(
                &invite,
                "200 OK",
                "",
                "Session-Expires: 100;refresher=uac\n",
                &offer(4000),
            );
            solo.say(&answer);
            // Once more, since the ACK was lost.
            solo.say(&answer);
            end(solo, &mut caller);
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            > 200 INVITE | Session-Expires: 100;refresher=uas | Supported: timer | Allow | sdp
            < ACK
            * Acked
            > INVITE | Min-SE: 90 | Session-Expires: 100;refresher=uac | Supported: timer | Allow | sdp
            < 200 INVITE
            > ACK
            < 200 INVITE
            (again)
            > ACK
            < BYE
            > 200 BYE
            * Ended ByPeer
        "#]],
    );
}

#[test]
fn a_refusal_of_update_makes_us_try_re_invite() {
    check(
        |solo| {
            let extra = "Allow: UPDATE\nSupported: timer\nSession-Expires: 100\n";
            let mut caller = Caller::connected(solo, extra);
            solo.run_ms(50_000);
            let update = solo.last_request("UPDATE");
            solo.say(&response(&update, "405 No", "", "", ""));
            let invite = solo.last_request("INVITE");
            solo.say(&response(&invite, "422 Small", "", "Min-SE: 200\n", ""));
            let invite = solo.last_request("INVITE");
            solo.say(&response(
                &invite,
                "200 OK",
                "",
                "Session-Expires: 200;refresher=uac\n",
                &offer(4002),
            ));
            end(solo, &mut caller);
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            > 200 INVITE | Session-Expires: 100;refresher=uas | Supported: timer | Allow | sdp
            < ACK
            * Acked
            > UPDATE | Min-SE: 90 | Session-Expires: 100;refresher=uac | Supported: timer | Allow
            < 405 UPDATE
            > INVITE | Min-SE: 90 | Session-Expires: 100;refresher=uac | Supported: timer | Allow | sdp
            < 422 INVITE
            > ACK
            > INVITE | Min-SE: 90 | Session-Expires: 200;refresher=uac | Supported: timer | Allow | sdp
            < 200 INVITE
            > ACK
            * ReofferAnswered
            < BYE
            > 200 BYE
            * Ended ByPeer
        "#]],
    );
}

#[test]
fn two_re_invites_at_once_both_get_491() {
    check(
        |solo| {
            let mut caller = Caller::connected(solo, "Supported: timer\nSession-Expires: 100\n");
            solo.run_ms(50_000);
            let ours = solo.last_request("INVITE");
            let theirs = caller.request("INVITE", "", &offer(4002));
            solo.say(&theirs);
            let ack = caller.ack_refusal();
            solo.say(&ack);
            solo.say(&response(&ours, "491 Pending", "", "", ""));
            solo.run_ms(2_000);
            let ours = solo.last_request("INVITE");
            solo.say(&response(&ours, "200 OK", "", "", &offer(4000)));
            end(solo, &mut caller);
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            > 200 INVITE | Session-Expires: 100;refresher=uas | Supported: timer | Allow | sdp
            < ACK
            * Acked
            > INVITE | Min-SE: 90 | Session-Expires: 100;refresher=uac | Supported: timer | Allow | sdp
            < INVITE
            > 491 INVITE
            < ACK
            < 491 INVITE
            > ACK
            > INVITE | Min-SE: 90 | Session-Expires: 100;refresher=uac | Supported: timer | Allow | sdp
            < 200 INVITE
            > ACK
            < BYE
            > 200 BYE
            * Ended ByPeer
        "#]],
    );
}

#[test]
fn a_refresh_that_is_refused_until_the_end() {
    check(
        |solo| {
            Caller::connected(solo, "Supported: timer\nSession-Expires: 90\n");
            solo.run_ms(45_000);
            for _ in 0..5 {
                let ours = solo.last_request("INVITE");
                solo.say(&response(&ours, "500 Later", "", "", ""));
                solo.run_ms(10_000);
            }
            let bye = solo.last_request("BYE");
            solo.say(&response(&bye, "200 OK", "", "", ""));
        },
        &expect![[r#"
            < INVITE
            > 100 INVITE
            * Incoming
            > 200 INVITE | Session-Expires: 90;refresher=uas | Supported: timer | Allow | sdp
            < ACK
            * Acked
            > INVITE | Min-SE: 90 | Session-Expires: 90;refresher=uac | Supported: timer | Allow | sdp
            < 500 INVITE
            > ACK
            > INVITE | Min-SE: 90 | Session-Expires: 90;refresher=uac | Supported: timer | Allow | sdp
            < 500 INVITE
            > ACK
            > INVITE | Min-SE: 90 | Session-Expires: 90;refresher=uac | Supported: timer | Allow | sdp
            < 500 INVITE
            > ACK
            > INVITE | Min-SE: 90 | Session-Expires: 90;refresher=uac | Supported: timer | Allow | sdp
            < 500 INVITE
            > ACK
            > INVITE | Min-SE: 90 | Session-Expires: 90;refresher=uac | Supported: timer | Allow | sdp
            < 500 INVITE
            > ACK
            * Ended SessionExpired
            > BYE
            (again)
            > BYE
            (again)
            > BYE
            (again)
            > BYE
            < 200 BYE
        "#]],
    );
}

#[test]
fn a_session_expires_below_90_gets_422() {
    check(
        |solo| {
            let mut caller = Caller::new();
            let invite = caller.request("INVITE", "Supported: timer\nSession-Expires: 30\n", &offer(4000));
            solo.say(&invite);
            let ack = caller.ack_refusal();
            solo.say(&ack);
        },
        &expect![[r#"
            < INVITE
            > 422 INVITE | Min-SE: 90
            < ACK
        "#]],
    );
}

#[test]
fn our_invite_that_gets_422_is_tried_once_more() {
    check(
        |solo| {
            let invite = solo.dial_with(dial_to(PEER.parse().unwrap()));
            solo.say(&response(&invite, "422 Small", "x", "Min-SE: 3600\n", ""));
            let invite = solo.last_request("INVITE");
            solo.say(&response(&invite, "422 Small", "x", "Min-SE: 3601\n", ""));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 422 INVITE
            > ACK
            > INVITE | Accept: application/sdp | Min-SE: 3600 | Session-Expires: 3600 | Supported: timer | Allow | sdp
            < 422 INVITE
            > ACK
            * Rejected 422
        "#]],
    );
}

#[test]
fn a_b_leg_whose_peer_refreshes() {
    check(
        |solo| {
            let invite = solo.dial();
            let extra = "Contact: <sip:b@192.0.2.1>\nRequire: timer\nSession-Expires: 90;refresher=uas\n";
            solo.say(&response(&invite, "200 OK", "x", extra, &offer(4000)));
            solo.run_ms(60_000);
            let bye = solo.last_request("BYE");
            solo.say(&response(&bye, "200 OK", "", "", ""));
        },
        &expect![[r#"
            > INVITE | Accept: application/sdp | Min-SE: 90 | Session-Expires: 1800 | Supported: timer | Allow | sdp
            < 200 INVITE
            > ACK
            * Answered
            * Ended SessionExpired
            > BYE
            < 200 BYE
        "#]],
    );
}

#[test]
fn two_endpoints_refresh_each_other_for_hours() {
    let mut pair = Pair::with(3, Link::default(), |_, config| config.session.expires_s = 600);
    pair.connect();
    pair.run_s(3 * 3600);
    assert_eq!(pair.heard(Who::Caller), ["Answered"]);
    assert_eq!(pair.heard(Who::Answerer), ["Incoming", "Acked"]);
    let refreshes = pair.ladder.matches("> UPDATE").count();
    assert_eq!(refreshes, 3 * 3600 / 300 - 1, "{}", pair.ladder);
    pair.hang_up(Who::Answerer);
    pair.settle();
}

#[test]
fn a_peer_that_vanishes_is_noticed_by_the_refresh() {
    let mut pair = Pair::with(3, Link::default(), |_, config| config.session.expires_s = 600);
    pair.connect();
    pair.lose.push(("", 10_000));
    pair.run_s(700);
    assert_eq!(pair.heard(Who::Caller), ["Answered", "Ended SessionExpired"]);
    assert_eq!(pair.heard(Who::Answerer), ["Incoming", "Acked", "Ended Gone"]);
    pair.settle();
}
