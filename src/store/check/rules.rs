//! The rules that one SQL question each can show: its answers are the offenders.

use super::Rule;
use super::Span::{self, Bindings, Calls, Cards, Entries, Purchases, Reservations, Whole};

/// Each question gives (what, card serial, call, row id). `$1` is now; of a rule over rows, only
/// those with `$2 < key <= $3` are looked at.
pub(super) const RULES: [Rule; 29] = [
    blocking(
        "I1",
        "balance is the sum of entries",
        Cards,
        "SELECT 'balance ' || c.balance_ms || ', entries '
            || COALESCE((SELECT SUM(delta_ms) FROM ledger l WHERE l.card_id = c.id), 0), c.serial, NULL, c.id
         FROM card c WHERE c.id > $2 AND c.id <= $3
            AND c.balance_ms <> COALESCE((SELECT SUM(delta_ms) FROM ledger l WHERE l.card_id = c.id), 0)",
    ),
    blocking(
        "I2",
        "available is never below zero",
        Cards,
        "SELECT 'balance ' || balance_ms || ', reserved ' || reserved_ms, serial, NULL, id
         FROM card WHERE id > $2 AND id <= $3 AND (balance_ms < reserved_ms OR reserved_ms < 0)",
    ),
    blocking(
        "L1",
        "reserved is the sum of open reservations",
        Cards,
        "SELECT 'reserved ' || c.reserved_ms || ', open '
            || COALESCE((SELECT SUM(amount_ms) FROM reservation r WHERE r.card_id = c.id AND r.state = 'open'), 0),
            c.serial, NULL, c.id
         FROM card c WHERE c.id > $2 AND c.id <= $3 AND c.reserved_ms
            <> COALESCE((SELECT SUM(amount_ms) FROM reservation r WHERE r.card_id = c.id AND r.state = 'open'), 0)",
    ),
    rule(
        "L1",
        "open calls are the open reservations",
        Cards,
        "SELECT 'open calls ' || c.open_calls, c.serial, NULL, c.id FROM card c WHERE c.id > $2 AND c.id <= $3
         AND c.open_calls <> (SELECT COUNT(*) FROM reservation r WHERE r.card_id = c.id AND r.state = 'open')",
    ),
    rule(
        "L2",
        "an ended reservation says how it ended, an open one does not",
        Reservations,
        "SELECT 'state ' || r.state, c.serial, r.call, r.id FROM reservation r LEFT JOIN card c ON c.id = r.card_id
         WHERE r.id > $2 AND r.id <= $3 AND ((r.state = 'open') <> (r.ended_at IS NULL)
            OR (r.state = 'open') <> (r.billed_ms IS NULL) OR (r.state = 'released' AND r.billed_ms <> 0))",
    ),
    rule(
        "L3",
        "a reservation is the sum of its slices",
        Reservations,
        "SELECT 'amount ' || r.amount_ms, c.serial, r.call, r.id FROM reservation r
         LEFT JOIN card c ON c.id = r.card_id WHERE r.id > $2 AND r.id <= $3
         AND r.amount_ms <> COALESCE((SELECT SUM(amount_ms) FROM slice s WHERE s.reservation_id = r.id), 0)",
    ),
    blocking(
        "I3",
        "a call is charged once per card",
        Entries,
        "SELECT 'a second usage entry', c.serial, l.call, l.id FROM ledger l LEFT JOIN card c ON c.id = l.card_id
         WHERE l.id > $2 AND l.id <= $3 AND l.kind = 'usage' AND EXISTS (SELECT 1 FROM ledger o
            WHERE o.kind = 'usage' AND o.call = l.call AND o.card_id = l.card_id AND o.id < l.id)",
    ),
    blocking(
        "I4",
        "usage is what its reservation was settled at, within the grants",
        Reservations,
        "SELECT 'granted ' || r.amount_ms || ', billed ' || r.billed_ms, c.serial, r.call, r.id FROM reservation r
         LEFT JOIN card c ON c.id = r.card_id
         WHERE r.id > $2 AND r.id <= $3 AND r.state <> 'open' AND (r.billed_ms > r.amount_ms
            OR r.billed_ms <> -COALESCE((SELECT SUM(l.delta_ms) FROM ledger l
                WHERE l.kind = 'usage' AND l.call = r.call AND l.card_id = r.card_id), 0))",
    ),
    blocking(
        "L2",
        "a usage entry has its reservation",
        Entries,
        "SELECT 'no ended reservation', c.serial, l.call, l.id FROM ledger l LEFT JOIN card c ON c.id = l.card_id
         WHERE l.id > $2 AND l.id <= $3 AND l.kind = 'usage' AND NOT EXISTS (SELECT 1 FROM reservation r
            WHERE r.call = l.call AND r.card_id = l.card_id AND r.state <> 'open')",
    ),
    // The sweeper passes every 30 s: only what it has missed is broken.
    rule(
        "I5",
        "no reservation is open beyond its validity and the sweeper's next rounds",
        Reservations,
        "SELECT 'valid until ' || r.valid_until, c.serial, r.call, r.id FROM reservation r
         LEFT JOIN card c ON c.id = r.card_id
         WHERE r.id > $2 AND r.id <= $3 AND r.state = 'open' AND r.valid_until + 30000 + 60000 < $1",
    ),
    rule(
        "L5",
        "checkpoints are within the grants",
        Reservations,
        "SELECT 'used ' || r.used_ms || ' of ' || r.amount_ms, c.serial, r.call, r.id FROM reservation r
         LEFT JOIN card c ON c.id = r.card_id
         WHERE r.id > $2 AND r.id <= $3 AND (r.used_ms < 0 OR r.used_ms > r.amount_ms)",
    ),
    rule(
        "L6",
        "no reservation is open after its call ended",
        Reservations,
        "SELECT 'the call has ended', c.serial, r.call, r.id FROM reservation r JOIN call k ON k.id = r.call
         LEFT JOIN card c ON c.id = r.card_id
         WHERE r.id > $2 AND r.id <= $3 AND r.state = 'open' AND k.ended_at + 2000 < $1",
    ),
    rule(
        "I6",
        "a PIN names one live card",
        Whole,
        "SELECT 'the PIN of card ' || MAX(serial), MIN(serial), NULL, MIN(id) FROM card
         WHERE state <> 'storniert' GROUP BY pin_hash HAVING COUNT(*) > 1",
    ),
    rule(
        "L7",
        "an op id stands for one write",
        Whole,
        "SELECT 'a slice and an audit row', NULL, NULL, a.id FROM slice s JOIN audit a ON a.op_key = s.op_id",
    ),
    rule(
        "I7",
        "a line is bound once per project",
        Whole,
        "SELECT 'the line of binding ' || MAX(id), NULL, NULL, MIN(id) FROM line_binding WHERE removed_at IS NULL
         GROUP BY project_id, e164 HAVING COUNT(*) > 1",
    ),
    rule(
        "I7",
        "a binding is in its card's project",
        Bindings,
        "SELECT 'of project ' || b.project_id, c.serial, NULL, b.id FROM line_binding b JOIN card c ON c.id = b.card_id
         WHERE b.id > $2 AND b.id <= $3 AND b.project_id <> c.project_id",
    ),
    rule(
        "I8",
        "no own, premium or short line is bound, and none to a card that was never activated",
        Bindings,
        "SELECT 'a line that may not be bound', c.serial, NULL, b.id
         FROM line_binding b JOIN card c ON c.id = b.card_id
         WHERE b.id > $2 AND b.id <= $3 AND b.removed_at IS NULL
            AND (b.e164 LIKE '+49900%' OR b.e164 LIKE '+49137%' OR b.e164 LIKE '+49118%'
                OR LENGTH(b.e164) < 9 OR c.state IN ('neu', 'storniert')
                OR EXISTS (SELECT 1 FROM number n
                    WHERE n.e164 = b.e164 AND n.removed_at IS NULL AND n.added_at < b.bound_at))",
    ),
    rule(
        "I10",
        "a purchase has one entry and one invoice line that agree",
        Purchases,
        "SELECT 'purchase of ' || p.minutes || ' minutes', c.serial, NULL, p.id
         FROM purchase p LEFT JOIN card c ON c.id = p.card_id WHERE p.id > $2 AND p.id <= $3 AND (
            (SELECT COUNT(*) FROM ledger l WHERE l.purchase_id = p.id AND l.card_id = p.card_id
                AND l.kind = p.kind AND l.delta_ms = p.minutes * 60000) <> 1
            OR (SELECT COUNT(*) FROM invoice_line i WHERE i.purchase_id = p.id AND i.net_cents = p.net_cents
                AND i.vat_cents = p.vat_cents AND i.minutes = p.minutes) <> 1)",
    ),
    rule(
        "I11",
        "a CDR's times are in order",
        Calls,
        "SELECT 'times out of order', NULL, id, NULL FROM call WHERE id > $2 AND id <= $3
            AND (ended_at < invited_at OR answered_at < invited_at OR bridged_at < advisor_answered_at
                OR bridged_at < answered_at OR ended_at < bridged_at OR ended_at < answered_at)",
    ),
    // Its writing may wait for a database that was away, as long as the call goes on.
    rule(
        "I11",
        "every call that was charged has its CDR",
        Reservations,
        "SELECT 'no CDR', c.serial, r.call, r.id FROM reservation r LEFT JOIN card c ON c.id = r.card_id
         WHERE r.id > $2 AND r.id <= $3 AND r.ended_at + 60000 < $1
            AND NOT EXISTS (SELECT 1 FROM call k WHERE k.id = r.call)",
    ),
    rule(
        "I12",
        "no bridge, no charge",
        Calls,
        "SELECT 'billed ' || billed_ms, NULL, id, NULL FROM call
         WHERE id > $2 AND id <= $3 AND bridged_at IS NULL AND billed_ms <> 0",
    ),
    rule(
        "L3",
        "a CDR's billed time is what its cards were charged",
        Calls,
        "SELECT 'billed ' || k.billed_ms, (SELECT serial FROM card c WHERE c.id = k.card_id), k.id, NULL
         FROM call k WHERE k.id > $2 AND k.id <= $3 AND k.ended_at IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.call = k.id AND r.state = 'open')
         AND k.billed_ms
            <> -COALESCE((SELECT SUM(l.delta_ms) FROM ledger l WHERE l.call = k.id AND l.kind = 'usage'), 0)",
    ),
    rule(
        "L4",
        "nothing is charged for no talk",
        Reservations,
        "SELECT 'billed ' || r.billed_ms || ', raw ' || COALESCE(r.raw_ms, 0), c.serial, r.call, r.id
         FROM reservation r LEFT JOIN card c ON c.id = r.card_id
         WHERE r.id > $2 AND r.id <= $3 AND r.billed_ms > 0 AND COALESCE(r.raw_ms, 0) <= 0",
    ),
    rule(
        "I15",
        "a card's calls are of its project",
        Calls,
        "SELECT 'of project ' || k.project_id, c.serial, k.id, NULL FROM call k JOIN card c ON c.id = k.card_id
         WHERE k.id > $2 AND k.id <= $3 AND k.project_id <> c.project_id",
    ),
    rule(
        "I15",
        "a project's tariff is its operator's",
        Whole,
        "SELECT 'project ' || p.name, NULL, NULL, p.id FROM project p
         JOIN tariff t ON t.id = p.tariff_id JOIN tariff_version v ON v.id = p.tariff_version_id
         WHERE t.operator_id <> p.operator_id OR v.tariff_id <> t.id",
    ),
    rule(
        "I16",
        "a purchase, a binding and a cancellation have their audit rows",
        Cards,
        "SELECT 'state ' || c.state, c.serial, NULL, c.id FROM card c WHERE c.id > $2 AND c.id <= $3 AND (
            NOT EXISTS (SELECT 1 FROM audit a WHERE a.subject = c.serial AND a.action = 'card.buy')
            OR (c.activated_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.subject = c.serial
                AND a.action IN ('card.activate', 'card.bind')))
            OR (c.state = 'storniert' AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.subject = c.serial
                AND a.action = 'card.cancel')))",
    ),
    rule(
        "I18",
        "a purchase was taxed by its tariff version",
        Purchases,
        "SELECT 'VAT ' || p.vat_bp || ', tariff ' || v.vat_bp, c.serial, NULL, p.id
         FROM purchase p JOIN tariff_version v ON v.id = p.tariff_version_id LEFT JOIN card c ON c.id = p.card_id
         WHERE p.id > $2 AND p.id <= $3 AND p.vat_bp <> v.vat_bp",
    ),
    rule(
        "I19",
        "what was sold is what the cards were credited with",
        Whole,
        "SELECT 'project ' || p.name || ': sold ' || sold || ', credited ' || credited, NULL, NULL, p.id FROM (
            SELECT c.project_id, SUM(u.minutes) * 60000 AS sold,
                SUM((SELECT SUM(l.delta_ms) FROM ledger l WHERE l.purchase_id = u.id)) AS credited
            FROM purchase u JOIN card c ON c.id = u.card_id GROUP BY c.project_id) s
         JOIN project p ON p.id = s.project_id WHERE credited IS NULL OR sold <> credited",
    ),
    rule(
        "L14",
        "the entries of all cards add up to their balances",
        Whole,
        "SELECT 'balances ' || b || ', entries ' || e, NULL, NULL, NULL FROM (
            SELECT COALESCE((SELECT SUM(balance_ms) FROM card), 0) AS b,
                COALESCE((SELECT SUM(delta_ms) FROM ledger), 0) AS e) s WHERE b <> e",
    ),
];

/// In SQLite a column takes any type; PostgreSQL holds I13 by itself.
pub(super) const SQLITE_RULES: [Rule; 2] = [
    blocking(
        "I13",
        "talk time is a whole number",
        Entries,
        "SELECT 'a ' || typeof(l.delta_ms), c.serial, l.call, l.id FROM ledger l LEFT JOIN card c ON c.id = l.card_id
         WHERE l.id > $2 AND l.id <= $3 AND typeof(l.delta_ms) <> 'integer'",
    ),
    blocking(
        "I13",
        "a balance is a whole number",
        Cards,
        "SELECT 'a ' || typeof(balance_ms) || ', a ' || typeof(reserved_ms), serial, NULL, id FROM card
         WHERE id > $2 AND id <= $3 AND (typeof(balance_ms) <> 'integer' OR typeof(reserved_ms) <> 'integer')",
    ),
];

/// Leases count where nodes share a database.
pub(super) const POSTGRES_RULES: [Rule; 1] = [rule(
    "L6",
    "no reservation is a dead node's for long",
    Reservations,
    "SELECT 'node ' || r.node || ' has lost its lease', c.serial, r.call, r.id FROM reservation r
     JOIN node n ON n.name = r.node AND n.epoch = r.epoch LEFT JOIN card c ON c.id = r.card_id
     WHERE r.id > $2 AND r.id <= $3 AND r.state = 'open'
        AND n.expires_at > 0 AND n.expires_at + 20000 < {clock}",
)];

/// What rows cannot show, and where it is proved instead.
pub(super) const ELSEWHERE: [(&str, &str); 9] = [
    (
        "I9",
        "a CHECK: balance_ms >= reserved_ms; the tests of withdrawals",
    ),
    ("I13", "integer columns and types; `tests/it/tidy.rs`"),
    (
        "I14",
        "types of time; the tests of both nights of the clock change",
    ),
    (
        "I17",
        "no formatter for PINs; `tests/it/redaction.rs` and the search of the database files for PINs",
    ),
    ("I20", "there are no recordings"),
    (
        "L8",
        "a node writes only while its epoch is current; the tests of the leases",
    ),
    (
        "L10",
        "the daemon compares its calls with its reservations; the simulator after each step",
    ),
    (
        "L11, L12, L13",
        "dialogs, ports and timers are no rows; the simulator after each step",
    ),
    (
        "T18",
        "the anchor in this answer: keep it apart from the database",
    ),
];

pub(super) const fn rule(id: &'static str, says: &'static str, span: Span, sql: &'static str) -> Rule {
    Rule {
        id,
        says,
        span,
        blocks: false,
        sql,
    }
}

const fn blocking(id: &'static str, says: &'static str, span: Span, sql: &'static str) -> Rule {
    Rule {
        id,
        says,
        span,
        blocks: true,
        sql,
    }
}
