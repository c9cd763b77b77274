//! The prompts that the call script names itself (product.md 3.3). Their wording is in
//! `prompts/<language>/catalogue.toml`.
//!
//! Deliberately absent: number words, which only a grammar table names.

use crate::media::PromptId;

macro_rules! fixed_prompts {
    ($($(#[$doc:meta])* $name:ident = $id:literal),* $(,)?) => {
        $($(#[$doc])* pub const $name: PromptId = PromptId::fixed($id);)*

        /// All of them, in the order of product.md 3.3.
        pub const ALL: &[PromptId] = &[$(PromptId::fixed($id)),*];
    };
}

fixed_prompts! {
    WELCOME = "welcome",
    PIN_ENTER = "pin_enter",
    PIN_NONE = "pin_none",
    PIN_WRONG = "pin_wrong",
    PIN_OK = "pin_ok",
    PIN_FAIL = "pin_fail",
    PIN_LOCKED = "pin_locked",
    BOUND = "bound",
    NOT_BOUND = "not_bound",
    /// First half of the carrier sentence; a grammar names it, too.
    REST_PRE = "rest_pre",
    REST_POST = "rest_post",
    OFFER_CONNECT = "offer_connect",
    /// Followed by the digits of the consultation number.
    BERATUNG_NR = "beratung_nr",
    CONNECTING = "connecting",
    ADV_BUSY = "adv_busy",
    ADV_NOANSWER = "adv_noanswer",
    CLOSED = "closed",
    /// Followed by a day and a time.
    CLOSED_NEXT = "closed_next",
    CALLBACK_OFFER = "callback_offer",
    WARN_60 = "warn_60",
    /// Three soft tones.
    BEEP_10 = "beep_10",
    /// A double tone, for the advisor only.
    ADV_BEEP_60 = "adv_beep_60",
    EXHAUSTED = "exhausted",
    TOPUP_LIVE = "topup_live",
    OTHER_PIN = "other_pin",
    CARD_EMPTY = "card_empty",
    CARD_EXPIRED = "card_expired",
    CARD_BLOCKED = "card_blocked",
    CARD_INUSE = "card_inuse",
    NO_DTMF = "no_dtmf",
    DEAD_AIR = "dead_air",
    TECH = "tech",
    /// Followed by the remaining time, to the advisor.
    WHISPER_CARD = "whisper_card",
    WHISPER_KEY = "whisper_key",
    BYE = "bye",
}
