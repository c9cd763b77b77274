//! The second bookkeeper: knows only what passed the wire between switch and phones, and judges
//! from it what may have been charged. The only check that finds "consistent but wrong".

use std::collections::{BTreeMap, BTreeSet};

use cardline::call::cdr::{Cdr, EndCause};
use cardline::call::directory::Project;
use cardline::card::CdrOpening;
use cardline::ids::{CallKey, CardId, LedgerId, OpId, Side};
use cardline::media::{MediaEvent, MediaReport};
use cardline::now::UnixTime;
use cardline::units::TalkTime;

use super::phone::{MS, Nanos, SECOND};
use super::store::Store;
use super::text::Text;
use super::world::{Place, World};

/// One dialog as seen from the middle of the wire.
#[derive(Debug, Default)]
pub struct Wire {
    /// The advisor's 200 to the INVITE reached the switch.
    pub ok_in: Option<Nanos>,
    /// The switch's 200 to the caller's INVITE.
    pub ok_out: Option<Nanos>,
    pub bye_in: Option<Nanos>,
    pub bye_out: Option<Nanos>,
    /// Re-INVITEs of the phone: CSeq to direction, until the switch says 200.
    offers: BTreeMap<u32, &'static str>,
    hold_since: Option<Nanos>,
    held: Vec<(Nanos, Nanos)>,
    /// It said that it knows of no such dialog (any more).
    pub gone: bool,
    /// Something damaged came from this phone: what it meant is anybody's guess.
    pub tainted: bool,
}

/// One call.
#[derive(Debug, Default)]
pub struct CallBook {
    /// Whose call it is.
    pub node: usize,
    pub a: Option<usize>,
    /// Phones whose answer got an audio path.
    pub b: Vec<usize>,
    pub bridges: Vec<Nanos>,
    /// The last audio of a side that then was silent for long.
    pub lost: Vec<Nanos>,
    /// Audio paths that were opened towards A and B, and those of which audio came.
    paths: [u32; 2],
    heard: [u32; 2],
    /// Its process was killed before the call was in the books.
    pub killed: Option<Nanos>,
    /// The store was slow or away at that time, for this node.
    pub blurred: bool,
    /// Its node lost the lease, and others settled it at the last checkpoint. What its talk took after
    /// that is nobody's: at most the rest of its grant.
    taken: bool,
}

impl CallBook {
    /// Whether audio came on every path of both sides.
    fn all_heard(&self) -> bool {
        self.heard[0] > 0 && self.paths[1] > 0 && self.heard[1] >= self.paths[1]
    }

    fn never_heard(&self) -> bool {
        self.heard.contains(&0)
    }
}

#[derive(Debug, Default)]
pub struct Books {
    pub wires: BTreeMap<usize, Wire>,
    pub calls: BTreeMap<CallKey, CallBook>,
    /// When talk time last became free on a card, or its state changed.
    pub touched: BTreeMap<CardId, Nanos>,
    pub wall_moved: bool,
    /// When a charge was last ordered.
    pub settled: BTreeMap<(CallKey, CardId), Nanos>,
    /// Settled while a renewal had no answer.
    pub blind: BTreeSet<(CallKey, CardId)>,
    /// When the row was completed: the call is over then.
    pub closed: BTreeMap<CallKey, Nanos>,
    /// Renewals without an answer that says anything.
    pub renewing: BTreeMap<(CallKey, CardId), ((Place, LedgerId), OpId)>,
    /// Nodes that were killed or stood still: what was said to them may have been said to nobody.
    pub deaf: BTreeSet<usize>,
    kills: Vec<(usize, Nanos)>,
    /// When they stood still.
    frozen: Vec<(usize, Nanos, Nanos)>,
}

impl Books {
    /// A datagram of a phone reaches the switch.
    pub fn towards_switch(&mut self, now: Nanos, phone: usize, role: Side, bytes: &[u8], damaged: bool) {
        let wire = self.wires.entry(phone).or_default();
        wire.tainted |= damaged;
        let Some(text) = Text::parse(bytes).filter(|_| !damaged) else {
            return;
        };
        match (text.method(), text.status()) {
            ("BYE", None) => {
                wire.bye_in.get_or_insert(now);
            }
            ("INVITE", None) if !text.tag("To").is_empty() => {
                wire.offers.insert(text.cseq(), text.direction());
            }
            ("INVITE" | "UPDATE" | "OPTIONS", Some(481)) => wire.gone = true,
            ("INVITE", Some(200)) if role == Side::B => {
                wire.ok_in.get_or_insert(now);
            }
            _ => {}
        }
    }

    /// A datagram of the switch leaves for a phone.
    pub fn towards_phone(&mut self, now: Nanos, phone: usize, text: Text<'_>) {
        let wire = self.wires.entry(phone).or_default();
        match (text.method(), text.status()) {
            ("BYE", None) => {
                wire.bye_out.get_or_insert(now);
            }
            ("INVITE", Some(200)) => {
                wire.ok_out.get_or_insert(now);
                if let Some(direction) = wire.offers.remove(&text.cseq()) {
                    wire.turn(now, direction);
                }
            }
            _ => {}
        }
    }

    /// An audio path towards this side is up.
    pub fn opened(&mut self, call: CallKey, side: Side) {
        let book = self.calls.entry(call).or_default();
        book.paths[usize::from(side == Side::B)] += 1;
    }

    /// Audio of this side came through.
    pub fn heard(&mut self, report: &MediaReport) {
        if report.event == MediaEvent::FirstPacket {
            let book = self.calls.entry(report.call).or_default();
            book.heard[usize::from(report.side == Side::B)] += 1;
        }
    }

    pub fn lost(&mut self, call: CallKey, last: Nanos) {
        self.calls.entry(call).or_default().lost.push(last);
    }

    /// Others settle what this node has open.
    pub fn taken(&mut self, node: usize, store: &Store) {
        for (call, book) in &mut self.calls {
            let closed = store.cdrs.get(call).is_some_and(|row| row.closing.is_some());
            book.taken |= book.node == node && !closed;
        }
    }

    pub fn frozen(&mut self, node: usize, from: Nanos, to: Nanos) {
        self.deaf.insert(node);
        self.frozen.push((node, from, to));
    }

    /// How long this node stood still in this span, at most.
    fn still(&self, node: usize, from: Nanos, to: Nanos) -> Nanos {
        let spans = self.frozen.iter().filter(|(frozen, ..)| *frozen == node);
        spans
            .map(|(_, a, b)| (*b).min(to).saturating_sub((*a).max(from)))
            .sum()
    }

    /// The process of this node is gone, with all its calls.
    pub fn killed(&mut self, now: Nanos, node: usize, store: &Store, calm: bool) {
        self.deaf.insert(node);
        self.kills.push((node, now));
        self.renewing.retain(|_, ((place, _), _)| place.node != node);
        for (call, book) in &mut self.calls {
            let closed = store.cdrs.get(call).is_some_and(|row| row.closing.is_some());
            if book.node == node && !closed {
                book.killed.get_or_insert(now);
                book.blurred |= !calm;
            }
        }
    }

    /// All that must hold of calls once everything is over.
    pub fn close(&self, world: &World) {
        let (store, directory) = (&world.store, &world.cast.directory);
        for ((call, card), row) in &store.rows {
            let settled = row.settled.as_ref();
            let settled =
                settled.unwrap_or_else(|| panic!("call {call}: reservation on card {card} is still open"));
            // What was lost is charged to its last audio only, whatever was noted in between.
            let backdated = cause(store, *call)
                .is_some_and(|cause| matches!(cause, EndCause::MediaLost | EndCause::NoMedia));
            let lost = self.calls.get(call).is_some_and(|book| !book.lost.is_empty());
            assert!(
                backdated || lost || row.used <= settled.raw.as_ms(),
                "checkpoint {} above raw",
                row.used
            );
            assert!(
                store.cdrs.contains_key(call),
                "call {call} used a card without a CDR"
            );
        }
        for (call, row) in &store.cdrs {
            let opening = row
                .opening
                .as_ref()
                .unwrap_or_else(|| panic!("call {call}: no opening"));
            let closing = row
                .closing
                .as_ref()
                .unwrap_or_else(|| panic!("call {call}: no closing"));
            if !self.calls.get(call).is_some_and(|book| book.taken) {
                self.sums(store, *call, closing);
            }
            self.hung_up(*call, closing);
            if !self.wall_moved && closing.end_cause != EndCause::CrashRecovered {
                ordered(opening, closing);
            }
            let project = opening.project.and_then(|id| directory.projects.get(&id));
            if let (Some(project), Some(book)) = (project, self.calls.get(call)) {
                self.charged(store, (*call, book), closing, project);
                self.window(world, (*call, book), closing, project);
            }
        }
        for (phone, wire) in &self.wires {
            let known = self.calls.values().any(|book| book.a == Some(*phone));
            // A killed process may not have come to write down whom it had just answered.
            let killed = self.deaf.contains(&world.homes[*phone]);
            assert!(
                wire.ok_out.is_none() || known || wire.tainted || wire.ok_in.is_some() || killed,
                "phone {phone} was answered without a CDR"
            );
        }
    }

    /// Nobody is left on the line of a call that is over (L11).
    fn hung_up(&self, call: CallKey, cdr: &Cdr) {
        let (Some(book), Some(closed)) = (self.calls.get(&call), self.closed.get(&call)) else {
            return;
        };
        for phone in book.a.iter().chain(&book.b) {
            let Some(wire) = self.wires.get(phone) else {
                continue;
            };
            let bye = wire.bye_in.into_iter().chain(wire.bye_out).min();
            // Who does not know the dialog any more, or is not there, gets no BYE.
            let gone = !book.lost.is_empty()
                || book.killed.is_some()
                || cdr.end_cause == EndCause::MediaLost
                || wire.tainted
                || wire.gone;
            let up = wire.ok_out.or(wire.ok_in).is_some();
            // Before the ACK no BYE may be sent (RFC 3261 §15), for 64 x T1 at most.
            let unconfirmed = wire.ok_out.map_or(0, |at| at + 33 * SECOND);
            // Who was killed in that time sends none.
            let mut kills = self.kills.iter();
            let gone = gone || kills.any(|(node, at)| *node == book.node && *at <= unconfirmed);
            assert!(
                gone || !up || bye.is_some_and(|at| at <= unconfirmed.max(*closed)),
                "call {call} is over, and phone {phone} is still on the line"
            );
        }
    }

    fn sums(&self, store: &Store, call: CallKey, cdr: &Cdr) {
        let rows = store.rows.iter().filter(|((key, _), _)| *key == call);
        let settled: Vec<_> = rows.filter_map(|(_, row)| row.settled.as_ref()).collect();
        let billed: i64 = settled.iter().map(|s| s.billed.as_ms()).sum();
        let raw: i64 = settled.iter().map(|s| s.raw.as_ms()).sum();
        assert_eq!(
            cdr.billed.as_ms(),
            billed,
            "call {call}: CDR and settlements differ in billed"
        );
        assert_eq!(
            cdr.raw.as_ms(),
            raw,
            "call {call}: CDR and settlements differ in raw"
        );
        if cdr.bridged_at.is_none() {
            assert_eq!(
                (billed, raw),
                (0, 0),
                "call {call}: charged without a bridge (I12)"
            );
        }
    }

    /// Every settlement by the tariff, worked out step by step.
    fn charged(&self, store: &Store, (call, book): (CallKey, &CallBook), cdr: &Cdr, project: &Project) {
        let alone = store.rows.keys().filter(|(key, _)| *key == call).count() == 1;
        for ((key, card), row) in &store.rows {
            let Some(settled) = row.settled.as_ref().filter(|_| *key == call) else {
                continue;
            };
            let (raw, billed) = (settled.raw, settled.billed.as_ms());
            assert!(
                raw.as_ms() <= row.granted,
                "call {call}: raw {raw:?} beyond the grant {}",
                row.granted
            );
            let due = naive_bill(project, raw, row.granted);
            // Nothing is charged where one side was never heard; and a grant that the call never heard
            // of, since its answer was lost, cannot be charged: rounding stops at what it knew.
            // Talk before a recharge at zero is charged, whatever follows.
            let earlier = row.resumed.iter().map(|used| TalkTime::from_ms(*used));
            let mut earlier = earlier.map(|used| naive_bill(project, used, used.as_ms()));
            let unheard_of = self.blind.contains(&(call, *card)) && (raw.as_ms()..due).contains(&billed);
            let free = billed == 0 && !book.all_heard();
            // Others charge the checkpoint, and round nothing up.
            let low = row.recovered && billed == due.min(raw.as_ms());
            assert!(
                billed == due || free || low || unheard_of || earlier.any(|talk| talk == billed),
                "call {call}, card {card}: {billed} ms billed for {raw:?} of {}, want {due}; {cdr:?}",
                row.granted
            );
            let unheard = alone && (cdr.end_cause == EndCause::NoMedia || book.never_heard());
            assert!(
                !unheard || billed == 0 || !row.resumed.is_empty(),
                "call {call}: dead air was charged"
            );
        }
    }

    /// The measured talk must lie between what the wire saw for certain and what it saw at most.
    fn window(&self, world: &World, (call, book): (CallKey, &CallBook), cdr: &Cdr, project: &Project) {
        let wires = book.b.iter().filter_map(|phone| self.wires.get(phone));
        let a = book.a.and_then(|phone| self.wires.get(&phone));
        let Some(a) = a else { return };
        if a.tainted || wires.clone().any(|w| w.tainted) {
            return;
        }
        let (mut least, mut most) = (0, 0);
        for b in wires {
            let Some(from) = b.ok_in else { continue };
            let ends = [b.bye_in, b.bye_out, a.bye_in, a.bye_out, book.killed];
            let Some(to) = ends.into_iter().flatten().filter(|at| *at >= from).min() else {
                continue;
            };
            let pauses = match project.hold_pause {
                Some(limit) => b
                    .held_between(from, to)
                    .min(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)),
                None => 0,
            };
            most += (to - from).saturating_sub(pauses);
            // A lost call is charged to its last audio.
            let heard = book.lost.iter().copied().fold(to, Nanos::min);
            if let Some(bridged) = book.bridges.iter().find(|at| **at >= from) {
                let whispered = if project.accept_key { *bridged } else { from };
                let still = self.still(book.node, whispered, heard);
                least += heard.saturating_sub(whispered).saturating_sub(pauses + still);
            }
        }
        let raw = u64::try_from(cdr.raw.as_ms()).expect("raw is never negative") * MS;
        // Each stretch may lose the fraction of a millisecond, and end on a late timer.
        let slack = 3 * MS * (1 + book.b.len() as u64);
        assert!(
            raw <= most + slack,
            "call {call}: raw {raw} ns, the wire allows {most} at most; {cdr:?}"
        );
        let crashed = cdr.end_cause == EndCause::CrashRecovered;
        let unbilled = if crashed { self.crash_takes(world, book) } else { 0 };
        let dead = cdr.end_cause == EndCause::NoMedia || !book.all_heard() || book.taken;
        assert!(
            dead || raw + slack + unbilled >= least,
            "call {call}: raw {raw} ns, the wire saw {least} at least; {cdr:?}"
        );
    }

    /// What a crash may take: the talk since the last checkpoint that was in the books, or on the way
    /// to them and in the journal.
    fn crash_takes(&self, world: &World, book: &CallBook) -> Nanos {
        let skipped = if world.nodes[book.node].desk.skips > 0 {
            5 * world.bounds.checkpoint
        } else {
            0
        };
        let way = if book.blurred { 8 * SECOND } else { SECOND };
        world.bounds.checkpoint + way + skipped
    }
}

impl Wire {
    fn turn(&mut self, now: Nanos, direction: &str) {
        match (direction, self.hold_since) {
            ("sendonly" | "inactive", None) => self.hold_since = Some(now),
            ("sendrecv", Some(since)) => {
                self.held.push((since, now));
                self.hold_since = None;
            }
            _ => {}
        }
    }

    fn held_between(&self, from: Nanos, to: Nanos) -> Nanos {
        let open = self.hold_since.map(|since| (since, to));
        let spans = self.held.iter().copied().chain(open);
        spans.map(|(a, b)| b.min(to).saturating_sub(a.max(from))).sum()
    }
}

fn cause(store: &Store, call: CallKey) -> Option<EndCause> {
    let row = store.cdrs.get(&call)?;
    Some(row.closing.as_ref()?.end_cause)
}

/// I11: the times of a CDR stand in order.
fn ordered(opening: &CdrOpening, cdr: &Cdr) {
    let times: Vec<UnixTime> = [
        Some(opening.invited_at),
        cdr.answered_at,
        cdr.ringing_at,
        cdr.advisor_answered_at,
        cdr.bridged_at,
        Some(cdr.ended_at),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(
        times.is_sorted(),
        "call {}: times are out of order: {cdr:?}",
        cdr.call
    );
}

fn naive_bill(project: &Project, raw: TalkTime, granted: i64) -> i64 {
    let tariff = &project.tariff;
    if raw < tariff.free_under || raw.is_zero() {
        return 0;
    }
    let mut charge = tariff.first_increment.as_ms();
    while charge < raw.as_ms() {
        charge += tariff.next_increment.as_ms();
    }
    charge.max(tariff.minimum.as_ms()).min(granted)
}
