//! What a person sees: three columns, caller, cardline, advisor, with the card's balance.

use std::io::Write;

use crate::ids::Side;
use crate::now::Instant;
use crate::switch::CallHappening;
use crate::units::TalkTime;

/// Writes the ladder line by line; silent when machines read.
#[derive(Debug)]
pub struct Screen {
    headless: bool,
    german: bool,
    epoch: Instant,
}

impl Screen {
    pub fn new(headless: bool, german: bool, epoch: Instant) -> Screen {
        Screen {
            headless,
            german,
            epoch,
        }
    }

    pub fn heading(&self, text: &str) {
        self.line(&format!(
            "\n── {text} {}",
            "─".repeat(72usize.saturating_sub(text.chars().count()))
        ));
    }

    pub fn columns(&self) {
        let (caller, advisor) = if self.german {
            ("Anrufer", "Beratung")
        } else {
            ("caller", "advisor")
        };
        self.line(&format!("{:>8}  {caller:<26}{:<34}{advisor}", "s", "cardline"));
    }

    pub fn caller(&self, now: Instant, text: &str) {
        self.at(now, &format!("{text:<26}"));
    }

    pub fn cardline(&self, now: Instant, text: &str) {
        self.at(now, &format!("{:<26}{text:<34}", ""));
    }

    pub fn advisor(&self, now: Instant, text: &str) {
        self.at(now, &format!("{:<60}{text}", ""));
    }

    /// One happening of the call, in the column it belongs to.
    pub fn happening(&self, now: Instant, what: &CallHappening) {
        match what {
            CallHappening::Started => self.cardline(now, "INVITE"),
            CallHappening::State(state) => self.cardline(now, &format!("· {state}")),
            CallHappening::Playing {
                side: Side::A,
                prompts,
            } => self.caller(now, &format!("♪ {prompts}")),
            CallHappening::Playing {
                side: Side::B,
                prompts,
            } => self.advisor(now, &format!("♪ {prompts}")),
            CallHappening::Activated { .. } => {
                self.cardline(
                    now,
                    if self.german {
                        "✓ Karte freigeschaltet"
                    } else {
                        "✓ card activated"
                    },
                );
            }
            CallHappening::Bridged { granted, .. } => {
                self.cardline(now, &format!("◄── bridge ──►  {}", self.granted(*granted)));
            }
            CallHappening::Warned { seconds } => self.cardline(now, &format!("! {seconds} s")),
            CallHappening::Extended { granted } => {
                self.cardline(now, &format!("+ {}", self.granted(*granted)))
            }
            CallHappening::Ended { cause, raw, billed } => {
                let text = format!(
                    "■ {}  raw {} ms  billed {} ms",
                    cause.as_str(),
                    raw.as_ms(),
                    billed.as_ms()
                );
                self.cardline(now, &text);
            }
        }
    }

    fn granted(&self, granted: TalkTime) -> String {
        if self.german {
            format!("{granted} bewilligt")
        } else {
            format!("{granted} granted")
        }
    }

    /// The bar of a card that had `whole` and has `rest`.
    pub fn balance(&self, now: Instant, rest: TalkTime, whole: TalkTime) {
        let cells = 20 * rest.as_ms().max(0) / whole.as_ms().max(1);
        let full = usize::try_from(cells.clamp(0, 20)).unwrap_or(0);
        let word = if self.german { "Restzeit" } else { "time left" };
        self.cardline(
            now,
            &format!("{}{} {word} {rest}", "█".repeat(full), "░".repeat(20 - full)),
        );
    }

    fn at(&self, now: Instant, text: &str) {
        self.line(&format!(
            "{:8.2}  {}",
            now.since(self.epoch).as_secs_f64(),
            text.trim_end()
        ));
    }

    pub fn line(&self, text: &str) {
        if self.headless {
            return;
        }
        // A closed terminal ends the show, not the demo.
        writeln!(std::io::stdout().lock(), "{text}").ok();
    }
}
