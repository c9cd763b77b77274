//! What is true of every command: doors, limits, problems, languages.

use serde_json::json;

use super::desk::{Desk, TOKEN};

#[tokio::test]
async fn every_problem_is_a_document_with_a_stable_code() {
    let desk = Desk::open().await;
    let big = format!("{{\"name\": \"{}\"}}", "x".repeat(70_000));
    let key = "k".repeat(65);
    for (method, path, body, headers, status, code) in [
        ("GET", "/nothing", "", &[][..], 404, "no_such_path"),
        ("GET", "/api/v1/nothing", "", &[], 404, "no_such_path"),
        ("DELETE", "/api/v1/projects", "", &[], 405, "method_not_allowed"),
        ("POST", "/api/v1/projects", "{", &[], 400, "bad_json"),
        ("POST", "/api/v1/projects", "{}", &[], 400, "missing_field"),
        (
            "POST",
            "/api/v1/projects",
            "{\"nane\": \"x\"}",
            &[],
            400,
            "unknown_field",
        ),
        ("POST", "/api/v1/projects", "{\"name\": 7}", &[], 422, "bad_value"),
        (
            "POST",
            "/api/v1/projects",
            big.as_str(),
            &[],
            413,
            "body_too_large",
        ),
        ("GET", "/api/v1/cards?colour=red", "", &[], 400, "unknown_field"),
        ("GET", "/api/v1/cards?limit=-1", "", &[], 422, "bad_value"),
        ("GET", "/api/v1/calls/xyz", "", &[], 404, "call_not_found"),
        (
            "POST",
            "/api/v1/cards/quote",
            "{\"project\": \"x\", \"minutes\": 1.5}",
            &[],
            422,
            "invalid_minutes",
        ),
        (
            "POST",
            "/api/v1/cards",
            "{}",
            &[("idempotency-key", key.as_str())],
            400,
            "idempotency_key_invalid",
        ),
        ("POST", "/api/v1/reload", "", &[], 409, "reload_refused"),
    ] {
        let reply = desk.send(method, path, body, headers).await;
        assert_eq!(
            (reply.status, reply.code()),
            (status, code),
            "{method} {path} {}",
            reply.json
        );
        assert_eq!(
            reply.headers["content-type"], "application/problem+json",
            "{path}"
        );
        assert_eq!(reply.json["status"], json!(status));
        for field in ["type", "title", "detail"] {
            assert!(
                reply.json[field].as_str().is_some_and(|t| t.len() > 3),
                "{path}: {field}"
            );
        }
    }
    desk.close().await;
}

#[tokio::test]
async fn an_unknown_field_is_named_and_the_known_ones_are_listed() {
    let desk = Desk::open().await;
    let reply = desk
        .post("/api/v1/cards", json!({ "project": "a", "minute": 1 }))
        .await;
    assert_eq!(reply.json["field"], "minute");
    let detail = reply.json["detail"].as_str().unwrap();
    assert!(detail.contains("minutes") && detail.contains("note"), "{detail}");
    desk.close().await;
}

#[tokio::test]
async fn problems_speak_the_language_of_the_request() {
    let desk = Desk::open().await;
    for (header, word) in [
        ("de", "ganze Zahl"),
        ("en-GB,de;q=0.5", "whole number"),
        ("fr", "ganze Zahl"),
    ] {
        let reply = desk
            .send(
                "POST",
                "/api/v1/cards/quote",
                "{\"project\": \"a\", \"minutes\": 0}",
                &[("accept-language", header)],
            )
            .await;
        assert!(
            reply.json["detail"].as_str().unwrap().contains(word),
            "{header}: {}",
            reply.json
        );
    }
    desk.close().await;
}

#[tokio::test]
async fn tcp_wants_the_token_and_a_loopback_host() {
    let desk = Desk::open().await;
    let right = format!("Bearer {TOKEN}");
    for (path, headers, status) in [
        ("/api/v1/status", &[][..], 401),
        ("/api/v1/status", &[("authorization", "Bearer wrong")], 401),
        ("/api/v1/status", &[("authorization", right.as_str())], 200),
        ("/health/live", &[], 200),
        ("/health/ready", &[], 200),
        ("/health/live", &[("host", "evil.example")], 403),
        (
            "/api/v1/status",
            &[("authorization", right.as_str()), ("host", "evil.example:80")],
            403,
        ),
    ] {
        let reply = desk.send_tcp("GET", path, "", headers).await;
        assert_eq!(reply.status, status, "{path} {headers:?} {}", reply.json);
    }
    desk.close().await;
}

#[tokio::test]
async fn a_living_socket_is_respected_and_a_dead_one_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::open().await;
    let mode = std::fs::metadata(&desk.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let refused = cardline::admin::Doors::open(&desk.socket, None).await;
    assert!(refused.unwrap_err().to_string().contains("another cardline"));
    let plain = desk.dir.path().join("file");
    std::fs::write(&plain, "precious").unwrap();
    let refused = cardline::admin::Doors::open(&plain, None).await;
    assert!(refused.unwrap_err().to_string().contains("no socket"));
    let dead = desk.dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    let doors = cardline::admin::Doors::open(&dead, None).await.unwrap();
    drop(doors);
    assert!(!dead.exists());
    desk.close().await;
}

#[tokio::test]
async fn a_token_file_is_made_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/admin.token");
    let first = cardline::admin::socket::token(&path).unwrap();
    let again = cardline::admin::socket::token(&path).unwrap();
    assert_eq!(first.expose(), again.expose());
    assert_eq!(first.expose().len(), 64);
    std::fs::write(&path, "short\n").unwrap();
    assert!(cardline::admin::socket::token(&path).is_err());
}

#[tokio::test]
async fn a_drained_daemon_is_alive_but_not_ready() {
    let desk = Desk::open().await;
    assert_eq!(desk.get("/health/ready").await.status, 200);
    desk.script.lock().unwrap().draining = true;
    let reply = desk.get("/health/ready").await;
    assert_eq!((reply.status, reply.code()), (503, "not_ready"));
    assert_eq!(desk.get("/health/live").await.status, 200);
    desk.close().await;
}

#[tokio::test]
async fn the_feed_gives_each_listener_every_event_until_the_end() {
    use cardline::ids::CallKey;
    use cardline::switch::{CallEvent, CallHappening};
    let desk = Desk::open().await;
    let event = CallEvent {
        call: CallKey::new(0xab),
        what: CallHappening::State("pin"),
    };
    let listening = desk.send("GET", "/api/v1/events", "", &[]);
    let publishing = async {
        while !desk.feed.has_listeners() {
            tokio::task::yield_now().await;
        }
        desk.feed.publish(super::desk::NOW, &event);
        desk.feed.close();
    };
    let (reply, ()) = tokio::join!(listening, publishing);
    assert_eq!(reply.json["event"], "call.state");
    assert_eq!(reply.json["state"], "pin");
    assert_eq!(reply.json["call"], "00000000000000ab");
    assert_eq!(reply.json["at"], "2026-11-25T12:00:00.000Z");
    desk.close().await;
}
