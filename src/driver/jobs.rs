//! What happens by the hour rather than by the call: expiry of reservations, and the directory.
//!
//! Deliberately absent: webhooks and self-checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::clock::Clock;
use super::{Inbox, PostFault};
use crate::config::TrunkConfig;
use crate::media::PromptSetId;
use crate::now::Now;
use crate::store::{Store, StoreFault};
use crate::switch::Input;

/// Reads the directory from the store and gives it to the switch; also when the operator has just
/// changed something. Clones share it.
#[derive(Clone, Debug)]
pub struct Directories(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    inbox: Inbox,
    prompt_sets: BTreeMap<String, PromptSetId>,
    trunks: Vec<TrunkConfig>,
}

impl Directories {
    /// `prompt_sets`: the loaded languages by name.
    pub fn new(
        store: Store,
        inbox: Inbox,
        prompt_sets: BTreeMap<String, PromptSetId>,
        trunks: Vec<TrunkConfig>,
    ) -> Directories {
        Directories(Arc::new(Shared {
            store,
            inbox,
            prompt_sets,
            trunks,
        }))
    }

    /// Gives how many numbers the switch knows now.
    ///
    /// # Errors
    /// What the store says; the switch keeps the directory that it has.
    pub async fn refresh(&self) -> Result<usize, StoreFault> {
        let shared = &self.0;
        let directory = shared
            .store
            .directory(&shared.prompt_sets, &shared.trunks)
            .await?;
        let numbers = directory.numbers.len();
        let mut input = Input::Directory(Arc::new(directory));
        while let Err(PostFault::Full(back)) = shared.inbox.post(input) {
            input = back;
            tokio::time::sleep(QUEUE_PAUSE).await;
        }
        Ok(numbers)
    }
}

/// Runs until `stop` is told; a fault of the store is logged and the next round tries again.
pub async fn run(store: Store, directories: Directories, clock: Clock, stop: Arc<Notify>) {
    let told = stop.notified();
    tokio::pin!(told);
    let mut round = interval(ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once; the start has just done both.
    round.tick().await;
    let mut before = clock.now();
    loop {
        tokio::select! {
            () = &mut told => return,
            _ = round.tick() => {}
        }
        let now = clock.now();
        let last = std::mem::replace(&mut before, now);
        if was_set(last, now) {
            // Reservations are valid by the wall clock; live calls renew theirs every few seconds.
            tracing::warn!("the wall clock was set: expiry waits for a round");
            continue;
        }
        match store.expire(now).await {
            Ok(ended) if ended.reservations > 0 => {
                tracing::warn!(?ended, "reservations outlived their calls and were ended");
            }
            Ok(_) => {}
            Err(fault) => tracing::error!(%fault, "cannot end old reservations"),
        }
        if let Err(fault) = directories.refresh().await {
            tracing::error!(%fault, "cannot read numbers and projects; the old ones stay in force");
        }
    }
}

/// Whether the wall clock moved otherwise than the monotonic one in between.
fn was_set(before: Now, now: Now) -> bool {
    let wall = now.wall.as_ms().saturating_sub(before.wall.as_ms());
    let mono = i64::try_from(now.mono.since(before.mono).as_millis()).unwrap_or(i64::MAX);
    wall.abs_diff(mono) > STEP_MS
}

/// Slewing is slower than this in one round.
const STEP_MS: u64 = 5_000;
const ROUND: Duration = Duration::from_secs(30);
const QUEUE_PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now::{Instant, UnixTime};

    #[test]
    fn a_clock_that_was_set_is_noticed_and_a_slow_one_is_not() {
        let at = |mono_ms: u64, wall_ms: i64| Now {
            mono: Instant::from_nanos(mono_ms * 1_000_000),
            wall: UnixTime::from_ms(wall_ms),
        };
        for (mono_ms, wall_ms, set) in [
            (30_000, 30_000, false),
            (30_000, 30_400, false),
            (90_000, 90_000, false),
            (30_000, 3_630_000, true),
            (30_000, -3_570_000, true),
        ] {
            assert_eq!(
                was_set(at(0, 0), at(mono_ms, wall_ms)),
                set,
                "{mono_ms} {wall_ms}"
            );
        }
    }
}
