//! The operator's guide, click by click, over the socket (S26), and what each verb refuses.

use cardline::ids::CallKey;
use cardline::switch::LiveCall;
use cardline::units::{E164, TalkTime};
use serde_json::{Value, json};

use super::desk::{Desk, NOW};

/// A project with both numbers and one advisor.
async fn project(desk: &Desk, name: &str, number: &str) {
    let reply = desk
        .post("/api/v1/projects", json!({ "name": name, "language": "de" }))
        .await;
    assert_eq!(reply.status, 201, "{}", reply.json);
    let reply = desk
        .post(
            "/api/v1/numbers",
            json!({ "number": number, "project": name, "role": "both" }),
        )
        .await;
    assert_eq!(reply.status, 201, "{}", reply.json);
}

async fn card(desk: &Desk, project: &str, minutes: i64) -> Value {
    let reply = desk
        .post(
            "/api/v1/cards",
            json!({ "project": project, "minutes": minutes, "note": "Frau Ü 😀" }),
        )
        .await;
    assert_eq!(reply.status, 201, "{}", reply.json);
    reply.json
}

fn serial(card: &Value) -> String {
    card["serial"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_whole_guide_can_be_clicked_over_the_socket() {
    let desk = Desk::open().await;
    set_up(&desk).await;
    let bought = quote_and_buy(&desk).await;
    let pin = bought["pin"].as_str().unwrap();
    let path = format!("/api/v1/cards/{}", serial(&bought));
    let shown = desk.get(&path).await;
    assert_eq!(shown.json.get("pin"), None, "the PIN is in no other answer");
    let revealed = desk.post(&format!("{path}/pin:reveal"), json!({})).await;
    assert_eq!(revealed.json["pin"], bought["pin"]);

    run_the_card(&desk, &path).await;
    let entries = desk.get(&format!("{path}/entries")).await;
    assert!(entries.json["entries"].as_array().unwrap().len() >= 3);
    assert_eq!(desk.post("/api/v1/ledger/check", json!({})).await.status, 200);

    let audit = desk.get("/api/v1/audit?limit=100").await;
    let rows = audit.json["audit"].as_array().unwrap();
    assert!(rows.len() >= 11, "{} rows", rows.len());
    assert!(
        rows.iter()
            .all(|row| row["actor"].as_str().unwrap().starts_with("uid:"))
    );
    assert!(!audit.json.to_string().contains(pin), "no PIN in the audit");
    assert!(desk.script.lock().unwrap().refreshed >= 3);
    assert!(desk.script.lock().unwrap().changed.len() >= 6);
    desk.close().await;
}

/// The guide's first page: a project, its number and its advisor, each shown back.
async fn set_up(desk: &Desk) {
    project(desk, "test1", "030 23125101").await;
    let reply = desk
        .post(
            "/api/v1/targets",
            json!({ "project": "test1", "address": "sip:advisor@127.0.0.1:5070", "ring_s": 20 }),
        )
        .await;
    assert_eq!(reply.status, 201, "{}", reply.json);
    let projects = desk.get("/api/v1/projects").await;
    assert_eq!(projects.json["projects"][0]["name"], "test1");
    let numbers = desk.get("/api/v1/numbers?project=test1").await;
    let shown = &numbers.json["numbers"][0];
    assert_eq!(shown["international"], "+49 30 23125101");
    assert_eq!(shown["international_00"], "0049 30 23125101");
    assert_eq!(shown["national"], "030 23125101");
}

/// A quote is free and leaves no card; the purchase hands the PIN over in both languages.
async fn quote_and_buy(desk: &Desk) -> Value {
    let quote = desk
        .post(
            "/api/v1/cards/quote",
            json!({ "project": "test1", "minutes": 20 }),
        )
        .await;
    assert_eq!(
        (quote.status, &quote.json["free"]),
        (200, &json!(true)),
        "{}",
        quote.json
    );
    assert_eq!(
        desk.get("/api/v1/cards?project=test1").await.json["cards"],
        json!([])
    );

    let bought = card(desk, "test1", 20).await;
    let pin = bought["pin"].as_str().unwrap();
    assert!((8..=12).contains(&pin.len()));
    assert_eq!(bought["balance_ms"], 1_200_000);
    assert_eq!(bought["state"], "neu");
    for lang in ["de", "en"] {
        let handover = bought["handover"][lang].as_str().unwrap();
        assert!(
            handover.contains(pin) && handover.contains("23125101"),
            "{handover}"
        );
    }
    bought
}

/// What an operator does with a sold card: bind, top up, unbind, and each change of its state.
async fn run_the_card(desk: &Desk, path: &str) {
    let bound = desk
        .post(&format!("{path}/lines"), json!({ "number": "0170 1234567" }))
        .await;
    assert_eq!(bound.status, 200, "{}", bound.json);
    assert_eq!(bound.json["state"], "freigeschaltet");
    assert_eq!(bound.json["lines"][0]["e164"], "+491701234567");
    let topped = desk
        .post(&format!("{path}/topup"), json!({ "minutes": 10 }))
        .await;
    assert_eq!(topped.json["balance_ms"], 1_800_000);
    let unbound = desk
        .send("DELETE", &format!("{path}/lines/%2B491701234567"), "", &[])
        .await;
    assert_eq!(unbound.json["lines"], json!([]), "{}", unbound.json);
    for (verb, state) in [
        ("block", "gesperrt"),
        ("unblock", "freigeschaltet"),
        ("cancel", "storniert"),
    ] {
        let reply = desk.post(&format!("{path}/{verb}"), json!({})).await;
        assert_eq!(
            (reply.status, &reply.json["state"]),
            (200, &json!(state)),
            "{verb}: {}",
            reply.json
        );
    }
}

#[tokio::test]
async fn an_order_repeated_under_its_key_is_carried_out_once() {
    let desk = Desk::open().await;
    project(&desk, "test1", "030 23125101").await;
    let key = [("idempotency-key", "order-1")];
    let body = json!({ "project": "test1", "minutes": 5 }).to_string();
    let first = desk.send("POST", "/api/v1/cards", &body, &key).await;
    let again = desk.send("POST", "/api/v1/cards", &body, &key).await;
    assert_eq!(first.json, again.json, "the same serial and PIN");
    let other = json!({ "project": "test1", "minutes": 6 }).to_string();
    let reused = desk.send("POST", "/api/v1/cards", &other, &key).await;
    assert_eq!((reused.status, reused.code()), (409, "idempotency_key_reused"));
    let cards = desk.get("/api/v1/cards?project=test1").await;
    assert_eq!(cards.json["cards"].as_array().unwrap().len(), 1);

    let topup = format!("/api/v1/cards/{}/topup", serial(&first.json));
    let key = [("idempotency-key", "order-2")];
    for _ in 0..3 {
        let reply = desk.send("POST", &topup, "{\"minutes\": 10}", &key).await;
        assert_eq!(reply.json["balance_ms"], 900_000, "{}", reply.json);
    }
    assert_eq!(desk.post("/api/v1/ledger/check", json!({})).await.status, 200);
    desk.close().await;
}

/// Each request is refused with its status and code; one without a method is a POST.
async fn refused(desk: &Desk, table: &[(&str, Value, u16, &str)]) {
    for (request, body, status, code) in table {
        let (method, at) = request.split_once(' ').unwrap_or(("POST", request));
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let reply = desk.send(method, at, &body, &[]).await;
        assert_eq!(
            (reply.status, reply.code()),
            (*status, *code),
            "{request} {body} {}",
            reply.json
        );
    }
}

#[tokio::test]
async fn what_does_not_exist_or_is_already_there_is_refused_by_name() {
    let desk = Desk::open().await;
    project(&desk, "test1", "030 23125101").await;
    let none = Value::Null;
    let again = json!({ "number": "030 23125101", "project": "test1", "role": "both" });
    let astray = json!({ "project": "nope", "minutes": 1 });
    refused(
        &desk,
        &[
            (
                "/api/v1/projects",
                json!({ "name": "test1" }),
                409,
                "project_exists",
            ),
            ("/api/v1/numbers", again, 409, "number_exists"),
            (
                "GET /api/v1/projects/nope",
                none.clone(),
                404,
                "project_not_found",
            ),
            ("GET /api/v1/cards/nope", none.clone(), 404, "card_not_found"),
            (
                "GET /api/v1/cards?project=nope",
                none.clone(),
                404,
                "project_not_found",
            ),
            (
                "GET /api/v1/calls/00000000000000ff",
                none.clone(),
                404,
                "call_not_found",
            ),
            (
                "DELETE /api/v1/numbers/030%20999999",
                none.clone(),
                404,
                "number_not_found",
            ),
            ("DELETE /api/v1/targets/99", none, 404, "target_not_found"),
            ("/api/v1/cards/quote", astray, 404, "project_not_found"),
        ],
    )
    .await;
    desk.close().await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_name() {
    let desk = Desk::open().await;
    project(&desk, "test1", "030 23125101").await;
    for minutes in [json!(0), json!(-1), json!(10_000), json!("zehn")] {
        let body = json!({ "project": "test1", "minutes": minutes });
        refused(&desk, &[("/api/v1/cards/quote", body, 422, "invalid_minutes")]).await;
    }
    let note = json!({ "project": "test1", "minutes": 1, "note": "x".repeat(201) });
    refused(&desk, &[("/api/v1/cards", note, 422, "invalid_note")]).await;
    let target = json!({ "project": "test1", "address": "tel:+49301" });
    refused(&desk, &[("/api/v1/targets", target, 422, "invalid_target")]).await;

    let path = format!("/api/v1/cards/{}", serial(&card(&desk, "test1", 5).await));
    let lines = format!("{path}/lines");
    for (number, code) in [
        ("", "number_withheld"),
        ("110", "number_short"),
        ("0900 1234567", "number_premium"),
        ("0", "number_invalid"),
        ("030 23125101", "number_own"),
    ] {
        refused(&desk, &[(&lines, json!({ "number": number }), 422, code)]).await;
    }
    desk.close().await;
}

#[tokio::test]
async fn a_live_call_is_listed_hung_up_and_never_confused_with_a_past_one() {
    let desk = Desk::open().await;
    let key = CallKey::new(0x1234);
    desk.script.lock().unwrap().live.push(live_call());
    let calls = desk.get("/api/v1/calls?live=true").await;
    let call = &calls.json["calls"][0];
    assert_eq!(
        (&call["state"], &call["rest_ms"]),
        (&json!("bridge"), &json!(59_000))
    );
    assert_eq!(call["id"], "0000000000001234");
    assert_eq!(desk.get("/api/v1/status").await.json["calls"], 1);
    let hung_up = desk.post(&format!("/api/v1/calls/{key}/hangup"), json!({})).await;
    assert_eq!(hung_up.status, 200, "{}", hung_up.json);
    let unknown = desk
        .post("/api/v1/calls/00000000000000ff/hangup", json!({}))
        .await;
    assert_eq!((unknown.status, unknown.code()), (404, "call_not_found"));
    let drained = desk.post("/api/v1/drain", json!({})).await;
    assert_eq!(drained.json["draining"], true, "{}", drained.json);
    desk.close().await;
}

pub fn live_call() -> LiveCall {
    LiveCall {
        call: CallKey::new(0x1234),
        state: "bridge",
        caller: E164::parse("+491701234567").ok(),
        called: E164::parse("+493023125101").ok(),
        card: None,
        target: Some("sip:advisor@127.0.0.1".to_owned()),
        started_at: NOW,
        answered_at: Some(NOW),
        bridged_at: Some(NOW),
        used: TalkTime::from_secs(61),
        rest: TalkTime::from_secs(59),
    }
}
