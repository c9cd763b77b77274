//! The loaded prompts, encoded once at start and shared by all media threads.
//!
//! A-law only is kept, one byte a sample: two languages of 180 prompts of 2.5 s are 7 MB. A µ-law
//! leg gets them through a 256-byte table as they are sent. Deliberately absent: files (the driver
//! reads the WAVs) and any change after the start.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::media::codec::pcma;
use crate::media::{PromptId, PromptSetId, Utterance, rtp, tone};

/// Encoded samples of one prompt, A-law at 8000 Hz.
///
/// Those of the binary stay where they are: a page of them is in memory once it was played.
#[derive(Clone, Debug)]
pub enum Clip {
    BuiltIn(&'static [u8]),
    Loaded(Arc<[u8]>),
}

impl Deref for Clip {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Clip::BuiltIn(bytes) => bytes,
            Clip::Loaded(bytes) => bytes,
        }
    }
}

/// The three soft tones of the caller's last warning; built in unless a set brings its own.
pub const BEEP_10: PromptId = PromptId::fixed("beep_10");
/// The advisor's double tone; built in unless a set brings its own.
pub const ADV_BEEP_60: PromptId = PromptId::fixed("adv_beep_60");

/// All prompts by set and name.
#[derive(Debug)]
pub struct PromptBank {
    sets: BTreeMap<PromptSetId, PromptSet>,
    tones: BTreeMap<PromptId, Clip>,
    ringback: Clip,
    nothing: Clip,
}

#[derive(Debug, Default)]
struct PromptSet {
    name: String,
    clips: BTreeMap<PromptId, Clip>,
}

/// Collects prompts for a [`PromptBank`].
#[derive(Debug, Default)]
pub struct PromptBankBuilder {
    sets: BTreeMap<PromptSetId, PromptSet>,
}

impl PromptBankBuilder {
    /// Names a set, such as `de`, and makes it exist even without a prompt.
    pub fn name_set(&mut self, set: PromptSetId, name: &str) -> &mut PromptBankBuilder {
        name.clone_into(&mut self.sets.entry(set).or_default().name);
        self
    }

    /// Encodes and keeps one prompt; `samples` are 8000 Hz mono. A second one of the same name
    /// replaces the first.
    pub fn add(&mut self, set: PromptSetId, prompt: PromptId, samples: &[i16]) -> &mut PromptBankBuilder {
        self.sets
            .entry(set)
            .or_default()
            .clips
            .insert(prompt, encode(samples));
        self
    }

    /// Keeps one prompt that is A-law at 8000 Hz already.
    pub fn add_encoded(&mut self, set: PromptSetId, prompt: PromptId, clip: Clip) -> &mut PromptBankBuilder {
        self.sets.entry(set).or_default().clips.insert(prompt, clip);
        self
    }

    pub fn build(&mut self) -> PromptBank {
        PromptBank {
            sets: std::mem::take(&mut self.sets),
            tones: BTreeMap::from([
                (BEEP_10, encode(&tone::beep_10())),
                (ADV_BEEP_60, encode(&tone::adv_beep_60())),
            ]),
            ringback: encode(&tone::ringback()),
            nothing: Clip::BuiltIn(&[]),
        }
    }
}

impl PromptBank {
    pub fn builder() -> PromptBankBuilder {
        PromptBankBuilder::default()
    }

    /// The set of this name, such as `de`.
    pub fn set_named(&self, name: &str) -> Option<PromptSetId> {
        self.sets
            .iter()
            .find_map(|(id, set)| (set.name == name).then_some(*id))
    }

    /// Whether this prompt would be heard: recorded in the set or a built-in tone.
    pub fn has(&self, set: PromptSetId, prompt: &PromptId) -> bool {
        self.find(set, prompt).is_some()
    }

    /// How long an utterance lasts; missing prompts last no time.
    pub fn length(&self, utterance: &Utterance) -> Duration {
        let clips = utterance.prompts.iter();
        let samples: usize = clips
            .filter_map(|prompt| self.find(utterance.set, prompt))
            .map(|clip| clip.len())
            .sum();
        rtp::span_of(u32::try_from(samples).unwrap_or(u32::MAX))
    }

    /// The prompt's samples; a missing one is silence of no length and a warning, since a call
    /// must go on whatever a prompt set lacks.
    pub fn clip(&self, set: PromptSetId, prompt: &PromptId) -> Clip {
        match self.find(set, prompt) {
            Some(clip) => Clip::clone(clip),
            None => {
                tracing::warn!(
                    set = set.0,
                    prompt = prompt.as_str(),
                    "prompt missing, nothing is heard"
                );
                Clip::clone(&self.nothing)
            }
        }
    }

    /// One burst of ringback, [`tone::RINGBACK_ON`] samples.
    pub fn ringback(&self) -> Clip {
        Clip::clone(&self.ringback)
    }

    /// Bytes of all prompts, for the status page.
    pub fn size_bytes(&self) -> usize {
        let sets = self.sets.values().flat_map(|set| set.clips.values());
        sets.chain(self.tones.values()).map(|clip| clip.len()).sum()
    }

    fn find(&self, set: PromptSetId, prompt: &PromptId) -> Option<&Clip> {
        let recorded = self.sets.get(&set).and_then(|set| set.clips.get(prompt));
        recorded.or_else(|| self.tones.get(prompt))
    }
}

fn encode(samples: &[i16]) -> Clip {
    Clip::Loaded(samples.iter().map(|sample| pcma::encode(*sample)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_prompt_has_no_length_and_harms_nobody() {
        let mut builder = PromptBank::builder();
        builder
            .name_set(PromptSetId(3), "de")
            .add(PromptSetId(3), PromptId::fixed("bye"), &[0; 800]);
        let bank = builder.build();
        assert_eq!(bank.set_named("de"), Some(PromptSetId(3)));
        assert_eq!(bank.set_named("fr"), None);
        let prompts = vec![
            PromptId::fixed("bye"),
            PromptId::fixed("no_such"),
            PromptId::fixed("bye"),
        ];
        let length = bank.length(&Utterance {
            set: PromptSetId(3),
            prompts,
        });
        assert_eq!(length, Duration::from_millis(200));
        assert!(bank.clip(PromptSetId(9), &PromptId::fixed("bye")).is_empty());
    }

    #[test]
    fn the_tones_are_built_in_and_may_be_replaced() {
        let bank = PromptBank::builder().build();
        assert!(bank.has(PromptSetId(0), &BEEP_10));
        assert!(bank.has(PromptSetId(0), &ADV_BEEP_60));
        assert_eq!(bank.ringback().len(), tone::RINGBACK_ON);
        let own = PromptBank::builder()
            .add(PromptSetId(0), BEEP_10, &[0; 8])
            .build();
        assert_eq!(own.clip(PromptSetId(0), &BEEP_10).len(), 8);
    }
}
