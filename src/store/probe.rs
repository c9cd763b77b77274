//! Whether the database takes writes, and keeps them.

use super::{Store, StoreFault};
use crate::now::Now;

impl Store {
    /// Writes a moment of no importance: a full or read-only disk answers every question.
    ///
    /// # Errors
    /// What the database says; [`StoreFault::Fenced`] without a living lease.
    pub async fn probe(&self, now: Now) -> Result<(), StoreFault> {
        if self.is_leased() {
            self.has_lease().await?;
        }
        let mut db = self.begin().await?;
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2",
        )
        .bind(format!("probe:{}", self.inner.node))
        .bind(now.wall.as_ms().to_string())
        .execute(db.conn())
        .await?;
        db.commit().await?;
        Ok(())
    }
}
