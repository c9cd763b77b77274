//! A grammar table as it stands in `grammar.toml`, and the check that it is whole.
//!
//! Deliberately absent: any word of any language.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Why a grammar table is refused; names the key at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarFault {
    #[error("grammar.toml: {0}")]
    Syntax(String),
    #[error("grammar.toml: {key} must be 1 to 32 of a-z, 0-9 and _, but is {id:?}")]
    PromptId { key: String, id: String },
    #[error("grammar.toml: {key} must be 0 to 5 digits, but is {value:?}")]
    Digits { key: &'static str, value: String },
    #[error("grammar.toml: whole.up_to must be 0 to 999, but is {0}")]
    WholeRange(u32),
    #[error("grammar.toml: time.hours_from must be more than 60, but is {0}")]
    HoursFrom(u32),
    #[error("grammar.toml: time.order must name hour, minute and second once each")]
    Order,
    #[error("grammar.toml: noun.{noun}.forms has nothing for the plural class {class:?}")]
    NounForm { noun: &'static str, class: String },
    #[error("grammar.toml: noun.{noun}.gender is {gender:?}, but there is no such [gender]")]
    Gender { noun: &'static str, gender: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    Hour,
    Minute,
    Second,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub language: String,
    pub whole: Whole,
    pub carrier: Carrier,
    pub time: Time,
    pub number: Number,
    #[serde(default)]
    pub plural: Vec<PluralRule>,
    pub noun: Nouns,
    pub gender: BTreeMap<String, GenderForms>,
    pub telephone: Telephone,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whole {
    pub prefix: String,
    pub up_to: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Carrier {
    pub before: String,
    pub after: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Time {
    pub order: Vec<Unit>,
    pub joiner: Option<String>,
    pub seconds: bool,
    pub hours_from: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Number {
    pub word: String,
    pub hundred: String,
    pub thousand: String,
    pub joiner: Option<String>,
}

/// Holds if every list that is given has the value: `exactly` the number itself, `ends` its
/// remainder by 10, `not_ending` (which must not have it) its remainder by 100.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PluralRule {
    pub class: String,
    pub exactly: Option<Vec<u32>>,
    pub ends: Option<Vec<u32>>,
    #[serde(default)]
    pub not_ending: Vec<u32>,
}

impl PluralRule {
    pub fn holds(&self, value: u32) -> bool {
        self.exactly.as_ref().is_none_or(|list| list.contains(&value))
            && self.ends.as_ref().is_none_or(|list| list.contains(&(value % 10)))
            && !self.not_ending.contains(&(value % 100))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nouns {
    pub hour: Noun,
    pub minute: Noun,
    pub second: Noun,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Noun {
    pub gender: String,
    /// By plural class.
    pub forms: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GenderForms {
    pub alone: Vec<Form>,
    pub ending: Vec<Form>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    pub value: u32,
    pub id: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Telephone {
    pub digit: String,
    pub country_code: String,
    pub trunk_prefix: String,
    pub international_prefix: String,
}

/// The class of a number that no rule takes.
pub(super) const OTHER: &str = "other";

impl Table {
    pub fn noun(&self, unit: Unit) -> &Noun {
        match unit {
            Unit::Hour => &self.noun.hour,
            Unit::Minute => &self.noun.minute,
            Unit::Second => &self.noun.second,
        }
    }

    pub fn plural_class(&self, value: u32) -> &str {
        let rule = self.plural.iter().find(|rule| rule.holds(value));
        rule.map_or(OTHER, |rule| &rule.class)
    }

    pub fn check(&self) -> Result<(), GrammarFault> {
        if self.whole.up_to > 999 {
            return Err(GrammarFault::WholeRange(self.whole.up_to));
        }
        if let Some(from) = self.time.hours_from.filter(|from| *from <= 60) {
            return Err(GrammarFault::HoursFrom(from));
        }
        let named = |unit| self.time.order.contains(&unit);
        if self.time.order.len() != 3 || !(named(Unit::Hour) && named(Unit::Minute) && named(Unit::Second)) {
            return Err(GrammarFault::Order);
        }
        self.check_nouns()?;
        self.check_ids()?;
        let telephone = &self.telephone;
        for (key, value) in [
            ("telephone.country_code", &telephone.country_code),
            ("telephone.trunk_prefix", &telephone.trunk_prefix),
            ("telephone.international_prefix", &telephone.international_prefix),
        ] {
            if value.len() > 5 || !value.bytes().all(|b| b.is_ascii_digit()) {
                let value = value.clone();
                return Err(GrammarFault::Digits { key, value });
            }
        }
        Ok(())
    }

    fn check_nouns(&self) -> Result<(), GrammarFault> {
        let nouns = [
            ("hour", &self.noun.hour),
            ("minute", &self.noun.minute),
            ("second", &self.noun.second),
        ];
        for (noun, entry) in nouns {
            let classes = self.plural.iter().map(|rule| rule.class.as_str());
            for class in classes.chain([OTHER]) {
                if !entry.forms.contains_key(class) {
                    let class = class.to_owned();
                    return Err(GrammarFault::NounForm { noun, class });
                }
            }
            if !self.gender.contains_key(&entry.gender) {
                let gender = entry.gender.clone();
                return Err(GrammarFault::Gender { noun, gender });
            }
        }
        Ok(())
    }

    fn check_ids(&self) -> Result<(), GrammarFault> {
        let mut ids = vec![
            ("whole.prefix", &self.whole.prefix),
            ("carrier.before", &self.carrier.before),
            ("carrier.after", &self.carrier.after),
            ("number.word", &self.number.word),
            ("number.hundred", &self.number.hundred),
            ("number.thousand", &self.number.thousand),
            ("telephone.digit", &self.telephone.digit),
        ];
        ids.extend(self.time.joiner.iter().map(|id| ("time.joiner", id)));
        ids.extend(self.number.joiner.iter().map(|id| ("number.joiner", id)));
        for noun in [&self.noun.hour, &self.noun.minute, &self.noun.second] {
            ids.extend(noun.forms.values().map(|id| ("noun.forms", id)));
        }
        for forms in self.gender.values() {
            let both = forms.alone.iter().chain(&forms.ending);
            ids.extend(both.map(|form| ("gender", &form.id)));
        }
        for (key, id) in ids {
            if !is_prompt_id(id) {
                let (key, id) = (key.to_owned(), id.clone());
                return Err(GrammarFault::PromptId { key, id });
            }
        }
        Ok(())
    }
}

fn is_prompt_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=32).contains(&id.len()) && id.bytes().all(plain)
}
