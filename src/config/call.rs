//! Timers and limits of one call (product.md 3.2), each a key with its unit in the name.

use std::time::Duration;

use serde::Deserialize;

use super::{seconds, within};

/// The defaults are the product's; the tests shorten them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallConfig {
    /// First digit after the prompt.
    #[serde(deserialize_with = "seconds", rename = "first_digit_s")]
    pub first_digit: Duration,
    /// Between two digits.
    #[serde(deserialize_with = "seconds", rename = "next_digit_s")]
    pub next_digit: Duration,
    /// One PIN try in total.
    #[serde(deserialize_with = "seconds", rename = "pin_try_s")]
    pub pin_try: Duration,
    /// PIN tries per call.
    pub pin_tries: u32,
    /// Everything before the bridge that is not dialling.
    #[serde(deserialize_with = "seconds", rename = "before_bridge_s")]
    pub before_bridge: Duration,
    /// „Press 1 to be connected".
    #[serde(deserialize_with = "seconds", rename = "offer_s")]
    pub offer: Duration,
    /// Another PIN after the time is used up.
    #[serde(deserialize_with = "seconds", rename = "other_pin_s")]
    pub other_pin: Duration,
    /// A target that gives no 18x.
    #[serde(deserialize_with = "seconds", rename = "no_ringing_s")]
    pub no_ringing: Duration,
    /// Hunting over all targets.
    #[serde(deserialize_with = "seconds", rename = "hunting_s")]
    pub hunting: Duration,
    /// The advisor presses 1.
    #[serde(deserialize_with = "seconds", rename = "accept_s")]
    pub accept: Duration,
    /// Least talk time to start with (or the tariff's first block, if longer).
    #[serde(deserialize_with = "seconds", rename = "start_minimum_s")]
    pub start_minimum: Duration,
    /// Talk time set aside at a time.
    #[serde(deserialize_with = "seconds", rename = "slice_s")]
    pub slice: Duration,
    /// The next slice is asked for when this much is left.
    #[serde(deserialize_with = "seconds", rename = "renew_lead_s")]
    pub renew_lead: Duration,
    /// Usage is saved this often.
    #[serde(deserialize_with = "seconds", rename = "checkpoint_s")]
    pub checkpoint: Duration,
    /// The store is asked again this often when it was away, and as a safety net for recharges.
    #[serde(deserialize_with = "seconds", rename = "retry_s")]
    pub retry: Duration,
    /// Warnings before the end, in falling order: 60 is spoken, any other is three soft tones.
    pub warnings_s: Vec<u32>,
    /// Longest end prompt after the cut.
    #[serde(deserialize_with = "seconds", rename = "end_prompt_s")]
    pub end_prompt: Duration,
    /// Longest pause while the advisor holds.
    #[serde(deserialize_with = "seconds", rename = "hold_max_s")]
    pub hold_max: Duration,
    /// Longest call.
    #[serde(deserialize_with = "seconds", rename = "max_call_s")]
    pub max_call: Duration,
}

impl Default for CallConfig {
    fn default() -> CallConfig {
        const fn s(secs: u64) -> Duration {
            Duration::from_secs(secs)
        }
        CallConfig {
            first_digit: s(10),
            next_digit: s(4),
            pin_try: s(40),
            pin_tries: 3,
            before_bridge: s(180),
            offer: s(6),
            other_pin: s(30),
            no_ringing: s(6),
            hunting: s(90),
            accept: s(10),
            start_minimum: s(10),
            slice: s(120),
            renew_lead: s(75),
            checkpoint: s(10),
            retry: s(2),
            warnings_s: vec![60, 10],
            end_prompt: s(8),
            hold_max: s(600),
            max_call: s(4 * 3600),
        }
    }
}

impl CallConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let seconds = [
            ("first_digit_s", self.first_digit, 1, 60),
            ("next_digit_s", self.next_digit, 1, 60),
            ("pin_try_s", self.pin_try, 5, 180),
            ("before_bridge_s", self.before_bridge, 10, 600),
            ("offer_s", self.offer, 1, 60),
            ("other_pin_s", self.other_pin, 5, 120),
            ("no_ringing_s", self.no_ringing, 1, 60),
            ("hunting_s", self.hunting, 5, 600),
            ("accept_s", self.accept, 1, 60),
            ("start_minimum_s", self.start_minimum, 0, 600),
            ("slice_s", self.slice, 10, 3600),
            ("renew_lead_s", self.renew_lead, 1, 3600),
            ("checkpoint_s", self.checkpoint, 1, 60),
            ("retry_s", self.retry, 1, 60),
            ("end_prompt_s", self.end_prompt, 0, 30),
            ("hold_max_s", self.hold_max, 1, 3600),
            ("max_call_s", self.max_call, 10, 86_400),
        ];
        for (key, value, least, most) in seconds {
            within(&format!("call.{key}"), value.as_secs(), least, most)?;
        }
        within("call.pin_tries", self.pin_tries.into(), 1, 10)?;
        if self.renew_lead >= self.slice {
            return Err("call.renew_lead_s: must be less than call.slice_s".into());
        }
        if self.warnings_s.len() > 5 || !self.warnings_s.is_sorted_by(|a, b| a > b) {
            return Err(
                "call.warnings_s: give at most 5 thresholds in falling order, such as [60, 10]".into(),
            );
        }
        let first = self.warnings_s.first().copied().unwrap_or(0);
        if self.renew_lead.as_secs() <= u64::from(first) + 2 {
            return Err(format!(
                "call.renew_lead_s: must exceed the first warning by more than 2 s, so over {}",
                first + 2
            ));
        }
        Ok(())
    }
}
