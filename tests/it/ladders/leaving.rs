//! The caller leaves, or the operator ends the call, in every state.

use std::time::Duration;

use cardline::ids::Side;
use expect_test::expect_file;

use super::world::{ACTIVATION, ANNA, CONSULTATION, World, one_target, two_targets_with_accept_key};
use super::{PIN, check, dialling, talking};

/// A world that has just entered the state.
fn in_state(state: &str) -> World {
    let mut world = match state {
        "accept" => World::with(|_| {}, two_targets_with_accept_key),
        _ => World::with(|_| {}, one_target),
    };
    let words = format!("call    = {state}");
    match state {
        "answer" | "identify" => world.dials(ANNA, CONSULTATION),
        "bind" | "offer" => {
            world.dials(ANNA, ACTIVATION);
            world.until("call    = pin");
            // The last digit comes from the loop below, so that nothing runs past the state.
            world.types(Side::A, &PIN[..9]);
            world.press(Side::A, '0');
        }
        "pin" => world.dials(ANNA, CONSULTATION),
        "final" => {
            world.bind(1, ANNA);
            world.books.card(1).balance_ms = 20_000;
            world.dials(ANNA, CONSULTATION);
        }
        _ => {
            world.bind(1, ANNA);
            world.dials(ANNA, CONSULTATION);
        }
    }
    if !world.ladder.contains(&words) {
        world.until_exactly(&words);
    }
    world
}

const STATES: [&str; 11] = [
    "answer", "identify", "pin", "bind", "announce", "offer", "reserve", "dial", "accept", "bridge", "final",
];

#[test]
fn the_caller_leaves_in_each_state() {
    for state in STATES {
        let mut world = in_state(state);
        world.run_ms(5);
        world.hangs_up(0);
        let cause = if state == "final" {
            "credit_end"
        } else {
            "caller_bye"
        };
        world.until(&format!("call    = ended {cause}"));
        world.ends();
    }
}

#[test]
fn the_operator_ends_the_call_in_each_state() {
    for state in STATES {
        let mut world = in_state(state);
        world.kills();
        let cause = if state == "final" {
            "credit_end"
        } else {
            "admin_kill"
        };
        world.run_s(5);
        assert!(
            world.ladder.contains(&format!("call    = ended {cause}")),
            "{state}: {}",
            world.ladder
        );
        world.ends();
    }
}

#[test]
fn the_caller_leaves_at_any_moment() {
    // All through a short call: ringing, talk, cut and last words; a prime, so as to hit between.
    for moment in (0..45_000).step_by(193) {
        let mut world = World::with(|_| {}, one_target);
        world.bind(1, ANNA);
        world.books.card(1).balance_ms = 15_000;
        world.dials(ANNA, CONSULTATION);
        world.run_ms(moment);
        world.hangs_up(0);
        world.ends();
    }
}

#[test]
fn the_advisor_leaves_at_any_moment() {
    for moment in (0..15_000).step_by(97) {
        let mut world = dialling(World::with(|_| {}, one_target));
        world.run_ms(50 + moment);
        if world.phones[1].leg.is_some() {
            world.hangs_up(1);
        }
        world.run_s(5);
        world.hangs_up(0);
        world.ends();
    }
}

/// The caller is gone when the grant comes: it is given back.
#[test]
fn a_late_grant_is_released() {
    let mut world = World::new();
    world.slow_grants = Duration::from_secs(3);
    world.bind(1, ANNA);
    world.dials(ANNA, CONSULTATION);
    world.until("call    = reserve");
    world.hangs_up(0);
    let mut world = check(world, expect_file!["./late_grant.txt"]);
    assert_eq!(world.books.card(1).available(), 720_000);
}

#[test]
fn both_hang_up_at_once() {
    let mut world = talking(World::new());
    world.run_s(10);
    world.hangs_up(0);
    world.hangs_up(1);
    check(world, expect_file!["./bye_glare.txt"]);
}
