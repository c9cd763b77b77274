//! What nobody needs any more is removed, so that no table grows for ever: old idempotency keys,
//! quotes that nobody bought by, tries of PINs. Money, calls and the audit stay.

use super::{Store, StoreFault};
use crate::now::{Now, UnixTime};

/// Rows that a clean-up removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub keys: u64,
    pub quotes: u64,
    pub pin_tries: u64,
}

impl Store {
    /// Removes what is past its time, some rows per `db_tx`, so that no call waits long for it. Each
    /// kind ends after [`MOST_ROUNDS`]; the next hour goes on.
    ///
    /// # Errors
    /// The database's; what was removed before stays removed.
    pub async fn clean_up(&self, now: Now) -> Result<Removed, StoreFault> {
        let before = |days: i64| UnixTime::from_ms(now.wall.as_ms().saturating_sub(days * DAY_MS));
        Ok(Removed {
            keys: self.remove(OLD_KEYS, before(KEY_DAYS)).await?,
            quotes: self.remove(OLD_QUOTES, before(QUOTE_DAYS)).await?,
            pin_tries: self.remove(OLD_PIN_TRIES, before(PIN_TRY_DAYS)).await?,
        })
    }

    async fn remove(&self, statement: &'static str, before: UnixTime) -> Result<u64, StoreFault> {
        let mut removed = 0;
        for _ in 0..MOST_ROUNDS {
            let mut db = self.begin().await?;
            let gone = sqlx::query(statement)
                .bind(before.as_ms())
                .bind(ROWS_A_ROUND)
                .execute(db.conn())
                .await?
                .rows_affected();
            db.commit().await?;
            removed += gone;
            if gone < ROWS_A_ROUND.unsigned_abs() {
                break;
            }
        }
        Ok(removed)
    }
}

const OLD_KEYS: &str =
    "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE at < $1 ORDER BY at LIMIT $2)";
/// The price of a purchase is copied into it, but its quote stays to be shown.
const OLD_QUOTES: &str = "DELETE FROM quote WHERE id IN (SELECT q.id FROM quote q WHERE q.valid_until < $1
    AND NOT EXISTS (SELECT 1 FROM purchase p WHERE p.quote_id = q.id) ORDER BY q.valid_until LIMIT $2)";
const OLD_PIN_TRIES: &str =
    "DELETE FROM pin_attempt WHERE id IN (SELECT id FROM pin_attempt WHERE at < $1 ORDER BY at LIMIT $2)";

const DAY_MS: i64 = 86_400_000;
/// An operator's order that is repeated later than this is a new one.
const KEY_DAYS: i64 = 30;
/// After it ran out.
const QUOTE_DAYS: i64 = 7;
/// Locks look back a day at most.
const PIN_TRY_DAYS: i64 = 30;
const ROWS_A_ROUND: i64 = 500;
const MOST_ROUNDS: u32 = 200;
