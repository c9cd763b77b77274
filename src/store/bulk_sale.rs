//! The sales of many cards in a few statements; the rows are those of a single sale (I10).

use std::collections::BTreeMap;

use sqlx::AnyConnection;

use super::bulk::{self, Cell};
use super::ledger::{NewEntry, entry_hash};
use super::sale::{Offer, line_text, open_invoice};
use super::{Act, StoreFault};
use crate::units::E164;

/// A card to be made.
pub(super) struct Wish {
    pub note: String,
    pub minutes: i64,
    pub line: Option<E164>,
}

/// A card of the batch while it is made.
pub(super) struct Made {
    pub serial: String,
    pub id: i64,
    pub wish: Wish,
}

/// Purchases, entries, balances and invoice lines of all cards.
pub(super) async fn insert_sales(
    conn: &mut AnyConnection,
    act: &Act,
    batch: i64,
    offers: &BTreeMap<i64, Offer>,
    cards: &[Made],
) -> Result<(), StoreFault> {
    let purchases = insert_purchases(conn, act, offers, cards).await?;
    let invoice = open_invoice(conn, act.now).await?;
    let (mut entries, mut lines) = (Vec::new(), Vec::new());
    for card in cards {
        let offer = priced(offers, card)?;
        let purchase = purchases
            .get(&card.id)
            .copied()
            .ok_or_else(|| StoreFault::damaged("a card without its purchase"))?;
        entries.push(entry_cells(act, card.id, purchase, offer.minutes * 60_000));
        lines.push(vec![
            Cell::Int(invoice),
            Cell::Int(purchase),
            Cell::Text(line_text(&card.serial, offer.minutes)),
            Cell::Int(offer.minutes),
            Cell::Int(offer.price.net.get()),
            Cell::Int(offer.price.vat.get()),
            Cell::Int(offer.vat_bp),
            Cell::Int(act.now.as_ms()),
            Cell::Int(offer.minutes * 60_000),
        ]);
    }
    bulk::insert::<(i64,)>(
        conn,
        "INSERT INTO ledger (card_id, seq, kind, delta_ms, call, purchase_id, op_key, actor, at, prev_hash, row_hash)",
        "RETURNING id",
        &entries,
    )
    .await?;
    bulk::insert::<(i64,)>(
        conn,
        "INSERT INTO invoice_line (invoice_id, purchase_id, text, minutes, net_cents, vat_cents, vat_bp, at, talk_ms)",
        "RETURNING id",
        &lines,
    )
    .await?;
    // The balances move in the `db_tx` of their entries, which are the first of each card (I1).
    sqlx::query(
        "UPDATE card SET last_seq = 1,
            balance_ms = (SELECT l.delta_ms FROM ledger l WHERE l.card_id = card.id AND l.seq = 1),
            last_hash = (SELECT l.row_hash FROM ledger l WHERE l.card_id = card.id AND l.seq = 1)
         WHERE batch_id = $1",
    )
    .bind(batch)
    .execute(conn)
    .await?;
    Ok(())
}

/// The purchases of all cards, by card.
async fn insert_purchases(
    conn: &mut AnyConnection,
    act: &Act,
    offers: &BTreeMap<i64, Offer>,
    cards: &[Made],
) -> Result<BTreeMap<i64, i64>, StoreFault> {
    let mut rows = Vec::with_capacity(cards.len());
    for card in cards {
        let offer = priced(offers, card)?;
        rows.push(vec![
            Cell::Int(card.id),
            Cell::Int(offer.version),
            Cell::Text("purchase".to_owned()),
            Cell::Int(offer.minutes),
            Cell::Int(offer.price.net.get()),
            Cell::Int(offer.price.vat.get()),
            Cell::Int(offer.vat_bp),
            Cell::Text(act.actor.clone()),
            Cell::Int(act.now.as_ms()),
        ]);
    }
    let purchases: Vec<(i64, i64)> = bulk::insert(
        conn,
        "INSERT INTO purchase (card_id, tariff_version_id, kind, minutes, net_cents, vat_cents, vat_bp, actor, at)",
        "RETURNING card_id, id",
        &rows,
    )
    .await?;
    Ok(purchases.into_iter().collect())
}

fn priced<'a>(offers: &'a BTreeMap<i64, Offer>, card: &Made) -> Result<&'a Offer, StoreFault> {
    offers
        .get(&card.wish.minutes)
        .ok_or_else(|| StoreFault::damaged("a card without its price"))
}

/// The first entry of a card's chain.
fn entry_cells(act: &Act, card: i64, purchase: i64, delta_ms: i64) -> Vec<Cell> {
    let op_key = format!("purchase:{purchase}");
    let entry = NewEntry {
        card,
        kind: "purchase",
        delta_ms,
        call: None,
        purchase: Some(purchase),
        op_key: &op_key,
        actor: &act.actor,
        at: act.now,
    };
    let hash = entry_hash("", 1, &entry);
    vec![
        Cell::Int(card),
        Cell::Int(1),
        Cell::Text("purchase".to_owned()),
        Cell::Int(delta_ms),
        Cell::NoText,
        Cell::Int(purchase),
        Cell::Text(op_key),
        Cell::Text(act.actor.clone()),
        Cell::Int(act.now.as_ms()),
        Cell::Text(String::new()),
        Cell::Text(hash),
    ]
}
