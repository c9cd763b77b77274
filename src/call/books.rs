//! A call's paper work, which goes on beside its states: the CDR row is opened, each card that was
//! used is settled, the row is closed. What the store could not do is asked again until it is done.

use std::time::Duration;

use crate::call::cdr::Cdr;
use crate::call::cx::Cx;
use crate::card::{CdrOpening, LedgerReply, LedgerRequest, Settlement};
use crate::ids::LedgerId;
use crate::now::Instant;

/// The first wait after a failure; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The driver answers every question; this is for a driver that lost one.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// An order that must not be lost.
pub(super) struct Books {
    papers: Vec<Paper>,
}

struct Paper {
    order: Order,
    state: PaperState,
    wait: Duration,
}

enum PaperState {
    Asked { id: LedgerId, lost_at: Instant },
    Again { at: Instant },
}

enum Order {
    Open(Box<CdrOpening>),
    Settle(Settlement),
    Close(Box<Cdr>),
}

impl Order {
    fn request(&self) -> LedgerRequest {
        match self {
            Order::Open(opening) => LedgerRequest::OpenCdr(opening.clone()),
            Order::Settle(settlement) => LedgerRequest::Settle(settlement.clone()),
            Order::Close(cdr) => LedgerRequest::CloseCdr(cdr.clone()),
        }
    }
}

impl Books {
    pub fn new() -> Books {
        Books { papers: Vec::new() }
    }

    /// Whether nothing is left to be done.
    pub fn are_clear(&self) -> bool {
        self.papers.is_empty()
    }

    /// Whether the CDR row is there to be closed.
    pub fn is_opened(&self) -> bool {
        !self
            .papers
            .iter()
            .any(|paper| matches!(paper.order, Order::Open(_)))
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        self.papers
            .iter()
            .map(|paper| match paper.state {
                PaperState::Asked { lost_at, .. } => lost_at,
                PaperState::Again { at } => at,
            })
            .min()
    }

    /// Takes an answer to one of these orders; gives it back if it is none.
    pub fn take(&mut self, now: Instant, id: LedgerId, reply: LedgerReply) -> Option<LedgerReply> {
        let asked = |paper: &Paper| matches!(paper.state, PaperState::Asked { id: asked, .. } if asked == id);
        let Some(place) = self.papers.iter().position(asked) else {
            return Some(reply);
        };
        match reply {
            LedgerReply::Unavailable => {
                let paper = &mut self.papers[place];
                paper.state = PaperState::Again { at: now + paper.wait };
                paper.wait = (paper.wait * 2).min(LONGEST_WAIT);
            }
            LedgerReply::Done
            | LedgerReply::Settled { .. }
            | LedgerReply::Line(_)
            | LedgerReply::Pin(_)
            | LedgerReply::Bound(_)
            | LedgerReply::Renewed { .. }
            | LedgerReply::NotReserved(_)
            | LedgerReply::Card(_) => {
                self.papers.remove(place);
            }
            // No answer to a paper; whoever asked must give it back.
            LedgerReply::Reserved(_) => return Some(reply),
        }
        None
    }
}

impl Cx<'_> {
    pub fn open_cdr(&mut self, opening: CdrOpening) {
        self.file(Order::Open(Box::new(opening)));
    }

    pub fn close_cdr(&mut self, cdr: Cdr) {
        self.file(Order::Close(Box::new(cdr)));
    }

    /// Ends the use of a card; repeated until the store has it.
    pub fn file_settlement(&mut self, settlement: Settlement) {
        self.file(Order::Settle(settlement));
    }

    /// Asks again what the store could not do, in the old order.
    pub fn retry_books(&mut self) {
        let now = self.mono();
        let mut papers = std::mem::take(&mut self.facts.books.papers);
        for paper in &mut papers {
            let due = match paper.state {
                PaperState::Asked { lost_at, .. } => lost_at <= now,
                PaperState::Again { at } => at <= now,
            };
            if due {
                let id = self.ask(paper.order.request());
                paper.state = PaperState::Asked {
                    id,
                    lost_at: now + LOST_AFTER,
                };
            }
        }
        self.facts.books.papers = papers;
    }

    fn file(&mut self, order: Order) {
        let id = self.ask(order.request());
        let lost_at = self.mono() + LOST_AFTER;
        self.facts.books.papers.push(Paper {
            order,
            state: PaperState::Asked { id, lost_at },
            wait: FIRST_WAIT,
        });
    }
}
