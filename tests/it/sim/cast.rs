//! Who takes part, drawn from the seed: projects, cards, lines, callers, advisors.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cardline::call::directory::{Directory, Number, Project, Role, Target};
use cardline::card::CardState;
use cardline::card::tariff::Tariff;
use cardline::ids::{CardId, NumberId, ProjectId, Side, TargetId};
use cardline::media::PromptSetId;
use cardline::now::{IdSource, UnixTime};
use cardline::units::{E164, TalkTime};

use super::phone::{Act, Habits, MS, Nanos, SECOND};
use super::store::{Card, Store};
use super::text::Audio;

/// The wall clock when a run begins.
pub const WALL_START_MS: i64 = 1_790_000_000_000;
pub const SAFETY: Nanos = 240 * SECOND;

/// What a caller keys in when asked for a PIN.
#[derive(Clone, Debug)]
pub enum Keys {
    Pin(String),
    /// Half of it, then `*`, then the PIN.
    Restart(String),
    /// Fewer digits than needed, closed by `#`.
    Short,
    Silence,
}

/// What the caller's fingers will do in a call.
#[derive(Clone, Debug, Default)]
pub struct Fingers {
    pub keys: Vec<Keys>,
    /// Pressed while listening to anything else.
    pub skips: bool,
    pub takes_offer: bool,
}

pub struct CallerPlan {
    pub called: String,
    pub line: Option<String>,
    pub extra: String,
    pub audio: Audio,
    pub habits: Habits,
    pub acts: Vec<(Nanos, Act)>,
    pub on_up: Vec<(Nanos, Act)>,
    pub fingers: Fingers,
}

pub struct AdvisorPlan {
    pub audio: Audio,
    pub habits: Habits,
    pub acts: Vec<(Nanos, Act)>,
    pub on_up: Vec<(Nanos, Act)>,
}

pub struct Cast {
    pub directory: Directory,
    pub pins: BTreeMap<ProjectId, Vec<String>>,
    lines: Vec<String>,
    rng: IdSource,
    /// Everyone behaves.
    pub polite: bool,
    /// All advisors refuse alike today.
    refusing: Option<u16>,
    /// All callers guess PINs.
    robots: bool,
}

pub fn target_address(project: i64, place: u8) -> SocketAddr {
    let host = u8::try_from(10 * project).unwrap_or(200) + place;
    ([203, 0, 113, host], 5060).into()
}

impl Cast {
    pub fn new(seed: u64, polite: bool) -> (Cast, Store) {
        let mut rng = IdSource::from_number(seed ^ 0xca57);
        let mut store = Store::default();
        let mut directory = Directory::default();
        let mut pins = BTreeMap::new();
        let lines: Vec<String> = (0..5).map(|n| format!("+4917612345{n:02}")).collect();
        for number in 1..=2 {
            let project = project(&mut rng, number, polite);
            let mut own = Vec::new();
            for place in 0..=2 + rng.below(3) {
                let id = CardId::new(number * 100 + i64::try_from(place).unwrap_or(0));
                let card = card(&mut rng, &project, polite);
                own.push(card.pin.clone());
                if rng.below(3) == 0 && card.state == CardState::Active {
                    let line = &lines[usize::try_from(rng.below(5)).unwrap_or(0)];
                    let line = E164::parse(line).expect("a number");
                    store.lines.insert((project.id, line), id);
                }
                store.sell(id, card);
            }
            pins.insert(project.id, own);
            numbers(&mut directory, &project);
            directory.projects.insert(project.id, Arc::new(project));
        }
        let bad_day = rng.below(5) == 0 && !polite;
        let refusing = bad_day
            .then(|| [404, 410, 484, 486, 488, 503, 600, 603][usize::try_from(rng.below(8)).unwrap_or(0)]);
        let robots = rng.below(10) == 0 && !polite;
        let cast = Cast {
            refusing,
            robots,
            directory,
            pins,
            lines,
            rng,
            polite,
        };
        (cast, store)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent && !self.polite
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let place = self.rng.below(from.len() as u64);
        from[usize::try_from(place).unwrap_or(0)].clone()
    }

    fn span(&mut self, most: Nanos) -> Nanos {
        self.rng.below(most)
    }

    pub fn caller(&mut self) -> CallerPlan {
        let project = ProjectId::new(1 + i64::try_from(self.rng.below(2)).unwrap_or(0));
        let role = 1 + self.rng.below(2);
        let called = if self.chance(3) {
            "+49301999".into()
        } else {
            format!("+493010{project}{role}0")
        };
        let withheld = self.chance(15);
        let lines = self.lines.clone();
        let line = (!withheld).then(|| self.pick(&lines));
        let mut extra = match &line {
            None => "Privacy: id\r\n".to_owned(),
            Some(_) if self.chance(5) => "P-Asserted-Identity: <sip:+4917699999999@carrier>\r\n".to_owned(),
            Some(_) => String::new(),
        };
        if self.chance(20) {
            extra.push_str("Supported: timer\r\n");
        }
        let audio = match self.rng.below(100) {
            _ if self.polite => Audio::Good,
            0..=3 => Audio::NoDigits,
            4..=6 => Audio::Foreign,
            7..=9 => Audio::None,
            _ => Audio::Good,
        };
        let habits = Habits {
            never_ack: self.chance(2),
            storm: self.chance(2),
            deaf_to_cancel: false,
            mute: self.chance(2),
        };
        CallerPlan {
            called,
            line,
            extra,
            audio,
            habits,
            acts: self.caller_acts(),
            on_up: self.talk_acts(Side::A),
            fingers: self.fingers(project),
        }
    }

    /// From the INVITE on.
    fn caller_acts(&mut self) -> Vec<(Nanos, Act)> {
        let mut acts = Vec::new();
        if self.chance(4) {
            acts.push((self.span(2 * SECOND), Act::Cancel));
        }
        if self.chance(3) {
            acts.push((self.span(40 * SECOND), Act::Vanish));
        }
        // Whatever happens, nobody talks for ever.
        let most = if self.polite { 400 * SECOND } else { 150 * SECOND };
        acts.push((10 * SECOND + self.span(most), Act::Bye));
        acts
    }

    /// From the moment the dialog is up.
    fn talk_acts(&mut self, side: Side) -> Vec<(Nanos, Act)> {
        let mut acts = Vec::new();
        if self.chance(20) {
            acts.push((self.span(70 * SECOND), Act::Bye));
        }
        if self.chance(4) {
            acts.push((self.span(60 * SECOND), Act::Vanish));
        }
        let holds = if side == Side::B { 30 } else { 12 };
        if self.chance(holds) {
            let direction = self.pick(&["sendonly", "inactive"]);
            let at = self.span(40 * SECOND);
            acts.push((at, Act::Reinvite(direction)));
            if !self.chance(15) {
                acts.push((at + MS + self.span(30 * SECOND), Act::Reinvite("sendrecv")));
            }
        }
        if self.chance(15) {
            acts.push((self.span(40 * SECOND), Act::Reinvite("sendrecv")));
        }
        for act in [
            Act::StaleRequest,
            Act::Options,
            Act::Stray,
            Act::SameBranch,
            Act::AnswerAgain,
        ] {
            if self.chance(8) {
                acts.push((self.span(60 * SECOND), act));
            }
        }
        acts
    }

    fn fingers(&mut self, project: ProjectId) -> Fingers {
        let pins = self.pins[&project].clone();
        let other = self.pins[&ProjectId::new(3 - project.get())].clone();
        let mut keys = Vec::new();
        for _ in 0..1 + self.rng.below(5) {
            let pin = self.pick(&pins);
            keys.push(match self.rng.below(20) {
                _ if self.polite => Keys::Pin(pin),
                _ if self.robots => Keys::Pin("99999999".into()),
                0 => Keys::Silence,
                1 => Keys::Short,
                2 => Keys::Restart(pin),
                3..=5 => Keys::Pin("99999999".into()),
                6 => Keys::Pin(self.pick(&other)),
                _ => Keys::Pin(pin),
            });
        }
        Fingers {
            keys,
            skips: self.chance(15),
            takes_offer: self.polite || !self.chance(25),
        }
    }

    pub fn advisor(&mut self) -> AdvisorPlan {
        let mut acts = Vec::new();
        let mut ring = MS + self.span(2 * SECOND);
        if !self.chance(4) {
            let status = if self.chance(15) { 183 } else { 180 };
            acts.push((ring, Act::Ring(status)));
        }
        ring += self.span(8 * SECOND);
        match self.rng.below(100) {
            _ if self.polite => acts.push((ring, Act::Answer)),
            0..=79 if self.refusing.is_some() => {
                acts.extend(self.refusing.map(|status| (ring, Act::Refuse(status))));
            }
            0..=5 => {}
            6..=25 => {
                let status = self.pick(&[302, 401, 403, 404, 422, 480, 486, 488, 491, 500, 503, 600, 603]);
                acts.push((ring, Act::Refuse(status)));
            }
            26..=29 => acts.push((ring + 30 * SECOND, Act::Answer)),
            _ => acts.push((ring, Act::Answer)),
        }
        if self.chance(6) {
            acts.push((ring + self.span(2 * SECOND), Act::Fork));
        }
        if self.chance(3) {
            acts.push((self.span(20 * SECOND), Act::Vanish));
        }
        let audio = if self.chance(2) {
            Audio::Foreign
        } else {
            Audio::Good
        };
        let habits = Habits {
            never_ack: false,
            storm: self.chance(2),
            deaf_to_cancel: self.chance(15),
            mute: self.chance(2),
        };
        AdvisorPlan {
            audio,
            habits,
            acts,
            on_up: self.talk_acts(Side::B),
        }
    }
}

fn project(rng: &mut IdSource, number: i64, polite: bool) -> Project {
    let minutes = rng.below(4) == 0 && !polite;
    let (first, next) = if minutes { (60, 60) } else { (1, 1) };
    let targets = (0..2 + u8::try_from(rng.below(2)).unwrap_or(0))
        .map(|place| {
            let destination = target_address(number, place);
            Target {
                id: TargetId::new(number * 10 + i64::from(place)),
                uri: format!("sip:advisor{place}@{destination}"),
                destination,
                ring: Duration::from_secs(25),
            }
        })
        .collect();
    Project {
        id: ProjectId::new(number),
        name: format!("project {number}"),
        prompts: PromptSetId(0),
        enabled: true,
        tariff: Tariff {
            version: number,
            first_increment: TalkTime::from_secs(first),
            next_increment: TalkTime::from_secs(next),
            ..Tariff::default()
        },
        pin_length: 8,
        accept_key: rng.below(3) == 0 && !polite,
        hold_pause: (rng.below(2) == 0).then(|| Duration::from_secs(5 + rng.below(30))),
        show_caller: rng.below(2) == 0,
        show_note: false,
        consultation: E164::parse(&format!("+493010{number}20")).ok(),
        targets,
    }
}

fn numbers(directory: &mut Directory, project: &Project) {
    for (place, role) in [(1, Role::Activation), (2, Role::Consultation)] {
        let number = E164::parse(&format!("+493010{}{place}0", project.id)).expect("a number");
        let id = NumberId::new(project.id.get() * 10 + place);
        directory.numbers.insert(
            number,
            Number {
                id,
                project: project.id,
                role,
            },
        );
    }
}

fn card(rng: &mut IdSource, project: &Project, polite: bool) -> Card {
    let seconds = [0, 3, 10, 12, 20, 35, 60, 61, 75, 90, 125, 180, 300];
    let place = usize::try_from(rng.below(seconds.len() as u64)).unwrap_or(0);
    let mut balance = seconds[place] * 1000;
    if project.tariff.next_increment.as_ms() == 60_000 {
        balance = (balance + 59_999) / 60_000 * 60_000;
    }
    if rng.below(6) == 0 && !polite {
        // Goodwill and correction know no increments.
        balance += 500;
    }
    let state = match rng.below(20) {
        _ if polite => CardState::Active,
        0 => CardState::Blocked,
        1..=8 => CardState::New,
        _ => CardState::Active,
    };
    if polite {
        balance = balance.max(20_000);
    }
    // High digits only: they stand in few other numbers, and a log is searched for them.
    let pin = (0..8).map(|_| char::from(b'6' + u8::try_from(rng.below(4)).unwrap_or(0)));
    Card {
        project: project.id,
        pin: pin.collect(),
        state,
        before_block: CardState::Active,
        expires_at: (rng.below(20) == 0 && !polite).then(|| UnixTime::from_ms(WALL_START_MS + 100_000)),
        max_parallel: if rng.below(3) == 0 { 2 } else { 1 },
        entries: vec![(None, balance)],
        balance,
    }
}
