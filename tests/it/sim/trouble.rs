//! What goes wrong in a run beside the network and the peers: the store's moods, processes that die
//! or stand still, clocks that jump, the operator's hand, silence.

use cardline::ids::CardId;

use super::cast::SAFETY;
use super::desk::{Away, Mood};
use super::phone::{MS, Nanos, SECOND};
use super::world::{Event, Local, Operation, World};

pub fn plan(world: &mut World) {
    store(world);
    operator(world);
    for _ in 0..world.rng.below(4) {
        let at = moment(world);
        let node = world.a_node();
        world.local(at, node, Local::Spurious);
    }
    for node in 0..world.nodes.len() {
        process(world, node);
        clock(world, node);
    }
    if world.rng.below(6) == 0 {
        world.bounds.ports = 4;
    }
}

fn moment(world: &mut World) -> Nanos {
    world.rng.below(SAFETY)
}

/// kill -9 at any step, or a process that stands still; queues that are soon full, checkpoints that
/// are never put down.
fn process(world: &mut World, node: usize) {
    world.nodes[node].plane.slow = world.rng.below(3) == 0;
    if world.rng.below(4) == 0 {
        for _ in 0..=world.rng.below(2) {
            let at = moment(world);
            world.at(at, Event::Crash(node));
        }
    }
    if world.rng.below(8) == 0 {
        let at = moment(world);
        let most = [2, 10, 60][usize::try_from(world.rng.below(3)).unwrap_or(0)];
        let span = MS + world.rng.below(most * SECOND);
        world.at(at, Event::Freeze(node, span));
    }
    if world.rng.below(10) == 0 {
        world.nodes[node].desk.most_waiting = usize::try_from(1 + world.rng.below(4)).unwrap_or(1);
    }
    if world.rng.below(10) == 0 {
        world.nodes[node].desk.skips = 30;
    }
}

/// Clocks on the wall are wrong, and are put right by a jump. The monotonic clock never jumps. It
/// does not count the time in which a machine is suspended, but a frozen node's does count: of the
/// two ways to serve nobody the harder one for the books.
fn clock(world: &mut World, node: usize) {
    const HOUR_MS: i64 = 3_600_000;
    let far = [HOUR_MS, -HOUR_MS, 30 * 24 * HOUR_MS, -30 * 24 * HOUR_MS];
    let draw = |world: &mut World| far[usize::try_from(world.rng.below(4)).unwrap_or(0)];
    if world.rng.below(8) == 0 {
        let ms = draw(world);
        world.at(0, Event::MoveWall(node, ms));
    }
    if world.rng.below(5) == 0 {
        let (at, ms) = (moment(world), draw(world));
        world.at(at, Event::MoveWall(node, ms));
    }
}

fn store(world: &mut World) {
    let (latency, fails, loses) = match world.rng.below(5) {
        0 => (4 * SECOND, 10, 10),
        1 => (300 * MS, 3, 5),
        _ => (40 * MS, 0, 1),
    };
    let usual = Mood {
        latency,
        fails,
        loses,
        away: Away::No,
    };
    world.at(0, Event::Mood(None, usual));
    for away in [Away::Mute, Away::Refused, Away::ReadOnly] {
        if world.rng.below(6) > 0 {
            continue;
        }
        // For all, or for one that is cut off from it.
        let node = (world.rng.below(2) == 0).then(|| world.a_node());
        let at = moment(world);
        let most = if world.rng.below(3) == 0 { 100 } else { 25 };
        let until = at + world.rng.below(most * SECOND);
        world.at(at, Event::Mood(node, Mood { away, ..usual }));
        if until < SAFETY {
            world.at(until, Event::Mood(node, usual));
        }
    }
}

fn operator(world: &mut World) {
    let cards: Vec<CardId> = world.store.cards.keys().copied().collect();
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
