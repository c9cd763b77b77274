//! What goes wrong in a run beside the network and the peers: the store's moods, the operator's
//! hand, clocks that jump, silence.

use cardline::ids::CardId;

use super::cast::SAFETY;
use super::desk::Mood;
use super::phone::{MS, Nanos, SECOND};
use super::world::{Event, Operation, World};

pub fn plan(world: &mut World) {
    store(world);
    operator(world);
    for _ in 0..world.rng.below(4) {
        let at = world.rng.below(SAFETY);
        world.at(at, Event::Spurious);
    }
    if world.rng.below(5) == 0 {
        let at = moment(world);
        let ms = if world.rng.below(2) == 0 {
            3_600_000
        } else {
            -3_600_000
        };
        world.at(at, Event::Operator(Operation::MoveWall(ms)));
    }
    world.plane.slow = world.rng.below(3) == 0;
    if world.rng.below(6) == 0 {
        world.bounds.ports = 4;
    }
}

fn moment(world: &mut World) -> Nanos {
    world.rng.below(SAFETY)
}

fn store(world: &mut World) {
    let usual = match world.rng.below(4) {
        0 => Mood {
            latency: 3 * SECOND,
            fails: 10,
            loses: 10,
            down: false,
        },
        1 => Mood {
            latency: 300 * MS,
            fails: 3,
            loses: 5,
            down: false,
        },
        _ => Mood {
            latency: 40 * MS,
            fails: 0,
            loses: 1,
            down: false,
        },
    };
    world.at(0, Event::Mood(usual));
    if world.rng.below(3) == 0 {
        let at = moment(world);
        let span = world.rng.below(25 * SECOND);
        world.at(at, Event::Mood(Mood { down: true, ..usual }));
        if at + span < SAFETY {
            world.at(at + span, Event::Mood(usual));
        }
    }
}

fn operator(world: &mut World) {
    let cards: Vec<CardId> = world.desk.store.cards.keys().copied().collect();
    for card in cards {
        if world.rng.below(100) < 30 {
            let at = moment(world);
            let whole = 60_000 * (1 + i64::try_from(world.rng.below(3)).unwrap_or(0));
            world.at(at, Event::Operator(Operation::Recharge(card, whole)));
        }
        if world.rng.below(100) < 8 {
            let at = moment(world);
            world.at(at, Event::Operator(Operation::Block(card)));
            if world.rng.below(2) == 0 {
                let at = at + world.rng.below(60 * SECOND);
                world.at(at, Event::Operator(Operation::Unblock(card)));
            }
        }
    }
    for _ in 0..world.rng.below(3) {
        let at = moment(world);
        world.at(at, Event::Operator(Operation::HangUp));
    }
    if world.rng.below(2) == 0 {
        let at = moment(world);
        world.at(at, Event::Operator(Operation::Refresh));
    }
    if world.rng.below(20) == 0 {
        let at = SAFETY / 2 + world.rng.below(SAFETY / 2);
        world.at(at, Event::Operator(Operation::Drain));
    }
}
