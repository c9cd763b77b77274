//! Another PIN key: every PIN is decrypted with the old one and kept under the new one, in one `db_tx`.
//!
//! The new key stands in `pin.key.new` before the first row changes, and becomes `pin.key` after the
//! commit; the old one stays as `pin.key.old`. The proof in `meta` tells which of the two a database
//! was committed with, so a crash between any two steps is mended at the next start
//! ([`PinKey::for_proof`]), and a rotation may be asked for again.

use super::audit::NewAudit;
use super::{Act, PinKey, Store, StoreFault, pin_key};

/// Cards whose PINs are in memory at a time.
const PAGE: i64 = 200;
/// Wrong tries of this span still count against their lines.
const COUNTED_MS: i64 = 2 * 3_600_000;

impl Store {
    /// Gives how many cards now stand under `next`. This store keeps the old key: close it.
    ///
    /// # Errors
    /// The database's, or a PIN that cannot be decrypted; then nothing was changed.
    pub async fn rotate_pin_key(&self, act: &Act, next: &PinKey) -> Result<u64, StoreFault> {
        let mut db = self.begin().await?;
        let mut cards = 0;
        let mut low = i64::MIN;
        loop {
            let page: Vec<(i64, String, String)> =
                sqlx::query_as("SELECT id, serial, pin_sealed FROM card WHERE id > $1 ORDER BY id LIMIT $2")
                    .bind(low)
                    .bind(PAGE)
                    .fetch_all(db.conn())
                    .await?;
            let Some((last, ..)) = page.last() else { break };
            low = *last;
            for (id, serial, sealed) in page {
                let pin = self.inner.pin_key.reveal(&serial, &sealed)?;
                let nonce = pin_key::random_bytes()?;
                sqlx::query("UPDATE card SET pin_hash = $1, pin_sealed = $2 WHERE id = $3")
                    .bind(next.look_up(&pin))
                    .bind(next.seal(&serial, &pin, nonce)?)
                    .bind(id)
                    .execute(db.conn())
                    .await?;
                cards += 1;
            }
        }
        // A locked line stays locked: its hash is made anew from the call that it called with.
        let lines: Vec<(i64, String)> = sqlx::query_as(
            "SELECT a.id, k.caller FROM pin_attempt a JOIN call k ON k.id = a.call
             WHERE a.line_hash IS NOT NULL AND k.caller IS NOT NULL
                AND a.at > (SELECT MAX(at) FROM pin_attempt) - $1",
        )
        .bind(COUNTED_MS)
        .fetch_all(db.conn())
        .await?;
        for (attempt, line) in lines {
            sqlx::query("UPDATE pin_attempt SET line_hash = $1 WHERE id = $2")
                .bind(next.line(&line))
                .bind(attempt)
                .execute(db.conn())
                .await?;
        }
        sqlx::query("UPDATE meta SET value = $1 WHERE key = 'pin_key_proof'")
            .bind(next.proof())
            .execute(db.conn())
            .await?;
        let new = NewAudit {
            at: act.now,
            actor: &act.actor,
            action: "pin_key.rotate",
            subject: "pin_key",
            before: None,
            after: Some(serde_json::json!({ "cards": cards }).to_string()),
            op_key: None,
        };
        self.audit(db.conn(), new).await?;
        db.commit().await?;
        Ok(cards)
    }
}
