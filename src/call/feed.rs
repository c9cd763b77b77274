//! What a call tells the world about itself: the event feed and the list of live calls.
//!
//! Deliberately absent: PINs and digits.

use crate::call::cdr::EndCause;
use crate::ids::{CallKey, CardId, Side};
use crate::now::UnixTime;
use crate::units::{E164, TalkTime};

/// A call in progress, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCall {
    pub call: CallKey,
    /// The state's name in product.md 3.1, in lower case.
    pub state: &'static str,
    pub caller: Option<E164>,
    pub called: Option<E164>,
    pub card: Option<CardId>,
    pub target: Option<String>,
    pub started_at: UnixTime,
    pub answered_at: Option<UnixTime>,
    pub bridged_at: Option<UnixTime>,
    /// Charged talk so far.
    pub used: TalkTime,
    /// Granted talk left; zero before the bridge.
    pub rest: TalkTime,
}

/// One thing that happened in a call, without PIN and digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEvent {
    pub call: CallKey,
    pub what: CallHappening,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallHappening {
    Started,
    /// Entered this state (its name in product.md 3.1, lower case).
    State(&'static str),
    /// Prompt ids ordered for one side, joined by blanks.
    Playing {
        side: Side,
        prompts: String,
    },
    Activated {
        card: CardId,
    },
    Bridged {
        card: CardId,
        granted: TalkTime,
    },
    Warned {
        seconds: u32,
    },
    Extended {
        granted: TalkTime,
    },
    Ended {
        cause: EndCause,
        raw: TalkTime,
        billed: TalkTime,
    },
}
