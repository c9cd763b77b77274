//! Number speech: a value and a grammar table in, an ordered list of prompt ids out.
//!
//! The table is data (`prompts/<language>/grammar.toml`); nothing here knows a language. What is
//! spoken is never more than can be used: every value is rounded down (product.md 3.4).
//!
//! Deliberately absent: words of a language, file access, dates, clock times and prices.

pub mod fixed;
mod table;
#[cfg(test)]
mod tests;

pub use table::GrammarFault;

use table::{OTHER, Table, Unit};

use crate::media::PromptId;
use crate::units::{E164, TalkTime};

/// Greatest number of minutes that is spoken; more is spoken as this.
pub const MOST_MINUTES: u32 = 9999;
/// From here on only whole minutes are spoken.
const WHOLE_MINUTES_FROM: u32 = 10;
/// Steps of the seconds after a minute.
const SECONDS_STEP: u32 = 10;
/// Greatest number of digits that are read out: the longest E.164 number and its prefix.
const MOST_DIGITS: usize = 20;

/// How one language speaks numbers.
#[derive(Clone, Debug)]
pub struct Grammar {
    table: Table,
}

impl Grammar {
    /// Reads a `grammar.toml`; keys that no one knows are refused.
    ///
    /// # Errors
    /// What is wrong with the table, by the name of its key.
    pub fn parse(text: &str) -> Result<Grammar, GrammarFault> {
        let table: Table = toml::from_str(text).map_err(|fault| GrammarFault::Syntax(fault.to_string()))?;
        table.check()?;
        Ok(Grammar { table })
    }

    /// The language's tag, such as `de`.
    pub fn language(&self) -> &str {
        &self.table.language
    }

    /// The whole sentence that tells how long a card still lasts, rounded down: from 10 min whole
    /// minutes, from 1 min minutes and tens of seconds, below that seconds. Empty if nothing
    /// is left to speak of; the caller then plays [`fixed::CARD_EMPTY`].
    pub fn remaining_time(&self, rest: TalkTime) -> Vec<PromptId> {
        let spoken = Spoken::of(rest, self.table.time.seconds);
        let whole = &self.table.whole;
        match spoken {
            Spoken {
                minutes: 0,
                seconds: 0,
                under_a_minute: false,
            } => Vec::new(),
            Spoken {
                minutes, seconds: 0, ..
            } if minutes <= whole.up_to => {
                vec![numbered_wide(&whole.prefix, minutes)]
            }
            Spoken { minutes, seconds, .. } => {
                let carrier = &self.table.carrier;
                let mut prompts = vec![named(&carrier.before)];
                prompts.extend(self.span(minutes, seconds));
                prompts.push(named(&carrier.after));
                prompts
            }
        }
    }

    /// The bare time, rounded down like [`Grammar::remaining_time`], without a sentence around it.
    pub fn talk_time(&self, rest: TalkTime) -> Vec<PromptId> {
        let spoken = Spoken::of(rest, self.table.time.seconds);
        self.span(spoken.minutes, spoken.seconds)
    }

    /// The digits of `text` one by one; what is no digit is passed over.
    pub fn digits(&self, text: &str) -> Vec<PromptId> {
        let digits = text.chars().filter_map(|c| c.to_digit(10)).take(MOST_DIGITS);
        digits
            .map(|digit| numbered(&self.table.telephone.digit, digit))
            .collect()
    }

    /// A telephone number digit by digit, as dialled from the grammar's own country.
    pub fn telephone(&self, number: &E164) -> Vec<PromptId> {
        let rule = &self.table.telephone;
        let own = Some(rule.country_code.as_str()).filter(|code| !code.is_empty());
        let dialled = match own.and_then(|code| number.digits().strip_prefix(code)) {
            Some(national) => format!("{}{national}", rule.trunk_prefix),
            None => format!("{}{}", rule.international_prefix, number.digits()),
        };
        self.digits(&dialled)
    }

    /// Every prompt that the call script and this grammar can ever ask for, sorted: what a prompt
    /// set must have, so that start can refuse with the name of a missing one.
    pub fn required(&self) -> Vec<PromptId> {
        let Table {
            whole,
            carrier,
            time,
            number,
            noun,
            gender,
            telephone,
            ..
        } = &self.table;
        let mut all = fixed::ALL.to_vec();
        all.extend((0..=whole.up_to).map(|minutes| numbered_wide(&whole.prefix, minutes)));
        all.extend([named(&carrier.before), named(&carrier.after)]);
        all.extend(time.joiner.iter().chain(&number.joiner).map(|id| named(id)));
        all.extend((0..100).map(|value| numbered(&number.word, value)));
        for value in 1..10 {
            all.push(numbered(&number.hundred, value));
            all.push(numbered(&number.thousand, value));
        }
        for noun in [&noun.hour, &noun.minute, &noun.second] {
            all.extend(noun.forms.values().map(|id| named(id)));
        }
        for forms in gender.values() {
            all.extend(
                forms
                    .alone
                    .iter()
                    .chain(&forms.ending)
                    .map(|form| named(&form.id)),
            );
        }
        all.extend((0..10).map(|value| numbered(&telephone.digit, value)));
        all.sort();
        all.dedup();
        all
    }

    /// Minutes and seconds with their nouns; parts that are zero are dropped.
    fn span(&self, minutes: u32, seconds: u32) -> Vec<PromptId> {
        let hours_spoken = self.table.time.hours_from.is_some_and(|from| minutes >= from);
        let hours = if hours_spoken { minutes / 60 } else { 0 };
        let parts: Vec<_> = (self.table.time.order.iter())
            .map(|unit| match unit {
                Unit::Hour => (*unit, hours),
                Unit::Minute => (*unit, minutes - hours * 60),
                Unit::Second => (*unit, seconds),
            })
            .filter(|(_, value)| *value > 0)
            .collect();

        let mut prompts = Vec::new();
        for (place, (unit, value)) in parts.iter().enumerate() {
            if place > 0 && place + 1 == parts.len() {
                prompts.extend(self.table.time.joiner.as_deref().map(named));
            }
            self.counted(*unit, *value, &mut prompts);
        }
        prompts
    }

    /// A number before its noun.
    fn counted(&self, unit: Unit, value: u32, prompts: &mut Vec<PromptId>) {
        let noun = self.table.noun(unit);
        self.cardinal(&noun.gender, value, prompts);
        let form = noun
            .forms
            .get(self.table.plural_class(value))
            .or_else(|| noun.forms.get(OTHER));
        prompts.extend(form.map(|id| named(id)));
    }

    /// 1..=9999 as words before a noun of that gender. Numbers under 100 are recorded whole.
    fn cardinal(&self, gender: &str, value: u32, prompts: &mut Vec<PromptId>) {
        let number = &self.table.number;
        let (thousands, hundreds, last) = (value / 1000, value / 100 % 10, value % 100);
        if thousands > 0 {
            prompts.push(numbered(&number.thousand, thousands));
        }
        if hundreds > 0 {
            prompts.push(numbered(&number.hundred, hundreds));
        }
        if last == 0 {
            return;
        }
        let alone = value < 100;
        if !alone {
            prompts.extend(number.joiner.as_deref().map(named));
        }
        let forms = self
            .table
            .gender
            .get(gender)
            .map(|forms| if alone { &forms.alone } else { &forms.ending });
        let special = forms.and_then(|forms| forms.iter().find(|form| form.value == last));
        prompts.push(match special {
            Some(form) => named(&form.id),
            None => numbered(&number.word, last),
        });
    }
}

/// Talk time as it is spoken, rounded down.
struct Spoken {
    minutes: u32,
    seconds: u32,
    /// There is less than a minute, and seconds are not spoken.
    under_a_minute: bool,
}

impl Spoken {
    fn of(rest: TalkTime, speak_seconds: bool) -> Spoken {
        let most = MOST_MINUTES * 60 + 59;
        let total = rest.to_duration().as_secs();
        let total = u32::try_from(total).unwrap_or(most).min(most);
        let minutes = total / 60;
        let seconds = match minutes {
            _ if !speak_seconds => 0,
            0 => total,
            1..WHOLE_MINUTES_FROM => total % 60 / SECONDS_STEP * SECONDS_STEP,
            WHOLE_MINUTES_FROM.. => 0,
        };
        let under_a_minute = minutes == 0 && total > 0 && !speak_seconds;
        Spoken {
            minutes,
            seconds,
            under_a_minute,
        }
    }
}

fn named(id: &str) -> PromptId {
    PromptId::named(id.to_owned())
}

fn numbered(prefix: &str, value: u32) -> PromptId {
    PromptId::named(format!("{prefix}{value}"))
}

/// With three digits, so that files sort by their value.
fn numbered_wide(prefix: &str, value: u32) -> PromptId {
    PromptId::named(format!("{prefix}{value:03}"))
}
