//! Each client verb as one request, and the view that shows its answer.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::args::{
    CallVerb, CardListFlags, CardVerb, ClientVerb, Lang, LedgerVerb, NumberVerb, OrderFlags, ProjectRules,
    ProjectVerb, TargetVerb,
};
use super::client::Request;
use super::money;
use super::render::View;
use super::text::percent;

/// What to ask, and how to show the answer.
#[derive(Clone, Debug)]
pub struct Plan {
    pub request: Request,
    pub view: View,
}

/// `None` for verbs that are no single request.
pub fn plan(verb: &ClientVerb, lang: Option<Lang>) -> Option<Plan> {
    let (request, view) = match verb {
        ClientVerb::Project(verb) => project(verb, lang),
        ClientVerb::Tariff(verb) => money::tariff(verb),
        ClientVerb::Operator(verb) => money::operator(verb),
        ClientVerb::Number(verb) => number(verb),
        ClientVerb::Target(verb) => target(verb),
        ClientVerb::Card(verb) => card(verb),
        ClientVerb::Call(verb) => call(verb),
        ClientVerb::Ledger(LedgerVerb::Check) => (
            Request::new(Method::POST, "/api/v1/ledger/check", json!({})),
            View::LedgerCheck,
        ),
        ClientVerb::Status => (Request::get("/api/v1/status"), View::Status),
        ClientVerb::Drain { .. } => (Request::new(Method::POST, "/api/v1/drain", json!({})), View::Done),
        ClientVerb::Reload => (
            Request::new(Method::POST, "/api/v1/reload", json!({})),
            View::Done,
        ),
        ClientVerb::Audit { limit } => (Request::get(format!("/api/v1/audit?limit={limit}")), View::Audit),
        ClientVerb::Events => return None,
    };
    Some(Plan { request, view })
}

fn project(verb: &ProjectVerb, lang: Option<Lang>) -> (Request, View) {
    match verb {
        ProjectVerb::New { name, rules } => {
            let mut body = rules_json(rules, lang);
            body.insert("name".to_owned(), json!(name));
            (
                Request::new(Method::POST, "/api/v1/projects", Value::Object(body)),
                View::Project,
            )
        }
        ProjectVerb::List => (Request::get("/api/v1/projects"), View::Projects),
        ProjectVerb::Show { name } => (
            Request::get(format!("/api/v1/projects/{}", percent(name))),
            View::Project,
        ),
        ProjectVerb::Callers { name } => (
            Request::get(format!("/api/v1/projects/{}/callers", percent(name))),
            View::Callers,
        ),
        ProjectVerb::Edit { name, rename, rules } => {
            let mut body = rules_json(rules, lang);
            put(&mut body, "name", rename.as_ref());
            (
                Request::new(
                    Method::PATCH,
                    format!("/api/v1/projects/{}", percent(name)),
                    Value::Object(body),
                ),
                View::Project,
            )
        }
    }
}

fn rules_json(rules: &ProjectRules, lang: Option<Lang>) -> Map<String, Value> {
    let mut body = Map::new();
    put(&mut body, "language", lang.map(Lang::as_str));
    put(&mut body, "enabled", rules.enabled);
    put(&mut body, "max_lines", rules.max_lines);
    put(&mut body, "pin_length", rules.pin_length);
    put(&mut body, "accept_key", rules.accept_key);
    put(&mut body, "hold_pause_s", rules.hold_pause_s);
    put(&mut body, "show_caller", rules.show_caller);
    put(&mut body, "show_note", rules.show_note);
    put(&mut body, "max_parallel", rules.max_parallel);
    put(&mut body, "tariff", rules.tariff.as_ref());
    put(
        &mut body,
        "price_per_minute_millicents",
        rules.price_per_minute_millicents,
    );
    put(&mut body, "vat_basis_points", rules.vat_basis_points);
    put(&mut body, "first_increment_ms", rules.first_increment_ms);
    put(&mut body, "next_increment_ms", rules.next_increment_ms);
    put(&mut body, "minimum_ms", rules.minimum_ms);
    put(&mut body, "free_under_ms", rules.free_under_ms);
    put(&mut body, "connect_fee_ms", rules.connect_fee_ms);
    body
}

fn number(verb: &NumberVerb) -> (Request, View) {
    match verb {
        NumberVerb::Add {
            number,
            project,
            role,
        } => (
            Request::new(
                Method::POST,
                "/api/v1/numbers",
                json!({ "number": number, "project": project, "role": role.as_str() }),
            ),
            View::Number,
        ),
        NumberVerb::List { project } => (
            Request::get(with_query("/api/v1/numbers", &[("project", project.clone())])),
            View::Numbers,
        ),
        NumberVerb::Remove { number } => (
            Request::new(
                Method::DELETE,
                format!("/api/v1/numbers/{}", percent(number)),
                json!({}),
            ),
            View::Done,
        ),
    }
}

fn target(verb: &TargetVerb) -> (Request, View) {
    match verb {
        TargetVerb::Add {
            project,
            address,
            order,
            ring_s,
        } => {
            let mut body = Map::new();
            put(&mut body, "project", Some(project));
            put(&mut body, "address", Some(address));
            put(&mut body, "order", *order);
            put(&mut body, "ring_s", *ring_s);
            (
                Request::new(Method::POST, "/api/v1/targets", Value::Object(body)),
                View::Target,
            )
        }
        TargetVerb::List { project } => (
            Request::get(with_query("/api/v1/targets", &[("project", project.clone())])),
            View::Targets,
        ),
        TargetVerb::Remove { id } => (
            Request::new(Method::DELETE, format!("/api/v1/targets/{id}"), json!({})),
            View::Done,
        ),
    }
}

fn card(verb: &CardVerb) -> (Request, View) {
    match verb {
        CardVerb::Quote { project, minutes } => (
            Request::new(
                Method::POST,
                "/api/v1/cards/quote",
                json!({ "project": project, "minutes": typed_number(minutes) }),
            ),
            View::Quote,
        ),
        CardVerb::Buy {
            project,
            minutes,
            note,
            quote,
            order,
        } => money::buy(project, minutes, note.as_ref(), quote.as_ref(), order),
        CardVerb::Batch(flags) => money::batch(flags),
        CardVerb::Import(flags) => money::import(flags),
        CardVerb::Export(flags) => money::export(flags),
        CardVerb::List(flags) => (card_list(flags), View::Cards),
        CardVerb::Show { serial } => (Request::get(card_path(serial, "")), View::Card),
        CardVerb::Correct {
            serial,
            seconds,
            reason,
            order,
        } => money::correct(serial, *seconds, reason, order),
        CardVerb::Topup {
            serial,
            minutes,
            quote,
            order,
        } => money::topup(serial, minutes, quote.as_ref(), order),
        CardVerb::Storno {
            serial,
            minutes,
            order,
        } => money::storno(serial, minutes, order),
        CardVerb::Transfer {
            from,
            to,
            minutes,
            order,
        } => money::transfer(from, to, minutes, order),
        CardVerb::Merge {
            from,
            into,
            lines,
            order,
        } => money::merge(from, into, *lines, order),
        CardVerb::ReplacePin { serial, order } => money::replace_pin(serial, order),
        CardVerb::Block { serial } => (post(card_path(serial, "/block")), View::Card),
        CardVerb::Unblock { serial } => (post(card_path(serial, "/unblock")), View::Card),
        CardVerb::Cancel { serial, order, .. } => (
            keyed(Method::POST, card_path(serial, "/cancel"), json!({}), order),
            View::Card,
        ),
        CardVerb::Note { serial, text } => (
            Request::new(Method::PATCH, card_path(serial, ""), json!({ "note": text })),
            View::Card,
        ),
        CardVerb::Pin { serial } => (post(card_path(serial, "/pin:reveal")), View::NewCard),
        CardVerb::Entries { serial } => (Request::get(card_path(serial, "/entries")), View::Entries),
        CardVerb::Bind { serial, number, take } => bind(serial, number, *take),
        CardVerb::Unbind { serial, number } => unbind(serial, number),
    }
}

fn bind(serial: &str, number: &str, take: bool) -> (Request, View) {
    (
        Request::new(
            Method::POST,
            card_path(serial, "/lines"),
            json!({ "number": number, "take": take }),
        ),
        View::Card,
    )
}

fn unbind(serial: &str, number: &str) -> (Request, View) {
    (
        Request::new(
            Method::DELETE,
            card_path(serial, &format!("/lines/{}", percent(number))),
            json!({}),
        ),
        View::Card,
    )
}

fn card_list(flags: &CardListFlags) -> Request {
    Request::get(with_query(
        "/api/v1/cards",
        &[
            ("project", flags.project.clone()),
            ("note", flags.note.clone()),
            ("line", flags.line.clone()),
            ("state", flags.state.clone()),
            ("limit", flags.limit.map(|n| n.to_string())),
            ("offset", flags.offset.map(|n| n.to_string())),
        ],
    ))
}

fn call(verb: &CallVerb) -> (Request, View) {
    match verb {
        CallVerb::List {
            live,
            project,
            card,
            limit,
        } => (
            Request::get(with_query(
                "/api/v1/calls",
                &[
                    ("live", live.then(|| "true".to_owned())),
                    ("project", project.clone()),
                    ("card", card.clone()),
                    ("limit", limit.map(|n| n.to_string())),
                ],
            )),
            View::Calls,
        ),
        CallVerb::Show { id } => (Request::get(format!("/api/v1/calls/{}", percent(id))), View::Call),
        CallVerb::Hangup { id } => (post(format!("/api/v1/calls/{}/hangup", percent(id))), View::Done),
        CallVerb::Extend { id, minutes, order } => (
            keyed(
                Method::POST,
                format!("/api/v1/calls/{}/extend", percent(id)),
                json!({ "minutes": typed_number(minutes) }),
                order,
            ),
            View::Card,
        ),
    }
}

fn post(path: String) -> Request {
    Request::new(Method::POST, path, json!({}))
}

pub fn card_path(serial: &str, rest: &str) -> String {
    format!("/api/v1/cards/{}{rest}", percent(serial))
}

/// An order that may be repeated: under the operator's key, or a fresh one (S10).
pub fn keyed(method: Method, path: impl Into<String>, body: Value, order: &OrderFlags) -> Request {
    let key = order.idempotency_key.clone().or_else(fresh_key);
    let mut path = path.into();
    if order.dry_run {
        path.push_str("?dry_run=true");
    }
    Request {
        key,
        ..Request::new(method, path, body)
    }
}

/// 128 random bits. Without the kernel's randomness there is no key, and then no repetition.
fn fresh_key() -> Option<String> {
    let mut bytes = [0_u8; 16];
    let mut source = std::fs::File::open("/dev/urandom").ok()?;
    std::io::Read::read_exact(&mut source, &mut bytes).ok()?;
    Some(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// What was typed, as a JSON number where it is one: the daemon judges it, in its own words.
pub fn typed_number(text: &str) -> Value {
    serde_json::from_str::<serde_json::Number>(text.trim()).map_or_else(|_| json!(text), Value::Number)
}

pub fn put(body: &mut Map<String, Value>, key: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        body.insert(key.to_owned(), json!(value));
    }
}

pub fn with_query(path: &str, parts: &[(&str, Option<String>)]) -> String {
    let query: Vec<String> = parts
        .iter()
        .filter_map(|(key, value)| value.as_ref().map(|v| format!("{key}={}", percent(v))))
        .collect();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_travel_as_typed() {
        for (typed, wanted) in [
            ("20", json!(20)),
            ("-1", json!(-1)),
            ("1.5", json!(1.5)),
            ("zwanzig", json!("zwanzig")),
            ("", json!("")),
        ] {
            assert_eq!(typed_number(typed), wanted);
        }
    }

    #[test]
    fn a_query_holds_only_what_was_given() {
        assert_eq!(with_query("/x", &[("a", None), ("b", None)]), "/x");
        assert_eq!(
            with_query("/x", &[("a", Some("ü".into())), ("b", Some("1".into()))]),
            "/x?a=%C3%BC&b=1"
        );
    }
}
