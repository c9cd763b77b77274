//! What happens by the hour rather than by the call: expiry of reservations and of cards, the
//! directory, and the removal of what is past its time.
//!
//! Deliberately absent: webhooks and self-checks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::{MissedTickBehavior, interval};

use super::clock::Clock;
use super::{Inbox, PostFault};
use crate::call::directory::Directory;
use crate::now::{Now, UnixTime};
use crate::store::{PinAttack, Store, StoreFault};
use crate::switch::Input;

/// Told when somebody seems to guess PINs.
pub type Attacked = Box<dyn Fn(UnixTime, &PinAttack) + Send + Sync>;
/// Reads the directory from the store.
pub type ReadDirectory = Box<dyn Fn() -> DirectoryRead + Send + Sync>;
/// The store's answer, to be awaited.
pub type DirectoryRead = Pin<Box<dyn Future<Output = Result<Directory, StoreFault>> + Send>>;

/// Reads the directory from the store and gives it to the switch; also when the operator has just
/// changed something. Clones share it.
#[derive(Clone)]
pub struct Directories(Arc<Shared>);

struct Shared {
    read: ReadDirectory,
    inbox: Inbox,
    /// Held from reading to posting: of two refreshes at a time, the one that read first must not be
    /// the last to be taken, or the switch would forget what an operator was told is in force.
    in_turn: Mutex<()>,
}

impl Directories {
    pub fn new(read: ReadDirectory, inbox: Inbox) -> Directories {
        Directories(Arc::new(Shared {
            read,
            inbox,
            in_turn: Mutex::new(()),
        }))
    }

    /// Gives how many numbers the switch knows now.
    ///
    /// # Errors
    /// What the store says; the switch keeps the directory that it has.
    pub async fn refresh(&self) -> Result<usize, StoreFault> {
        let shared = &self.0;
        let _turn = shared.in_turn.lock().await;
        let directory = (shared.read)().await?;
        let numbers = directory.numbers.len();
        let mut input = Input::Directory(Arc::new(directory));
        while let Err(PostFault::Full(back)) = shared.inbox.post(input) {
            input = back;
            tokio::time::sleep(QUEUE_PAUSE).await;
        }
        Ok(numbers)
    }
}

impl fmt::Debug for Directories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directories").finish_non_exhaustive()
    }
}

/// Runs until `stop` is told; a fault of the store is logged and the next round tries again.
///
/// `attacked` is told once of each project whose PINs somebody seems to guess.
pub async fn run(
    store: Store,
    directories: Directories,
    clock: Clock,
    attacked: Attacked,
    stop: Arc<Notify>,
) {
    let mut known: Vec<PinAttack> = Vec::new();
    let told = stop.notified();
    tokio::pin!(told);
    let mut round = interval(ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once; the start has just done both.
    round.tick().await;
    let mut before = clock.now();
    let mut rounds: u32 = 0;
    loop {
        tokio::select! {
            () = &mut told => return,
            _ = round.tick() => {}
        }
        let now = clock.now();
        match store.watch_pins(now).await {
            Ok(watch) => {
                let fresh = watch.attacked.iter().filter(|attack| !known.contains(attack));
                fresh.for_each(|attack| attacked(now.wall, attack));
                known = watch.attacked;
            }
            Err(fault) => tracing::error!(%fault, "cannot look after wrong PINs"),
        }
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
        if rounds.is_multiple_of(ROUNDS_OF_AN_HOUR) {
            lapse(&store, now).await;
            clean_up(&store, now).await;
        }
        rounds = rounds.wrapping_add(1);
        if let Err(fault) = directories.refresh().await {
            tracing::error!(%fault, "cannot read numbers and projects; the old ones stay in force");
        }
    }
}

/// What has expired is booked out.
async fn lapse(store: &Store, now: Now) {
    match store.lapse(now.wall).await {
        Ok(done) if done.cards > 0 => tracing::info!(?done, "cards expired with a rest; it is booked out"),
        Ok(_) => {}
        Err(fault) => tracing::error!(%fault, "cannot book out expired cards"),
    }
}

async fn clean_up(store: &Store, now: Now) {
    match store.clean_up(now).await {
        Ok(removed) => tracing::debug!(?removed, "cleaned up"),
        Err(fault) => {
            tracing::error!(%fault, "cannot remove what is past its time; the next hour tries again")
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
const ROUNDS_OF_AN_HOUR: u32 = 120;
const ROUND: Duration = Duration::from_secs(30);
const QUEUE_PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::call::directory::{Number, Role};
    use crate::driver::{Event, inbox};
    use crate::ids::{NumberId, ProjectId};
    use crate::now::Instant;
    use crate::units::E164;

    /// A store with one number, whose id tells the version; the first reading answers late.
    fn slow_at_first(version: &Arc<AtomicI64>, go: &Arc<Notify>) -> ReadDirectory {
        let (version, go) = (Arc::clone(version), Arc::clone(go));
        Box::new(move || {
            let (go, seen) = (Arc::clone(&go), version.load(Ordering::SeqCst));
            Box::pin(async move {
                if seen == 1 {
                    go.notified().await;
                }
                let number = Number {
                    id: NumberId::new(seen),
                    project: ProjectId::new(1),
                    role: Role::Both,
                };
                let e164 = E164::parse("+4930231250").expect("a number");
                Ok(Directory {
                    numbers: [(e164, number)].into(),
                    ..Directory::default()
                })
            })
        })
    }

    #[tokio::test]
    async fn of_two_refreshes_at_a_time_the_newer_reading_stays() {
        let (inbox, queue) = inbox();
        let (version, go) = (Arc::new(AtomicI64::new(1)), Arc::new(Notify::new()));
        let directories = Directories::new(slow_at_first(&version, &go), inbox);
        // In this order: the first reads and waits, the second may overtake it, then it is let go on.
        let second = async {
            version.store(2, Ordering::SeqCst);
            directories.refresh().await
        };
        let (first, second, ()) = tokio::join!(directories.refresh(), second, async { go.notify_one() });
        assert_eq!((first.ok(), second.ok()), (Some(1), Some(1)));
        let mut taken = Vec::new();
        while let Some(Event::Input(Input::Directory(directory))) = queue.next_waiting() {
            taken.extend(directory.numbers.values().map(|number| number.id));
        }
        assert_eq!(taken, [NumberId::new(1), NumberId::new(2)]);
    }

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
