//! When whom to wake: one index over all deadlines of an endpoint.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::LegKey;
use crate::now::Instant;
use crate::sip::leg::ServerId;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    Server(ServerId),
    Client(ClientId),
    Leg(LegKey),
}

/// A client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// At most one deadline per owner.
#[derive(Debug, Default)]
pub struct Deadlines {
    by_time: BTreeSet<(Instant, Owner)>,
    by_owner: BTreeMap<Owner, Instant>,
}

impl Deadlines {
    /// Replaces the owner's deadline; `None` takes it out.
    pub fn set(&mut self, owner: Owner, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.by_owner.insert(owner, at),
            None => self.by_owner.remove(&owner),
        };
        if let Some(before) = before {
            self.by_time.remove(&(before, owner));
        }
        if let Some(at) = at {
            self.by_time.insert((at, owner));
        }
    }

    pub fn first(&self) -> Option<(Instant, Owner)> {
        self.by_time.first().copied()
    }

    /// All owners whose deadline has passed, earliest first.
    pub fn due(&self, now: Instant) -> Vec<Owner> {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, owner)| *owner).collect()
    }
}
