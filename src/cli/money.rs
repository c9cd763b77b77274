//! The verbs of money as requests: tariffs, the operator, talk time that goes back or elsewhere.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::args::OrderFlags;
use super::client::Request;
use super::money_args::{
    BatchFlags, ExportFlags, ImportFlags, OperatorFlags, OperatorVerb, TariffRules, TariffVerb,
};
use super::render::View;
use super::text::percent;
use super::verbs::{card_path, keyed, put, typed_number, with_query};

pub fn tariff(verb: &TariffVerb) -> (Request, View) {
    match verb {
        TariffVerb::New { name, rules } => {
            let mut body = rules_json(rules);
            put(&mut body, "name", Some(name));
            (
                Request::new(Method::POST, "/api/v1/tariffs", Value::Object(body)),
                View::Tariff,
            )
        }
        TariffVerb::List => (Request::get("/api/v1/tariffs"), View::Tariffs),
        TariffVerb::Show { name } => (
            Request::get(format!("/api/v1/tariffs/{}", percent(name))),
            View::Tariff,
        ),
        TariffVerb::Edit { name, rename, rules } => {
            let mut body = rules_json(rules);
            put(&mut body, "name", rename.as_ref());
            (
                Request::new(
                    Method::PATCH,
                    format!("/api/v1/tariffs/{}", percent(name)),
                    Value::Object(body),
                ),
                View::Tariff,
            )
        }
    }
}

fn rules_json(rules: &TariffRules) -> Map<String, Value> {
    let mut body = Map::new();
    for (key, value) in [
        ("price_per_minute_millicents", rules.price_per_minute_millicents),
        ("free_minutes", rules.free_minutes),
        ("vat_basis_points", rules.vat_basis_points),
        ("first_increment_ms", rules.first_increment_ms),
        ("next_increment_ms", rules.next_increment_ms),
        ("minimum_ms", rules.minimum_ms),
        ("free_under_ms", rules.free_under_ms),
        ("connect_fee_ms", rules.connect_fee_ms),
        ("expiry_years", rules.expiry_years),
        ("expiry_days", rules.expiry_days),
    ] {
        put(&mut body, key, value);
    }
    if !rules.steps.is_empty() {
        let steps: Vec<Value> = rules
            .steps
            .iter()
            .filter(|step| step.as_str() != "none")
            .map(|step| step_json(step))
            .collect();
        put(&mut body, "steps", Some(steps));
    }
    put(
        &mut body,
        "accept_short_expiry",
        rules.accept_short_expiry.then_some(true),
    );
    body
}

/// What was typed: the daemon judges it, in its own words.
fn step_json(step: &str) -> Value {
    let (after, price) = step.split_once(':').unwrap_or((step, ""));
    json!({ "after_minutes": typed_number(after), "price_per_minute_millicents": typed_number(price) })
}

pub fn operator(verb: &OperatorVerb) -> (Request, View) {
    match verb {
        OperatorVerb::Show => (Request::get("/api/v1/operator"), View::Operator),
        OperatorVerb::Edit(flags) => (
            Request::new(Method::PATCH, "/api/v1/operator", operator_json(flags)),
            View::Operator,
        ),
    }
}

fn operator_json(flags: &OperatorFlags) -> Value {
    let mut body = Map::new();
    put(&mut body, "name", flags.name.as_ref());
    put(&mut body, "address", flags.address.as_ref());
    put(&mut body, "vat_id", flags.vat_id.as_ref());
    put(&mut body, "time_zone", flags.time_zone.as_ref());
    let limit = flags.credit_limit_cents.as_deref();
    put(
        &mut body,
        "credit_limit_cents",
        limit.map(|limit| match limit {
            "none" => Value::Null,
            limit => typed_number(limit),
        }),
    );
    Value::Object(body)
}

pub fn buy(
    project: &str,
    minutes: &str,
    note: Option<&String>,
    quote: Option<&String>,
    order: &OrderFlags,
) -> (Request, View) {
    let mut body = Map::new();
    put(&mut body, "project", Some(project));
    put(&mut body, "minutes", Some(typed_number(minutes)));
    put(&mut body, "note", note);
    put(&mut body, "quote", quote);
    (
        keyed(Method::POST, "/api/v1/cards", Value::Object(body), order),
        View::NewCard,
    )
}

pub fn correct(serial: &str, seconds: i32, reason: &str, order: &OrderFlags) -> (Request, View) {
    let body = json!({ "delta_ms": i64::from(seconds) * 1000, "reason": reason });
    (
        keyed(Method::POST, card_path(serial, "/correct"), body, order),
        View::Card,
    )
}

pub fn batch(flags: &BatchFlags) -> (Request, View) {
    let mut body = Map::new();
    put(&mut body, "project", Some(&flags.project));
    put(&mut body, "count", Some(typed_number(&flags.count)));
    put(&mut body, "minutes", Some(typed_number(&flags.minutes)));
    put(&mut body, "note", flags.note.as_ref());
    (
        keyed(
            Method::POST,
            "/api/v1/cards/batch",
            Value::Object(body),
            &flags.order,
        ),
        View::Batch,
    )
}

/// Without the file, which is read later.
pub fn import(flags: &ImportFlags) -> (Request, View) {
    let dry_run = flags.order.dry_run.then(|| "true".to_owned());
    let path = with_query(
        "/api/v1/cards/import",
        &[("project", Some(flags.project.clone())), ("dry_run", dry_run)],
    );
    let told = OrderFlags {
        dry_run: false,
        ..flags.order.clone()
    };
    (keyed(Method::POST, path, Value::Null, &told), View::Batch)
}

pub fn export(flags: &ExportFlags) -> (Request, View) {
    let project = Some(flags.project.clone());
    (
        Request::get(with_query("/api/v1/cards/export", &[("project", project)])),
        View::Table,
    )
}

pub fn topup(serial: &str, minutes: &str, quote: Option<&String>, order: &OrderFlags) -> (Request, View) {
    let mut body = Map::new();
    put(&mut body, "minutes", Some(typed_number(minutes)));
    put(&mut body, "quote", quote);
    (
        keyed(
            Method::POST,
            card_path(serial, "/topup"),
            Value::Object(body),
            order,
        ),
        View::Card,
    )
}

pub fn storno(serial: &str, minutes: &str, order: &OrderFlags) -> (Request, View) {
    let body = json!({ "minutes": typed_number(minutes) });
    (
        keyed(Method::POST, card_path(serial, "/refund"), body, order),
        View::Card,
    )
}

pub fn transfer(from: &str, to: &str, minutes: &str, order: &OrderFlags) -> (Request, View) {
    let body = json!({ "to": to, "minutes": typed_number(minutes) });
    (
        keyed(Method::POST, card_path(from, "/transfer"), body, order),
        View::Moved,
    )
}

pub fn merge(from: &str, into: &str, lines: bool, order: &OrderFlags) -> (Request, View) {
    let body = json!({ "into": into, "lines": lines });
    (
        keyed(Method::POST, card_path(from, "/merge"), body, order),
        View::Moved,
    )
}

pub fn replace_pin(serial: &str, order: &OrderFlags) -> (Request, View) {
    (
        keyed(Method::POST, card_path(serial, "/replace-pin"), json!({}), order),
        View::NewCard,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_travel_as_typed() {
        let rules = |steps: &[&str]| {
            let rules = TariffRules {
                steps: steps.iter().map(|step| (*step).to_owned()).collect(),
                ..TariffRules::default()
            };
            Value::Object(rules_json(&rules))
        };
        assert_eq!(rules(&[]), json!({}));
        assert_eq!(rules(&["none"]), json!({ "steps": [] }));
        assert_eq!(
            rules(&["100:9000", "x"]),
            json!({ "steps": [
                { "after_minutes": 100, "price_per_minute_millicents": 9000 },
                { "after_minutes": "x", "price_per_minute_millicents": "" },
            ] })
        );
    }

    #[test]
    fn no_limit_is_null() {
        let limit = |text: &str| {
            operator_json(&OperatorFlags {
                credit_limit_cents: Some(text.to_owned()),
                ..OperatorFlags::default()
            })
        };
        assert_eq!(limit("none"), json!({ "credit_limit_cents": null }));
        assert_eq!(limit("5000"), json!({ "credit_limit_cents": 5000 }));
        assert_eq!(operator_json(&OperatorFlags::default()), json!({}));
    }
}
