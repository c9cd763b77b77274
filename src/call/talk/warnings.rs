//! Warnings before the end of the talk: mixed under it, lower for speech, and taken back when the
//! card is recharged.

use std::time::Duration;

use crate::call::cx::Cx;
use crate::call::feed::CallHappening;
use crate::call::speech::fixed;
use crate::ids::{PlayId, Side};
use crate::media::{Duck, MediaCommand, PromptId};
use crate::now::Instant;
use crate::units::TalkTime;

/// A warning that could not be given in time says nothing true any more.
const TOO_LATE: Duration = Duration::from_secs(2);
/// A caller who just heard nearly this much is not told again so soon.
const HEARD_MARGIN: Duration = Duration::from_secs(5);

pub(super) struct Warnings {
    /// Thresholds in seconds that are still to come, in falling order.
    left: Vec<u32>,
    playing: Option<PlayId>,
}

impl Warnings {
    /// `announced` is what the caller heard at the start.
    pub fn new(cx: &Cx<'_>, announced: TalkTime) -> Warnings {
        let heard = announced.to_duration();
        let all = cx.config().warnings_s.iter().copied();
        let left = all.filter(|s| heard >= Duration::from_secs((*s).into()) + HEARD_MARGIN);
        Warnings {
            left: left.collect(),
            playing: None,
        }
    }

    /// When the next one is due, if the talk ends at `end`.
    pub fn next(&self, end: Instant) -> Option<Instant> {
        let threshold = *self.left.first()?;
        Some(end - Duration::from_secs(threshold.into()))
    }

    /// Gives those that are due.
    pub fn due(&mut self, cx: &mut Cx<'_>, end: Instant) {
        while let Some(at) = self.next(end).filter(|at| *at <= cx.mono()) {
            let threshold = self.left.remove(0);
            if cx.mono().since(at) <= TOO_LATE {
                self.give(cx, threshold);
            }
        }
    }

    pub fn ended(&mut self, id: PlayId) {
        if self.playing == Some(id) {
            self.playing = None;
        }
    }

    /// The end moved away: what is being said stops, all thresholds apply again, and the caller
    /// hears why, if the card was recharged.
    pub fn withdraw(&mut self, cx: &mut Cx<'_>, recharged: bool) {
        if self.playing.take().is_some() {
            cx.media(Side::A, MediaCommand::StopMix);
        }
        self.left = cx.config().warnings_s.clone();
        if recharged {
            self.playing = Some(mix(cx, Side::A, fixed::TOPUP_LIVE, Duck::Db12));
        }
    }

    fn give(&mut self, cx: &mut Cx<'_>, threshold: u32) {
        let spoken = threshold == 60;
        self.playing = Some(if spoken {
            mix(cx, Side::B, fixed::ADV_BEEP_60, Duck::None);
            mix(cx, Side::A, fixed::WARN_60, Duck::Db12)
        } else {
            mix(cx, Side::A, fixed::BEEP_10, Duck::None)
        });
        cx.facts.record.warnings_s.push(threshold);
        cx.event(CallHappening::Warned { seconds: threshold });
    }
}

fn mix(cx: &mut Cx<'_>, side: Side, prompt: PromptId, duck: Duck) -> PlayId {
    let id = cx.next_play();
    cx.tell(side, std::slice::from_ref(&prompt));
    let utterance = cx.utterance(vec![prompt]);
    cx.media(side, MediaCommand::Mix { id, utterance, duck });
    id
}
