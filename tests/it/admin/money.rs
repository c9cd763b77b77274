//! Money from the shell: tariffs, dry runs, stornos, and cards by the file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::desk::Desk;
use super::process::{cardline, code, document, text};

async fn run(socket: &Path, args: &[&str]) -> String {
    let output = cardline(socket, args).await;
    assert_eq!(code(&output), 0, "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

async fn shop() -> Desk {
    let desk = Desk::open().await;
    run(&desk.socket, &["project", "new", "test1"]).await;
    let price = [
        "tariff",
        "edit",
        "test1",
        "--price-per-minute-millicents",
        "199000",
    ];
    run(&desk.socket, &price).await;
    desk
}

#[tokio::test]
async fn a_tariff_is_read_and_changed_from_the_shell() {
    let desk = shop().await;
    let socket = desk.socket.as_path();
    let edit = [
        "tariff",
        "edit",
        "test1",
        "--step",
        "10:100000",
        "--free-minutes",
        "2",
    ];
    let shown = run(socket, &edit).await;
    assert!(shown.contains("1,99000 € / >10: 1,00000 €"), "{shown}");
    let short = ["tariff", "edit", "test1", "--expiry-days", "30"];
    let refused = cardline(socket, &short).await;
    assert_eq!(code(&refused), 4);
    assert!(text(&refused.stderr).contains("§§ 195, 199 BGB"));
    let shown = run(socket, &[&short[..], &["--accept-short-expiry"]].concat()).await;
    assert!(shown.contains("30 Tage") && shown.contains("Achtung"), "{shown}");
    run(socket, &["tariff", "new", "billig"]).await;
    run(socket, &["project", "edit", "test1", "--tariff", "billig"]).await;
    let list = run(socket, &["tariff", "list"]).await;
    assert!(
        list.lines()
            .any(|row| row.trim().starts_with("billig") && row.ends_with("test1")),
        "{list}"
    );
    let limit = [
        "operator",
        "edit",
        "--credit-limit-cents",
        "5000",
        "--time-zone",
        "Europe/Vienna",
    ];
    let shown = run(socket, &limit).await;
    assert!(
        shown.contains("50,00 €") && shown.contains("Europe/Vienna"),
        "{shown}"
    );
    let open = run(
        socket,
        &["--json", "operator", "edit", "--credit-limit-cents", "none"],
    )
    .await;
    assert!(open.contains("\"credit_limit_cents\":null"), "{open}");
    desk.close().await;
}

#[tokio::test]
async fn minutes_go_back_and_elsewhere_from_the_shell() {
    let desk = shop().await;
    let socket = desk.socket.as_path();
    let buy = ["--json", "card", "buy", "--project", "test1", "--minutes", "10"];
    let (one, other) = (
        document(&cardline(socket, &buy).await),
        document(&cardline(socket, &buy).await),
    );
    let (one, other) = (one["serial"].as_str().unwrap(), other["serial"].as_str().unwrap());
    let dry = run(socket, &["card", "refund", one, "--minutes", "4", "--dry-run"]).await;
    assert!(dry.contains("Gutschrift") && dry.contains("Probelauf"), "{dry}");
    assert!(
        desk.script.lock().unwrap().changed.is_empty(),
        "no call is told of a dry run"
    );
    let told = run(socket, &["card", "refund", one, "--minutes", "4"]).await;
    assert!(told.contains("9,47 €") && told.contains("6:00"), "{told}");
    assert_eq!(desk.script.lock().unwrap().changed.len(), 1);
    let moved = run(socket, &["card", "transfer", one, other, "--minutes", "1"]).await;
    assert!(moved.contains("5:00") && moved.contains("11:00"), "{moved}");
    assert_eq!(
        desk.script.lock().unwrap().changed.len(),
        3,
        "both cards' calls are told"
    );
    let moved = run(socket, &["card", "merge", one, other]).await;
    assert!(moved.contains("16:00"), "{moved}");
    let empty = cardline(socket, &["card", "merge", one, other]).await;
    assert_eq!(code(&empty), 4);
    let fresh = run(socket, &["card", "replace-pin", other]).await;
    assert!(fresh.contains("PIN"), "{fresh}");
    let quote = run(
        socket,
        &["--json", "card", "quote", "--project", "test1", "--minutes", "3"],
    )
    .await;
    let quote: serde_json::Value = serde_json::from_str(&quote).unwrap();
    let quote = quote["quote"].as_str().unwrap();
    let top = ["card", "topup", other, "--minutes", "3", "--quote", quote];
    run(socket, &top).await;
    let twice = cardline(socket, &top).await;
    assert_eq!(code(&twice), 4);
    assert!(text(&twice.stderr).contains("quote_used"));
    let gone = run(socket, &["card", "cancel", other, "--yes"]).await;
    assert!(
        gone.contains("storniert") && gone.contains("Gutschrift"),
        "{gone}"
    );
    run(socket, &["ledger", "check"]).await;
    desk.close().await;
}

#[tokio::test]
async fn cards_are_made_by_the_file_and_only_their_owner_reads_it() {
    let desk = shop().await;
    let socket = desk.socket.as_path();
    let path = |name: &str| desk.dir.path().join(name).to_str().unwrap().to_owned();
    let out = path("batch.csv");
    let batch = [
        "card",
        "batch",
        "--project",
        "test1",
        "--count",
        "3",
        "--minutes",
        "5",
        "--note",
        "=1+1",
    ];
    assert_eq!(code(&cardline(socket, &batch).await), 2, "the PINs need a place");
    run(socket, &[&batch[..], &["--dry-run"]].concat()).await;
    let told = run(socket, &[&batch[..], &["--out", &out]].concat()).await;
    assert!(told.contains("3 Karten") && told.contains("35,52 €"), "{told}");
    let table = std::fs::read_to_string(&out).unwrap();
    assert_eq!(table.lines().count(), 4);
    assert!(
        table.lines().skip(1).all(|row| row.ends_with(";'=1+1")),
        "{table}"
    );
    let mode = std::fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = cardline(socket, &[&batch[..], &["--out", &out]].concat()).await;
    assert_eq!(code(&again), 1, "a file that is there is not written over");
    imports(&desk, &path("cards.csv"), &path("imported.csv")).await;
    let export = run(socket, &["card", "export", "--project", "test1"]).await;
    assert_eq!(export.lines().count(), 6, "{export}");
    let pin = table
        .lines()
        .nth(1)
        .unwrap()
        .split(';')
        .nth(1)
        .unwrap()
        .to_owned();
    assert!(!export.contains(&pin), "an export has no PIN");
    run(socket, &["ledger", "check"]).await;
    desk.close().await;
}

async fn imports(desk: &Desk, csv: &str, out: &str) {
    let socket = desk.socket.as_path();
    let import = ["card", "import", csv, "--project", "test1", "--out", out];
    std::fs::write(csv, "note;minutes;line\nFrau A;5\nHerr B;0\nFrau C;7;110\n").unwrap();
    let refused = cardline(socket, &import).await;
    assert_eq!(code(&refused), 4);
    let words = text(&refused.stderr);
    assert!(
        words.contains("Zeile 3 minutes") && words.contains("Zeile 4 line"),
        "{words}"
    );
    assert!(!Path::new(out).exists(), "no cards, no file");
    std::fs::write(csv, vec![b'x'; 1024 * 1024 + 1]).unwrap();
    let large = cardline(socket, &[&["--json"], &import[..]].concat()).await;
    assert_eq!(document(&large)["code"], json!("body_too_large"));
    std::fs::write(csv, "Frau A;5\nHerr B;7;0170 1234567\n").unwrap();
    run(socket, &import).await;
    let table = std::fs::read_to_string(out).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
}
