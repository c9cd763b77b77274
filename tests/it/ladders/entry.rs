//! From the INVITE to the talk: who may, who must enter a PIN, and every "no" before the talk.

use cardline::card::CardState;
use cardline::ids::Side;
use expect_test::expect_file;

use super::world::{ACTIVATION, ANNA, BERT, CONSULTATION, World};
use super::{PIN, check, phone, talking};

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
    let mut world = check(world, expect_file!["./pin_call.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 689_000);
}

#[test]
fn a_known_line_is_connected_without_a_pin() {
    let mut world = talking(World::new());
    world.run_s(3);
    world.hangs_up(1);
    let mut world = check(world, expect_file!["./direct_call.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 720_000, "under 5 s is free");
}

#[test]
fn another_line_is_asked_again() {
    let mut world = World::new();
    world.bind(1, ANNA);
    world.dials(BERT, CONSULTATION);
    world.until("play welcome pin_enter");
    world.hangs_up(0);
    check(world, expect_file!["./another_line.txt"]);
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
    check(world, expect_file!["./barge_in.txt"]);
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
    check(world, expect_file!["./pin_failed.txt"]);
}

#[test]
fn silence_at_the_pin_is_asked_three_times() {
    let mut world = World::new();
    world.dials(ANNA, CONSULTATION);
    world.until("call    = ended");
    check(world, expect_file!["./pin_none.txt"]);
}

#[test]
fn a_locked_line_hears_so() {
    let mut world = World::new();
    world.books.locked.insert(ANNA.to_owned());
    world.dials(ANNA, CONSULTATION);
    world.until("call    = ended");
    check(world, expect_file!["./locked.txt"]);
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
    let mut world = check(world, expect_file!["./withheld.txt"]);
    assert!(world.books.card(1).lines.is_empty());
}

#[test]
fn the_activation_number_offers_to_connect() {
    let mut world = World::new();
    world.dials(ANNA, ACTIVATION);
    world.until("play welcome pin_enter");
    world.types(Side::A, PIN);
    world.until("call    = offer");
    check(world, expect_file!["./activated.txt"]);

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
    check(world, expect_file!["./offer_taken.txt"]);
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
    check(world, expect_file!["./empty_then_another.txt"]);
}

#[test]
fn what_is_less_than_the_start_minimum_is_empty() {
    let mut world = World::new();
    world.bind(1, ANNA);
    world.books.card(1).balance_ms = 9_000;
    world.dials(ANNA, CONSULTATION);
    world.until("call    = ended");
    check(world, expect_file!["./card_empty.txt"]);
}

#[test]
fn a_card_that_may_not_be_used_says_why() {
    for (state, file) in [
        (CardState::Blocked, expect_file!["./card_blocked.txt"]),
        (CardState::Expired, expect_file!["./card_expired.txt"]),
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
    check(world, expect_file!["./card_in_use.txt"]);
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
    check(world, expect_file!["./no_dtmf.txt"]);
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
    check(world, expect_file!["./codec.txt"]);
}

#[test]
fn a_number_of_nobody_is_refused() {
    let mut world = World::new();
    world.dials(ANNA, "+493023125999");
    world.run_s(1);
    check(world, expect_file!["./no_number.txt"]);
}

#[test]
fn a_project_that_is_off_refuses() {
    let mut world = World::with(|_| {}, |project| project.enabled = false);
    world.dials(ANNA, CONSULTATION);
    world.run_s(1);
    check(world, expect_file!["./off.txt"]);
}

#[test]
fn a_trunk_that_may_not_deliver_is_refused() {
    let mut world = World::with(|config| config.trunks[0].inbound = false, |_| {});
    world.dials(ANNA, CONSULTATION);
    world.run_s(1);
    check(world, expect_file!["./forbidden.txt"]);
}

#[test]
fn a_draining_switch_takes_no_call() {
    let mut world = World::new();
    world.drains();
    world.dials(ANNA, CONSULTATION);
    world.run_s(1);
    check(world, expect_file!["./capacity.txt"]);
}

/// No offer in the INVITE: ours is in the 200, theirs in the ACK, and only then is there audio.
#[test]
fn a_late_offer_is_answered_in_the_ack() {
    let mut world = World::new();
    world.bind(1, ANNA);
    let head = |method: &str, to_tag: &str, cseq: u32| {
        format!(
            "{method} sip:{CONSULTATION}@203.0.113.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKlate{method}\r\nMax-Forwards: 70\r\n\
             From: <sip:{ANNA}@198.51.100.1>;tag=a\r\nTo: <sip:{CONSULTATION}@203.0.113.1>{to_tag}\r\n\
             Call-ID: late@198.51.100.1\r\nCSeq: {cseq} {method}\r\nContact: <sip:198.51.100.1:5060>\r\n"
        )
    };
    world.sends(0, format!("{}Content-Length: 0\r\n\r\n", head("INVITE", "", 1)));
    world.run_ms(50);
    let to = phone::header(&world.phones[0].heard, "To").to_owned();
    let tag = to
        .split_once(">;")
        .map_or(String::new(), |(_, tag)| format!(";{tag}"));
    let body = "v=0\r\no=- 1 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
                m=audio 40000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n";
    world.sends(
        0,
        format!(
            "{}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            head("ACK", &tag, 1),
            body.len()
        ),
    );
    world.until("call    = bridge");
    world.run_s(10);
    world.sends(0, format!("{}Content-Length: 0\r\n\r\n", head("BYE", &tag, 2)));
    check(world, expect_file!["./late_offer.txt"]);
}

/// Guessing with a withheld number gets slower, but an honest caller still gets through.
#[test]
fn withheld_callers_who_guess_are_slowed_down() {
    let mut world = World::new();
    let wrong_pin = |world: &mut World| {
        world.until("_enter");
        let from = world.now;
        world.types(Side::A, "0000000000");
        world.until("play pin_wrong");
        world.now.since(from).as_secs()
    };
    let guess = |world: &mut World| {
        world.dials("anonymous", CONSULTATION);
        let first = wrong_pin(world);
        let last = wrong_pin(world);
        world.hangs_up(0);
        world.run_s(3);
        (first, last)
    };
    assert_eq!(guess(&mut world), (2, 3));
    for _ in 0..9 {
        guess(&mut world);
    }
    assert_eq!(guess(&mut world), (5, 5), "4 s from the 20th on");
    for _ in 0..19 {
        guess(&mut world);
    }
    world.dials("anonymous", CONSULTATION);
    world.until("_enter");
    world.types(Side::A, PIN);
    world.until("call    = bridge");
    world.hangs_up(0);
    world.ends();
}
