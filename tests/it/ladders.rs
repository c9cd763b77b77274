//! Ladders: whole calls on a virtual clock, kept as text. A row of product.md 3.7 each, and the
//! ways through 3.1. `UPDATE_EXPECT=1` writes the texts anew.

mod books;
mod phone;
mod text;
mod world;

use cardline::card::CardState;
use cardline::ids::Side;
use expect_test::{ExpectFile, expect_file};
use world::{ACTIVATION, ANNA, BERT, CONSULTATION, World};

const PIN: &str = "1234567890";

/// The call is over, nothing is left, and the ladder is the known one.
fn check(mut world: World, ladder: ExpectFile) -> World {
    world.ends();
    ladder.assert_eq(&world.ladder);
    world
}

/// Anna's line is known and she talks: the beginning of many ladders.
fn talking(mut world: World) -> World {
    world.bind(1, ANNA);
    world.dials(ANNA, CONSULTATION);
    world.until("call    = bridge");
    world
}

#[test]
fn a_pin_call_is_bound_announced_bridged_and_ended_by_the_caller() {
    let mut world = World::new();
    world.dials(ANNA, CONSULTATION);
    world.until("play welcome pin_enter");
    world.run_s(1);
    world.types(Side::A, PIN);
    world.until("call    = bridge");
    world.run_s(30);
    world.hangs_up(0);
    let mut world = check(world, expect_file!["./ladders/pin_call.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 689_000);
}

#[test]
fn a_known_line_is_connected_without_a_pin() {
    let mut world = talking(World::new());
    world.run_s(3);
    world.hangs_up(1);
    let mut world = check(world, expect_file!["./ladders/direct_call.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 720_000, "under 5 s is free");
}

#[test]
fn another_line_is_asked_again() {
    let mut world = World::new();
    world.bind(1, ANNA);
    world.dials(BERT, CONSULTATION);
    world.until("play welcome pin_enter");
    world.hangs_up(0);
    check(world, expect_file!["./ladders/another_line.txt"]);
}

#[test]
fn the_first_digit_stops_the_prompt_and_star_begins_again() {
    let mut world = World::new();
    world.dials(ANNA, CONSULTATION);
    world.until("play welcome pin_enter");
    world.types(Side::A, "99*");
    world.types(Side::A, PIN);
    // A habit that must not skip the announcement; then one that does.
    world.types(Side::A, "#5");
    world.hangs_up(0);
    check(world, expect_file!["./ladders/barge_in.txt"]);
}

#[test]
fn hash_ends_a_pin_early_and_three_wrong_ones_end_the_call() {
    let mut world = World::new();
    world.dials(ANNA, CONSULTATION);
    world.until("play welcome pin_enter");
    world.types(Side::A, "123#");
    world.until("play pin_wrong pin_enter");
    world.types(Side::A, "0987654321");
    world.until("play pin_wrong pin_enter");
    world.types(Side::A, "55");
    check(world, expect_file!["./ladders/pin_failed.txt"]);
}

#[test]
fn silence_at_the_pin_is_asked_three_times() {
    let mut world = World::new();
    world.dials(ANNA, CONSULTATION);
    world.until("call    = ended");
    check(world, expect_file!["./ladders/pin_none.txt"]);
}

#[test]
fn a_locked_line_hears_so() {
    let mut world = World::new();
    world.books.locked.insert(ANNA.to_owned());
    world.dials(ANNA, CONSULTATION);
    world.until("call    = ended");
    check(world, expect_file!["./ladders/locked.txt"]);
}

#[test]
fn a_withheld_number_enters_its_pin_and_is_not_bound() {
    let mut world = World::new();
    world.dials("anonymous", CONSULTATION);
    world.until("play welcome pin_enter");
    world.types(Side::A, PIN);
    world.until("call    = bridge");
    world.run_s(20);
    world.hangs_up(1);
    let mut world = check(world, expect_file!["./ladders/withheld.txt"]);
    assert!(world.books.card(1).lines.is_empty());
}

#[test]
fn the_activation_number_offers_to_connect() {
    let mut world = World::new();
    world.dials(ANNA, ACTIVATION);
    world.until("play welcome pin_enter");
    world.types(Side::A, PIN);
    world.until("call    = offer");
    check(world, expect_file!["./ladders/activated.txt"]);

    let mut world = World::new();
    world.dials(ANNA, ACTIVATION);
    world.until("play welcome pin_enter");
    world.types(Side::A, PIN);
    world.until("call    = offer");
    world.run_s(1);
    world.types(Side::A, "1");
    world.until("call    = bridge");
    world.run_s(10);
    world.hangs_up(0);
    check(world, expect_file!["./ladders/offer_taken.txt"]);
}

#[test]
fn two_minutes_are_warned_of_and_cut_at_the_second() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 120_000;
    let mut world = talking(world);
    world.until("call    = final");
    let mut world = check(world, expect_file!["./ladders/warning_and_cut.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 0, "exactly all");
    world.dials(ANNA, CONSULTATION);
    world.until("play card_empty other_pin");
    world.ends();
}

#[test]
fn a_long_talk_is_renewed_slice_by_slice() {
    let mut world = talking(World::new());
    world.run_s(400);
    world.hangs_up(0);
    check(world, expect_file!["./ladders/renewed.txt"]);
}

#[test]
fn a_recharge_moves_the_end_and_withdraws_the_warning() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 120_000;
    let mut world = talking(world);
    world.until("mix warn_60");
    world.run_ms(300);
    world.recharges(1, 100);
    world.until("call    = final");
    let mut world = check(world, expect_file!["./ladders/recharge.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 0);
}

#[test]
fn another_pin_at_zero_goes_on_with_that_card() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 20_000;
    world.books.add(2, "2222222222", 60);
    let mut world = talking(world);
    world.until("call    = final");
    world.run_s(1);
    world.types(Side::A, "2222222222");
    world.until("call    = bridge");
    world.run_s(10);
    world.hangs_up(1);
    let mut world = check(world, expect_file!["./ladders/another_pin.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 0);
    assert_eq!(world.books.card(2).balance_ms, 49_000);
}

#[test]
fn an_empty_card_may_be_followed_by_another() {
    let mut world = World::new();
    world.bind(1, ANNA);
    world.books.card(1).balance_ms = 0;
    world.books.add(2, "2222222222", 60);
    world.dials(ANNA, CONSULTATION);
    world.until("play card_empty other_pin");
    world.run_s(2);
    world.types(Side::A, "2222222222");
    world.until("call    = bridge");
    world.run_s(6);
    world.hangs_up(0);
    check(world, expect_file!["./ladders/empty_then_another.txt"]);
}

#[test]
fn what_is_less_than_the_start_minimum_is_empty() {
    let mut world = World::new();
    world.bind(1, ANNA);
    world.books.card(1).balance_ms = 9_000;
    world.dials(ANNA, CONSULTATION);
    world.until("call    = ended");
    check(world, expect_file!["./ladders/card_empty.txt"]);
}

#[test]
fn a_card_that_may_not_be_used_says_why() {
    for (state, file) in [
        (CardState::Blocked, expect_file!["./ladders/card_blocked.txt"]),
        (CardState::Expired, expect_file!["./ladders/card_expired.txt"]),
    ] {
        let mut world = World::new();
        world.bind(1, ANNA);
        world.books.card(1).state = state;
        world.dials(ANNA, CONSULTATION);
        world.until("call    = ended");
        check(world, file);
    }
}

#[test]
fn a_card_in_use_is_not_empty() {
    let mut world = World::new();
    world.bind(1, ANNA);
    world.books.card(1).use_elsewhere();
    world.dials(ANNA, CONSULTATION);
    world.until("call    = ended");
    world.books.card(1).done_elsewhere();
    check(world, expect_file!["./ladders/card_in_use.txt"]);
}

#[test]
fn a_telephone_without_keys_is_told_so() {
    let mut world = World::new();
    let mut offer = world.phones[0].offer();
    offer.media[0]
        .formats
        .retain(|format| format.encoding != "telephone-event");
    world.dials_with(ANNA, CONSULTATION, offer);
    world.until("call    = ended");
    check(world, expect_file!["./ladders/no_dtmf.txt"]);
}

#[test]
fn a_telephone_without_our_codecs_is_refused() {
    let mut world = World::new();
    let mut offer = world.phones[0].offer();
    offer.media[0]
        .formats
        .retain(|format| format.encoding == "telephone-event");
    world.dials_with(ANNA, CONSULTATION, offer);
    world.run_s(1);
    check(world, expect_file!["./ladders/codec.txt"]);
}

#[test]
fn a_number_of_nobody_is_refused() {
    let mut world = World::new();
    world.dials(ANNA, "+493023125999");
    world.run_s(1);
    check(world, expect_file!["./ladders/no_number.txt"]);
}

#[test]
fn a_project_that_is_off_refuses() {
    let mut world = World::with(|_| {}, |project| project.enabled = false);
    world.dials(ANNA, CONSULTATION);
    world.run_s(1);
    check(world, expect_file!["./ladders/off.txt"]);
}

#[test]
fn a_trunk_that_may_not_deliver_is_refused() {
    let mut world = World::with(|config| config.trunks[0].inbound = false, |_| {});
    world.dials(ANNA, CONSULTATION);
    world.run_s(1);
    check(world, expect_file!["./ladders/forbidden.txt"]);
}

#[test]
fn a_draining_switch_takes_no_call() {
    let mut world = World::new();
    world.drains();
    world.dials(ANNA, CONSULTATION);
    world.run_s(1);
    check(world, expect_file!["./ladders/capacity.txt"]);
}
