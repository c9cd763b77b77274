//! Whole calls between two endpoints, as ladders.

use expect_test::{Expect, expect};

use super::pair::{Link, Pair, Who};
use crate::sip::{LegCommand, ReasonProtocol, Rejection};

/// Runs the script on a clean link, lets everything die down, and compares the ladder.
fn check(script: impl FnOnce(&mut Pair), ladder: &Expect) {
    let mut pair = Pair::new(1, Link::default());
    script(&mut pair);
    pair.settle();
    ladder.assert_eq(&pair.ladder);
}

#[test]
fn a_call_from_invite_to_bye() {
    check(
        |pair| {
            pair.dial();
            pair.run_ms(100);
            pair.command(
                Who::Answerer,
                LegCommand::Progress {
                    status: 180,
                    sdp: None,
                },
            );
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
