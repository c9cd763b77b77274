//! All calls, and the routing of inputs to them: the one machine that the driver knows.

use std::sync::Arc;

use crate::call::directory::Directory;
use crate::card::{LedgerReply, LedgerRequest};
use crate::ids::{CallKey, CardId, LedgerId, ReplyToken};
use crate::media::{MediaOrder, MediaPort, MediaReport};
use crate::now::UnixTime;
use crate::sip::{Counter, EndpointLoad, Flow};
use crate::units::{E164, TalkTime};

/// Everything that can happen to the switch.
#[derive(Debug)]
pub enum Input {
    Datagram {
        flow: Flow,
        bytes: Vec<u8>,
    },
    Media(MediaReport),
    Ledger {
        id: LedgerId,
        reply: LedgerReply,
    },
    /// Freshly bound socket pairs for the stock.
    Ports(Vec<MediaPort>),
    /// The operator changed numbers, projects or targets.
    Directory(Arc<Directory>),
    /// A card's balance or state was changed from outside a call.
    CardChanged(CardId),
    Admin {
        token: ReplyToken,
        ask: AdminAsk,
    },
    /// A deadline given by `next_timeout` has passed.
    Timeout,
}

/// Everything the switch orders, to be carried out in order.
#[derive(Debug)]
pub enum Output {
    Send {
        flow: Flow,
        bytes: Vec<u8>,
    },
    Media(MediaOrder),
    Ledger {
        id: LedgerId,
        request: LedgerRequest,
    },
    AdminReply {
        token: ReplyToken,
        reply: AdminReply,
    },
    Count(Counter),
    /// For the event feed: what the operator's page and the demo's ladder show.
    Event(CallEvent),
}

/// Admin questions that touch live calls.
#[derive(Clone, Debug)]
pub enum AdminAsk {
    Status,
    LiveCalls,
    HangUp(CallKey),
    Drain,
}

#[derive(Clone, Debug)]
pub enum AdminReply {
    Status(Box<SwitchStatus>),
    LiveCalls(Vec<LiveCall>),
    Done,
    NoSuchCall,
}

#[derive(Clone, Debug, Default)]
pub struct SwitchStatus {
    pub calls: usize,
    pub bridged: usize,
    pub draining: bool,
    pub free_ports: usize,
    pub endpoint: EndpointLoad,
    pub counters: Vec<(Counter, u64)>,
    /// How long the longest live card could still talk: the ETA of a drain.
    pub longest_rest: TalkTime,
}

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
        side: crate::ids::Side,
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
        cause: crate::call::cdr::EndCause,
        raw: TalkTime,
        billed: TalkTime,
    },
}
