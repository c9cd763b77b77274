//! What must hold at every step, and when all is over.

use cardline::card::{CardState, LedgerRequest};
use cardline::ids::{CallKey, CardId, LedgerId};

use super::phone::{Phone, SECOND};
use super::text::Text;
use super::world::World;

/// A datagram of the switch is on its way to a phone.
pub fn at_send(world: &World, phone: usize, text: Text<'_>) {
    let bye = text.method() == "BYE" && text.status().is_none();
    let first = world
        .books
        .wires
        .get(&phone)
        .is_some_and(|wire| wire.bye_out == Some(world.now));
    if bye && first && text.all("Reason").any(|reason| reason.contains("cause=402")) {
        cut(world, phone);
    }
}

/// The cut came although the card has talk time: a recharge was lost.
fn cut(world: &World, phone: usize) {
    let mut calls = world.books.calls.iter();
    let Some((call, _)) = calls.rfind(|(_, book)| book.b.last() == Some(&phone)) else {
        return;
    };
    let store = &world.desk.store;
    let mut rows = store.rows.iter();
    let Some(((_, card), _)) = rows.rfind(|((key, _), row)| key == call && row.settled.is_none()) else {
        return;
    };
    let row = &store.cards[card];
    let touched = world.books.touched.get(card).copied().unwrap_or(0);
    let long_ago = touched + 10 * SECOND < world.now;
    let expired = row.expires_at.is_some();
    if long_ago && row.state == CardState::Active && !expired && world.is_calm() {
        let left = store.available(*card);
        assert!(
            left < 60_000,
            "call {call} was cut, although card {card} has {left} ms"
        );
    }
}

pub fn at_request(world: &mut World, id: LedgerId, request: &LedgerRequest) {
    match request {
        LedgerRequest::Settle(settlement) => {
            world.books.touched.insert(settlement.card, world.now);
            let key = (settlement.call, settlement.card);
            if world.books.renewing.contains_key(&key) {
                world.books.blind.insert(key);
            }
            if !settlement.billed.is_zero() {
                settled_once(world, settlement.call, settlement.card);
            }
        }
        LedgerRequest::CloseCdr(cdr) => {
            world.books.closed.entry(cdr.call).or_insert(world.now);
        }
        LedgerRequest::Renew { op, call, card, .. } => {
            let before = world.books.renewing.insert((*call, *card), (id, *op));
            let same = before.is_none_or(|(_, before)| before == *op);
            assert!(
                same,
                "call {call} renews under a new key, although the old one has no answer"
            );
        }
        LedgerRequest::OpenCdr(_)
        | LedgerRequest::FindLine { .. }
        | LedgerRequest::CheckPin { .. }
        | LedgerRequest::Bind { .. }
        | LedgerRequest::Reserve { .. }
        | LedgerRequest::Checkpoint { .. }
        | LedgerRequest::ReadCard { .. } => {}
    }
}

fn settled_once(world: &mut World, call: CallKey, card: CardId) {
    let before = world.books.settled.insert((call, card), world.now);
    // An order is answered at last, so nobody need repeat it within 30 s.
    let again = before.is_some_and(|at| world.now < at + 29 * SECOND);
    assert!(!again, "call {call}: card {card} is settled a second time");
}

/// All is over: nothing may be left anywhere.
pub fn judge(world: &mut World) {
    let status = world.status();
    assert_eq!(status.calls, 0, "calls are left");
    assert_eq!(
        (status.endpoint.legs, status.endpoint.transactions),
        (0, 0),
        "the endpoint is not empty"
    );
    assert!(world.switch.is_idle(), "the switch is not idle");
    assert!(world.desk.is_idle(), "the store still works");
    assert!(world.plane.streams.is_empty(), "audio is still open");
    assert_eq!(
        world.plane.opened, world.plane.closed,
        "opened and closed legs differ"
    );
    assert_eq!(
        status.free_ports,
        world.plane.stock.len(),
        "ports are missing in the stock"
    );
    for (place, phone) in world.phones.iter().enumerate() {
        let tainted = world.books.wires.get(&place).is_some_and(|wire| wire.tainted);
        assert!(
            phone.is_done() || tainted,
            "the dialog {} {} was never ended",
            phone.call_id,
            phone.tag
        );
        let left_alone = phone.gave_up && !tainted && !world.link.is_bad();
        assert!(
            !left_alone,
            "{} {} had to end by itself",
            phone.call_id, phone.tag
        );
        let other = phone.tag.starts_with('f') && phone.answered;
        // Whichever answer comes first wins.
        let lost = |rival: &Phone| rival.call_id == phone.call_id && rival.dismissed;
        assert!(
            !other || world.phones.iter().any(lost) || tainted || world.link.is_bad(),
            "the other device {} of {} was never dismissed",
            phone.tag,
            phone.call_id
        );
    }
    world.desk.store.check();
    world.books.close(&world.desk.store, &world.cast.directory);
}
