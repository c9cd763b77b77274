//! The store is away: at set-up nobody is charged, in a talk the slice is used up, and no
//! settlement is lost.

use cardline::ids::Side;
use expect_test::expect_file;

use super::world::{ANNA, CONSULTATION, World};
use super::{PIN, check, talking};

#[test]
fn at_set_up_the_caller_hears_of_a_technical_problem() {
    let mut world = World::new();
    world.bind(1, ANNA);
    world.store_down = true;
    world.dials(ANNA, CONSULTATION);
    world.until("call    = ended store_down");
    world.store_down = false;
    let mut world = check(world, expect_file!["./store_down.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 720_000);
}

#[test]
fn a_reservation_of_unknown_fate_is_given_back() {
    let mut world = World::new();
    world.bind(1, ANNA);
    world.dials(ANNA, CONSULTATION);
    world.until("call    = announce");
    world.unknown_grants = true;
    world.until("call    = ended store_down");
    let mut world = check(world, expect_file!["./unknown_grant.txt"]);
    assert_eq!(world.books.card(1).available(), 720_000);
}

#[test]
fn a_store_that_says_nothing_is_away() {
    for state in ["identify", "pin", "bind", "reserve"] {
        let mut world = World::new();
        if state == "reserve" {
            world.bind(1, ANNA);
        }
        if state == "identify" {
            world.store_dead = true;
        }
        world.dials(ANNA, CONSULTATION);
        match state {
            "pin" => {
                world.until("call    = pin");
                world.store_dead = true;
                world.types(Side::A, PIN);
            }
            "bind" => {
                world.until("call    = pin");
                world.types(Side::A, &PIN[..9]);
                world.press(Side::A, '0');
                world.until_exactly("call    = bind");
                world.store_dead = true;
                world.forget_replies();
            }
            "reserve" => {
                world.until("call    = announce");
                world.store_dead = true;
            }
            _ => {}
        }
        world.until("call    = ended store_down");
        world.store_dead = false;
        world.ends();
    }
}

#[test]
fn in_a_talk_the_slice_is_used_up() {
    let mut world = talking(World::new());
    world.run_s(10);
    world.store_down = true;
    world.until("call    = ended store_down");
    world.run_s(20);
    world.store_down = false;
    let mut world = check(world, expect_file!["./store_down_in_talk.txt"]);
    assert_eq!(
        world.books.card(1).balance_ms,
        600_000,
        "the slice was used, and not more"
    );
}

#[test]
fn a_store_that_comes_back_in_time_is_not_noticed() {
    let mut world = talking(World::new());
    world.run_s(10);
    world.store_down = true;
    world.run_s(60);
    world.store_down = false;
    world.run_s(200);
    world.hangs_up(1);
    let mut world = check(world, expect_file!["./store_back.txt"]);
    assert_eq!(world.books.card(1).balance_ms, 720_000 - 271_000);
}
