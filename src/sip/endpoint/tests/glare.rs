//! Both sides at once: CANCEL and 200, BYE and BYE, offer and offer, two forks.

use expect_test::{Expect, expect};

use super::pair::{Link, Pair, Who, sdp};
use crate::sip::LegCommand;

fn check(script: impl FnOnce(&mut Pair), ladder: &Expect) {
    let mut pair = Pair::new(1, Link::default());
    script(&mut pair);
    pair.settle();
    ladder.assert_eq(&pair.ladder);
}

#[test]
fn cancel_crosses_the_200() {
    check(
        |pair| {
            pair.dial();
            pair.run_ms(100);
            pair.answer();
            pair.command(Who::Caller, LegCommand::HangUp(Vec::new()));
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 200 INVITE
            0.100 caller   > CANCEL
            0.110 caller   > ACK
            0.110 caller   > BYE
            0.110 answerer > 200 CANCEL
            0.120 answerer * Acked
            0.120 answerer > 200 BYE
            0.120 answerer * Ended ByPeer Sip 487
            0.130 caller   * Ended ByUs
        "#]],
    );
}

#[test]
fn cancel_comes_after_the_200_was_lost() {
    check(
        |pair| {
            pair.lose.push(("200 INVITE", 1));
            pair.dial();
            pair.run_ms(100);
            pair.answer();
            pair.run_ms(100);
            pair.command(Who::Caller, LegCommand::HangUp(Vec::new()));
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 200 INVITE (lost)
            0.200 caller   > CANCEL
            0.210 answerer > 200 CANCEL
            0.600 answerer > 200 INVITE
            0.610 caller   > ACK
            0.610 caller   > BYE
            0.620 answerer * Acked
            0.620 answerer > 200 BYE
            0.620 answerer * Ended ByPeer Sip 487
            0.630 caller   * Ended ByUs
        "#]],
    );
}

#[test]
fn cancel_crosses_a_refusal() {
    check(
        |pair| {
            pair.dial();
            pair.run_ms(100);
            pair.hang_up(Who::Answerer);
            pair.hang_up(Who::Caller);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 603 INVITE
            0.100 answerer * Ended ByUs
            0.100 caller   > CANCEL
            0.110 caller   > ACK
            0.110 caller   * Rejected 487 Q850 16
            0.110 answerer > 200 CANCEL
        "#]],
    );
}

#[test]
fn both_hang_up_at_once() {
    check(
        |pair| {
            pair.connect();
            pair.hang_up(Who::Caller);
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
            0.200 caller   > BYE
            0.200 answerer > BYE
            0.210 answerer > 200 BYE
            0.210 caller   > 200 BYE
            0.220 caller   * Ended ByUs
            0.220 answerer * Ended ByUs
        "#]],
    );
}

#[test]
fn both_hang_up_at_once_and_lose_the_first_answers() {
    check(
        |pair| {
            pair.connect();
            pair.lose.push(("200 BYE", 2));
            pair.hang_up(Who::Caller);
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
            0.200 caller   > BYE
            0.200 answerer > BYE
            0.210 answerer > 200 BYE (lost)
            0.210 caller   > 200 BYE (lost)
            0.700 caller   > BYE
            0.700 answerer > BYE
            0.710 answerer > 200 BYE
            0.710 caller   > 200 BYE
            0.720 caller   * Ended ByUs
            0.720 answerer * Ended ByUs
        "#]],
    );
}

#[test]
fn bye_overtakes_the_ack() {
    check(
        |pair| {
            pair.lose.push(("ACK", 1));
            pair.connect();
            pair.hang_up(Who::Caller);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 200 INVITE
            0.110 caller   > ACK (lost)
            0.110 caller   * Answered
            0.200 caller   > BYE
            0.210 answerer > 200 BYE
            0.210 answerer * Ended ByPeer Q850 16
            0.220 caller   * Ended ByUs
        "#]],
    );
}

#[test]
fn a_bye_nobody_answers_ends_by_timer_f() {
    check(
        |pair| {
            pair.connect();
            pair.lose.push(("BYE", 100));
            pair.hang_up(Who::Caller);
            pair.run_s(40);
            pair.lose.clear();
            pair.command(Who::Answerer, LegCommand::Probe);
            pair.run_s(1);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 answerer > 200 INVITE
            0.110 caller   > ACK
            0.110 caller   * Answered
            0.120 answerer * Acked
            0.200 caller   > BYE (lost)
            0.700 caller   > BYE (lost)
            1.700 caller   > BYE (lost)
            3.700 caller   > BYE (lost)
            7.700 caller   > BYE (lost)
            11.700 caller   > BYE (lost)
            15.700 caller   > BYE (lost)
            19.700 caller   > BYE (lost)
            23.700 caller   > BYE (lost)
            27.700 caller   > BYE (lost)
            31.700 caller   > BYE (lost)
            32.200 caller   * Ended ByUs
            40.200 answerer > OPTIONS
            40.210 caller   > 481 OPTIONS
            40.220 answerer * Ended Gone
        "#]],
    );
}

#[test]
fn an_answer_that_comes_too_late_is_ignored() {
    check(
        |pair| {
            pair.dial();
            pair.run_ms(100);
            pair.hang_up(Who::Caller);
            pair.run_ms(100);
            pair.command(Who::Answerer, LegCommand::Answer { sdp: sdp(5000) });
            pair.command(Who::Answerer, LegCommand::AnswerReoffer { sdp: None });
            pair.command(Who::Answerer, LegCommand::Probe);
        },
        &expect![[r#"
            0.000 caller   > INVITE
            0.010 answerer > 100 INVITE
            0.010 answerer * Incoming
            0.100 caller   > CANCEL
            0.110 answerer > 200 CANCEL
            0.110 answerer > 487 INVITE
            0.110 answerer * Cancelled Q850 16
            0.120 caller   > ACK
            0.120 caller   * Rejected 487
        "#]],
    );
}
