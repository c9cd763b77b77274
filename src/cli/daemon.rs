//! What the daemon says of itself, as people read it.

use std::fmt::Write;

use serde_json::Value;

use super::args::Lang;
use super::layout::{facts, lines, rows, table};
use super::render_books::{last_check, pin_attacks};
use super::text::{cell, cell_rest, cell_time, clean, local};

pub fn status(document: &Value, lang: Lang) -> String {
    let journal = |field| cell(document.get("journal").unwrap_or(&Value::Null), field);
    let mut text = facts(
        lang,
        &[
            ("Version", cell(document, "version")),
            ("läuft seit", cell_time(document, "started_at")),
            ("Datenbank", cell(document, "store")),
            ("  fort seit", cell_time(document, "store_away_since")),
            ("Journal: wartet", journal("entries")),
            (
                "  seit",
                cell_time(document.get("journal").unwrap_or(&Value::Null), "oldest_at"),
            ),
            ("  verworfen", journal("rejected")),
            ("nimmt keine Anrufe mehr", cell(document, "draining")),
            ("Anrufe", cell(document, "calls")),
            ("davon im Gespräch", cell(document, "bridged")),
            ("längste Restzeit", cell_rest(document, "longest_rest_ms")),
            ("freie Portpaare", cell(document, "free_ports")),
            ("SIP-Legs", cell(document, "legs")),
            ("SIP-Transaktionen", cell(document, "transactions")),
            ("Bücher geprüft", last_check(document, lang)),
            ("PIN-Angriff", pin_attacks(document)),
        ],
    );
    for (name, count) in document
        .get("counters")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        // Writing to a string cannot fail.
        if writeln!(text, "  {:<20} {count}", clean(name)).is_err() {
            return text;
        }
    }
    text
}

pub fn audit(document: &Value, lang: Lang) -> String {
    let mut out = table(lang, &["Zeit", "wer", "was", "woran", "vorher", "nachher"]);
    for row in rows(document, "audit") {
        out.add_row([
            local(row.get("at").and_then(Value::as_str)),
            cell(row, "actor"),
            cell(row, "action"),
            cell(row, "subject"),
            cell(row, "before"),
            cell(row, "after"),
        ]);
    }
    lines(&out)
}
