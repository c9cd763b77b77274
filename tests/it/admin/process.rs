//! The command line as a process: exit codes, `--json`, and what a person sees.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::desk::Desk;

pub async fn cardline(socket: &Path, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cardline"));
    command
        .args(args)
        .env("CARDLINE_SOCKET", socket)
        .env("TZ", "Europe/Berlin")
        .env_remove("CARDLINE_LANG")
        .stdin(std::process::Stdio::null());
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Standard output holds exactly one JSON document.
pub fn document(output: &Output) -> Value {
    let out = text(&output.stdout);
    assert_eq!(out.matches('\n').count(), 1, "one line: {out:?}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test]
async fn a_missing_daemon_is_exit_5() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nobody.sock");
    let plain = cardline(&socket, &["status"]).await;
    assert_eq!(code(&plain), 5);
    assert!(plain.stdout.is_empty());
    assert!(text(&plain.stderr).contains("cardline serve"));
    let json = cardline(&socket, &["--json", "card", "list"]).await;
    assert_eq!(code(&json), 5);
    assert_eq!(document(&json)["code"], "daemon_unreachable");
}

#[tokio::test]
async fn wrong_usage_is_exit_2() {
    let socket = Path::new("/nonexistent");
    for args in [
        &["card"][..],
        &["frob"],
        &["card", "buy"],
        &["number", "add", "030", "--project", "x", "--role", "y"],
    ] {
        assert_eq!(code(&cardline(socket, args).await), 2, "{args:?}");
    }
    assert_eq!(code(&cardline(socket, &["--help"]).await), 0);
}

#[tokio::test]
async fn the_guide_runs_from_the_shell() {
    let desk = Desk::open().await;
    let socket = desk.socket.clone();
    for args in [
        &["project", "new", "test1", "--lang", "de"][..],
        &[
            "number",
            "add",
            "030 23125101",
            "--project",
            "test1",
            "--role",
            "both",
        ],
        &[
            "target",
            "add",
            "--project",
            "test1",
            "sip:advisor@127.0.0.1:5070",
            "--ring-s",
            "20",
        ],
        &["card", "quote", "--project", "test1", "--minutes", "20"],
    ] {
        let output = cardline(&socket, args).await;
        assert_eq!(code(&output), 0, "{args:?}: {}", text(&output.stderr));
    }
    let card = buy_with_note(&socket, "\u{202e}rot").await;
    let serial = card["serial"].as_str().unwrap();
    let shown = cardline(&socket, &["card", "show", serial]).await;
    assert!(text(&shown.stdout).contains("20:00"), "{}", text(&shown.stdout));
    assert!(
        !text(&shown.stdout).contains('\u{202e}'),
        "a note cannot steer the terminal"
    );
    for args in [
        &["card", "bind", serial, "0170 1234567"][..],
        &["card", "topup", serial, "--minutes", "10"],
        &["card", "block", serial],
        &["card", "unblock", serial],
        &["card", "pin", serial],
        &["card", "list", "--project", "test1"],
        &["card", "entries", serial],
        &["card", "unbind", serial, "+491701234567"],
        &["card", "cancel", serial],
        &["call", "list", "--live"],
        &["ledger", "check"],
        &["status"],
        &["audit"],
        &["drain", "--wait"],
    ] {
        let output = cardline(&socket, args).await;
        assert_eq!(code(&output), 0, "{args:?}: {}", text(&output.stderr));
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
    desk.close().await;
}

/// Buys 20 minutes in `test1`; the answer's document has what a script reads.
async fn buy_with_note(socket: &Path, note: &str) -> Value {
    let buy = ["card", "buy", "--project", "test1", "--minutes", "20"];
    let bought = cardline(socket, &[&buy[..], &["--note", note, "--json"]].concat()).await;
    assert_eq!(code(&bought), 0, "{}", text(&bought.stdout));
    let card = document(&bought);
    for key in ["serial", "pin", "state", "balance_ms", "price_cents"] {
        assert!(card.get(key).is_some(), "{key}");
    }
    card
}

#[tokio::test]
async fn refusals_have_their_exit_codes_and_words() {
    let desk = Desk::open().await;
    let socket = desk.socket.clone();
    cardline(&socket, &["project", "new", "test1"]).await;
    let quote = |minutes: &'static str, lang: &'static str| {
        let socket = socket.clone();
        async move {
            let args = [
                "card",
                "quote",
                "--project",
                "test1",
                "--minutes",
                minutes,
                "--lang",
                lang,
            ];
            cardline(&socket, &args).await
        }
    };
    for minutes in ["0", "-1", "1.5", "10000", "zehn"] {
        let german = quote(minutes, "de").await;
        assert_eq!(code(&german), 4, "{minutes}");
        assert!(
            text(&german.stderr).contains("ganze Zahl von 1 bis 9999"),
            "{}",
            text(&german.stderr)
        );
        assert!(text(&quote(minutes, "en").await.stderr).contains("whole number"));
    }
    for (args, exit) in [
        (&["card", "show", "nope"][..], 3),
        (&["project", "show", "nope"], 3),
        (&["call", "hangup", "00000000000000ff"], 3),
        (&["project", "new", "test1"], 4),
        (&["reload"], 4),
    ] {
        let output = cardline(&socket, &[args, &["--json"]].concat()).await;
        assert_eq!(code(&output), exit, "{args:?}");
        let problem = document(&output);
        assert!(
            problem["status"].is_number() && problem["code"].is_string(),
            "{problem}"
        );
    }
    desk.close().await;
}

#[tokio::test]
async fn a_repeated_purchase_under_one_key_buys_one_card() {
    let desk = Desk::open().await;
    let socket = desk.socket.clone();
    cardline(&socket, &["project", "new", "test1"]).await;
    let buy = [
        "card",
        "buy",
        "--project",
        "test1",
        "--minutes",
        "5",
        "--idempotency-key",
        "k1",
        "--json",
    ];
    let first = document(&cardline(&socket, &buy).await);
    let again = document(&cardline(&socket, &buy).await);
    assert_eq!(first, again);
    let list = document(&cardline(&socket, &["card", "list", "--json"]).await);
    assert_eq!(list["cards"].as_array().map(Vec::len), Some(1));
    assert_ne!(first["pin"], json!(null));
    desk.close().await;
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_under_the_same_key() {
    let desk = Desk::open().await;
    cardline(&desk.socket, &["project", "new", "test1"]).await;
    let front = desk.dir.path().join("lossy.sock");
    let lossy = tokio::net::UnixListener::bind(&front).unwrap();
    let back = desk.socket.clone();
    let relay = async {
        for keep in [false, true] {
            let (mut client, _) = lossy.accept().await.unwrap();
            let mut daemon = tokio::net::UnixStream::connect(&back).await.unwrap();
            if keep {
                // Ends when the client leaves.
                tokio::io::copy_bidirectional(&mut client, &mut daemon).await.ok();
            } else {
                let mut request = vec![0; 4096];
                let read = client.read(&mut request).await.unwrap();
                daemon.write_all(&request[..read]).await.unwrap();
                // The order is carried out; its answer gets lost.
                assert!(daemon.read(&mut request).await.unwrap() > 0);
            }
        }
    };
    let buy = ["card", "buy", "--project", "test1", "--minutes", "5", "--json"];
    let (bought, ()) = tokio::join!(cardline(&front, &buy), relay);
    assert_eq!(code(&bought), 0, "{}", text(&bought.stdout));
    let list = document(&cardline(&desk.socket, &["card", "list", "--json"]).await);
    assert_eq!(list["cards"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["cards"][0]["serial"], document(&bought)["serial"]);
    desk.close().await;
}

#[tokio::test]
async fn drain_waits_until_the_last_call_has_ended() {
    let desk = Desk::open().await;
    desk.script.lock().unwrap().live.push(super::guide::live_call());
    let ending = async {
        while !desk.script.lock().unwrap().draining {
            tokio::task::yield_now().await;
        }
        desk.script.lock().unwrap().live.clear();
    };
    let (drained, ()) = tokio::join!(cardline(&desk.socket, &["drain", "--wait", "--json"]), ending);
    assert_eq!(code(&drained), 0);
    assert_eq!(document(&drained)["calls"], 0);
    desk.close().await;
}
