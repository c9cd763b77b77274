//! An utterance on its way: which sample comes next, across prompts without a gap.

use crate::ids::PlayId;
use crate::media::bank::{Clip, PromptBank};
use crate::media::codec::{self, pcma};
use crate::media::{Duck, Utterance, tone};
use crate::sdp::Codec;

/// Cursor through an utterance's samples.
#[derive(Debug)]
pub(super) struct Voice {
    pub id: PlayId,
    clips: Vec<Clip>,
    clip: usize,
    offset: usize,
}

impl Voice {
    pub fn new(id: PlayId, utterance: &Utterance, bank: &PromptBank) -> Voice {
        let prompts = utterance.prompts.iter();
        let clips = prompts.map(|prompt| bank.clip(utterance.set, prompt));
        Voice {
            id,
            clips: clips.filter(|clip| !clip.is_empty()).collect(),
            clip: 0,
            offset: 0,
        }
    }

    pub fn is_done(&self) -> bool {
        self.clip >= self.clips.len()
    }

    /// Writes the next samples, A-law, and says how many there were; the rest stays as it is.
    pub fn fill(&mut self, alaw: &mut [u8]) -> usize {
        let mut filled = 0;
        while let Some(clip) = self.clips.get(self.clip) {
            let rest = clip.get(self.offset..).unwrap_or_default();
            let room = alaw.get_mut(filled..).unwrap_or_default();
            if room.is_empty() {
                break;
            }
            let count = rest.len().min(room.len());
            for (target, sample) in room.iter_mut().zip(rest) {
                *target = *sample;
            }
            filled += count;
            self.offset += count;
            if count == rest.len() {
                self.clip += 1;
                self.offset = 0;
            }
        }
        filled
    }
}

/// Ringback's place in its 5 s cycle.
#[derive(Debug)]
pub(super) struct Ringing {
    burst: Clip,
    position: usize,
}

impl Ringing {
    pub fn new(bank: &PromptBank) -> Ringing {
        Ringing {
            burst: bank.ringback(),
            position: 0,
        }
    }

    pub fn fill(&mut self, alaw: &mut [u8]) {
        for target in alaw {
            *target = self.burst.get(self.position).copied().unwrap_or(pcma::SILENCE);
            self.position = (self.position + 1) % tone::RINGBACK_CYCLE;
        }
    }
}

/// An utterance that is summed into what a leg hears.
#[derive(Debug)]
pub(super) struct Mix {
    pub voice: Voice,
    pub duck: Duck,
}

impl Mix {
    /// Lowers `samples` as ordered and adds the voice to them, saturating.
    pub fn apply(&mut self, codec: Codec, samples: &mut [u8]) {
        let mut spoken = [pcma::SILENCE; super::leg::FRAME_LIMIT];
        let room = spoken.get_mut(..samples.len()).unwrap_or_default();
        let count = self.voice.fill(room);
        for (sample, voice) in samples.iter_mut().zip(room.iter().take(count)) {
            let talk = i32::from(codec::decode(codec, *sample));
            let talk = match self.duck {
                // A quarter in amplitude is 12.04 dB.
                Duck::Db12 => talk / 4,
                Duck::None => talk,
            };
            let sum = talk + i32::from(codec::decode(Codec::Pcma, *voice));
            *sample = codec::encode(codec, saturate(sum));
        }
    }
}

fn saturate(sum: i32) -> i16 {
    i16::try_from(sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX))).unwrap_or(0)
}
