//! Whether the database takes writes, as calls and a probe find it: since when it is away.
//!
//! Any try that fails for want of the database says so at once; a probe, which writes, finds it on an
//! idle daemon and finds its return.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::clock::Clock;
use super::gather::unpanicked;
use crate::now::UnixTime;
use crate::store::Store;

/// What is known of the database; clones share it.
#[derive(Clone, Debug, Default)]
pub struct StoreWatch(Arc<Mutex<Option<UnixTime>>>);

impl StoreWatch {
    /// Since when it is away; `None`: it is there.
    pub fn away_since(&self) -> Option<UnixTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A try failed because the database is away.
    pub fn failed(&self, at: UnixTime, why: &str) {
        let mut away = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if away.is_none() {
            *away = Some(at);
            tracing::error!(%why, "the database is away: calls talk on in their slices, new ones hear `tech`");
        }
    }

    /// The database took a write.
    pub fn answered(&self) {
        let mut away = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = away.take() {
            tracing::warn!(since_ms = since.as_ms(), "the database is back");
        }
    }
}

/// Probes until `stop` becomes true. One probe takes `limit` at most.
pub async fn run(
    store: Store,
    state: StoreWatch,
    clock: Clock,
    limit: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut round = interval(ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // An error means that the master is gone, which is a stop too.
            _ = stop.wait_for(|stop| *stop) => return,
            _ = round.tick() => {}
        }
        let asked = unpanicked(|| {
            let (store, now) = (store.clone(), clock.now());
            Box::pin(async move { store.probe(now).await })
        });
        match timeout(limit.min(LONGEST_PROBE), asked).await {
            Ok(Some(Ok(()))) => state.answered(),
            Ok(Some(Err(fault))) => state.failed(clock.wall(), &fault.to_string()),
            Ok(None) => tracing::error!("a probe of the database panicked"),
            Err(_) => state.failed(clock.wall(), "a probe had no answer in time"),
        }
    }
}

/// A probe each second that takes two at most: three seconds until health is red (reliability.md R12).
const ROUND: Duration = Duration::from_secs(1);
const LONGEST_PROBE: Duration = Duration::from_secs(2);
