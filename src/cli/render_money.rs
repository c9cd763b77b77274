//! Money as people read it: tariffs, the operator, moved talk time, batches.

use serde_json::Value;

use super::args::Lang;
use super::layout::{facts, lines, rows, table};
use super::text::{cell, cell_rest, cell_time, clean, euros};
use super::words::{counted, word};

pub fn tariffs(document: &Value, lang: Lang) -> String {
    let mut out = table(
        lang,
        &[
            "Tarif",
            "Tarifversion",
            "Minutenpreis netto",
            "Takt (ms)",
            "Ablauf",
            "Projekte",
        ],
    );
    for row in rows(document, "tariffs") {
        let projects: Vec<String> = rows(row, "projects")
            .iter()
            .filter_map(Value::as_str)
            .map(clean)
            .collect();
        out.add_row([
            cell(row, "name"),
            cell(row, "version"),
            prices(row, lang),
            increments(row),
            expiry(row, lang),
            projects.join(", "),
        ]);
    }
    lines(&out)
}

pub fn tariff(document: &Value, lang: Lang) -> String {
    let mut text = facts(
        lang,
        &[
            ("Tarif", cell(document, "name")),
            ("Tarifversion", cell(document, "version")),
            ("Minutenpreis netto", prices(document, lang)),
            ("Freiminuten je Kauf", cell(document, "free_minutes")),
            ("USt", percent_of(document)),
            ("Takt (ms)", increments(document)),
            ("Mindestdauer (ms)", cell(document, "minimum_ms")),
            ("frei unter (ms)", cell(document, "free_under_ms")),
            ("je Gespräch (ms)", cell(document, "connect_fee_ms")),
            ("Ablauf", expiry(document, lang)),
        ],
    );
    let mut out = table(
        lang,
        &[
            "Tarifversion",
            "seit",
            "Minutenpreis netto",
            "Takt (ms)",
            "Ablauf",
        ],
    );
    for version in rows(document, "versions") {
        out.add_row([
            cell(version, "version"),
            cell_time(version, "since"),
            prices(version, lang),
            increments(version),
            expiry(version, lang),
        ]);
    }
    text.push_str(&lines(&out));
    if document.get("short_expiry").and_then(Value::as_bool) == Some(true) {
        text.push_str(word(lang, SHORT));
        text.push('\n');
    }
    text
}

/// `1,99000 €`, with steps `1,99000 € / >100: 1,50000 €`.
pub fn prices(tariff: &Value, lang: Lang) -> String {
    let one = |row: &Value| {
        let millicents = row.get("price_per_minute_millicents").and_then(Value::as_i64);
        match millicents {
            None => "–".to_owned(),
            Some(0) => word(lang, "kostenfrei").to_owned(),
            Some(n) => format!("{},{:05} €", n / 100_000, (n % 100_000).abs()),
        }
    };
    let steps = rows(tariff, "steps")
        .iter()
        .map(|step| format!(">{}: {}", cell(step, "after_minutes"), one(step)));
    std::iter::once(one(tariff))
        .chain(steps)
        .collect::<Vec<_>>()
        .join(" / ")
}

fn increments(tariff: &Value) -> String {
    format!(
        "{}/{}",
        cell(tariff, "first_increment_ms"),
        cell(tariff, "next_increment_ms")
    )
}

fn expiry(tariff: &Value, lang: Lang) -> String {
    let of = |key: &str| tariff.get(key).and_then(Value::as_i64);
    match (of("expiry_years"), of("expiry_days")) {
        (Some(years), _) => format!("31.12. +{years}"),
        (None, Some(days)) => format!("{days} {}", word(lang, "Tage")),
        (None, None) => word(lang, "nie").to_owned(),
    }
}

fn percent_of(document: &Value) -> String {
    let vat = document
        .get("vat_basis_points")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    format!("{},{:02} %", vat / 100, (vat % 100).abs())
}

pub fn operator(document: &Value, lang: Lang) -> String {
    let money = |key: &str| euros(document.get(key).and_then(Value::as_i64), lang);
    facts(
        lang,
        &[
            ("Betreiber", cell(document, "name")),
            ("Anschrift", cell(document, "address")),
            ("USt-IdNr.", cell(document, "vat_id")),
            ("Zeitzone", cell(document, "time_zone")),
            ("Kreditrahmen brutto", money("credit_limit_cents")),
            ("davon offen", money("open_cents")),
            ("Status", cell(document, "state")),
        ],
    )
}

pub fn quote(document: &Value, lang: Lang) -> String {
    let money = |key: &str| euros(document.get(key).and_then(Value::as_i64), lang);
    if document.get("free").and_then(Value::as_bool) == Some(true) {
        return facts(
            lang,
            &[
                ("Minuten", cell(document, "minutes")),
                ("Preis", format!("0,00 € – {}", word(lang, "kostenfrei"))),
            ],
        );
    }
    let vat = document
        .get("vat_basis_points")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    facts(
        lang,
        &[
            ("Minuten", cell(document, "minutes")),
            ("Netto", money("net_cents")),
            (
                "USt",
                format!("{} ({},{:02} %)", money("vat_cents"), vat / 100, vat % 100),
            ),
            ("Brutto", money("gross_cents")),
            ("Angebot", cell(document, "quote")),
            ("gültig bis", cell_time(document, "valid_until")),
        ],
    )
}

/// A storno says what the invoice falls by.
pub fn given_back(card: &Value, lang: Lang) -> String {
    match card.get("price_cents").and_then(Value::as_i64) {
        Some(cents) if cents < 0 => facts(lang, &[("Gutschrift", euros(Some(-cents), lang))]),
        Some(_) | None => String::new(),
    }
}

pub fn moved(document: &Value, lang: Lang) -> String {
    let part = |key: &str| document.get(key).unwrap_or(&Value::Null);
    let mut out = table(lang, &["Karte", "Hinweis", "Restzeit", "reserviert"]);
    for card in [part("from"), part("to")] {
        out.add_row([
            cell(card, "serial"),
            cell(card, "note"),
            cell_rest(card, "available_ms"),
            cell_rest(card, "reserved_ms"),
        ]);
    }
    let mut text = facts(lang, &[("übertragen", cell_rest(document, "moved_ms"))]);
    text.push_str(&lines(&out));
    text
}

pub fn batch(document: &Value, lang: Lang) -> String {
    let cards = document.get("count").and_then(Value::as_u64).unwrap_or(0);
    let price = euros(document.get("price_cents").and_then(Value::as_i64), lang);
    let cards = usize::try_from(cards).unwrap_or(usize::MAX);
    format!(
        "{}: {}\n",
        counted(cards, "Karte", "Karten", lang),
        facts(lang, &[("Preis", price)]).trim_end()
    )
}

pub fn own_table(document: &Value) -> String {
    let table = document.get("csv").and_then(Value::as_str).unwrap_or_default();
    let rows: Vec<String> = table.lines().map(clean).collect();
    format!("{}\n", rows.join("\n"))
}

pub const SHORT: &str = "Achtung: Karten laufen vor dem Anspruch ab (Ende des dritten Jahres nach dem Kauf, §§ 195, 199 BGB); das ist in AGB meist unwirksam.";
