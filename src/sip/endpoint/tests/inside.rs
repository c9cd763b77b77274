//! Requests inside a dialog of an A leg: offers, refreshes, oddities.

use expect_test::{Expect, expect};

use super::pair::sdp;
use super::solo::{Caller, Solo, offer, response};
use crate::sip::LegCommand;

/// Runs the script after a call has been set up, ends it, and compares what came after the setup.
fn check(script: impl FnOnce(&mut Solo, &mut Caller), ladder: &Expect) {
    let mut solo = Solo::new();
    let mut caller = Caller::connected(&mut solo, "");
    solo.ladder.clear();
    script(&mut solo, &mut caller);
    ladder.assert_eq(&solo.ladder);
    let bye = caller.request("BYE", "", "");
    solo.say(&bye);
    solo.settle();
}

fn answer(solo: &mut Solo) {
    solo.command(LegCommand::AnswerReoffer { sdp: Some(sdp(5000)) });
}

#[test]
fn hold_by_re_invite() {
    check(
        |solo, caller| {
            let hold = caller.request("INVITE", "", &offer(4000).replace("sendrecv", "sendonly"));
            solo.say(&hold);
            answer(solo);
            // The 200 is repeated until its ACK.
            solo.run_ms(600);
            let ack = caller.request("ACK", "", "");
            solo.say(&ack);
            solo.run_ms(5_000);
        },
        &expect![[r#"
            < INVITE
            * Reoffer
            > 200 INVITE | Session-Expires: 1800;refresher=uas | Supported: timer | Allow | sdp
            (again)
            > 200 INVITE | Session-Expires: 1800;refresher=uas | Supported: timer | Allow | sdp
            < ACK
        "#]],
    );
}

#[test]
fn a_re_invite_that_the_call_refuses_leaves_the_dialog_as_it_was() {
    check(
        |solo, caller| {
            let fax = caller.request("INVITE", "", &offer(4000));
            solo.say(&fax);
            solo.command(LegCommand::AnswerReoffer { sdp: None });
            let ack = caller.ack_refusal();
            solo.say(&ack);
            let options = caller.request("OPTIONS", "", "");
            solo.say(&options);
        },
        &expect![[r#"
            < INVITE
            * Reoffer
            > 488 INVITE
            < ACK
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
        "#]],
    );
}

#[test]
fn a_second_re_invite_has_to_wait_for_the_first() {
    check(
        |solo, caller| {
            let first = caller.request("INVITE", "", &offer(4000));
            solo.say(&first);
            let second = caller.request("INVITE", "", &offer(4002));
            solo.say(&second);
            let third = caller.request("UPDATE", "", &offer(4004));
            solo.say(&third);
        },
        &expect![[r#"
            < INVITE
            * Reoffer
            < INVITE
            > 500 INVITE | Retry-After: 6
            < UPDATE
            > 500 UPDATE | Retry-After: 0
        "#]],
    );
}

#[test]
fn an_offerless_re_invite_is_answered_in_the_ack() {
    check(
        |solo, caller| {
            let invite = caller.request("INVITE", "", "");
            solo.say(&invite);
            answer(solo);
            let ack = caller.request("ACK", "", &offer(4002));
            solo.say(&ack);
        },
        &expect![[r#"
            < INVITE
            * Reoffer without offer
            > 200 INVITE | Session-Expires: 1800;refresher=uas | Supported: timer | Allow | sdp
            < ACK
            * ReofferAnswered
        "#]],
    );
}

#[test]
fn an_offerless_re_invite_without_an_answer_ends_the_call() {
    check(
        |solo, caller| {
            let invite = caller.request("INVITE", "", "");
            solo.say(&invite);
            answer(solo);
            let ack = caller.request("ACK", "", "");
            solo.say(&ack);
        },
        &expect![[r#"
            < INVITE
            * Reoffer without offer
            > 200 INVITE | Session-Expires: 1800;refresher=uas | Supported: timer | Allow | sdp
            < ACK
            * Ended BadAnswer
            > BYE
        "#]],
    );
}

#[test]
fn cancel_of_a_re_invite() {
    check(
        |solo, caller| {
            let invite = caller.request("INVITE", "", &offer(4002));
            solo.say(&invite);
            let cancel = caller.request("CANCEL", "", "");
            solo.say(&cancel);
            answer(solo);
        },
        &expect![[r#"
            < INVITE
            * Reoffer
            < CANCEL
            > 200 CANCEL
            > 487 INVITE
        "#]],
    );
}

#[test]
fn update_with_an_offer_and_update_without() {
    check(
        |solo, caller| {
            let update = caller.request("UPDATE", "", &offer(4002));
            solo.say(&update);
            answer(solo);
            let refresh = caller.request(
                "UPDATE",
                "Supported: timer\nSession-Expires: 600;refresher=uac\n",
                "",
            );
            solo.say(&refresh);
        },
        &expect![[r#"
            < UPDATE
            * Reoffer
            > 200 UPDATE | Session-Expires: 1800;refresher=uas | Supported: timer | Allow | sdp
            < UPDATE
            > 200 UPDATE | Require: timer | Session-Expires: 600;refresher=uac | Supported: timer | Allow
        "#]],
    );
}

#[test]
fn a_session_timer_that_is_too_small() {
    check(
        |solo, caller| {
            let update = caller.request("UPDATE", "Supported: timer\nSession-Expires: 60\n", "");
            solo.say(&update);
            let invite = caller.request("INVITE", "Supported: timer\nSession-Expires: 60\n", &offer(4002));
            solo.say(&invite);
        },
        &expect![[r#"
            < UPDATE
            > 422 UPDATE | Min-SE: 90
            < INVITE
            > 422 INVITE | Min-SE: 90
        "#]],
    );
}

#[test]
fn methods_that_change_nothing() {
    check(
        |solo, caller| {
            for (method, extra, body) in [
                ("OPTIONS", "", ""),
                ("INFO", "", ""),
                ("INFO", "Content-Type: application/dtmf-relay\n", "Signal=1"),
                ("REFER", "Refer-To: <sip:else@192.0.2.9>\n", ""),
                ("PRACK", "RAck: 1 1 INVITE\n", ""),
                ("NOTIFY", "Event: refer\n", ""),
                ("MESSAGE", "", ""),
                ("FROBNICATE", "", ""),
                ("INFO", "Require: 100rel, timer, foo\n", ""),
            ] {
                let request = caller.request(method, extra, body);
                solo.say(&request);
            }
        },
        &expect![[r#"
            < OPTIONS
            > 200 OPTIONS | Accept: application/sdp | Supported: timer | Allow
            < INFO
            > 200 INFO
            < INFO
            > 415 INFO | Accept: application/sdp
            < REFER
            > 403 REFER
            < PRACK
            > 481 PRACK
            < NOTIFY
            > 481 NOTIFY
            < MESSAGE
            > 405 MESSAGE | Allow
            < FROBNICATE
            > 501 FROBNICATE | Allow
            < INFO
            > 420 INFO | Unsupported: 100rel | Unsupported: foo
        "#]],
    );
}

#[test]
fn a_cseq_that_went_backwards() {
    check(
        |solo, caller| {
            caller.cseq -= 1;
            let request = caller.request("INFO", "", "");
            solo.say(&request);
        },
        &expect![[r#"
            < INFO
            > 500 INFO
        "#]],
    );
}

#[test]
fn bodies_that_are_no_offer() {
    check(
        |solo, caller| {
            let request = caller.request("INVITE", "Content-Type: text/plain\n", "hello");
            solo.say(&request);
            let request = caller.request("UPDATE", "", "v=nonsense");
            solo.say(&request);
        },
        &expect![[r#"
            < INVITE
            > 415 INVITE | Accept: application/sdp
            < UPDATE
            * Reoffer
        "#]],
    );
}

#[test]
fn bye_while_a_re_invite_is_unanswered() {
    check(
        |solo, caller| {
            let invite = caller.request("INVITE", "", &offer(4002));
            solo.say(&invite);
            let bye = caller.request("BYE", "Reason: Q.850;cause=16\n", "");
            solo.say(&bye);
            answer(solo);
        },
        &expect![[r#"
            < INVITE
            * Reoffer
            < BYE
            > 200 BYE
            > 487 INVITE
            * Ended ByPeer Q850 16
        "#]],
    );
}

#[test]
fn hang_up_while_a_re_invite_is_unanswered() {
    check(
        |solo, caller| {
            let invite = caller.request("INVITE", "", &offer(4002));
            solo.say(&invite);
            solo.command(LegCommand::HangUp(Vec::new()));
            let bye = solo.last_request("BYE");
            solo.say(&response(&bye, "200 OK", "", "", ""));
        },
        &expect![[r#"
            < INVITE
            * Reoffer
            > 487 INVITE
            > BYE
            < 200 BYE
            * Ended ByUs
        "#]],
    );
}

#[test]
fn a_probe_and_its_answers() {
    check(
        |solo, _caller| {
            solo.command(LegCommand::Probe);
            solo.command(LegCommand::Probe);
            let options = solo.last_request("OPTIONS");
            solo.say(&response(&options, "405 No", "", "", ""));
            solo.command(LegCommand::Probe);
            let options = solo.last_request("OPTIONS");
            solo.say(&response(&options, "481 Gone", "", "", ""));
        },
        &expect![[r#"
            > OPTIONS
            < 405 OPTIONS
            * ProbeAnswered
            > OPTIONS
            < 481 OPTIONS
            * Ended Gone
        "#]],
    );
}

#[test]
fn a_probe_without_an_answer() {
    check(
        |solo, _caller| {
            solo.command(LegCommand::Probe);
            solo.run_ms(40_000);
            let bye = solo.last_request("BYE");
            solo.say(&response(&bye, "481 Gone", "", "", ""));
        },
        &expect![[r#"
            > OPTIONS
            (again)
            > OPTIONS
            (again)
            > OPTIONS
            (again)
            > OPTIONS
            (again)
            > OPTIONS
            (again)
            > OPTIONS
            (again)
            > OPTIONS
            (again)
            > OPTIONS
            (again)
            > OPTIONS
            (again)
            > OPTIONS
            (again)
            > OPTIONS
            * Ended Gone
            > BYE
            (again)
            > BYE
            (again)
            > BYE
            (again)
            > BYE
            (again)
            > BYE
            < 481 BYE
        "#]],
    );
}
