//! Faults planted on purpose, so that the simulator can be tested itself: each is one line at the
//! place where a careless change would make it, and each must be found (`tests/planted-faults`).
//!
//! The twenty of reliability.md §6 and their names here, where these differ: double post at BYE glare
//! [`Fault::SettledTwice`], op_id missing `NewKeyPerRetry`, hold not released on CANCEL `KeptOnLeave`,
//! deadline from INVITE `ClockFromInvite`, wall clock used `WallClock`, stale epoch accepted
//! `StaleEpochAccepted`, 200 retransmit charged twice `AnswerChargedTwice`, checkpoint above grant
//! `CheckpointAboveGrant`, 491 retry leaks timer `GlareKept`, port leak on 488 `PortKept`, second 2xx
//! kept `SecondAnswerKept`, freeze then grant `FrozenThenGranted`, recharge lost while cutting
//! `RechargeLost`, open_calls not lowered on crash `OpenCallKept`, settle uses memory not row
//! `SettledFromMemory`, rounding up past grant `ChargedPastGrant`, refresh moves the deadline
//! `RefreshMovesClock`, DTMF end packet counted twice `KeyCountedTwice`, response to a response
//! `ResponseAnswered`. Expiry at UTC midnight is no matter of calls: the store's tests of the nights
//! on which clocks change look for it.
//!
//! Without the feature `planted-faults` all of this is a constant `false`.

/// One mistake that somebody could make (reliability.md §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The end of a talk is written down twice.
    SettledTwice,
    /// A renewal that is repeated gets a new key each time.
    NewKeyPerRetry,
    /// The caller leaves while the advisor rings: the slice stays reserved.
    KeptOnLeave,
    /// A grant whose answer was lost is not given back.
    UnknownGrantKept,
    /// The charged clock starts with the INVITE.
    ClockFromInvite,
    /// Talk is measured by the wall clock.
    WallClock,
    /// Every re-INVITE starts the clock anew.
    RefreshMovesClock,
    /// Hold by the caller stops the clock.
    CallerHoldIsFree,
    CheckpointAboveGrant,
    /// Rounding up charges more than was granted.
    ChargedPastGrant,
    /// A recharge during the talk is not seen.
    RechargeLost,
    /// A refused offer keeps its port.
    PortKept,
    /// The second answer to a forked INVITE is acknowledged and never ended.
    SecondAnswerKept,
    /// A response that matches nothing is answered.
    ResponseAnswered,
    /// The advisor's 200 comes again, and the talk before it counts again.
    AnswerChargedTwice,
    /// The INVITE that met the peer's own (491) is never forgotten.
    GlareKept,
    /// The end of a key press is sent three times, and each is a digit.
    KeyCountedTwice,
    /// A settlement looks at what the call remembers, not at whether its row is still open.
    SettledFromMemory,
    /// What a dead process had open still counts as a call on its card.
    OpenCallKept,
    /// A node that others have taken over still writes (in the simulator's store).
    StaleEpochAccepted,
    /// A node that stood still beyond its lease goes on as if nothing had been (there too).
    FrozenThenGranted,
}

/// Whether this fault was planted in this run.
#[cfg(not(feature = "planted-faults"))]
pub const fn planted(_: Fault) -> bool {
    false
}

/// Whether `CARDLINE_FAULT` names this fault.
#[cfg(feature = "planted-faults")]
pub fn planted(fault: Fault) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("CARDLINE_FAULT").ok());
    chosen.as_ref().is_some_and(|name| *name == format!("{fault:?}"))
}
