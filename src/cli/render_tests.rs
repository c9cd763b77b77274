use serde_json::json;

use super::*;

#[test]
fn a_new_card_shows_its_pin_in_groups() {
    let text = show(
        View::NewCard,
        &json!({ "serial": "K-1", "pin": "1234567890", "state": "neu", "available_ms": 1_200_000,
                 "price_cents": 0, "lines": [], "note": "\u{1b}[2JFrau Ü" }),
        Lang::De,
    );
    assert!(text.contains("PIN   123 456 789 0"), "{text}");
    assert!(text.contains("kostenfrei"));
    assert!(text.contains("20:00"));
    assert!(!text.contains('\u{1b}'));
    let widths: Vec<usize> = text.lines().take(3).map(|l| l.chars().count()).collect();
    assert_eq!(widths[0], widths[1]);
}

#[test]
fn a_list_ends_with_its_counts() {
    let text = show(
        View::Cards,
        &json!({ "cards": [
            { "serial": "A", "state": "neu", "lines": [] },
            { "serial": "B", "state": "neu", "lines": [{ "e164": "+491" }, { "e164": "+492" }] },
            { "serial": "C", "state": "leer" }
        ]}),
        Lang::De,
    );
    assert!(text.ends_with("3 Karten: 2 neu, 1 leer\n"), "{text}");
    assert!(text.contains("+491 +1"));
}

#[test]
fn every_view_takes_an_empty_document() {
    for view in [
        View::Projects,
        View::Project,
        View::Callers,
        View::Numbers,
        View::Number,
        View::Targets,
        View::Target,
        View::Quote,
        View::Cards,
        View::Card,
        View::NewCard,
        View::Entries,
        View::Calls,
        View::Call,
        View::LedgerCheck,
        View::Status,
        View::Audit,
        View::Done,
        View::Tariffs,
        View::Tariff,
        View::Operator,
        View::Moved,
        View::Batch,
        View::Table,
        View::Json,
    ] {
        for document in [json!({}), json!([]), json!(null)] {
            assert!(show(view, &document, Lang::En).ends_with('\n'), "{view:?}");
        }
    }
}
