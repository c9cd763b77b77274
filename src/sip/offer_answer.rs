//! Whose turn it is: the offer/answer exchange of one leg (RFC 3264 §4, RFC 3261 §13.2.1 and §14,
//! RFC 6337), apart from what is offered.
//!
//! Deliberately absent: the descriptions themselves and what they agree on (`sdp::negotiate`).

/// The exchange that is under way on a leg; at most one may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Offer and answer agree, or nothing was offered yet.
    Settled,
    /// Our offer (or our refresh without one) waits for the peer.
    Ours,
    /// The peer's offer (or its wish for ours) waits for us, or for its ACK.
    Theirs,
}

/// Why the peer may not offer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// 491: both sides offer at once (RFC 3261 §14.2).
    Glare,
    /// 500 with Retry-After: an earlier offer of the peer is not answered yet (RFC 3261 §14.2).
    Unanswered,
}

impl Exchange {
    /// The peer's offer, or its INVITE that wants ours.
    ///
    /// # Errors
    /// Another exchange is under way.
    pub fn offered_by_peer(self) -> Result<Exchange, NotNow> {
        match self {
            Exchange::Settled => Ok(Exchange::Theirs),
            Exchange::Ours => Err(NotNow::Glare),
            Exchange::Theirs => Err(NotNow::Unanswered),
        }
    }

    /// Whether a re-INVITE or an offer of ours may go out.
    pub fn may_offer(self) -> bool {
        match self {
            Exchange::Settled => true,
            Exchange::Ours | Exchange::Theirs => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_exchange_at_a_time() {
        for (state, peer, us) in [
            (Exchange::Settled, Ok(Exchange::Theirs), true),
            (Exchange::Ours, Err(NotNow::Glare), false),
            (Exchange::Theirs, Err(NotNow::Unanswered), false),
        ] {
            assert_eq!(state.offered_by_peer(), peer, "{state:?}");
            assert_eq!(state.may_offer(), us, "{state:?}");
        }
    }
}
