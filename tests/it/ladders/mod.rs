//! Ladders: whole calls on a virtual clock, kept as text. A row of product.md 3.7 each, and the
//! ways through 3.1. `UPDATE_EXPECT=1` writes the texts anew.

mod books;
mod dial;
mod entry;
mod leaving;
mod phone;
mod store;
mod talk;
mod text;
mod world;

use expect_test::ExpectFile;
use world::{ANNA, CONSULTATION, World};

const PIN: &str = "1234567890";

/// The call is over, nothing is left, and the ladder is the known one.
fn check(mut world: World, ladder: ExpectFile) -> World {
    world.ends();
    ladder.assert_eq(&world.ladder);
    world
}

/// Anna's line is known, and the first target is dialled: the beginning of many ladders.
fn dialling(mut world: World) -> World {
    world.bind(1, ANNA);
    world.dials(ANNA, CONSULTATION);
    world.until("call    = dial");
    world
}

/// Anna's line is known and she talks.
fn talking(mut world: World) -> World {
    world.bind(1, ANNA);
    world.dials(ANNA, CONSULTATION);
    world.until("call    = bridge");
    world
}
