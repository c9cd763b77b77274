//! Answers as people read them: aligned text, local times, mm:ss.

use serde_json::Value;

use super::args::Lang;
use super::daemon::{audit, status};
use super::layout::{facts, lines, rows, table};
use super::render_books::ledger_check;
use super::render_money as money;
use super::text::{cell, cell_rest, cell_time, clean, euros, last_day, rest};
use super::words::{CARD_STATES, counted, word};

/// Which answer to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Projects,
    Project,
    Callers,
    Numbers,
    Number,
    Targets,
    Target,
    Quote,
    Cards,
    Card,
    /// With the PIN, big and clear.
    NewCard,
    Entries,
    Calls,
    Call,
    LedgerCheck,
    Status,
    Audit,
    Done,
    Tariffs,
    Tariff,
    Operator,
    Moved,
    Batch,
    /// The answer's own table.
    Table,
    Json,
}

/// The answer as text, with a line end.
pub fn show(view: View, document: &Value, lang: Lang) -> String {
    match view {
        View::Projects => projects(document, lang),
        View::Project => project(document, lang),
        View::Callers => recent_callers(document, lang),
        View::Numbers => numbers(rows(document, "numbers"), lang),
        View::Number => numbers(std::slice::from_ref(document), lang),
        View::Targets => targets(rows(document, "targets"), lang),
        View::Target => targets(std::slice::from_ref(document), lang),
        View::Quote => money::quote(document, lang),
        View::Cards => cards(document, lang),
        View::Card => card(document, lang),
        View::NewCard => new_card(document, lang),
        View::Entries => entries(document, lang),
        View::Calls => calls(document, lang),
        View::Call => call(document, lang),
        View::LedgerCheck => ledger_check(document, lang),
        View::Status => status(document, lang),
        View::Audit => audit(document, lang),
        View::Done => "ok\n".to_owned(),
        View::Tariffs => money::tariffs(document, lang),
        View::Tariff => money::tariff(document, lang),
        View::Operator => money::operator(document, lang),
        View::Moved => money::moved(document, lang),
        View::Batch => money::batch(document, lang),
        View::Table => money::own_table(document),
        View::Json => format!("{document}\n"),
    }
}

fn projects(document: &Value, lang: Lang) -> String {
    let mut out = table(
        lang,
        &[
            "Projekt",
            "Sprache",
            "offen",
            "Karten",
            "Nummern",
            "Minutenpreis netto",
        ],
    );
    for row in rows(document, "projects") {
        let numbers: Vec<String> = rows(row, "numbers")
            .iter()
            .map(|n| cell(n, "international"))
            .collect();
        out.add_row([
            cell(row, "name"),
            cell(row, "language"),
            cell(row, "enabled"),
            cell(row, "cards"),
            if numbers.is_empty() {
                "–".to_owned()
            } else {
                numbers.join(", ")
            },
            minute_price(row, lang),
        ]);
    }
    lines(&out)
}

fn project(document: &Value, lang: Lang) -> String {
    let tariff = document.get("tariff").unwrap_or(&Value::Null);
    let mut text = facts(
        lang,
        &[
            ("Projekt", cell(document, "name")),
            ("Sprache", cell(document, "language")),
            ("Anrufer werden angenommen", cell(document, "enabled")),
            ("Karten", cell(document, "cards")),
            ("Anschlüsse je Karte", cell(document, "max_lines")),
            ("Gespräche je Karte zugleich", cell(document, "max_parallel")),
            ("PIN-Länge", cell(document, "pin_length")),
            ("Angriffsjahre je Treffer", cell(document, "pin_years_per_hit")),
            ("Berater nimmt mit 1 an", cell(document, "accept_key")),
            ("Halten pausiert (s)", cell(document, "hold_pause_s")),
            ("Tarif", cell(tariff, "name")),
            ("Minutenpreis netto", minute_price(document, lang)),
            (
                "Takt (ms)",
                format!(
                    "{}/{}",
                    cell(tariff, "first_increment_ms"),
                    cell(tariff, "next_increment_ms")
                ),
            ),
            ("frei unter (ms)", cell(tariff, "free_under_ms")),
            ("Tarifversion", cell(tariff, "version")),
            ("angelegt", cell_time(document, "created_at")),
        ],
    );
    text.push_str(&numbers(rows(document, "numbers"), lang));
    text
}

fn recent_callers(document: &Value, lang: Lang) -> String {
    let mut out = table(lang, &["Anrufer", "Anruf", "Grund"]);
    for row in rows(document, "callers") {
        out.add_row([
            cell(row, "e164"),
            cell_time(row, "called_at"),
            cell(row, "end_cause"),
        ]);
    }
    lines(&out)
}

/// A card's state; a call's is a word of the switch and stays.
fn state(row: &Value, lang: Lang) -> String {
    let german = cell(row, "state");
    CARD_STATES
        .iter()
        .find(|state| **state == german)
        .map_or(german, |state| word(lang, state).to_owned())
}

fn minute_price(project: &Value, lang: Lang) -> String {
    money::prices(project.get("tariff").unwrap_or(&Value::Null), lang)
}

fn numbers(rows: &[Value], lang: Lang) -> String {
    let mut out = table(
        lang,
        &["Nummer", "aus dem Ausland", "im Inland", "Projekt", "Rolle"],
    );
    for row in rows {
        let role = match row.get("role").and_then(Value::as_str) {
            Some("activation") => word(lang, "Nummer zum Freischalten"),
            Some("consultation") => word(lang, "Nummer für die Beratung"),
            Some("both") => word(lang, "Freischalten und Beratung"),
            Some(_) | None => "–",
        };
        out.add_row([
            cell(row, "international"),
            cell(row, "international_00"),
            cell(row, "national"),
            cell(row, "project"),
            role.to_owned(),
        ]);
    }
    lines(&out)
}

fn targets(rows: &[Value], lang: Lang) -> String {
    let mut out = table(lang, &["id", "Projekt", "Reihenfolge", "Ziel", "klingelt (s)"]);
    for row in rows {
        out.add_row(["id", "project", "order", "address", "ring_s"].map(|key| cell(row, key)));
    }
    lines(&out)
}

fn cards(document: &Value, lang: Lang) -> String {
    let rows = rows(document, "cards");
    let mut out = table(
        lang,
        &[
            "Karte",
            "Hinweis",
            "Status",
            "Restzeit",
            "reserviert",
            "Anrufer",
            "zuletzt",
        ],
    );
    let mut counts: Vec<(String, usize)> = Vec::new();
    for row in rows {
        let state = state(row, lang);
        match counts.iter_mut().find(|(word, _)| *word == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state.clone(), 1)),
        }
        out.add_row([
            cell(row, "serial"),
            cell(row, "note"),
            state,
            cell_rest(row, "available_ms"),
            cell_rest(row, "reserved_ms"),
            callers(row),
            cell_time(row, "last_use_at"),
        ]);
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    let mut text = lines(&out);
    let sum = if counts.is_empty() {
        String::new()
    } else {
        format!(": {}", counts.join(", "))
    };
    text.push_str(&format!(
        "{}{sum}\n",
        counted(rows.len(), "Karte", "Karten", lang)
    ));
    text
}

/// The first line, and how many more.
fn callers(card: &Value) -> String {
    let lines = rows(card, "lines");
    match lines {
        [] => "–".to_owned(),
        [only] => cell(only, "e164"),
        [first, more @ ..] => format!("{} +{}", cell(first, "e164"), more.len()),
    }
}

fn card(document: &Value, lang: Lang) -> String {
    let mut text = money::given_back(document, lang);
    text.push_str(&facts(
        lang,
        &[
            ("Karte", cell(document, "serial")),
            ("Projekt", cell(document, "project")),
            ("Hinweis", cell(document, "note")),
            ("Status", state(document, lang)),
            ("Restzeit", cell_rest(document, "available_ms")),
            ("gekauft", cell_rest(document, "bought_ms")),
            ("verbraucht", cell_rest(document, "used_ms")),
            ("reserviert", cell_rest(document, "reserved_ms")),
            ("angelegt", cell_time(document, "created_at")),
            ("aktiviert am", cell_time(document, "activated_at")),
            ("zuletzt benutzt", cell_time(document, "last_use_at")),
            (
                "gültig bis einschließlich",
                last_day(document.get("expires_at").and_then(Value::as_str)),
            ),
        ],
    ));
    let bound = rows(document, "lines");
    if bound.is_empty() {
        text.push_str(word(lang, "Anrufer: keiner freigeschaltet"));
        text.push('\n');
        return text;
    }
    let mut out = table(lang, &["Anrufer", "durch", "erstmals", "zuletzt"]);
    for line in bound {
        out.add_row([
            cell(line, "e164"),
            cell(line, "source"),
            cell_time(line, "first_use"),
            cell_time(line, "last_use"),
        ]);
    }
    text.push_str(&lines(&out));
    text
}

fn new_card(document: &Value, lang: Lang) -> String {
    let pin = document.get("pin").and_then(Value::as_str).unwrap_or("");
    // In groups of three or four, as people read numbers aloud.
    let size = if pin.len().is_multiple_of(4) { 4 } else { 3 };
    let digits: Vec<char> = pin.chars().collect();
    let groups: Vec<String> = digits.chunks(size).map(|c| c.iter().collect()).collect();
    let spaced = groups.join(" ");
    let inner = format!("   PIN   {spaced}   ");
    let rule = "═".repeat(inner.chars().count());
    let mut text = format!("╔{rule}╗\n║{inner}║\n╚{rule}╝\n");
    if let Some(cents) = document.get("price_cents").and_then(Value::as_i64) {
        text.push_str(&facts(lang, &[("Preis", euros(Some(cents), lang))]));
    }
    text.push_str(&card(document, lang));
    for lang in ["de", "en"] {
        if let Some(handover) = document
            .pointer(&format!("/handover/{lang}"))
            .and_then(Value::as_str)
        {
            text.push_str(&format!("\n{}\n", clean(handover)));
        }
    }
    text
}

fn entries(document: &Value, lang: Lang) -> String {
    let mut out = table(lang, &["Nr.", "Zeit", "Art", "Änderung", "Anruf", "durch"]);
    for row in rows(document, "entries") {
        out.add_row([
            cell(row, "seq"),
            cell_time(row, "at"),
            cell(row, "kind"),
            cell_rest(row, "delta_ms"),
            cell(row, "call"),
            cell(row, "actor"),
        ]);
    }
    lines(&out)
}

fn calls(document: &Value, lang: Lang) -> String {
    let rows = rows(document, "calls");
    let mut out = table(
        lang,
        &[
            "Anruf",
            "Beginn",
            "Zustand",
            "Anrufer",
            "Nummer",
            "Karte",
            "Gespräch",
            "Rest",
            "Ende",
        ],
    );
    for row in rows {
        out.add_row([
            cell(row, "id"),
            cell_time(row, "started_at"),
            state(row, lang),
            cell(row, "caller"),
            cell(row, "called"),
            cell(row, "card"),
            cell_rest(row, "billed_ms"),
            cell_rest(row, "rest_ms"),
            cell(row, "end_cause"),
        ]);
    }
    let mut text = lines(&out);
    text.push_str(&format!("{}\n", counted(rows.len(), "Anruf", "Anrufe", lang)));
    text
}

fn call(document: &Value, lang: Lang) -> String {
    let ms = |key: &str| {
        document
            .get(key)
            .and_then(Value::as_i64)
            .map_or_else(|| "–".to_owned(), |ms| format!("{} ({ms} ms)", rest(Some(ms))))
    };
    let mut text = facts(
        lang,
        &[
            ("Anruf", cell(document, "id")),
            ("Projekt", cell(document, "project")),
            ("Karte", cell(document, "card")),
            ("Anrufer", cell(document, "caller")),
            ("Nummer", cell(document, "called")),
            ("Ziel", cell(document, "target")),
            ("Zustand", cell(document, "state")),
            ("Beginn", cell_time(document, "started_at")),
            ("angenommen", cell_time(document, "answered_at")),
            ("verbunden", cell_time(document, "bridged_at")),
            ("Ende", cell_time(document, "ended_at")),
            ("gemessen", ms("raw_ms")),
            ("belastet", ms("billed_ms")),
            ("gehalten", ms("hold_ms")),
            ("Rest", cell_rest(document, "rest_ms")),
            ("Grund", cell(document, "end_cause")),
        ],
    );
    for attempt in rows(document, "attempts") {
        text.push_str(&format!(
            "  {} {} {}: {}\n",
            word(lang, "gewählt"),
            cell(attempt, "target"),
            cell_time(attempt, "dialled_at"),
            cell(attempt, "status")
        ));
    }
    text
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
