//! `drain --wait`: calls left and the time that they can still take, until the last has ended.

use std::time::Duration;

use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::args::Global;
use super::client::{Client, Request};
use super::text::rest;
use super::{Exit, fail, print_document, print_text, show_problem};

/// Orders the drain and watches it.
pub async fn run(client: &Client, global: &Global) -> Exit {
    let mut request = Request::new(Method::POST, "/api/v1/drain", json!({}));
    let mut bar: Option<ProgressBar> = None;
    loop {
        let reply = match client.send(&request).await {
            Ok(reply) => reply,
            Err(fault) => return fail(global, &fault),
        };
        if !(200..300).contains(&reply.status) {
            if global.json {
                print_document(&reply.document);
            } else {
                show_problem(&reply.document, super::message_lang(global));
            }
            return Exit::of_reply(&reply);
        }
        let count = |key: &str| reply.document.get(key).and_then(Value::as_u64).unwrap_or(0);
        let calls = count("calls");
        if calls == 0 {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            return if global.json {
                print_document(&reply.document)
            } else {
                print_text("ok: kein Anruf mehr / no calls left\n")
            };
        }
        if !global.json {
            let bar = bar.get_or_insert_with(|| progress(calls));
            let longest = reply.document.get("longest_rest_ms").and_then(Value::as_i64);
            bar.set_length(bar.length().unwrap_or(calls).max(calls));
            bar.set_position(bar.length().unwrap_or(calls).saturating_sub(calls));
            bar.set_message(format!("noch {calls} Anrufe, längstens {}", rest(longest)));
        }
        tokio::time::sleep(EVERY).await;
        request = Request::get("/api/v1/status");
    }
}

/// On standard error, and only where a person watches.
fn progress(calls: u64) -> ProgressBar {
    let bar = ProgressBar::new(calls);
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} [{bar:30}] {pos}/{len} beendet, {msg} ({elapsed})")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

const EVERY: Duration = Duration::from_millis(500);
