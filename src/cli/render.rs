//! Answers as people read them: aligned text, local times, mm:ss.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::text::{cell, cell_rest, cell_time, clean, euros, local, rest};

/// Which answer to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Projects,
    Project,
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
}

/// The answer as text, with a line end.
pub fn show(view: View, document: &Value) -> String {
    match view {
        View::Projects => projects(document),
        View::Project => project(document),
        View::Numbers => numbers(rows(document, "numbers")),
        View::Number => numbers(std::slice::from_ref(document)),
        View::Targets => targets(rows(document, "targets")),
        View::Target => targets(std::slice::from_ref(document)),
        View::Quote => quote(document),
        View::Cards => cards(document),
        View::Card => card(document),
        View::NewCard => new_card(document),
        View::Entries => entries(document),
        View::Calls => calls(document),
        View::Call => call(document),
        View::LedgerCheck => ledger_check(document),
        View::Status => status(document),
        View::Audit => audit(document),
        View::Done => "ok\n".to_owned(),
    }
}

fn projects(document: &Value) -> String {
    let mut out = table(&[
        "Projekt",
        "Sprache",
        "offen",
        "Karten",
        "Nummern",
        "Minutenpreis netto",
    ]);
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
            minute_price(row),
        ]);
    }
    lines(&out)
}

fn project(document: &Value) -> String {
    let tariff = document.get("tariff").unwrap_or(&Value::Null);
    let mut text = facts(&[
        ("Projekt", cell(document, "name")),
        ("Sprache", cell(document, "language")),
        ("Anrufer werden angenommen", cell(document, "enabled")),
        ("Karten", cell(document, "cards")),
        ("Anschlüsse je Karte", cell(document, "max_lines")),
        ("Gespräche je Karte zugleich", cell(document, "max_parallel")),
        ("PIN-Länge", cell(document, "pin_length")),
        ("Berater nimmt mit 1 an", cell(document, "accept_key")),
        ("Halten pausiert (s)", cell(document, "hold_pause_s")),
        ("Minutenpreis netto", minute_price(document)),
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
    ]);
    text.push_str(&numbers(rows(document, "numbers")));
    text
}

fn minute_price(project: &Value) -> String {
    let millicents = project
        .pointer("/tariff/price_per_minute_millicents")
        .and_then(Value::as_i64);
    match millicents {
        None => "–".to_owned(),
        Some(0) => "kostenfrei".to_owned(),
        Some(n) => format!("{},{:05} €", n / 100_000, (n % 100_000).abs()),
    }
}

fn numbers(rows: &[Value]) -> String {
    let mut out = table(&["Nummer", "aus dem Ausland", "im Inland", "Projekt", "Rolle"]);
    for row in rows {
        let role = match row.get("role").and_then(Value::as_str) {
            Some("activation") => "Nummer zum Freischalten",
            Some("consultation") => "Nummer für die Beratung",
            Some("both") => "Freischalten und Beratung",
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

fn targets(rows: &[Value]) -> String {
    let mut out = table(&["id", "Projekt", "Reihenfolge", "Ziel", "klingelt (s)"]);
    for row in rows {
        out.add_row(["id", "project", "order", "address", "ring_s"].map(|key| cell(row, key)));
    }
    lines(&out)
}

fn quote(document: &Value) -> String {
    let money = |key: &str| euros(document.get(key).and_then(Value::as_i64));
    if document.get("free").and_then(Value::as_bool) == Some(true) {
        return facts(&[
            ("Minuten", cell(document, "minutes")),
            ("Preis", "0,00 € – kostenfrei".to_owned()),
        ]);
    }
    let vat = document
        .get("vat_basis_points")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    facts(&[
        ("Minuten", cell(document, "minutes")),
        ("Netto", money("net_cents")),
        (
            "USt",
            format!("{} ({},{:02} %)", money("vat_cents"), vat / 100, vat % 100),
        ),
        ("Brutto", money("gross_cents")),
        ("Angebot", cell(document, "quote")),
        ("gültig bis", cell_time(document, "valid_until")),
    ])
}

fn cards(document: &Value) -> String {
    let rows = rows(document, "cards");
    let mut out = table(&[
        "Karte",
        "Hinweis",
        "Status",
        "Restzeit",
        "reserviert",
        "Anrufer",
        "zuletzt",
    ]);
    let mut counts: Vec<(String, usize)> = Vec::new();
    for row in rows {
        let state = cell(row, "state");
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
    text.push_str(&format!("{} Karten{sum}\n", rows.len()));
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

fn card(document: &Value) -> String {
    let mut text = facts(&[
        ("Karte", cell(document, "serial")),
        ("Projekt", cell(document, "project")),
        ("Hinweis", cell(document, "note")),
        ("Status", cell(document, "state")),
        ("Restzeit", cell_rest(document, "available_ms")),
        ("gekauft", cell_rest(document, "bought_ms")),
        ("verbraucht", cell_rest(document, "used_ms")),
        ("reserviert", cell_rest(document, "reserved_ms")),
        ("angelegt", cell_time(document, "created_at")),
        ("freigeschaltet", cell_time(document, "activated_at")),
        ("zuletzt benutzt", cell_time(document, "last_use_at")),
        ("gültig bis", cell_time(document, "expires_at")),
    ]);
    let bound = rows(document, "lines");
    if bound.is_empty() {
        text.push_str("Anrufer: keiner freigeschaltet\n");
        return text;
    }
    let mut out = table(&["Anrufer", "durch", "erstmals", "zuletzt"]);
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

fn new_card(document: &Value) -> String {
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
        text.push_str(&facts(&[("Preis", euros(Some(cents)))]));
    }
    text.push_str(&card(document));
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

fn entries(document: &Value) -> String {
    let mut out = table(&["Nr.", "Zeit", "Art", "Änderung", "Anruf", "durch"]);
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

fn calls(document: &Value) -> String {
    let rows = rows(document, "calls");
    let mut out = table(&[
        "Anruf",
        "Beginn",
        "Zustand",
        "Anrufer",
        "Nummer",
        "Karte",
        "Gespräch",
        "Rest",
        "Ende",
    ]);
    for row in rows {
        out.add_row([
            cell(row, "id"),
            cell_time(row, "started_at"),
            cell(row, "state"),
            cell(row, "caller"),
            cell(row, "called"),
            cell(row, "card"),
            cell_rest(row, "billed_ms"),
            cell_rest(row, "rest_ms"),
            cell(row, "end_cause"),
        ]);
    }
    let mut text = lines(&out);
    text.push_str(&format!("{} Anrufe\n", rows.len()));
    text
}

fn call(document: &Value) -> String {
    let ms = |key: &str| {
        document
            .get(key)
            .and_then(Value::as_i64)
            .map_or_else(|| "–".to_owned(), |ms| format!("{} ({ms} ms)", rest(Some(ms))))
    };
    let mut text = facts(&[
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
    ]);
    for attempt in rows(document, "attempts") {
        text.push_str(&format!(
            "  gewählt {} um {}: {}\n",
            cell(attempt, "target"),
            cell_time(attempt, "dialled_at"),
            cell(attempt, "status")
        ));
    }
    text
}

fn ledger_check(document: &Value) -> String {
    let mut text: String = rows(document, "rules")
        .iter()
        .filter_map(Value::as_str)
        .map(|rule| format!("  ok  {}\n", clean(rule)))
        .collect();
    text.push_str(&format!(
        "sauber: {} Karten, {} Buchungen, {} Anrufe\n",
        cell(document, "cards"),
        cell(document, "entries"),
        cell(document, "calls")
    ));
    text
}

fn status(document: &Value) -> String {
    let mut text = facts(&[
        ("Version", cell(document, "version")),
        ("läuft seit", cell_time(document, "started_at")),
        ("Datenbank", cell(document, "store")),
        ("nimmt keine Anrufe mehr", cell(document, "draining")),
        ("Anrufe", cell(document, "calls")),
        ("davon im Gespräch", cell(document, "bridged")),
        ("längste Restzeit", cell_rest(document, "longest_rest_ms")),
        ("freie Portpaare", cell(document, "free_ports")),
        ("SIP-Legs", cell(document, "legs")),
        ("SIP-Transaktionen", cell(document, "transactions")),
    ]);
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

fn audit(document: &Value) -> String {
    let mut out = table(&["Zeit", "wer", "was", "woran", "vorher", "nachher"]);
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

fn rows<'a>(document: &'a Value, key: &str) -> &'a [Value] {
    document
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head);
    table
}

fn lines(table: &Table) -> String {
    let mut text: String = table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

/// Names and values, the values in one column.
fn facts(pairs: &[(&str, String)]) -> String {
    let width = pairs
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    pairs
        .iter()
        .map(|(name, value)| {
            let pad = " ".repeat(width - name.chars().count());
            format!("{name}{pad}  {value}\n")
        })
        .collect()
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
