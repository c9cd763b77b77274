//! BRIDGE, HOLD and FINAL: the clock, the slices, the warnings, the cut, and silence.

use std::time::Duration;

use cardline::card::CardState;
use cardline::ids::Side;
use cardline::media::MediaEvent;
use expect_test::expect_file;

use super::phone::Manner;
use super::world::{ANNA, CONSULTATION, World};
use super::{check, dialling, talking};

#[test]
fn two_minutes_are_warned_of_and_cut_at_the_second() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 120_000;
    let mut world = talking(world);
    world.until("call    = final");
    let mut world = check(world, expect_file!["./warning_and_cut.txt"]);
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
    check(world, expect_file!["./renewed.txt"]);
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
    let mut world = check(world, expect_file!["./recharge.txt"]);
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
    let mut world = check(world, expect_file!["./another_pin.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 0);
    assert_eq!(world.books.card(2).balance_ms, 49_000);
}

#[test]
fn hold_by_the_advisor_pauses_the_clock() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 60_000;
    let mut world = talking(world);
    world.run_s(10);
    world.advisor_wants("sendonly");
    world.run_s(100);
    world.advisor_wants("sendrecv");
    world.until("call    = final");
    let mut world = check(world, expect_file!["./hold_pauses.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 0);
}

#[test]
fn hold_pauses_for_ten_minutes_at_most() {
    let mut world = World::with(|config| config.call.hold_max = Duration::from_secs(30), |_| {});
    world.books.card(1).balance_ms = 60_000;
    let mut world = talking(world);
    world.run_s(10);
    world.advisor_wants("inactive");
    world.until("call    = bridge");
    world.until("call    = final");
    // 4.6 s of set-up, 60 s of talk and 30 s of pause.
    assert_eq!(world.now.as_nanos() / 10_000_000_000, 9, "{}", world.ladder);
    world.ends();
}

#[test]
fn hold_does_not_pause_where_the_project_has_it_so() {
    let mut world = talking(World::with(|_| {}, |project| project.hold_pause = None));
    world.run_s(10);
    world.advisor_wants("sendonly");
    world.run_s(20);
    world.hangs_up(0);
    world.until("raw=30.030s billed=31.000s");
    world.ends();
}

#[test]
fn nobody_is_charged_for_a_process_that_stood_still() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 30_000;
    let mut world = talking(world);
    let bridged = world.now;
    world.run_s(10);
    world.stands_still_s(60);
    world.run_s(5);
    world.hangs_up(0);
    world.until("billed=16.000s");
    assert_eq!(world.now.since(bridged).as_secs(), 75);
    world.ends();
    assert_eq!(world.books.card(1).balance_ms, 14_000);
}

#[test]
fn a_goodbye_that_came_while_the_process_stood_still_ends_the_talk_before_it() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 30_000;
    let mut world = talking(world);
    world.run_s(10);
    world.hangs_up(1);
    world.stands_still_s(60);
    world.until("billed=10.000s");
    world.ends();
}

#[test]
fn dead_air_is_not_charged() {
    let mut world = World::new();
    world.phones[1].talks = false;
    let mut world = talking(world);
    world.until("call    = ended");
    let mut world = check(world, expect_file!["./dead_air.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 720_000);
}

/// A crash settles the last checkpoint.
#[test]
fn a_checkpoint_counts_no_dead_air() {
    for (heard, want_ms) in [(false, 0), (true, 6_000)] {
        let mut world = World::with(|config| config.call.checkpoint = Duration::from_secs(2), |_| {});
        world.phones[1].talks = heard;
        let mut world = talking(world);
        world.run_s(7);
        assert_eq!(world.books.card(1).checkpoint_ms, want_ms, "heard: {heard}");
        world.hangs_up(0);
        world.ends();
    }
}

#[test]
fn a_peer_that_vanishes_is_charged_to_its_last_audio() {
    let mut world = talking(World::new());
    world.run_s(30);
    let last_packet = world.now;
    world.phones[1].gone = true;
    world.run_s(20);
    world.media(Side::B, MediaEvent::Lost { last_packet });
    world.until("call    = ended media_lost raw=30.000s");
    check(world, expect_file!["./media_lost.txt"]);
}

#[test]
fn a_caller_who_vanishes_while_it_rings_is_not_charged() {
    let mut world = dialling(World::new());
    let last_packet = world.now;
    world.phones[0].gone = true;
    world.phones[1].manner = Manner::Answer(25_000);
    world.run_s(2);
    world.media(Side::A, MediaEvent::Lost { last_packet });
    world.until("call    = ended media_lost raw=0.000s billed=0.000s");
    world.ends();
}

#[test]
fn a_mute_peer_that_answers_the_probe_goes_on() {
    let mut world = talking(World::new());
    world.run_s(30);
    let last_packet = world.now;
    world.run_s(20);
    world.media(Side::A, MediaEvent::Lost { last_packet });
    world.run_s(30);
    world.media(Side::A, MediaEvent::Back);
    world.run_s(30);
    world.hangs_up(0);
    check(world, expect_file!["./mute_but_there.txt"]);
}

#[test]
fn a_blocked_card_finishes_its_slice() {
    let mut world = talking(World::new());
    world.run_s(10);
    world.books.card(1).state = CardState::Blocked;
    world.until("call    = ended");
    let mut world = check(world, expect_file!["./blocked_in_talk.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 600_000);
}

#[test]
fn a_missed_event_is_found_by_looking() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 70_000;
    let mut world = talking(world);
    world.run_s(30);
    world.books.card(1).balance_ms += 100_000;
    world.until("mix topup_live");
    world.hangs_up(0);
    world.ends();
}

#[test]
fn a_card_whose_day_ends_during_the_talk_talks_on() {
    let mut world = talking(World::new());
    world.run_s(10);
    world.books.card(1).expires_ms = Some(1_772_442_000_000);
    world.recharges(1, 60);
    world.run_s(200);
    world.hangs_up(0);
    world.until("raw=210.010s billed=211.000s");
    world.ends();
}

#[test]
fn a_call_whose_media_breaks_ends() {
    let mut world = talking(World::new());
    world.run_s(30);
    world.media(Side::A, MediaEvent::Closed(Default::default()));
    assert!(
        world.ladder.contains("call    = ended internal"),
        "{}",
        world.ladder
    );
    world.until("call    = over");
    assert_eq!(world.books.card(1).available(), 720_000);
}

#[test]
fn the_operator_ends_a_talk() {
    let mut world = talking(World::new());
    world.run_s(30);
    world.kills();
    world.until("call    = ended");
    check(world, expect_file!["./admin_kill.txt"]);
}

#[test]
fn the_longest_call_ends() {
    let world = World::with(|config| config.call.max_call = Duration::from_secs(60), |_| {});
    let mut world = talking(world);
    world.until("call    = ended max_call");
    check(world, expect_file!["./max_call.txt"]);
}

#[test]
fn a_panic_ends_its_call_and_settles_the_last_checkpoint() {
    // A checkpoint that does not move on is a bug that the switch refuses to live with.
    let world = World::with(|config| config.call.checkpoint = Duration::ZERO, |_| {});
    let world = talking(world);
    check(world, expect_file!["./internal.txt"]);
}

#[test]
fn a_recharge_at_zero_goes_on_with_the_same_card() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 20_000;
    let mut world = talking(world);
    world.until("call    = final");
    world.run_s(5);
    world.recharges(1, 60);
    world.until("call    = bridge");
    world.run_s(10);
    world.hangs_up(1);
    let mut world = check(world, expect_file!["./recharge_at_zero.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 80_000 - 31_000);
}

#[test]
fn a_recharge_at_zero_is_cut_at_the_second_again() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 20_000;
    let mut world = talking(world);
    world.until("call    = final");
    // Nobody tells of this one.
    world.books.card(1).balance_ms += 60_000;
    world.until("call    = bridge");
    let bridged = world.now;
    world.until("call    = final");
    let talked = world.now.since(bridged).as_millis();
    assert!(
        (59_980..=60_010).contains(&talked),
        "{talked} ms:\n{}",
        world.ladder
    );
    world.hangs_up(0);
    world.until("ended credit_end raw=80.000s billed=80.000s");
    world.ends();
    assert_eq!(world.books.card(1).balance_ms, 0);
}

#[test]
fn an_advisor_who_is_gone_after_a_recharge_at_zero_costs_nothing_more() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 20_000;
    let mut world = talking(world);
    world.until("call    = final");
    world.phones[1].manner = Manner::Reject(480);
    world.phones[2].manner = Manner::Reject(480);
    world.recharges(1, 60);
    world.until("ended credit_end raw=20.000s billed=20.000s");
    world.ends();
    assert_eq!(world.books.card(1).balance_ms, 60_000);
}

#[test]
fn the_same_pin_at_zero_asks_for_the_recharge() {
    let mut world = World::new();
    world.books.card(1).balance_ms = 20_000;
    let mut world = talking(world);
    world.until("call    = final");
    world.types(Side::A, super::PIN);
    let words = "play card_empty other_pin";
    assert!(world.ladder.contains(words), "{}", world.ladder);
    world.recharges(1, 60);
    world.until("call    = bridge");
    world.hangs_up(0);
    world.ends();
}
