//! Many cards at once: a batch of equal ones, or those of a file. All of them with their purchases,
//! entries, invoice lines and audit rows in one `db_tx`, or none.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use sqlx::AnyConnection;

use super::audit::NewAudit;
use super::bulk::{self, Cell};
use super::bulk_sale::{Made, Wish, insert_sales};
use super::cards::{about, valid_note};
use super::lines::{NewBinding, activate, own_number};
use super::pin_key::random_bytes;
use super::projects::{Settings, invalid, project, ranged};
use super::purchase::{remember_answer, replay, valid_minutes};
use super::sale::{Offer, offer};
use super::{
    Act, AdminError, BatchCard, BatchRow, DbTx, ImportRow, NewBatch, Refusal, RowFault, Store, StoreFault,
    rfc3339,
};
use crate::card::binding::{self, Placement};
use crate::now::UnixTime;
use crate::secret::Pin;
use crate::units::{Cents, E164};

/// Cards of one batch or file.
pub const BATCH_MAX: usize = 10_000;

impl Store {
    /// `count` equal cards. The answer has their PINs.
    ///
    /// # Errors
    /// `project_not_found`, `invalid_count`, `invalid_minutes`, `invalid_note`, `over_limit`,
    /// `idempotency_key_reused`.
    pub async fn card_batch(&self, act: &Act, new: &NewBatch) -> Result<BatchRow, AdminError> {
        valid_minutes(new.minutes)?;
        let note = valid_note(new.note.as_deref().unwrap_or(""))?;
        let most = i64::try_from(BATCH_MAX).unwrap_or(i64::MAX);
        let count = ranged("count", new.count, 1, most)?;
        let request = format!("{new:?}");
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.batch", &request).await? {
            return self.batch_again(db, &answer).await;
        }
        let project = project(db.conn(), &new.project).await?;
        let wishes = (0..count)
            .map(|_| Wish {
                note: note.clone(),
                minutes: new.minutes,
                line: None,
            })
            .collect();
        let batch = self
            .make(db.conn(), act, &project, ("batch", &note), wishes)
            .await?;
        remember_answer(db.conn(), act, &batch).await?;
        self.batch_again(db, &batch).await
    }

    /// The cards of a file, some with a line that is activated for them. The answer has their PINs.
    ///
    /// # Errors
    /// `project_not_found`, `import_refused` with every fault of every row, `over_limit`,
    /// `idempotency_key_reused`; then nothing is imported.
    pub async fn card_import(
        &self,
        act: &Act,
        project_name: &str,
        rows: &[ImportRow],
    ) -> Result<BatchRow, AdminError> {
        let request = format!(
            "{project_name} {:?}",
            rows.iter().map(unmasked).collect::<Vec<_>>()
        );
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.import", &request).await? {
            return self.batch_again(db, &answer).await;
        }
        let project = project(db.conn(), project_name).await?;
        let wishes = self.wishes(db.conn(), &project, rows).await?;
        let batch = self
            .make(db.conn(), act, &project, ("import", ""), wishes)
            .await?;
        remember_answer(db.conn(), act, &batch).await?;
        self.batch_again(db, &batch).await
    }

    /// Every row, or every fault.
    async fn wishes(
        &self,
        conn: &mut AnyConnection,
        project: &Settings,
        rows: &[ImportRow],
    ) -> Result<Vec<Wish>, AdminError> {
        if rows.is_empty() || rows.len() > BATCH_MAX {
            return Err(invalid(
                "rows",
                &rows.len().to_string(),
                "1 to 10000 cards",
                "1 bis 10000 Karten.",
            )
            .into());
        }
        let mut faults = Vec::new();
        let mut seen = BTreeSet::new();
        let mut wishes = Vec::with_capacity(rows.len());
        for row in rows {
            let note = valid_note(&row.note).inspect_err(|no| faults.push(fault(row, "note", no)));
            if let Err(no) = valid_minutes(row.minutes) {
                faults.push(fault(row, "minutes", &no));
            }
            if let Some(line) = &row.line
                && let Some(no) = why_no_line(conn, project, line, !seen.insert(line.clone())).await?
            {
                faults.push(fault(row, "line", &no));
            }
            wishes.push(Wish {
                note: note.unwrap_or_default(),
                minutes: row.minutes,
                line: row.line.clone(),
            });
        }
        if faults.is_empty() {
            return Ok(wishes);
        }
        Err(Refusal::Rows(faults).into())
    }

    /// Makes the cards; gives the batch's id as the answer to be kept.
    async fn make(
        &self,
        conn: &mut AnyConnection,
        act: &Act,
        project: &Settings,
        (source, note): (&'static str, &str),
        wishes: Vec<Wish>,
    ) -> Result<String, AdminError> {
        let mut offers = BTreeMap::new();
        let mut gross = 0_i64;
        for wish in &wishes {
            if let Entry::Vacant(place) = offers.entry(wish.minutes) {
                place.insert(offer(conn, project.id, wish.minutes).await?);
            }
            let price = offers
                .get(&wish.minutes)
                .map_or(0, |offer| offer.price.gross.get());
            gross = gross.saturating_add(price);
        }
        self.within_limit(conn, Cents::new(gross)).await?;
        let batch: i64 = sqlx::query_scalar(
            "INSERT INTO batch (project_id, source, note, cards, actor, at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
        )
        .bind(project.id)
        .bind(source)
        .bind(note)
        .bind(i64::try_from(wishes.len()).unwrap_or(0))
        .bind(&act.actor)
        .bind(act.now.as_ms())
        .fetch_one(&mut *conn)
        .await?;
        let cards = self
            .insert_cards(conn, act, project, batch, &offers, wishes)
            .await?;
        insert_sales(conn, act, batch, &offers, &cards).await?;
        self.note_sales(conn, act, &offers, &cards).await?;
        self.bind_lines(conn, act, project, &cards).await?;
        Ok(batch.to_string())
    }

    async fn insert_cards(
        &self,
        conn: &mut AnyConnection,
        act: &Act,
        project: &Settings,
        batch: i64,
        offers: &BTreeMap<i64, Offer>,
        wishes: Vec<Wish>,
    ) -> Result<Vec<Made>, AdminError> {
        let more = u64::try_from(wishes.len()).unwrap_or(u64::MAX);
        let length = self.pin_length(conn, project, more.saturating_sub(1)).await?;
        let names = self.many_names(conn, length, wishes.len()).await?;
        let key = &self.inner.pin_key;
        let mut rows = Vec::with_capacity(wishes.len());
        for (wish, (serial, pin)) in wishes.iter().zip(&names) {
            let expires_at = offers
                .get(&wish.minutes)
                .and_then(|offer| offer.expires_at(act.now));
            rows.push(vec![
                Cell::Int(project.id),
                Cell::Text(serial.clone()),
                Cell::Text(wish.note.clone()),
                Cell::Text(key.look_up(pin)),
                Cell::Text(key.seal(serial, pin, random_bytes()?)?),
                Cell::Int(i64::from(length)),
                Cell::Text("neu".to_owned()),
                Cell::Int(project.max_parallel),
                expires_at.map_or(Cell::NoInt, Cell::Int),
                Cell::Int(act.now.as_ms()),
                Cell::Int(batch),
            ]);
        }
        let ids: Vec<(i64, String)> = bulk::insert(
            conn,
            "INSERT INTO card (project_id, serial, note, pin_hash, pin_sealed, pin_length, state, max_parallel,
                expires_at, created_at, batch_id)",
            "RETURNING id, serial",
            &rows,
        )
        .await?;
        let ids: BTreeMap<String, i64> = ids.into_iter().map(|(id, serial)| (serial, id)).collect();
        let made = wishes.into_iter().zip(names).map(|(wish, (serial, _))| {
            let id = ids.get(&serial).copied();
            let id = id.ok_or_else(|| StoreFault::damaged(format!("card {serial} was not made")))?;
            Ok(Made { serial, id, wish })
        });
        made.collect()
    }

    /// Serials and PINs that nobody has, this batch included.
    async fn many_names(
        &self,
        conn: &mut AnyConnection,
        length: u8,
        count: usize,
    ) -> Result<Vec<(String, Pin)>, AdminError> {
        let mut names = Vec::with_capacity(count);
        let (mut serials, mut pins) = (BTreeSet::new(), BTreeSet::new());
        while names.len() < count {
            let (serial, pin) = self.fresh_names(&mut *conn, length).await?;
            if !serials.contains(&serial) && pins.insert(self.inner.pin_key.look_up(&pin)) {
                serials.insert(serial.clone());
                names.push((serial, pin));
            }
        }
        Ok(names)
    }

    /// One audit row per card, as for a single purchase.
    async fn note_sales(
        &self,
        conn: &mut AnyConnection,
        act: &Act,
        offers: &BTreeMap<i64, Offer>,
        cards: &[Made],
    ) -> Result<(), StoreFault> {
        let rows: Vec<NewAudit<'_>> = cards
            .iter()
            .map(|card| {
                let gross = offers
                    .get(&card.wish.minutes)
                    .map(|offer| offer.price.gross.get());
                let is = serde_json::json!({
                    "minutes": card.wish.minutes, "gross_cents": gross, "note": card.wish.note,
                });
                about(act, "card.buy", &card.serial, None, Some(is))
            })
            .collect();
        self.audit_many(conn, &rows).await
    }

    async fn bind_lines(
        &self,
        conn: &mut AnyConnection,
        act: &Act,
        project: &Settings,
        cards: &[Made],
    ) -> Result<(), AdminError> {
        for card in cards {
            let Some(line) = &card.wish.line else {
                continue;
            };
            let new = NewBinding {
                card: card.id,
                project: project.id,
                line,
                source: "import",
                actor: &act.actor,
                used_at: None,
                at: act.now,
            };
            match self.remember(conn, &new).await? {
                Placement::Off | Placement::Full => return Err(Refusal::LinesOff.into()),
                Placement::Kept | Placement::Added | Placement::Replaced => {}
            }
            activate(conn, card.id, act.now).await?;
            let is = serde_json::json!({ "line": line.as_str() });
            self.audit(conn, about(act, "card.bind", &card.serial, None, Some(is)))
                .await?;
        }
        Ok(())
    }

    /// Commits, with the cards of the batch and the price that they had.
    async fn batch_again(&self, mut db: DbTx, answer: &str) -> Result<BatchRow, AdminError> {
        type Row = (String, String, String, i64, i64, Option<i64>, Option<String>);
        let batch: i64 = answer
            .parse()
            .map_err(|_| StoreFault::damaged(format!("kept answer {answer:?}")))?;
        let project: String = sqlx::query_scalar(
            "SELECT p.name FROM batch b JOIN project p ON p.id = b.project_id WHERE b.id = $1",
        )
        .bind(batch)
        .fetch_one(db.conn())
        .await?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT c.serial, c.note, c.pin_sealed, p.minutes, p.net_cents + p.vat_cents, c.expires_at,
                (SELECT MIN(b.e164) FROM line_binding b WHERE b.card_id = c.id AND b.source = 'import')
             FROM card c JOIN purchase p ON p.card_id = c.id AND p.kind = 'purchase'
             WHERE c.batch_id = $1 ORDER BY c.id",
        )
        .bind(batch)
        .fetch_all(db.conn())
        .await?;
        let mut price_cents = 0;
        let mut cards = Vec::with_capacity(rows.len());
        for (serial, note, sealed, minutes, gross, expires_at, line) in rows {
            price_cents += gross;
            cards.push(BatchCard {
                pin: self.inner.pin_key.reveal(&serial, &sealed)?.expose().to_owned(),
                expires_at: expires_at.map(|at| rfc3339(UnixTime::from_ms(at))),
                serial,
                note,
                minutes,
                line,
            });
        }
        db.commit().await?;
        Ok(BatchRow {
            batch,
            project,
            count: cards.len(),
            price_cents,
            cards,
        })
    }
}

/// Why the line cannot be activated for a new card of the project.
async fn why_no_line(
    conn: &mut AnyConnection,
    project: &Settings,
    line: &E164,
    twice: bool,
) -> Result<Option<Refusal>, StoreFault> {
    if project.max_lines == 0 {
        return Ok(Some(Refusal::LinesOff));
    }
    let own = own_number(conn, line).await?;
    if let Err(why) = binding::may_bind(Some(line), own.as_ref()) {
        return Ok(Some(Refusal::Line(why)));
    }
    if twice {
        return Ok(Some(Refusal::LineTwice));
    }
    let taken: Option<String> = sqlx::query_scalar(
        "SELECT c.serial FROM line_binding b JOIN card c ON c.id = b.card_id
         WHERE b.project_id = $1 AND b.e164 = $2 AND b.removed_at IS NULL",
    )
    .bind(project.id)
    .bind(line.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(taken.map(|serial| Refusal::LineTaken { serial }))
}

fn fault(row: &ImportRow, column: &'static str, no: &Refusal) -> RowFault {
    RowFault {
        line: row.line_no,
        column: column.to_owned(),
        de: no.german(),
        en: no.to_string(),
    }
}

/// What a repeat must be the same in; the number's own `Debug` hides digits.
fn unmasked(row: &ImportRow) -> (&str, i64, Option<&str>) {
    (&row.note, row.minutes, row.line.as_ref().map(E164::as_str))
}
