//! Whole calls between two endpoints, as ladders: setup, refusal, loss, CANCEL.

use expect_test::{Expect, expect};

use super::pair::{Link, Pair, Who, cause, sdp};
use crate::sip::{LegCommand, ReasonProtocol, Rejection};

/// Runs the script on a clean link, lets everything die down, and compares the ladder.
fn check(script: impl FnOnce(&mut Pair), ladder: &Expect) {
    let mut pair = Pair::new(1, Link::default());
    script(&mut pair);
    pair.settle();
    ladder.assert_eq(&pair.ladder);
}

fn progress(pair: &mut Pair, status: u16, early: bool) {
    let sdp = early.then(|| sdp(5000));
    pair.command(Who::Answerer, LegCommand::Progress { status, sdp });
}

fn reject(pair: &mut Pair, status: u16) {
    let reasons = vec![cause(ReasonProtocol::Q850, 17)];
    let rejection = Rejection {
        status,
        reasons,
        retry_after_s: Some(7),
    };
    pair.command(Who::Answerer, LegCommand::Reject(rejection));
}

#[test]
fn a_call_from_invite_to_bye() {
    check(
        |pair| {
            pair.dial();
            pair.run_ms(100);
            progress(pair, 180, false);
            pair.run_s(2);
            pair.answer();
            pair.run_s(10);
            pair.hang_up(Who::Caller);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 180 INVITE
            0.110 caller   * Ringing 180
            2.100 answerer > 200 INVITE
            2.110 caller   > ACK
            2.110 caller   * Answered
            2.120 answerer * Acked
            12.100 caller   > BYE
            12.110 answerer > 200 BYE
            12.110 answerer * Ended ByPeer Q850 16
            12.120 caller   * Ended ByUs
        "#]],
    );
}

#[test]
fn the_answerer_hangs_up() {
    check(
        |pair| {
            pair.connect();
            pair.hang_up(Who::Answerer);
            // Once is enough.
            pair.hang_up(Who::Answerer);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 200 INVITE
            0.110 caller   > ACK
            0.110 caller   * Answered
            0.120 answerer * Acked
            0.200 answerer > BYE
            0.210 caller   > 200 BYE
            0.210 caller   * Ended ByPeer Q850 16
            0.220 answerer * Ended ByUs
        "#]],
    );
}

#[test]
fn early_media_is_reported_with_its_description() {
    check(
        |pair| {
            pair.dial();
            pair.run_ms(100);
            progress(pair, 183, true);
            pair.run_ms(100);
            pair.answer();
            pair.run_ms(100);
            pair.hang_up(Who::Caller);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 183 INVITE
            0.110 caller   * Ringing 183 sdp
            0.200 answerer > 200 INVITE
            0.210 caller   > ACK
            0.210 caller   * Answered
            0.220 answerer * Acked
            0.300 caller   > BYE
            0.310 answerer > 200 BYE
            0.310 answerer * Ended ByPeer Q850 16
            0.320 caller   * Ended ByUs
        "#]],
    );
}

#[test]
fn progress_is_repeated_each_minute() {
    check(
        |pair| {
            pair.dial();
            pair.run_ms(100);
            progress(pair, 180, false);
            pair.run_s(130);
            pair.hang_up(Who::Caller);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 180 INVITE
            0.110 caller   * Ringing 180
            60.100 answerer > 180 INVITE
            60.110 caller   * Ringing 180
            120.100 answerer > 180 INVITE
            120.110 caller   * Ringing 180
            130.100 caller   > CANCEL
            130.110 answerer > 200 CANCEL
            130.110 answerer > 487 INVITE
            130.110 answerer * Cancelled Q850 16
            130.120 caller   > ACK
            130.120 caller   * Rejected 487
        "#]],
    );
}

#[test]
fn a_lost_200_is_sent_again() {
    check(
        |pair| {
            pair.lose.push(("200 INVITE", 3));
            pair.connect();
            pair.run_s(10);
            pair.hang_up(Who::Caller);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 200 INVITE (lost)
            0.600 answerer > 200 INVITE (lost)
            1.600 answerer > 200 INVITE (lost)
            3.600 answerer > 200 INVITE
            3.610 caller   > ACK
            3.610 caller   * Answered
            3.620 answerer * Acked
            10.200 caller   > BYE
            10.210 answerer > 200 BYE
            10.210 answerer * Ended ByPeer Q850 16
            10.220 caller   * Ended ByUs
        "#]],
    );
}

#[test]
fn a_lost_ack_is_sent_again_for_each_200() {
    check(
        |pair| {
            pair.lose.push(("ACK", 2));
            pair.connect();
            pair.run_s(10);
            pair.hang_up(Who::Caller);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 200 INVITE
            0.110 caller   > ACK (lost)
            0.110 caller   * Answered
            0.600 answerer > 200 INVITE
            0.610 caller   > ACK (lost)
            1.600 answerer > 200 INVITE
            1.610 caller   > ACK
            1.620 answerer * Acked
            10.200 caller   > BYE
            10.210 answerer > 200 BYE
            10.210 answerer * Ended ByPeer Q850 16
            10.220 caller   * Ended ByUs
        "#]],
    );
}

#[test]
fn without_any_ack_the_leg_ends_with_bye() {
    check(
        |pair| {
            pair.lose.push(("ACK", 100));
            pair.connect();
            pair.run_s(40);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 200 INVITE
            0.110 caller   > ACK (lost)
            0.110 caller   * Answered
            0.600 answerer > 200 INVITE
            0.610 caller   > ACK (lost)
            1.600 answerer > 200 INVITE
            1.610 caller   > ACK (lost)
            3.600 answerer > 200 INVITE
            3.610 caller   > ACK (lost)
            7.600 answerer > 200 INVITE
            7.610 caller   > ACK (lost)
            11.600 answerer > 200 INVITE
            11.610 caller   > ACK (lost)
            15.600 answerer > 200 INVITE
            15.610 caller   > ACK (lost)
            19.600 answerer > 200 INVITE
            19.610 caller   > ACK (lost)
            23.600 answerer > 200 INVITE
            23.610 caller   > ACK (lost)
            27.600 answerer > 200 INVITE
            27.610 caller   > ACK (lost)
            31.600 answerer > 200 INVITE
            31.610 caller   > ACK (lost)
            32.100 answerer * Ended NoAck
            32.100 answerer > BYE
            32.110 caller   > 200 BYE
            32.110 caller   * Ended ByPeer
        "#]],
    );
}

#[test]
fn a_hang_up_before_the_ack_waits_for_it() {
    check(
        |pair| {
            pair.lose.push(("ACK", 1));
            pair.connect();
            pair.hang_up(Who::Answerer);
            pair.run_s(5);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 200 INVITE
            0.110 caller   > ACK (lost)
            0.110 caller   * Answered
            0.600 answerer > 200 INVITE
            0.610 caller   > ACK
            0.620 answerer > BYE
            0.630 caller   > 200 BYE
            0.630 caller   * Ended ByPeer Q850 16
            0.640 answerer * Ended ByUs
        "#]],
    );
}

#[test]
fn a_hang_up_before_an_ack_that_never_comes() {
    check(
        |pair| {
            pair.lose.push(("ACK", 100));
            pair.connect();
            pair.hang_up(Who::Answerer);
            pair.run_s(40);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 200 INVITE
            0.110 caller   > ACK (lost)
            0.110 caller   * Answered
            0.600 answerer > 200 INVITE
            0.610 caller   > ACK (lost)
            1.600 answerer > 200 INVITE
            1.610 caller   > ACK (lost)
            3.600 answerer > 200 INVITE
            3.610 caller   > ACK (lost)
            7.600 answerer > 200 INVITE
            7.610 caller   > ACK (lost)
            11.600 answerer > 200 INVITE
            11.610 caller   > ACK (lost)
            15.600 answerer > 200 INVITE
            15.610 caller   > ACK (lost)
            19.600 answerer > 200 INVITE
            19.610 caller   > ACK (lost)
            23.600 answerer > 200 INVITE
            23.610 caller   > ACK (lost)
            27.600 answerer > 200 INVITE
            27.610 caller   > ACK (lost)
            31.600 answerer > 200 INVITE
            31.610 caller   > ACK (lost)
            32.100 answerer > BYE
            32.110 caller   > 200 BYE
            32.110 caller   * Ended ByPeer Q850 16
            32.120 answerer * Ended ByUs
        "#]],
    );
}

#[test]
fn a_lost_invite_is_sent_again() {
    check(
        |pair| {
            pair.lose.push(("INVITE", 2));
            pair.dial();
            pair.run_s(3);
            reject(pair, 486);
        },
        &expect![[r#"
            0.000 caller   > INVITE (lost)
            0.500 caller   > INVITE (lost)
            1.500 caller   > INVITE
            1.510 answerer > 100 INVITE
            1.510 answerer * Incoming
            3.000 answerer > 486 INVITE
            3.000 answerer * Ended ByUs
            3.010 caller   > ACK
            3.010 caller   * Rejected 486 Q850 17
        "#]],
    );
}

#[test]
fn an_invite_into_the_void_is_rejected_by_timer_b() {
    check(
        |pair| {
            pair.lose.push(("INVITE", 100));
            pair.dial();
            pair.run_s(40);
        },
        &expect![[r#"
            0.000 caller   > INVITE (lost)
            0.500 caller   > INVITE (lost)
            1.500 caller   > INVITE (lost)
            3.500 caller   > INVITE (lost)
            7.500 caller   > INVITE (lost)
            15.500 caller   > INVITE (lost)
            31.500 caller   > INVITE (lost)
            32.000 caller   * Rejected 408
        "#]],
    );
}

#[test]
fn a_refusal_is_repeated_until_its_ack() {
    check(
        |pair| {
            pair.lose.push(("ACK", 2));
            pair.dial();
            pair.run_ms(100);
            reject(pair, 486);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 486 INVITE
            0.100 answerer * Ended ByUs
            0.110 caller   > ACK (lost)
            0.110 caller   * Rejected 486 Q850 17
            0.600 answerer > 486 INVITE
            0.610 caller   > ACK (lost)
            1.600 answerer > 486 INVITE
            1.610 caller   > ACK
        "#]],
    );
}

#[test]
fn a_leg_that_is_hung_up_unanswered_says_603() {
    check(
        |pair| {
            pair.dial();
            pair.run_ms(100);
            pair.hang_up(Who::Answerer);
            pair.hang_up(Who::Answerer);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 603 INVITE
            0.100 answerer * Ended ByUs
            0.110 caller   > ACK
            0.110 caller   * Rejected 603 Q850 16
        "#]],
    );
}

#[test]
fn cancel_while_it_rings() {
    check(
        |pair| {
            pair.dial();
            pair.run_ms(100);
            progress(pair, 180, false);
            pair.run_ms(100);
            pair.command(Who::Caller, LegCommand::HangUp(Vec::new()));
            pair.command(Who::Caller, LegCommand::HangUp(Vec::new()));
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 180 INVITE
            0.110 caller   * Ringing 180
            0.200 caller   > CANCEL
            0.210 answerer > 200 CANCEL
            0.210 answerer > 487 INVITE
            0.210 answerer * Cancelled Sip 487
            0.220 caller   > ACK
            0.220 caller   * Rejected 487
        "#]],
    );
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    check(
        |pair| {
            pair.lose.push(("100 INVITE", 1));
            pair.dial();
            pair.run_ms(15);
            pair.hang_up(Who::Caller);
            pair.run_s(3);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE (lost)
            0.010 answerer * Incoming
            0.500 caller   > INVITE
            0.510 answerer > 100 INVITE
            0.520 caller   > CANCEL
            0.530 answerer > 200 CANCEL
            0.530 answerer > 487 INVITE
            0.530 answerer * Cancelled Q850 16
            0.540 caller   > ACK
            0.540 caller   * Rejected 487
        "#]],
    );
}

#[test]
fn a_hang_up_before_any_response_and_none_ever() {
    check(
        |pair| {
            pair.lose.push(("INVITE", 100));
            pair.dial();
            pair.hang_up(Who::Caller);
            pair.run_s(40);
        },
        &expect![[r#"
            0.000 caller   > INVITE (lost)
            0.500 caller   > INVITE (lost)
            1.500 caller   > INVITE (lost)
            3.500 caller   > INVITE (lost)
            7.500 caller   > INVITE (lost)
            15.500 caller   > INVITE (lost)
            31.500 caller   > INVITE (lost)
            32.000 caller   * Rejected 487
        "#]],
    );
}

#[test]
fn cancel_whose_487_never_comes_is_given_up() {
    check(
        |pair| {
            pair.dial();
            pair.run_ms(100);
            pair.lose.push(("487", 100));
            pair.lose.push(("ACK", 100));
            pair.hang_up(Who::Caller);
            pair.run_s(40);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 caller   > CANCEL
            0.110 answerer > 200 CANCEL
            0.110 answerer > 487 INVITE (lost)
            0.110 answerer * Cancelled Q850 16
            0.610 answerer > 487 INVITE (lost)
            1.610 answerer > 487 INVITE (lost)
            3.610 answerer > 487 INVITE (lost)
            7.610 answerer > 487 INVITE (lost)
            11.610 answerer > 487 INVITE (lost)
            15.610 answerer > 487 INVITE (lost)
            19.610 answerer > 487 INVITE (lost)
            23.610 answerer > 487 INVITE (lost)
            27.610 answerer > 487 INVITE (lost)
            31.610 answerer > 487 INVITE (lost)
            32.100 caller   * Rejected 487
        "#]],
    );
}
