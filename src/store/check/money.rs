//! The rules about money that goes back or elsewhere (I9, I10, I19).

use super::Rule;
use super::Span::Whole;
use super::rules::rule;

/// As in `rules`: each question gives (what, card serial, call, row id).
pub(super) const RULES: [Rule; 5] = [
    rule(
        "I10",
        "a purchase is never reversed beyond what it was",
        Whole,
        "SELECT 'talk ' || l.talk_ms || ', reversed ' || r.talk, NULL, NULL, l.id FROM invoice_line l
         JOIN (SELECT reverses_id, -SUM(talk_ms) AS talk, -SUM(net_cents) AS net, -SUM(vat_cents) AS vat
            FROM invoice_line WHERE reverses_id IS NOT NULL GROUP BY reverses_id) r ON r.reverses_id = l.id
         WHERE r.talk > l.talk_ms OR r.net > l.net_cents OR r.vat > l.vat_cents
            OR (r.talk = l.talk_ms AND (r.net <> l.net_cents OR r.vat <> l.vat_cents))",
    ),
    rule(
        "I10",
        "each reversed line has its storno on a card",
        Whole,
        "SELECT 'purchase ' || p.id, NULL, NULL, p.id FROM purchase p JOIN invoice_line l ON l.purchase_id = p.id
         WHERE COALESCE((SELECT SUM(r.talk_ms) FROM invoice_line r WHERE r.reverses_id = l.id), 0)
            <> COALESCE((SELECT SUM(m.delta_ms) FROM paid_move m WHERE m.purchase_id = p.id AND m.kind = 'storno'), 0)",
    ),
    rule(
        "I10",
        "what was paid is neither lost nor made by a transfer",
        Whole,
        "SELECT 'moved ' || SUM(delta_ms), NULL, NULL, purchase_id FROM paid_move
         WHERE kind <> 'storno' GROUP BY purchase_id HAVING SUM(delta_ms) <> 0",
    ),
    rule(
        "I9",
        "no card gave more of a purchase than it had",
        Whole,
        "SELECT 'purchase ' || s.purchase_id || ', ' || s.ms, c.serial, NULL, c.id FROM (
            SELECT m.card_id, m.purchase_id, SUM(m.delta_ms) + COALESCE((SELECT p.minutes * 60000 FROM purchase p
                WHERE p.id = m.purchase_id AND p.card_id = m.card_id), 0) AS ms
            FROM paid_move m GROUP BY m.card_id, m.purchase_id) s JOIN card c ON c.id = s.card_id WHERE s.ms < 0",
    ),
    rule(
        "I19",
        "what leaves a card by transfer arrives in its project",
        Whole,
        "SELECT 'project ' || p.name || ': ' || SUM(l.delta_ms), NULL, NULL, p.id FROM ledger l
         JOIN card c ON c.id = l.card_id JOIN project p ON p.id = c.project_id
         WHERE l.kind IN ('transfer_in', 'transfer_out') GROUP BY p.id, p.name HAVING SUM(l.delta_ms) <> 0",
    ),
];
