//! What must hold at every step, and when all is over.

use cardline::card::{CardState, LedgerRequest};
use cardline::ids::{CallKey, CardId, LedgerId};
use cardline::switch::Switch;

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
    let Some((call, book)) = calls.rfind(|(_, book)| book.b.last() == Some(&phone)) else {
        return;
    };
    let store = &world.store;
    let mut rows = store.rows.iter();
    let Some(((_, card), _)) = rows.rfind(|((key, _), row)| key == call && row.settled.is_none()) else {
        return;
    };
    let row = &store.cards[card];
    let touched = world.books.touched.get(card).copied().unwrap_or(0);
    let long_ago = touched + 10 * SECOND < world.now;
    let expired = row.expires_at.is_some();
    if long_ago && row.state == CardState::Active && !expired && world.is_calm(book.node) {
        let left = store.available(*card);
        assert!(
            left < 60_000,
            "call {call} was cut, although card {card} has {left} ms"
        );
    }
}

pub fn at_request(world: &mut World, node: usize, id: LedgerId, request: &LedgerRequest) {
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
            let asked = (world.here(node), id);
            let before = world.books.renewing.insert((*call, *card), (asked, *op));
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

/// The full check, every hundred events: the books stand on their own, and no node keeps anything for
/// calls that it does not have (L13).
pub fn at_times(world: &mut World) {
    world.store.check();
    for node in 0..world.nodes.len() {
        let plane = &world.nodes[node].plane;
        let streams = plane.streams.len();
        if let Some(status) = world.is_up(node).then(|| world.status(node)).flatten() {
            assert!(
                streams <= 2 * status.calls,
                "node {node} has {streams} streams for {} calls",
                status.calls
            );
        }
    }
}

/// All is over: nothing may be left anywhere.
pub fn judge(world: &mut World) {
    for node in 0..world.nodes.len() {
        empty(world, node);
    }
    for place in 0..world.phones.len() {
        hung_up(world, place);
    }
    world.store.check();
    world.books.close(world);
}

fn empty(world: &mut World, node: usize) {
    let status = world.status(node).expect("every node is up at the end");
    assert_eq!(status.calls, 0, "calls are left");
    assert_eq!(
        (status.endpoint.legs, status.endpoint.transactions),
        (0, 0),
        "the endpoint is not empty"
    );
    let node = &world.nodes[node];
    assert!(
        node.switch.as_ref().is_some_and(Switch::is_idle),
        "the switch is not idle"
    );
    assert!(node.desk.is_idle(), "the store still works");
    assert!(node.plane.streams.is_empty(), "audio is still open");
    assert_eq!(
        node.plane.opened, node.plane.closed,
        "opened and closed legs differ"
    );
    assert_eq!(
        status.free_ports,
        node.plane.stock.len(),
        "ports are missing in the stock"
    );
}

/// Every telephone knows that its call is over, and who had to be told was told.
fn hung_up(world: &World, place: usize) {
    let phone = &world.phones[place];
    let tainted = world.books.wires.get(&place).is_some_and(|wire| wire.tainted);
    assert!(
        phone.is_done() || tainted,
        "the dialog {} {} was never ended",
        phone.call_id,
        phone.tag
    );
    let deaf = world.books.deaf.contains(&world.homes[place]);
    let excused = tainted || deaf || world.link.is_bad();
    assert!(
        !phone.gave_up || excused,
        "{} {} had to end by itself",
        phone.call_id,
        phone.tag
    );
    let other = phone.tag.starts_with('f') && phone.answered;
    // Whichever answer comes first wins.
    let lost = |rival: &Phone| rival.call_id == phone.call_id && rival.dismissed;
    assert!(
        !other || world.phones.iter().any(lost) || excused,
        "the other device {} of {} was never dismissed",
        phone.tag,
        phone.call_id
    );
}
