//! What an earlier life of this node, or a lost call, left open: ended at its last checkpoint.

use super::{Store, StoreFault};

/// What `recover` or `expire` ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub reservations: u64,
    /// CDRs closed as `crash_recovered`.
    pub calls: u64,
    /// Charged, in milliseconds.
    pub billed_ms: i64,
}

impl Store {
    /// The epoch that this node's rows carry; raised by `recover`.
    pub(super) async fn read_epoch(&self) -> Result<(), StoreFault> {
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM node WHERE name = $1")
            .bind(&self.inner.node)
            .fetch_optional(self.pool())
            .await?;
        self.inner
            .epoch
            .store(epoch.unwrap_or(0), std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }
}
