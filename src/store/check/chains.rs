//! The chains: each card's entries, the audit, and the anchor over the heads of all cards.
//!
//! Read page by page, in the order of the chains. A column of the wrong type is read as what it casts
//! to, so that a damaged row is an offender and not the end of the check.

use sha2::{Digest, Sha256};
use sqlx::AnyConnection;

use super::{Found, Offences};
use crate::now::UnixTime;
use crate::store::StoreFault;
use crate::store::audit;
use crate::store::ledger::{NewEntry, entry_hash};

/// Rows that are in memory at a time.
const PAGE: i64 = 2_000;

pub(super) const CHAIN: (&str, &str) = ("L9", "each card's entries are one unbroken chain");
pub(super) const AUDIT: (&str, &str) = ("I16", "the audit is one unbroken chain");
pub(super) const ANCHOR: (&str, &str) = ("T18", "the books hold what an earlier anchor was made of");

/// A hash over the newest entry of every card, as of the ledger's row `upto`. Each entry names the
/// hash of the one before it, so this stands for all of them.
#[derive(Clone, Debug)]
pub(super) struct Anchor {
    pub upto: i64,
    pub entries: i64,
    hash: Sha256,
}

impl Anchor {
    pub fn new(upto: i64) -> Anchor {
        Anchor {
            upto,
            entries: 0,
            hash: Sha256::new(),
        }
    }

    pub fn hex(&self) -> String {
        let bytes = self.hash.clone().finalize();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn head(&mut self, card: i64, seq: i64, hash: &str) {
        self.hash.update(format!("{card}:{seq}:{hash}\n"));
    }
}

/// A card's row: id, serial, number and hash of its newest entry.
type Head = (i64, String, i64, String);
/// An entry: id, card, seq, kind, delta, call, purchase, op key, actor, time, hash before, hash.
type Row = (
    i64,
    i64,
    i64,
    String,
    i64,
    Option<String>,
    Option<i64>,
    String,
    String,
    i64,
    String,
    String,
);

/// What is known of the card whose entries are being read.
#[derive(Default)]
struct Walk {
    seq: i64,
    hash: String,
    /// Per anchor: its newest entry below `upto`.
    at_anchor: Vec<Option<(i64, String)>>,
}

/// Walks all entries in the order of their chains; feeds `anchors`.
pub(super) async fn entries(
    conn: &mut AnyConnection,
    anchors: &mut [Anchor],
    found: &mut Offences,
) -> Result<(), StoreFault> {
    let mut low = i64::MIN;
    loop {
        let heads: Vec<Head> = sqlx::query_as(
            "SELECT id, CAST(serial AS TEXT), CAST(last_seq AS BIGINT), CAST(last_hash AS TEXT)
             FROM card WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(low)
        .bind(PAGE)
        .fetch_all(&mut *conn)
        .await?;
        let last = i64::try_from(heads.len()).unwrap_or(PAGE) < PAGE;
        // The last page goes to the end: entries of no card are found there.
        let high = match heads.last() {
            Some((id, ..)) if !last => *id,
            Some(_) | None => i64::MAX,
        };
        cards(conn, (low, high), heads, anchors, found).await?;
        if last {
            return Ok(());
        }
        low = high;
    }
}

/// The entries of the cards of one page.
async fn cards(
    conn: &mut AnyConnection,
    (low, high): (i64, i64),
    heads: Vec<Head>,
    anchors: &mut [Anchor],
    found: &mut Offences,
) -> Result<(), StoreFault> {
    let mut after = (low, i64::MAX);
    let mut heads = heads.into_iter();
    let mut head = heads.next();
    let mut walk = Walk::new(anchors.len());
    loop {
        let rows = page(conn, after, high).await?;
        let full = i64::try_from(rows.len()).unwrap_or(PAGE) == PAGE;
        for row in &rows {
            while let Some(done) = head.take_if(|head| head.0 < row.1) {
                walk.end(&done, anchors, found);
                walk = Walk::new(anchors.len());
                head = heads.next();
            }
            let serial = head
                .as_ref()
                .filter(|head| head.0 == row.1)
                .map(|head| head.1.as_str());
            walk.step(row, serial, anchors, found);
            after = (row.1, row.2);
        }
        if !full {
            break;
        }
    }
    while let Some(done) = head.take() {
        walk.end(&done, anchors, found);
        walk = Walk::new(anchors.len());
        head = heads.next();
    }
    Ok(())
}

async fn page(conn: &mut AnyConnection, after: (i64, i64), high: i64) -> Result<Vec<Row>, StoreFault> {
    let rows = sqlx::query_as(
        "SELECT id, card_id, CAST(seq AS BIGINT), CAST(kind AS TEXT), CAST(delta_ms AS BIGINT), CAST(call AS TEXT),
            CAST(purchase_id AS BIGINT), CAST(op_key AS TEXT), CAST(actor AS TEXT), CAST(at AS BIGINT),
            CAST(prev_hash AS TEXT), CAST(row_hash AS TEXT)
         FROM ledger WHERE (card_id, seq) > ($1, $2) AND card_id <= $3 ORDER BY card_id, seq LIMIT $4",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(high)
    .bind(PAGE)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

impl Walk {
    fn new(anchors: usize) -> Walk {
        Walk {
            at_anchor: vec![None; anchors],
            ..Walk::default()
        }
    }

    fn step(&mut self, row: &Row, serial: Option<&str>, anchors: &mut [Anchor], found: &mut Offences) {
        let (id, card, seq, kind, delta_ms, call, purchase, op_key, actor, at, prev, hash) = row;
        let entry = NewEntry {
            card: *card,
            kind,
            delta_ms: *delta_ms,
            call: call.as_deref(),
            purchase: *purchase,
            op_key,
            actor,
            at: UnixTime::from_ms(*at),
        };
        if serial.is_none() {
            found.chain(format!("entry {seq} of no card ({card})"), None, Some(*id));
            return;
        }
        if *seq != self.seq + 1 || *prev != self.hash || *hash != entry_hash(prev, *seq, &entry) {
            found.chain(
                format!("entry {seq}: its hash does not follow"),
                serial,
                Some(*id),
            );
        }
        (self.seq, self.hash) = (*seq, hash.clone());
        for (anchor, newest) in anchors.iter_mut().zip(&mut self.at_anchor) {
            if *id <= anchor.upto {
                anchor.entries += 1;
                *newest = Some((*seq, hash.clone()));
            }
        }
    }

    fn end(&mut self, (card, serial, seq, hash): &Head, anchors: &mut [Anchor], found: &mut Offences) {
        if (self.seq, &self.hash) != (*seq, hash) {
            found.chain(
                "its last entry is missing or changed".to_owned(),
                Some(serial),
                None,
            );
        }
        for (anchor, newest) in anchors.iter_mut().zip(&self.at_anchor) {
            if let Some((seq, hash)) = newest {
                anchor.head(*card, *seq, hash);
            }
        }
    }
}

impl Offences {
    fn chain(&mut self, what: String, card: Option<&str>, row: Option<i64>) {
        self.add(
            CHAIN,
            true,
            Found {
                what,
                card: card.map(str::to_owned),
                call: None,
                row,
            },
        );
    }
}

/// An audit row: id, time, actor, action, subject, before, after, hash before, hash.
type AuditLine = (
    i64,
    i64,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    String,
    String,
);

/// Walks the audit from its first row to the head that `meta` keeps.
pub(super) async fn audit_rows(conn: &mut AnyConnection, found: &mut Offences) -> Result<(), StoreFault> {
    let mut head = String::new();
    let mut low = i64::MIN;
    loop {
        let rows: Vec<AuditLine> = sqlx::query_as(
            "SELECT id, CAST(at AS BIGINT), CAST(actor AS TEXT), CAST(action AS TEXT), CAST(subject AS TEXT),
                CAST(before AS TEXT), CAST(after AS TEXT), CAST(prev_hash AS TEXT), CAST(row_hash AS TEXT)
             FROM audit WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(low)
        .bind(PAGE)
        .fetch_all(&mut *conn)
        .await?;
        for (id, at, actor, action, subject, before, after, prev, hash) in &rows {
            let want = audit::row_hash(
                prev,
                *at,
                actor,
                action,
                subject,
                before.as_deref(),
                after.as_deref(),
            );
            if *prev != head || *hash != want {
                found.add(
                    AUDIT,
                    false,
                    Found::row("its hash does not follow".to_owned(), *id),
                );
            }
            head.clone_from(hash);
            low = *id;
        }
        if i64::try_from(rows.len()).unwrap_or(PAGE) < PAGE {
            break;
        }
    }
    let kept: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'audit_head'")
        .fetch_optional(conn)
        .await?;
    if kept.as_deref() != Some(head.as_str()) {
        let what = "the newest row is missing or changed".to_owned();
        found.add(
            AUDIT,
            false,
            Found {
                what,
                card: None,
                call: None,
                row: None,
            },
        );
    }
    Ok(())
}
