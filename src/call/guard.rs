//! Wrong PINs of a project, over all its calls: who hides the line is slowed down, never shut out,
//! and an attack raises an alarm (product.md 3.2; reliability.md T2).
//!
//! In memory and by the monotonic clock: a restart forgets it, a step of the wall clock does not.
//! Deliberately absent: the lock of a single line and the cap of a project, which the store keeps for
//! all nodes; this is the slowness that a caller hears.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::card::pin;
use crate::ids::{CallKey, ProjectId};
use crate::now::Instant;

/// Wrong PINs within this span count.
const WINDOW: Duration = Duration::from_secs(600);
/// From here on a wrong PIN of a withheld caller costs 4 s.
const SLOW_FROM: usize = 20;
/// From here on 8 s, one try per call, and three callers at a time; for all callers: the alarm.
const ALARM_FROM: usize = pin::ALARM_FROM;
const ENTRIES_AT_ONCE: usize = 3;

/// The wrong PINs of all projects.
#[derive(Debug, Default)]
pub struct PinGuard {
    projects: BTreeMap<ProjectId, Wrong>,
}

#[derive(Debug, Default)]
struct Wrong {
    /// Of withheld callers, and of all; no more than the alarm needs.
    withheld: VecDeque<Instant>,
    all: VecDeque<Instant>,
    /// Withheld callers at the prompt.
    entries: BTreeSet<CallKey>,
    alarmed: bool,
}

/// How a withheld caller of a project is treated now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    Usual,
    Slow,
    /// One try per call.
    Strict,
}

impl Care {
    /// The pause after a wrong PIN, if it is longer than the usual one.
    pub fn delay(self) -> Duration {
        match self {
            Care::Usual => Duration::ZERO,
            Care::Slow => Duration::from_secs(4),
            Care::Strict => Duration::from_secs(8),
        }
    }
}

impl PinGuard {
    pub(super) fn care(&self, project: ProjectId, now: Instant) -> Care {
        let wrong = self.projects.get(&project);
        let count = wrong.map_or(0, |wrong| recent(&wrong.withheld, now));
        match count {
            ALARM_FROM.. => Care::Strict,
            SLOW_FROM.. => Care::Slow,
            _ => Care::Usual,
        }
    }

    /// A withheld caller wants to enter a PIN; `false` if too many do so under attack.
    pub(super) fn enter(&mut self, project: ProjectId, call: CallKey, now: Instant) -> bool {
        let strict = self.care(project, now) == Care::Strict;
        let wrong = self.projects.entry(project).or_default();
        if strict && wrong.entries.len() >= ENTRIES_AT_ONCE && !wrong.entries.contains(&call) {
            return false;
        }
        wrong.entries.insert(call);
        true
    }

    pub(super) fn leave(&mut self, project: ProjectId, call: CallKey) {
        if let Some(wrong) = self.projects.get_mut(&project) {
            wrong.entries.remove(&call);
        }
    }

    /// Counts a wrong PIN; `true` if it is the one that raises the alarm.
    pub(super) fn wrong(&mut self, project: ProjectId, withheld: bool, now: Instant) -> bool {
        let wrong = self.projects.entry(project).or_default();
        keep(&mut wrong.all, now);
        if withheld {
            keep(&mut wrong.withheld, now);
        }
        let attack = recent(&wrong.all, now) >= ALARM_FROM;
        let news = attack && !wrong.alarmed;
        wrong.alarmed = attack;
        news
    }
}

fn keep(times: &mut VecDeque<Instant>, now: Instant) {
    if times.len() >= ALARM_FROM {
        times.pop_front();
    }
    times.push_back(now);
}

fn recent(times: &VecDeque<Instant>, now: Instant) -> usize {
    times.iter().filter(|at| now.since(**at) < WINDOW).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: ProjectId = ProjectId::new(1);

    fn at(secs: u64) -> Instant {
        Instant::from_nanos(secs * 1_000_000_000)
    }

    #[test]
    fn withheld_callers_are_slowed_down_and_forgiven() {
        let mut guard = PinGuard::default();
        for (count, care) in [
            (19, Care::Usual),
            (20, Care::Slow),
            (59, Care::Slow),
            (60, Care::Strict),
        ] {
            while recent(&guard.projects.entry(PROJECT).or_default().withheld, at(60)) < count {
                guard.wrong(PROJECT, true, at(60));
            }
            assert_eq!(guard.care(PROJECT, at(60)), care, "after {count}");
        }
        assert_eq!(
            guard.care(ProjectId::new(2), at(60)),
            Care::Usual,
            "another project"
        );
        assert_eq!(guard.care(PROJECT, at(660)), Care::Usual, "ten minutes later");
    }

    #[test]
    fn lines_that_show_themselves_are_not_slowed_down_by_others() {
        let mut guard = PinGuard::default();
        let alarms = (0..100)
            .filter(|second| guard.wrong(PROJECT, false, at(*second)))
            .count();
        assert_eq!(alarms, 1, "one alarm per attack");
        assert_eq!(guard.care(PROJECT, at(100)), Care::Usual);
    }

    #[test]
    fn three_enter_at_once_under_attack() {
        let mut guard = PinGuard::default();
        for _ in 0..60 {
            guard.wrong(PROJECT, true, at(1));
        }
        let call = CallKey::new;
        assert!((1..=3).all(|key| guard.enter(PROJECT, call(key), at(2))));
        assert!(!guard.enter(PROJECT, call(4), at(2)));
        assert!(guard.enter(PROJECT, call(3), at(2)), "who is in stays in");
        guard.leave(PROJECT, call(1));
        assert!(guard.enter(PROJECT, call(4), at(2)));
    }
}
