//! The nightly check of the books: once a day, at a local hour of the operator's zone, by one of the
//! nodes. A broken book is an alarm, and the cards concerned are blocked by then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::clock::Clock;
use crate::now::UnixTime;
use crate::store::{Act, AdminError, CheckReport, Store};

/// Told of every check that found something.
pub type Alarm = Box<dyn Fn(UnixTime, &CheckReport) + Send + Sync>;

/// A moment of the day, local: hour and minute.
pub type Hour = (u8, u8);

/// Whose check it is in the books.
const ACTOR: &str = "nightly";
const ROUND: Duration = Duration::from_secs(20);
/// Another node's check of this age is tonight's.
const TONIGHT_MS: i64 = 6 * 3_600_000;

/// Decides when it is time; a day is only begun by the round that sees its hour pass.
#[derive(Debug, Default)]
struct Diary {
    /// Local minute of the day at the last round.
    before: Option<i64>,
}

impl Diary {
    /// Whether `hour` lies between the last round and this one.
    fn due(&mut self, minute: i64, hour: Hour) -> bool {
        let at = i64::from(hour.0) * 60 + i64::from(hour.1);
        let before = self.before.replace(minute);
        match before {
            // A day began in between, or the clock was set back.
            Some(before) if minute < before => before < at || at <= minute,
            Some(before) => before < at && at <= minute,
            None => false,
        }
    }
}

/// Runs until `stop` is told.
pub async fn run(store: Store, clock: Clock, hour: Hour, alarm: Alarm, stop: Arc<Notify>) {
    let told = stop.notified();
    tokio::pin!(told);
    let mut round = interval(ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut diary = Diary::default();
    loop {
        tokio::select! {
            () = &mut told => return,
            _ = round.tick() => {}
        }
        let now = clock.wall();
        let checked = match store.local_minute(now).await {
            Ok(minute) if diary.due(minute, hour) => check(&store, now, &alarm).await,
            Ok(_) => Ok(()),
            // The next round asks again.
            Err(fault) => {
                tracing::debug!(%fault, "no local time");
                Ok(())
            }
        };
        if let Err(fault) = checked {
            tracing::error!(%fault, "the books could not be checked");
        }
    }
}

async fn check(store: &Store, now: UnixTime, alarm: &Alarm) -> Result<(), AdminError> {
    if store
        .checked_since(now.as_ms().saturating_sub(TONIGHT_MS), ACTOR)
        .await?
    {
        return Ok(());
    }
    let act = Act {
        now,
        actor: ACTOR.to_owned(),
        key: None,
    };
    let report = store.check_and_keep(&act).await?;
    if report.clean {
        tracing::info!(
            cards = report.cards,
            entries = report.entries,
            took_ms = report.took_ms,
            anchor = report.anchor.hash,
            upto = report.anchor.upto,
            "the books are right"
        );
    } else {
        alarm(now, &report);
    }
    Ok(())
}

/// The log's part of the alarm.
pub fn cry(report: &CheckReport) {
    for offender in report.offenders.iter().take(TOLD) {
        tracing::error!(rule = offender.rule, what = offender.what, "the books are broken");
    }
    tracing::error!(
        offenders = report.offenders.len(),
        blocked = ?report.blocked,
        "the check of the books failed: change no cards, keep the log, see docs/admin.md"
    );
}

/// Offenders that the log names one by one.
const TOLD: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hour_passes_once_a_day() {
        let rounds = |minutes: &[i64]| {
            let mut diary = Diary::default();
            let due = |minute: &&i64| diary.due(**minute, (3, 30));
            minutes.iter().filter(due).count()
        };
        for (what, minutes, times) in [
            ("a start at noon", vec![720, 721], 0),
            ("the hour passes", vec![208, 209, 210, 211], 1),
            ("a slow round", vec![200, 260], 1),
            ("two days", vec![0, 209, 210, 1439, 0, 209, 210, 211], 2),
            ("asleep from evening to noon", vec![1400, 720], 1),
            ("asleep from noon to the night", vec![720, 100], 0),
            ("the hour is skipped in spring", vec![119, 180, 240], 1),
        ] {
            assert_eq!(rounds(&minutes), times, "{what}");
        }
    }
}
