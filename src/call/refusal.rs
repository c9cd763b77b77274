//! Every "no" and every other end, in one place: what the caller hears, what the peers are told,
//! what the CDR says (product.md 3.7). Both maps are total: a new variant must answer them all.

use crate::call::cdr::EndCause;
use crate::call::speech::fixed;
use crate::media::PromptId;
use crate::sip::{Reason, ReasonProtocol, Rejection};

/// A business "no" to a caller. Those above the line are given before A is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The called number is none of ours.
    NoNumber,
    /// The trunk may not deliver calls here.
    Forbidden,
    /// The project is switched off.
    Off,
    /// All calls, all ports, or draining.
    Capacity,
    /// Neither PCMA nor PCMU.
    Codec,
    // ---- from here on the caller is answered ----
    NoDtmf,
    PinNone,
    PinFailed,
    Locked,
    CardEmpty,
    CardExpired,
    CardBlocked,
    CardInUse,
    Busy,
    NoAnswer,
    Declined,
    BadTarget,
    TrunkDown,
    NotAccepted,
    StoreDown,
}

impl Refusal {
    /// What the CDR says.
    pub const fn cause(self) -> EndCause {
        match self {
            Refusal::NoNumber => EndCause::NoNumber,
            Refusal::Forbidden => EndCause::Forbidden,
            Refusal::Off => EndCause::Closed,
            Refusal::Capacity => EndCause::Capacity,
            Refusal::Codec => EndCause::Codec,
            Refusal::NoDtmf => EndCause::NoDtmf,
            Refusal::PinNone => EndCause::PinNone,
            Refusal::PinFailed => EndCause::PinFailed,
            Refusal::Locked => EndCause::Locked,
            Refusal::CardEmpty => EndCause::CardEmpty,
            Refusal::CardExpired | Refusal::CardBlocked => EndCause::CardState,
            Refusal::CardInUse => EndCause::CardInUse,
            Refusal::Busy => EndCause::Busy,
            Refusal::NoAnswer => EndCause::NoAnswer,
            Refusal::Declined => EndCause::Declined,
            Refusal::BadTarget => EndCause::BadTarget,
            Refusal::TrunkDown => EndCause::TrunkDown,
            Refusal::NotAccepted => EndCause::NotAccepted,
            Refusal::StoreDown => EndCause::StoreDown,
        }
    }

    /// What an answered caller hears before the BYE. `callback_offer` is not among it: there is
    /// nobody yet who would call back.
    pub fn prompts(self) -> Vec<PromptId> {
        match self {
            Refusal::NoNumber | Refusal::Forbidden | Refusal::Codec => Vec::new(),
            Refusal::Off => vec![fixed::CLOSED],
            Refusal::NoDtmf => vec![fixed::NO_DTMF],
            Refusal::PinNone => vec![fixed::PIN_FAIL],
            Refusal::PinFailed => vec![fixed::PIN_WRONG, fixed::PIN_FAIL],
            Refusal::Locked => vec![fixed::PIN_LOCKED],
            Refusal::CardEmpty => vec![fixed::CARD_EMPTY],
            Refusal::CardExpired => vec![fixed::CARD_EXPIRED],
            Refusal::CardBlocked => vec![fixed::CARD_BLOCKED],
            Refusal::CardInUse => vec![fixed::CARD_INUSE],
            Refusal::Busy => vec![fixed::ADV_BUSY],
            Refusal::NoAnswer | Refusal::Declined | Refusal::BadTarget | Refusal::NotAccepted => {
                vec![fixed::ADV_NOANSWER]
            }
            Refusal::Capacity | Refusal::TrunkDown | Refusal::StoreDown => vec![fixed::TECH],
        }
    }

    /// The final response to a caller who is not answered yet.
    pub fn rejection(self, retry_after_s: u32) -> Rejection {
        let retry = matches!(self, Refusal::Capacity);
        Rejection {
            status: status(self.cause()),
            reasons: reasons(self.cause()),
            retry_after_s: retry.then_some(retry_after_s),
        }
    }
}

/// The SIP status where a call ends with this cause before its 200.
pub(super) const fn status(cause: EndCause) -> u16 {
    match cause {
        EndCause::NoNumber => 404,
        EndCause::Forbidden | EndCause::CardState | EndCause::Locked => 403,
        EndCause::Capacity | EndCause::TrunkDown | EndCause::StoreDown | EndCause::CrashRecovered => 503,
        EndCause::Codec | EndCause::NoDtmf => 488,
        EndCause::CardInUse | EndCause::Busy => 486,
        EndCause::PinNone
        | EndCause::PinFailed
        | EndCause::CardEmpty
        | EndCause::Closed
        | EndCause::NoAnswer
        | EndCause::Declined
        | EndCause::BadTarget
        | EndCause::NotAccepted
        | EndCause::NoMedia
        | EndCause::MediaLost
        | EndCause::CreditEnd
        | EndCause::AdvisorBye
        | EndCause::AdminKill
        | EndCause::MaxCall
        | EndCause::Activated => 480,
        EndCause::CallerBye => 487,
        EndCause::Internal => 500,
    }
}

/// The ISDN cause (ITU-T Q.850) that goes with it.
pub(super) const fn q850(cause: EndCause) -> u16 {
    match cause {
        EndCause::NoNumber => 1,
        EndCause::Forbidden | EndCause::Declined => 21,
        EndCause::Capacity => 42,
        EndCause::Codec => 88,
        EndCause::CardInUse | EndCause::Busy => 17,
        EndCause::NoAnswer | EndCause::NotAccepted => 19,
        EndCause::TrunkDown | EndCause::StoreDown | EndCause::CrashRecovered | EndCause::Internal => 41,
        EndCause::NoMedia => 47,
        EndCause::NoDtmf
        | EndCause::PinNone
        | EndCause::PinFailed
        | EndCause::Locked
        | EndCause::CardEmpty
        | EndCause::CardState
        | EndCause::Closed
        | EndCause::BadTarget
        | EndCause::MediaLost
        | EndCause::CreditEnd
        | EndCause::AdvisorBye
        | EndCause::CallerBye
        | EndCause::AdminKill
        | EndCause::MaxCall
        | EndCause::Activated => 16,
    }
}

/// The Reason header of a BYE or a final response towards the caller (product.md 3.6).
pub(super) fn reasons(cause: EndCause) -> Vec<Reason> {
    let mut reasons = vec![reason(ReasonProtocol::Q850, q850(cause))];
    if cause == EndCause::CreditEnd {
        reasons.push(Reason {
            text: Some("Prepaid time used up".to_owned()),
            ..reason(ReasonProtocol::Sip, 402)
        });
    }
    reasons
}

/// Normal clearing.
pub(super) fn normal() -> Vec<Reason> {
    vec![reason(ReasonProtocol::Q850, 16)]
}

/// A target rang in vain.
pub(super) fn unanswered() -> Vec<Reason> {
    vec![reason(ReasonProtocol::Q850, 19)]
}

/// Towards an advisor who rings while the caller leaves (product.md 3.6).
pub(super) fn caller_left() -> Vec<Reason> {
    vec![reason(ReasonProtocol::Sip, 487)]
}

/// What the final status of a target means.
pub(super) const fn of_target(status: u16) -> Refusal {
    match status {
        486 | 600 => Refusal::Busy,
        403 | 603 => Refusal::Declined,
        404 | 410 | 484 | 604 => Refusal::BadTarget,
        // 401 and 407 only after our credentials were refused, too; 488 and 606: no audio.
        401 | 407 | 415 | 488 | 606 | 500..=599 => Refusal::TrunkDown,
        // A redirect would let the far side choose who is dialled at whose cost.
        300..=399 => Refusal::Declined,
        // 408, 480, 487 and whatever else there is: nobody was reached.
        _ => Refusal::NoAnswer,
    }
}

fn reason(protocol: ReasonProtocol, cause: u16) -> Reason {
    Reason {
        protocol,
        cause,
        text: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_final_status_of_a_target_has_its_meaning() {
        for (status, meaning) in [
            (302, Refusal::Declined),
            (401, Refusal::TrunkDown),
            (403, Refusal::Declined),
            (404, Refusal::BadTarget),
            (408, Refusal::NoAnswer),
            (410, Refusal::BadTarget),
            (480, Refusal::NoAnswer),
            (484, Refusal::BadTarget),
            (486, Refusal::Busy),
            (487, Refusal::NoAnswer),
            (488, Refusal::TrunkDown),
            (500, Refusal::TrunkDown),
            (503, Refusal::TrunkDown),
            (600, Refusal::Busy),
            (603, Refusal::Declined),
        ] {
            assert_eq!(of_target(status), meaning, "{status}");
        }
    }

    #[test]
    fn an_unanswered_caller_gets_the_code_of_the_table() {
        for (refusal, code, isdn) in [
            (Refusal::NoNumber, 404, 1),
            (Refusal::Forbidden, 403, 21),
            (Refusal::Capacity, 503, 42),
            (Refusal::Codec, 488, 88),
            (Refusal::CardEmpty, 480, 16),
            (Refusal::CardBlocked, 403, 16),
            (Refusal::CardInUse, 486, 17),
            (Refusal::Busy, 486, 17),
            (Refusal::NoAnswer, 480, 19),
            (Refusal::Declined, 480, 21),
            (Refusal::BadTarget, 480, 16),
            (Refusal::TrunkDown, 503, 41),
            (Refusal::StoreDown, 503, 41),
        ] {
            let rejection = refusal.rejection(10);
            assert_eq!(
                (rejection.status, rejection.reasons[0].cause),
                (code, isdn),
                "{refusal:?}"
            );
            assert_eq!(
                rejection.retry_after_s.is_some(),
                code == 503 && refusal == Refusal::Capacity
            );
        }
    }
}
