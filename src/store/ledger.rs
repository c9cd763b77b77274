//! What calls ask: reservations, checkpoints, settlements, and the entries they leave.
//!
//! Each works inside a `db_tx` that `batch` begins and commits, and is idempotent, by op id or by
//! (call, card). A grant is one guarded UPDATE that takes `min(want, available)`; the CHECKs of the
//! schema stand behind it.

use sqlx::AnyConnection;

use super::lines::{card_state, talk};
use super::pin_key::sha256;
use super::{DbTx, Store, StoreFault};
use crate::card::ledger::Reservation;
use crate::card::{CardState, LedgerReply, ReserveRefusal, Settlement};
use crate::ids::{CallKey, CardId, OpId};
use crate::now::{Now, UnixTime};
use crate::units::TalkTime;

/// How long a reservation stands beyond the talk time it still grants (product.md 3.2).
pub(super) const VALIDITY_MS: i64 = crate::card::ledger::VALIDITY.as_ms();

/// A ledger row to be written. The card's row must be locked already.
pub(super) struct NewEntry<'a> {
    pub card: i64,
    pub kind: &'a str,
    pub delta_ms: i64,
    pub call: Option<&'a str>,
    pub purchase: Option<i64>,
    pub op_key: &'a str,
    pub actor: &'a str,
    pub at: UnixTime,
}

/// A call asks for talk time on a card.
pub(super) struct Ask {
    op: String,
    call: CallKey,
    card: CardId,
    want: TalkTime,
}

impl Ask {
    pub fn new(op: OpId, call: CallKey, card: CardId, want: TalkTime) -> Ask {
        Ask {
            op: op.to_string(),
            call,
            card,
            want,
        }
    }
}

/// A slice as it was first answered.
struct Slice {
    total: i64,
    last: bool,
}

impl Store {
    pub(super) async fn reserve(
        &self,
        db: &mut DbTx,
        now: Now,
        ask: &Ask,
        floor: TalkTime,
    ) -> Result<LedgerReply, StoreFault> {
        let valid_from = self.clock_ms(now);
        let now = now.wall;
        let Some((state, earlier)) = self.lock_for_call(db.conn(), now, ask).await? else {
            return Ok(LedgerReply::NotReserved(ReserveRefusal::State(
                CardState::Cancelled,
            )));
        };
        // Behind the lock: the first try may still be at work when the second comes.
        if let Some(slice) = stored_slice(db.conn(), &ask.op).await? {
            return Ok(reserved(ask, &slice));
        }
        if state != CardState::Active {
            return Ok(LedgerReply::NotReserved(ReserveRefusal::State(state)));
        }
        match earlier.as_deref() {
            None => {}
            Some("open") => return Ok(LedgerReply::NotReserved(ReserveRefusal::InUse)),
            // One usage entry per call and card (I3): what was settled is not opened again.
            Some(_) => return Ok(LedgerReply::NotReserved(ReserveRefusal::Empty)),
        }
        let granted: Option<(i64, i64, i64)> = sqlx::query_as(
            "UPDATE card SET
                last_grant_ms = CASE WHEN balance_ms - reserved_ms < $1 THEN balance_ms - reserved_ms ELSE $1 END,
                reserved_ms = reserved_ms
                    + CASE WHEN balance_ms - reserved_ms < $1 THEN balance_ms - reserved_ms ELSE $1 END,
                open_calls = open_calls + 1,
                last_use_at = $2
             WHERE id = $3 AND state = 'freigeschaltet' AND (expires_at IS NULL OR expires_at > $2)
                AND open_calls < max_parallel AND balance_ms - reserved_ms >= $4
             RETURNING last_grant_ms, balance_ms, reserved_ms",
        )
        .bind(ask.want.as_ms().max(1))
        .bind(now.as_ms())
        .bind(ask.card.get())
        .bind(floor.as_ms().max(1))
        .fetch_optional(db.conn())
        .await?;
        let Some((amount, balance, now_reserved)) = granted else {
            return Ok(LedgerReply::NotReserved(why_not(db.conn(), ask.card).await?));
        };
        let slice = Slice {
            total: amount,
            last: balance == now_reserved,
        };
        let reservation: i64 = sqlx::query_scalar(
            "INSERT INTO reservation (call, card_id, amount_ms, node, epoch, state, opened_at, valid_until)
             VALUES ($1, $2, $3, $4, $5, 'open', $6, $7) RETURNING id",
        )
        .bind(ask.call.to_string())
        .bind(ask.card.get())
        .bind(amount)
        .bind(&self.inner.node)
        .bind(self.epoch())
        .bind(now.as_ms())
        .bind(valid_from.saturating_add(amount).saturating_add(VALIDITY_MS))
        .fetch_one(db.conn())
        .await?;
        write_slice(db.conn(), &ask.op, reservation, amount, &slice, now).await?;
        used_line(db.conn(), now, ask).await?;
        Ok(reserved(ask, &slice))
    }

    pub(super) async fn renew(&self, db: &mut DbTx, now: Now, ask: &Ask) -> Result<LedgerReply, StoreFault> {
        let valid_from = self.clock_ms(now);
        let now = now.wall;
        // A call that began in time may talk on after the card's day has ended.
        let Some((state, earlier)) = self
            .lock_for_call(db.conn(), UnixTime::from_ms(i64::MIN), ask)
            .await?
        else {
            return Ok(LedgerReply::NotReserved(ReserveRefusal::State(
                CardState::Cancelled,
            )));
        };
        if let Some(slice) = stored_slice(db.conn(), &ask.op).await? {
            return Ok(renewed(&slice));
        }
        if state != CardState::Active {
            return Ok(LedgerReply::NotReserved(ReserveRefusal::State(state)));
        }
        if earlier.as_deref() != Some("open") {
            return Ok(LedgerReply::NotReserved(ReserveRefusal::Empty));
        }
        let (amount, balance, now_reserved): (i64, i64, i64) = sqlx::query_as(
            "UPDATE card SET
                last_grant_ms = CASE WHEN balance_ms - reserved_ms < $1 THEN balance_ms - reserved_ms ELSE $1 END,
                reserved_ms = reserved_ms
                    + CASE WHEN balance_ms - reserved_ms < $1 THEN balance_ms - reserved_ms ELSE $1 END
             WHERE id = $2 RETURNING last_grant_ms, balance_ms, reserved_ms",
        )
        .bind(ask.want.as_ms().max(0))
        .bind(ask.card.get())
        .fetch_one(db.conn())
        .await?;
        let (reservation, total): (i64, i64) = sqlx::query_as(
            "UPDATE reservation SET amount_ms = amount_ms + $1, valid_until = $2 + amount_ms + $1 - used_ms
             WHERE call = $3 AND card_id = $4 AND state = 'open' RETURNING id, amount_ms",
        )
        .bind(amount)
        .bind(valid_from.saturating_add(VALIDITY_MS))
        .bind(ask.call.to_string())
        .bind(ask.card.get())
        .fetch_one(db.conn())
        .await?;
        let slice = Slice {
            total,
            last: balance == now_reserved,
        };
        write_slice(db.conn(), &ask.op, reservation, amount, &slice, now).await?;
        Ok(renewed(&slice))
    }

    /// Also moves `valid_until`: while the advisor holds, the slice is not used up, and must not run out.
    pub(super) async fn checkpoint(
        &self,
        db: &mut DbTx,
        now: Now,
        call: CallKey,
        card: CardId,
        used: TalkTime,
    ) -> Result<LedgerReply, StoreFault> {
        sqlx::query(
            "UPDATE reservation SET
                used_ms = CASE WHEN $1 < used_ms THEN used_ms WHEN $1 > amount_ms THEN amount_ms ELSE $1 END,
                checkpoint_at = $2,
                valid_until = $3 + amount_ms - CASE WHEN $1 < used_ms THEN used_ms
                    WHEN $1 > amount_ms THEN amount_ms ELSE $1 END
             WHERE call = $4 AND card_id = $5 AND state = 'open'",
        )
        .bind(used.as_ms())
        .bind(now.wall.as_ms())
        .bind(self.clock_ms(now).saturating_add(VALIDITY_MS))
        .bind(call.to_string())
        .bind(card.get())
        .execute(db.conn())
        .await?;
        Ok(LedgerReply::Done)
    }

    pub(super) async fn settle(
        &self,
        db: &mut DbTx,
        now: Now,
        settlement: &Settlement,
    ) -> Result<LedgerReply, StoreFault> {
        let call = settlement.call.to_string();
        let card = settlement.card.get();
        let open: Option<(i64, i64)> = sqlx::query_as(self.locking(
            "SELECT id, amount_ms FROM reservation WHERE call = $1 AND card_id = $2 AND state = 'open'",
        ))
        .bind(&call)
        .bind(card)
        .fetch_optional(db.conn())
        .await?;
        if let Some((reservation, amount)) = open {
            let ending = Ending {
                reservation,
                call: &call,
                card,
                amount,
                raw: settlement.raw.as_ms().max(0),
                billed: settlement.billed.as_ms().clamp(0, amount),
                expired: false,
                actor: "call",
                at: now.wall,
            };
            self.end_reservation(db.conn(), &ending).await?;
        }
        let balance: Option<i64> = sqlx::query_scalar("SELECT balance_ms FROM card WHERE id = $1")
            .bind(card)
            .fetch_optional(db.conn())
            .await?;
        Ok(LedgerReply::Settled {
            balance: talk(balance.unwrap_or(0)),
        })
    }

    /// Ends an open reservation, once: its row, the card's columns and the entry move together.
    pub(super) async fn end_reservation(
        &self,
        conn: &mut AnyConnection,
        ending: &Ending<'_>,
    ) -> Result<bool, StoreFault> {
        let state = match (ending.expired, ending.billed) {
            (true, _) => "expired",
            (false, 0) => "released",
            (false, _) => "settled",
        };
        let ended = sqlx::query(
            "UPDATE reservation SET state = $1, raw_ms = $2, billed_ms = $3, ended_at = $4
             WHERE id = $5 AND state = 'open'",
        )
        .bind(state)
        .bind(ending.raw)
        .bind(ending.billed)
        .bind(ending.at.as_ms())
        .bind(ending.reservation)
        .execute(&mut *conn)
        .await?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "UPDATE card SET reserved_ms = reserved_ms - $1, open_calls = open_calls - 1, last_use_at = $2
             WHERE id = $3",
        )
        .bind(ending.amount)
        .bind(ending.at.as_ms())
        .bind(ending.card)
        .execute(&mut *conn)
        .await?;
        if ending.billed > 0 {
            let entry = NewEntry {
                card: ending.card,
                kind: "usage",
                delta_ms: -ending.billed,
                call: Some(ending.call),
                purchase: None,
                op_key: &format!("usage:{}:{}", ending.call, ending.card),
                actor: ending.actor,
                at: ending.at,
            };
            write_entry(conn, &entry).await?;
        }
        Ok(true)
    }

    /// Of this node's life; each start and each rejoin begins one.
    pub fn epoch(&self) -> i64 {
        self.inner.epoch.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Locks the card's row; its state, and that of a reservation which this call has on it.
    async fn lock_for_call(
        &self,
        conn: &mut AnyConnection,
        now: UnixTime,
        ask: &Ask,
    ) -> Result<Option<(CardState, Option<String>)>, StoreFault> {
        let card: Option<(String, Option<i64>)> =
            sqlx::query_as(self.locking("SELECT state, expires_at FROM card WHERE id = $1"))
                .bind(ask.card.get())
                .fetch_optional(&mut *conn)
                .await?;
        let Some((word, expires_at)) = card else {
            return Ok(None);
        };
        let earlier = sqlx::query_scalar("SELECT state FROM reservation WHERE call = $1 AND card_id = $2")
            .bind(ask.call.to_string())
            .bind(ask.card.get())
            .fetch_optional(conn)
            .await?;
        Ok(Some((card_state(&word, expires_at, now)?, earlier)))
    }
}

/// How a reservation ends; `billed` is at most `amount`.
pub(super) struct Ending<'a> {
    pub reservation: i64,
    pub call: &'a str,
    pub card: i64,
    pub amount: i64,
    pub raw: i64,
    pub billed: i64,
    /// By the sweeper or by recovery, not by its call.
    pub expired: bool,
    pub actor: &'a str,
    pub at: UnixTime,
}

fn reserved(ask: &Ask, slice: &Slice) -> LedgerReply {
    LedgerReply::Reserved(Reservation::granted(
        ask.call,
        ask.card,
        talk(slice.total),
        slice.last,
    ))
}

fn renewed(slice: &Slice) -> LedgerReply {
    LedgerReply::Renewed {
        granted: talk(slice.total),
        last: slice.last,
    }
}

async fn stored_slice(conn: &mut AnyConnection, op: &str) -> Result<Option<Slice>, StoreFault> {
    let row: Option<(i64, i64)> = sqlx::query_as("SELECT total_ms, last FROM slice WHERE op_id = $1")
        .bind(op)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|(total, last)| Slice {
        total,
        last: last == 1,
    }))
}

async fn write_slice(
    conn: &mut AnyConnection,
    op: &str,
    reservation: i64,
    amount: i64,
    slice: &Slice,
    now: UnixTime,
) -> Result<(), StoreFault> {
    sqlx::query(
        "INSERT INTO slice (op_id, reservation_id, amount_ms, total_ms, last, at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(op)
    .bind(reservation)
    .bind(amount)
    .bind(slice.total)
    .bind(i64::from(slice.last))
    .bind(now.as_ms())
    .execute(conn)
    .await?;
    Ok(())
}

/// The reason after a guarded UPDATE found no row, on an active card.
async fn why_not(conn: &mut AnyConnection, card: CardId) -> Result<ReserveRefusal, StoreFault> {
    let (open, most): (i64, i64) = sqlx::query_as("SELECT open_calls, max_parallel FROM card WHERE id = $1")
        .bind(card.get())
        .fetch_one(conn)
        .await?;
    Ok(if open >= most {
        ReserveRefusal::InUse
    } else {
        ReserveRefusal::Empty
    })
}

/// A call from a remembered line that gets talk time is a use of that line.
async fn used_line(conn: &mut AnyConnection, now: UnixTime, ask: &Ask) -> Result<(), StoreFault> {
    sqlx::query(
        "UPDATE line_binding SET first_use_at = COALESCE(first_use_at, $1), last_use_at = $1
         WHERE card_id = $2 AND removed_at IS NULL AND e164 = (SELECT caller FROM call WHERE id = $3)",
    )
    .bind(now.as_ms())
    .bind(ask.card.get())
    .bind(ask.call.to_string())
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes an entry and moves the balance with it (I1).
pub(super) async fn write_entry(conn: &mut AnyConnection, new: &NewEntry<'_>) -> Result<(), StoreFault> {
    let (seq, prev): (i64, String) = sqlx::query_as("SELECT last_seq, last_hash FROM card WHERE id = $1")
        .bind(new.card)
        .fetch_one(&mut *conn)
        .await?;
    let seq = seq + 1;
    let hash = entry_hash(&prev, seq, new);
    sqlx::query(
        "INSERT INTO ledger (card_id, seq, kind, delta_ms, call, purchase_id, op_key, actor, at, prev_hash, row_hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(new.card)
    .bind(seq)
    .bind(new.kind)
    .bind(new.delta_ms)
    .bind(new.call)
    .bind(new.purchase)
    .bind(new.op_key)
    .bind(new.actor)
    .bind(new.at.as_ms())
    .bind(&prev)
    .bind(&hash)
    .execute(&mut *conn)
    .await?;
    sqlx::query("UPDATE card SET balance_ms = balance_ms + $1, last_seq = $2, last_hash = $3 WHERE id = $4")
        .bind(new.delta_ms)
        .bind(seq)
        .bind(&hash)
        .bind(new.card)
        .execute(conn)
        .await?;
    Ok(())
}

/// Chains an entry to the card's one before it.
pub(super) fn entry_hash(prev: &str, seq: i64, entry: &NewEntry<'_>) -> String {
    let purchase = entry.purchase.map_or_else(String::new, |id| id.to_string());
    let numbers = [entry.card, seq, entry.delta_ms, entry.at.as_ms()].map(|n| n.to_string());
    let texts = [
        prev,
        entry.kind,
        entry.call.unwrap_or(""),
        &purchase,
        entry.op_key,
        entry.actor,
    ];
    sha256(&format!(
        "{}\u{1f}{}",
        numbers.join("\u{1f}"),
        texts.join("\u{1f}")
    ))
}
