//! Cards by the hundred: `card batch|import|export`. The answers carry the table as text (`csv`).

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::card::whole_minutes;
use super::csv::{self, Row};
use super::error::{Code, Problem};
use super::http::{Answer, DryRun, Json, OrderKey, Outcome, Params};
use super::number_input;
use super::socket::Actor;
use crate::store::{BATCH_MAX, BatchRow, CardFilter, CardRow, ImportRow, NewBatch, RowFault};

pub fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/cards/batch", post(batch))
        .route(
            "/cards/import",
            post(import).layer(DefaultBodyLimit::max(MAX_FILE)),
        )
        .route("/cards/export", get(export))
}

/// Largest file, in bytes.
const MAX_FILE: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    project: String,
    #[serde(default)]
    count: Value,
    #[serde(default)]
    minutes: Value,
    note: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Import {
    project: String,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Export {
    project: String,
}

async fn batch(
    State(admin): State<Arc<Admin>>,
    actor: Actor,
    OrderKey(key): OrderKey,
    dry: DryRun,
    Json(order): Json<Batch>,
) -> Outcome {
    let Some(count) = order.count.as_i64() else {
        return Err(Problem::new(
            Code::BadValue,
            "Anzahl: eine ganze Zahl von 1 bis 10000.",
            "count: a whole number from 1 to 10000.",
        )
        .field("count"));
    };
    let new = NewBatch {
        minutes: whole_minutes(&order.minutes)?,
        project: order.project,
        count,
        note: order.note,
    };
    let store = admin.store_for(dry);
    let made = store.card_batch(&admin.act(actor, key), &new).await?;
    Ok(made_answer(&admin, &made, dry).await)
}

async fn import(
    State(admin): State<Arc<Admin>>,
    actor: Actor,
    OrderKey(key): OrderKey,
    Params(order): Params<Import>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Outcome {
    if headers
        .get("content-type")
        .is_some_and(|kind| kind == "application/json")
    {
        return Err(Problem::new(
            Code::BadValue,
            "Bitte die Datei selbst senden (Content-Type: text/csv).",
            "Please send the file itself (Content-Type: text/csv).",
        ));
    }
    let Ok(body) = body else {
        return Err(Problem::new(
            Code::BodyTooLarge,
            format!("Höchstens {MAX_FILE} Bytes (1 MiB)."),
            format!("At most {MAX_FILE} bytes (1 MiB)."),
        ));
    };
    admin.store.project_show(&order.project).await?;
    let rows = card_rows(&body)?;
    let dry = DryRun(order.dry_run);
    let store = admin.store_for(dry);
    let made = store
        .card_import(&admin.act(actor, key), &order.project, &rows)
        .await?;
    Ok(made_answer(&admin, &made, dry).await)
}

/// The PINs of a dry run open nothing, so they are not told.
async fn made_answer(admin: &Admin, made: &BatchRow, dry: DryRun) -> Answer {
    let mut document = json!(made);
    if dry.0 {
        document["cards"] = json!([]);
        return Answer::ok(dry.mark(document));
    }
    let (mut activation, mut consultation) = (Vec::new(), Vec::new());
    // The cards are sold already: without numbers the answer is still the answer.
    for number in admin
        .store
        .number_list(Some(&made.project))
        .await
        .unwrap_or_default()
    {
        // No plus in front: a spreadsheet would calculate it.
        let form = number_input::forms_of(&number.e164).international_00;
        if number.role != "consultation" {
            activation.push(form.clone());
        }
        if number.role != "activation" {
            consultation.push(form);
        }
    }
    let (activation, consultation) = (activation.join(", "), consultation.join(", "));
    let mut table = csv::line([
        "Karte",
        "PIN",
        "Minuten",
        "gültig bis",
        "Nummer zum Freischalten",
        "Nummer für die Beratung",
        "Hinweis",
    ]);
    for card in &made.cards {
        let minutes = card.minutes.to_string();
        table.push_str(&csv::line([
            card.serial.as_str(),
            &card.pin,
            &minutes,
            card.expires_at.as_deref().unwrap_or(""),
            &activation,
            &consultation,
            &card.note,
        ]));
    }
    document["csv"] = json!(table);
    Answer::created(document)
}

/// Every row, or every fault of the file.
fn card_rows(body: &[u8]) -> Result<Vec<ImportRow>, Problem> {
    let text = std::str::from_utf8(body).map_err(|fault| {
        let before = body.get(..fault.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        refused(vec![row_fault(
            line,
            "",
            "Die Datei ist nicht in UTF-8.",
            "The file is not in UTF-8.",
        )])
    })?;
    let rows =
        csv::read(text).map_err(|broken| refused(vec![row_fault(broken.line, "", broken.de, broken.en)]))?;
    let rows: Vec<Row> = match rows.split_first() {
        Some((first, rest)) if is_header(first) => rest.to_vec(),
        Some(_) | None => rows,
    };
    if rows.is_empty() || rows.len() > BATCH_MAX {
        return Err(refused(vec![row_fault(
            rows.last().map_or(1, |row| row.line),
            "",
            "Eine Datei hat 1 bis 10000 Karten.",
            "A file has 1 to 10000 cards.",
        )]));
    }
    let mut faults = Vec::new();
    let rows: Vec<ImportRow> = rows.iter().map(|row| card_row(row, &mut faults)).collect();
    match faults.is_empty() {
        true => Ok(rows),
        false => Err(refused(faults)),
    }
}

fn is_header(row: &Row) -> bool {
    let minutes = row.cells.get(1).map(|cell| cell.to_lowercase());
    matches!(minutes.as_deref(), Some("minuten" | "minutes"))
}

fn card_row(row: &Row, faults: &mut Vec<RowFault>) -> ImportRow {
    let cell = |n: usize| row.cells.get(n).map_or("", String::as_str);
    if !(2..=3).contains(&row.cells.len()) {
        faults.push(row_fault(
            row.line,
            "",
            "Eine Zeile hat zwei oder drei Spalten: Hinweis;Minuten;Anschluss. PINs vergibt Cardline selbst.",
            "A row has two or three columns: note;minutes;line. Cardline chooses the PINs itself.",
        ));
    }
    let note = cell(0);
    if note.chars().count() > 200 || note.chars().any(char::is_control) {
        faults.push(row_fault(
            row.line,
            "note",
            "Hinweis: höchstens 200 Zeichen, keine Steuerzeichen.",
            "note: at most 200 characters and no control characters.",
        ));
    }
    let minutes = cell(1).parse::<i64>().ok().filter(|n| (1..=9999).contains(n));
    if minutes.is_none() {
        faults.push(row_fault(
            row.line,
            "minutes",
            "Minuten: eine ganze Zahl von 1 bis 9999.",
            "minutes: a whole number from 1 to 9999.",
        ));
    }
    let line = match cell(2) {
        "" => None,
        typed => number_input::typed(typed, "line")
            .inspect_err(|no| faults.push(row_fault(row.line, "line", &no.detail.de, &no.detail.en)))
            .ok(),
    };
    ImportRow {
        line_no: row.line,
        note: note.to_owned(),
        minutes: minutes.unwrap_or(0),
        line,
    }
}

fn row_fault(line: usize, column: &str, de: &str, en: &str) -> RowFault {
    RowFault {
        line,
        column: column.to_owned(),
        de: de.to_owned(),
        en: en.to_owned(),
    }
}

fn refused(faults: Vec<RowFault>) -> Problem {
    Problem::from(&crate::store::Refusal::Rows(faults))
}

/// The project's cards, without PINs; at most 10 000, newest first.
async fn export(State(admin): State<Arc<Admin>>, Params(order): Params<Export>) -> Outcome {
    admin.store.project_show(&order.project).await?;
    let filter = CardFilter {
        project: Some(order.project),
        ..CardFilter::default()
    };
    let cards = admin.store.card_list((admin.clock)(), &filter).await?;
    let mut table = csv::line([
        "Karte",
        "Hinweis",
        "Status",
        "Restzeit (min)",
        "gekauft (min)",
        "verbraucht (min)",
        "angelegt",
        "freigeschaltet",
        "zuletzt",
        "gültig bis",
        "Anrufer",
    ]);
    cards.iter().for_each(|card| table.push_str(&exported(card)));
    Ok(Answer::ok(json!({ "count": cards.len(), "csv": table })))
}

fn exported(card: &CardRow) -> String {
    let lines: Vec<String> = card
        .lines
        .iter()
        .map(|line| number_input::forms_of(&line.e164).international_00)
        .collect();
    let minutes = [card.available_ms, card.bought_ms, card.used_ms].map(german_minutes);
    let [rest, bought, used] = &minutes;
    let time = |at: &Option<String>| at.clone().unwrap_or_default();
    csv::line([
        card.serial.as_str(),
        &card.note,
        card.state,
        rest,
        bought,
        used,
        &card.created_at,
        &time(&card.activated_at),
        &time(&card.last_use_at),
        &time(&card.expires_at),
        &lines.join(", "),
    ])
}

/// Minutes with two decimals and a comma, rounded down.
fn german_minutes(ms: i64) -> String {
    let hundredths = ms / 600;
    format!("{},{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &[u8]) -> Vec<(usize, String)> {
        let problem = card_rows(text).expect_err("must be refused");
        let extra = problem.extra.expect("the faults");
        extra["faults"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|fault| {
                let line = usize::try_from(fault["line"].as_u64().expect("a number")).expect("small");
                (line, fault["column"].as_str().unwrap_or("?").to_owned())
            })
            .collect()
    }

    #[test]
    fn a_file_is_read_with_or_without_its_header() {
        for text in [
            "note;minutes;line\nFrau A;20;030 23125199\nHerr B;5\n",
            "Frau A;20;+49 30 23125199\r\nHerr B;5;",
            "\u{feff}Hinweis;Minuten\nFrau A;20\nHerr B;5",
        ] {
            let rows = card_rows(text.as_bytes()).expect("fine");
            let found: Vec<(&str, i64)> = rows.iter().map(|row| (row.note.as_str(), row.minutes)).collect();
            assert_eq!(found, [("Frau A", 20), ("Herr B", 5)], "{text}");
        }
    }

    #[test]
    fn every_fault_of_a_file_is_named() {
        let long = format!("{};5", "ä".repeat(201));
        for (text, want) in [
            ("", vec![(1, "")]),
            ("note;minutes\n", vec![(1, "")]),
            (
                "a;0\nb;5\nc;x;12\nd;1,5",
                vec![(1, "minutes"), (3, "minutes"), (3, "line"), (4, "minutes")],
            ),
            ("a;5;+4930231251;1234567890", vec![(1, "")]),
            ("a\nb;5", vec![(1, ""), (1, "minutes")]),
            ("a;5;110", vec![(1, "line")]),
            ("a;5\n\"b;5", vec![(2, "")]),
            (long.as_str(), vec![(1, "note")]),
        ] {
            let want: Vec<(usize, String)> = want.iter().map(|(n, c)| (*n, (*c).to_owned())).collect();
            assert_eq!(faults(text.as_bytes()), want, "{text:?}");
        }
        assert_eq!(faults(b"a;5\nb;5\n\xff;5"), [(3, String::new())]);
        let many = "a;1\n".repeat(BATCH_MAX + 1);
        assert_eq!(faults(many.as_bytes()), [(BATCH_MAX + 1, String::new())]);
    }
}
