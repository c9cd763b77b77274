//! At the start, before any call and before what is left is settled at its checkpoint: the orders of
//! an earlier life go into the books.

use super::Journal;
use crate::now::Now;
use crate::store::{Applied, Store, StoreFault};

/// What the start found in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Now in the books.
    pub applied: usize,
    /// Were in the books already.
    pub known: usize,
    /// Kept as evidence.
    pub rejected: usize,
}

/// Applies what waits, oldest first, each once.
///
/// # Errors
/// The database went away; what is left waits on.
pub async fn replay(journal: &Journal, store: &Store, now: Now) -> Result<Replayed, StoreFault> {
    let mut replayed = Replayed::default();
    for entry in journal.take_left() {
        let why = match store.apply(now, entry.epoch, &entry.order).await {
            Ok(Applied::Done(reply)) => {
                reply.forgo();
                replayed.applied += 1;
                journal.done(entry.id);
                continue;
            }
            Ok(Applied::Known) => {
                replayed.known += 1;
                journal.done(entry.id);
                continue;
            }
            Ok(Applied::Rejected(why)) => why,
            Err(fault) if fault.is_away() => return Err(fault),
            Err(fault) => fault.to_string(),
        };
        replayed.rejected += 1;
        journal.reject(entry.id, now.wall, why);
    }
    Ok(replayed)
}
