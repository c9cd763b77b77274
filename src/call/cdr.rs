//! The facts of one call, for its one row (I11).

use crate::ids::{CallKey, CardId, TargetId};
use crate::media::LegStats;
use crate::now::UnixTime;
use crate::sdp::Codec;
use crate::units::TalkTime;

/// Everything the CDR row gains after `CdrOpening`. Wall times are for display; spans are monotonic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cdr {
    pub call: CallKey,
    pub card: Option<CardId>,
    /// The target that answered, or was tried last.
    pub target: Option<TargetId>,
    pub answered_at: Option<UnixTime>,
    pub ringing_at: Option<UnixTime>,
    pub advisor_answered_at: Option<UnixTime>,
    pub bridged_at: Option<UnixTime>,
    pub ended_at: UnixTime,
    /// Free pauses while the advisor held the call.
    pub hold: TalkTime,
    pub raw: TalkTime,
    pub billed: TalkTime,
    pub end_cause: EndCause,
    /// Thresholds in seconds of the warnings that were played.
    pub warnings_s: Vec<u32>,
    pub codec: Option<Codec>,
    pub stats_a: LegStats,
    pub stats_b: LegStats,
    pub tariff_version: Option<i64>,
    pub attempts: Vec<CallAttempt>,
}

/// One B target that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallAttempt {
    pub target: TargetId,
    pub dialled_at: UnixTime,
    /// Final SIP status, or 487 after our CANCEL.
    pub status: u16,
}

/// The one reason why a call ended; `as_str` is the word in CDRs, JSON and ladders (product.md 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndCause {
    NoNumber,
    Forbidden,
    Capacity,
    Codec,
    NoDtmf,
    PinNone,
    PinFailed,
    Locked,
    CardEmpty,
    CardState,
    CardInUse,
    Closed,
    Busy,
    NoAnswer,
    Declined,
    BadTarget,
    TrunkDown,
    NotAccepted,
    NoMedia,
    MediaLost,
    CreditEnd,
    AdvisorBye,
    CallerBye,
    AdminKill,
    MaxCall,
    StoreDown,
    CrashRecovered,
    /// On the activation number, not connected on purpose (A2).
    Activated,
    /// Our own bug: the call's machine panicked and was torn down.
    Internal,
}

impl EndCause {
    /// In the order of the variants.
    pub const ALL: [EndCause; 29] = [
        EndCause::NoNumber,
        EndCause::Forbidden,
        EndCause::Capacity,
        EndCause::Codec,
        EndCause::NoDtmf,
        EndCause::PinNone,
        EndCause::PinFailed,
        EndCause::Locked,
        EndCause::CardEmpty,
        EndCause::CardState,
        EndCause::CardInUse,
        EndCause::Closed,
        EndCause::Busy,
        EndCause::NoAnswer,
        EndCause::Declined,
        EndCause::BadTarget,
        EndCause::TrunkDown,
        EndCause::NotAccepted,
        EndCause::NoMedia,
        EndCause::MediaLost,
        EndCause::CreditEnd,
        EndCause::AdvisorBye,
        EndCause::CallerBye,
        EndCause::AdminKill,
        EndCause::MaxCall,
        EndCause::StoreDown,
        EndCause::CrashRecovered,
        EndCause::Activated,
        EndCause::Internal,
    ];

    /// Reads what `as_str` gives.
    pub fn parse(word: &str) -> Option<EndCause> {
        EndCause::ALL.into_iter().find(|cause| cause.as_str() == word)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            EndCause::NoNumber => "no_number",
            EndCause::Forbidden => "forbidden",
            EndCause::Capacity => "capacity",
            EndCause::Codec => "codec",
            EndCause::NoDtmf => "no_dtmf",
            EndCause::PinNone => "pin_none",
            EndCause::PinFailed => "pin_failed",
            EndCause::Locked => "locked",
            EndCause::CardEmpty => "card_empty",
            EndCause::CardState => "card_state",
            EndCause::CardInUse => "card_in_use",
            EndCause::Closed => "closed",
            EndCause::Busy => "busy",
            EndCause::NoAnswer => "no_answer",
            EndCause::Declined => "declined",
            EndCause::BadTarget => "bad_target",
            EndCause::TrunkDown => "trunk_down",
            EndCause::NotAccepted => "not_accepted",
            EndCause::NoMedia => "no_media",
            EndCause::MediaLost => "media_lost",
            EndCause::CreditEnd => "credit_end",
            EndCause::AdvisorBye => "advisor_bye",
            EndCause::CallerBye => "caller_bye",
            EndCause::AdminKill => "admin_kill",
            EndCause::MaxCall => "max_call",
            EndCause::StoreDown => "store_down",
            EndCause::CrashRecovered => "crash_recovered",
            EndCause::Activated => "activated",
            EndCause::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_cause_has_a_word_of_its_own_and_is_read_back() {
        for (n, cause) in EndCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, n, "ALL lists the variants in their order");
            assert_eq!(EndCause::parse(cause.as_str()), Some(cause));
        }
        // The last variant: one that is added behind it must be added to ALL.
        assert_eq!(EndCause::ALL.last(), Some(&EndCause::Internal));
    }
}
