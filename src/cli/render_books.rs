//! The account books as people read them.

use serde_json::Value;

use super::args::Lang;
use super::layout::rows;
use super::text::{cell, cell_time, clean};
use super::words::{counted, word};

pub fn ledger_check(document: &Value, lang: Lang) -> String {
    let mut text: String = rows(document, "rules")
        .iter()
        .filter_map(Value::as_str)
        .map(|rule| format!("  ok  {}\n", clean(rule)))
        .collect();
    for proof in rows(document, "elsewhere") {
        text.push_str(&format!(
            "   -  {}: {}\n",
            cell(proof, "rule"),
            cell(proof, "proof")
        ));
    }
    let count = |key: &str, one, many| {
        let count = document.get(key).and_then(Value::as_u64).unwrap_or(0);
        counted(usize::try_from(count).unwrap_or(usize::MAX), one, many, lang)
    };
    text.push_str(&format!(
        "{}: {}, {}, {}\n",
        word(lang, "sauber"),
        count("cards", "Karte", "Karten"),
        count("entries", "Buchung", "Buchungen"),
        count("calls", "Anruf", "Anrufe"),
    ));
    if let Some(anchor) = document.get("anchor") {
        let (hash, upto) = (cell(anchor, "hash"), cell(anchor, "upto"));
        text.push_str(&format!("{}: {hash} ({upto})\n", word(lang, "Anker")));
    }
    text
}

/// When the books were last checked, and how that went.
pub fn last_check(document: &Value, lang: Lang) -> String {
    let Some(last) = document.get("last_check").filter(|last| last.is_object()) else {
        return word(lang, "noch nie").to_owned();
    };
    let verdict = match last.get("clean").and_then(Value::as_bool) {
        Some(true) => word(lang, "sauber").to_owned(),
        Some(false) | None => format!("{} {}", cell(last, "offenders"), cell(last, "first_offence")),
    };
    format!("{} ({verdict})", cell_time(last, "at"))
}

/// Projects whose PINs somebody seems to guess.
pub fn pin_attacks(document: &Value) -> String {
    let attacks = rows(document, "pin_attacks").iter();
    let names: Vec<String> = attacks
        .map(|attack| format!("{} ({})", cell(attack, "project"), cell_time(attack, "since")))
        .collect();
    match names.is_empty() {
        true => "–".to_owned(),
        false => names.join(", "),
    }
}
