//! DIAL and ACCEPT: every way in which an advisor is not reached, and the way in which one is.

use std::time::Duration;

use cardline::ids::Side;
use expect_test::{ExpectFile, expect_file};

use super::phone::Manner;
use super::world::{World, one_target, two_targets_with_accept_key};
use super::{ANNA, CONSULTATION, check, dialling};

/// One target with this manner; what the caller is told.
fn not_reached(manner: Manner, ladder: ExpectFile) {
    let mut world = World::with(|_| {}, one_target);
    world.phones[1].manner = manner;
    let mut world = dialling(world);
    world.until("call    = ended");
    let mut world = check(world, ladder);
    assert_eq!(world.books.card(1).balance_ms, 720_000, "never charged");
}

#[test]
fn a_busy_advisor() {
    not_reached(Manner::Reject(486), expect_file!["./busy.txt"]);
}

#[test]
fn an_advisor_who_declines() {
    not_reached(Manner::Reject(603), expect_file!["./declined.txt"]);
}

#[test]
fn an_advisor_who_is_away() {
    not_reached(Manner::Reject(480), expect_file!["./unavailable.txt"]);
}

#[test]
fn a_target_that_does_not_exist() {
    not_reached(Manner::Reject(404), expect_file!["./bad_target.txt"]);
}

#[test]
fn a_trunk_that_is_down() {
    not_reached(Manner::Reject(503), expect_file!["./trunk_down.txt"]);
}

#[test]
fn an_advisor_who_lets_it_ring() {
    not_reached(Manner::Ring, expect_file!["./no_answer.txt"]);
}

#[test]
fn a_target_that_does_not_even_ring() {
    not_reached(Manner::Mute, expect_file!["./no_ringing.txt"]);
}

#[test]
fn a_target_that_says_nothing_at_all() {
    let mut world = World::with(|_| {}, one_target);
    world.phones[1].gone = true;
    let mut world = dialling(world);
    world.until("call    = ended no_answer");
    check(world, expect_file!["./silent_target.txt"]);
}

/// The CANCEL waits for the first response, and nothing follows it (RFC 3261 §9.1).
#[test]
fn a_target_that_wakes_up_late_and_vanishes_again() {
    let mut world = World::with(|_| {}, one_target);
    world.phones[1].gone = true;
    let mut world = dialling(world);
    world.run_s(25);
    world.phones[1].gone = false;
    world.until("B       < CANCEL");
    world.phones[1].gone = true;
    let cancelled = world.now;
    world.until("call    = over");
    let after = world.now.since(cancelled).as_secs();
    assert!((31..=32).contains(&after), "{after} s:\n{}", world.ladder);
    world.ends();
}

#[test]
fn the_second_target_answers() {
    let mut world = World::new();
    world.phones[1].manner = Manner::Reject(486);
    let mut world = dialling(world);
    world.until("call    = bridge");
    world.run_s(20);
    world.hangs_up(0);
    check(world, expect_file!["./second_target.txt"]);
}

#[test]
fn busy_and_no_answer_is_no_answer() {
    let mut world = World::new();
    world.phones[1].manner = Manner::Reject(486);
    world.phones[2].manner = Manner::Ring;
    let mut world = dialling(world);
    world.until("call    = ended no_answer");
    world.ends();
}

#[test]
fn hunting_ends_after_ninety_seconds() {
    let mut world = World::with(
        |config| config.call.hunting = Duration::from_secs(30),
        |project| project.targets = [project.targets.clone(), project.targets.clone()].concat(),
    );
    world.phones[1].manner = Manner::Ring;
    world.phones[2].manner = Manner::Ring;
    let mut world = dialling(world);
    world.until("call    = ended no_answer");
    assert!(world.now.as_nanos() < 35_000_000_000, "{}", world.ladder);
    world.ends();
}

#[test]
fn no_port_for_the_advisor_is_a_technical_problem() {
    let mut world = World::with_ports(1, |_| {}, |_| {});
    world.bind(1, ANNA);
    world.dials(ANNA, CONSULTATION);
    world.until("call    = ended capacity");
    check(world, expect_file!["./no_port.txt"]);
}

#[test]
fn an_advisor_presses_one_to_accept() {
    let mut world = dialling(World::with(|_| {}, two_targets_with_accept_key));
    world.until("call    = accept");
    world.run_s(2);
    world.types(Side::B, "51");
    world.run_s(20);
    world.hangs_up(1);
    check(world, expect_file!["./accepted.txt"]);
}

#[test]
fn a_mailbox_does_not_accept() {
    let mut world = dialling(World::with(|_| {}, two_targets_with_accept_key));
    world.phones[2].manner = Manner::Reject(486);
    world.until("call    = ended");
    check(world, expect_file!["./not_accepted.txt"]);
}

/// The advisor's 200 and our CANCEL pass each other: the endpoint acknowledges and ends it.
#[test]
fn a_200_that_crosses_our_cancel_is_ended() {
    let mut world = dialling(World::with(|_| {}, one_target));
    // The 200 leaves at 3 s; the BYE that causes the CANCEL arrives in the same 10 ms.
    world.until("B       > 180");
    world.run_ms(2_975);
    world.hangs_up(0);
    check(world, expect_file!["./cancel_crosses_200.txt"]);
}
