//! Talk-time and tariff rules, and the alphabet in which a call asks the ledger.
//!
//! The rules are pure: [`ledger`] is also the reference model that the stores are tested against.
//! Deliberately absent: SIP, audio, SQL, clocks.

pub mod binding;
mod book;
pub mod ledger;
pub mod paid;
pub mod pin;
pub mod price;
pub mod tariff;

use crate::ids::{CallKey, CardId, NumberId, OpId, ProjectId};
use crate::now::UnixTime;
use crate::secret::Pin;
use crate::units::{E164, TalkTime};

/// What a card is, beside its balance: `leer` is never stored, it follows from the balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CardState {
    /// Bought, never used: `neu`.
    New,
    /// Activated by a PIN call or by the operator: `freigeschaltet`.
    Active,
    Expired,
    Blocked,
    Cancelled,
}

/// What a call needs to know of a card, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardFacts {
    pub card: CardId,
    pub project: ProjectId,
    /// The printable number, never dialled.
    pub serial: String,
    /// „Hinweis"; may be empty.
    pub note: String,
    pub state: CardState,
    /// Sum of entries.
    pub balance: TalkTime,
    /// Sum of open reservations, this call's own included.
    pub reserved: TalkTime,
    pub expires_at: Option<UnixTime>,
    pub max_parallel: u32,
    /// Calls that hold an open reservation now, this call included.
    pub open_calls: u32,
    /// Whether the line of the question is bound to this card.
    pub bound: bool,
}

impl CardFacts {
    /// Balance minus reserved.
    pub fn available(&self) -> TalkTime {
        self.balance.saturating_sub(self.reserved)
    }
}

/// A question or an order of a call to the ledger. Every order is idempotent: by `OpId`, or by
/// its (call, card) key, so the driver may repeat it after an unknown result.
#[derive(Clone, Debug)]
pub enum LedgerRequest {
    /// Writes the CDR row at the INVITE, so that no call can vanish (I11). Answer: `Done`.
    OpenCdr(Box<CdrOpening>),
    /// Which card is this line bound to in this project? Answer: `Line`.
    FindLine { project: ProjectId, line: E164 },
    /// Is this a PIN of a card that `number` serves? Counts wrong tries. Answer: `Pin`.
    CheckPin {
        call: CallKey,
        project: ProjectId,
        number: NumberId,
        pin: Pin,
        line: Option<E164>,
    },
    /// Remembers the line for the card under the project's policy A3, sets the card's state to
    /// active, writes the audit row. `line: None` (withheld) only activates. Answer: `Bound`.
    Bind {
        op: OpId,
        call: CallKey,
        card: CardId,
        line: Option<E164>,
    },
    /// First slice: `min(want, available)`, refused below `floor`. Answer: `Reserved` or `NotReserved`.
    Reserve {
        op: OpId,
        call: CallKey,
        card: CardId,
        want: TalkTime,
        floor: TalkTime,
    },
    /// One more slice for a call that has a reservation: `min(want, available)`, possibly zero.
    /// Answer: `Renewed` or `NotReserved`.
    Renew {
        op: OpId,
        call: CallKey,
        card: CardId,
        want: TalkTime,
    },
    /// Usage so far; never falls. Answer: `Done`.
    Checkpoint {
        call: CallKey,
        card: CardId,
        used: TalkTime,
    },
    /// Ends the call's reservation on this card: one usage entry (none if billed is zero), the rest
    /// released. Answer: `Settled`.
    Settle(Settlement),
    /// The card as it is now (after `CardChanged`, or by the 2 s poll). Answer: `Card`.
    ReadCard { call: CallKey, card: CardId },
    /// Completes the CDR row. Answer: `Done`.
    CloseCdr(Box<crate::call::cdr::Cdr>),
}

/// The beginning of a CDR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdrOpening {
    pub call: CallKey,
    pub project: Option<ProjectId>,
    pub number: Option<NumberId>,
    pub trunk: String,
    /// As dialled; `None` if it was no number.
    pub called: Option<E164>,
    /// `None`: withheld.
    pub caller: Option<E164>,
    pub sip_call_id: String,
    pub invited_at: UnixTime,
}

/// An answer of the ledger; the driver hands it back under the question's `LedgerId`.
#[derive(Debug)]
pub enum LedgerReply {
    Done,
    Line(LineVerdict),
    Pin(PinVerdict),
    Bound(BindVerdict),
    Reserved(ledger::Reservation),
    /// `granted` since the beginning of the call, on this card; `last`: nothing is available beyond it.
    Renewed {
        granted: TalkTime,
        last: bool,
    },
    NotReserved(ReserveRefusal),
    Settled {
        balance: TalkTime,
    },
    Card(Box<CardFacts>),
    /// The store did not answer within 2 s, twice, or failed for good. Nothing may have happened,
    /// or everything: a repeated order with the same key tells.
    Unavailable,
}

impl LedgerReply {
    /// Lets go of an answer that nobody gets. A grant in it loses its token, not its row: whoever
    /// asked asks again under the same op id, or releases what was granted.
    pub fn forgo(self) {
        if let LedgerReply::Reserved(reservation) = self {
            reservation.release();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineVerdict {
    Unknown,
    /// Too many wrong PINs from this line; PIN entry is refused until then.
    Locked,
    /// Bound to this card.
    Known(Box<CardFacts>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinVerdict {
    Right(Box<CardFacts>),
    /// Unknown, of a foreign project, or of an archived card: the caller cannot tell.
    Wrong,
    /// This try was one too many for the line.
    Locked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindVerdict {
    Bound,
    /// Withheld, or a line that may not be bound (I8), or policy 0.
    NotBound,
}

/// Why no talk time was set aside; in the order in which the store looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveRefusal {
    /// No such card, or not active (any more).
    State(CardState),
    /// `open_calls` has reached `max_parallel`.
    InUse,
    /// Available is below the floor.
    Empty,
}

/// The end of a call's use of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub call: CallKey,
    pub card: CardId,
    /// Measured talk; monotonic.
    pub raw: TalkTime,
    /// By the tariff, never above the grants. Zero releases.
    pub billed: TalkTime,
}
