//! The house rules that a compiler does not check: arrows, importers, sizes, words, absences.
//! Each rule is a function from a file to complaints, and each is tried on a planted fault.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file: its path below the repository, with forward slashes, and its text.
struct Source {
    path: String,
    text: String,
}

#[test]
fn the_house_is_tidy() {
    let sources: Vec<Source> = ["src", "tests/it"]
        .iter()
        .flat_map(|dir| read_tree(Path::new(dir)))
        .collect();
    assert!(
        sources.len() > 30,
        "found only {} files: run from the repository's root",
        sources.len()
    );
    let complaints: Vec<String> = sources.iter().flat_map(complaints).collect();
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn each_rule_finds_its_planted_fault() {
    for (path, text, word) in [
        ("src/call/x.rs", "use tokio::time;\n", "below the line"),
        ("src/media/x.rs", "use crate::sip::Flow;\n", "arrow"),
        ("src/card/x.rs", "use crate::media::PromptId;\n", "arrow"),
        ("src/sdp/x.rs", "use crate::media::PromptId;\n", "arrow"),
        ("src/admin/x.rs", "use crate::driver::Loop;\n", "arrow"),
        ("src/switch.rs", "use crate::store::Store;\n", "arrow"),
        (
            "src/sip/leg/uas.rs",
            "let x = rsip::Uri::default();\n",
            "importer",
        ),
        ("src/admin/x.rs", "use sqlx::Row;\n", "importer"),
        ("src/call/x.rs", "struct SessionManager;\n", "word"),
        ("src/call/x.rs", "fn credit_left() {}\n", "word"),
        (
            "src/sip/x.rs",
            "let t = std::time::Instant::now();\n",
            "below the line",
        ),
        ("src/sip/x.rs", "#[allow(dead_code)]\n", "expect"),
        ("src/sip/x.rs", "// TODO tidy this\n", "TODO"),
        ("tests/it/x.rs", "std::thread::sleep(d);\n", "sleep"),
    ] {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let found = complaints(&source);
        assert!(
            found.iter().any(|c| c.contains(word)),
            "{path}: {text:?} gave {found:?}, want a word on {word:?}"
        );
    }
    let long = Source {
        path: "src/sip/x.rs".into(),
        text: "// x\n".repeat(501),
    };
    assert!(complaints(&long).iter().any(|c| c.contains("501 lines")));
    let function = Source {
        path: "src/sip/x.rs".into(),
        text: format!("fn f() {{\n{}}}\n", "    g();\n".repeat(70)),
    };
    assert!(
        complaints(&function)
            .iter()
            .any(|c| c.contains("function of 72 lines")),
        "{:?}",
        complaints(&function)
    );
}

fn complaints(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    below_the_line(source, &mut found);
    arrows(source, &mut found);
    importers(source, &mut found);
    sizes(source, &mut found);
    words(source, &mut found);
    habits(source, &mut found);
    found
}

/// Core modules in dependency order; nothing in them waits, reads a clock or touches a file.
const CORE: [&str; 11] = [
    "units", "ids", "secret", "now", "config", "sdp", "media", "sip", "card", "call", "switch",
];
const SHELLS: [&str; 5] = ["store", "driver", "admin", "demo", "cli"];

/// The module of `src` that a file belongs to.
fn module(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    Some(rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs"))
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("tests.rs") || path.contains("/tests/")
}

fn code_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let inline_tests = source
        .text
        .lines()
        .position(|l| l.starts_with("#[cfg(test)]") || l.starts_with("mod tests {"));
    let end = inline_tests.unwrap_or(usize::MAX);
    source
        .text
        .lines()
        .enumerate()
        .take_while(move |(n, _)| *n < end)
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(n, line)| (n + 1, line))
}

fn below_the_line(source: &Source, found: &mut Vec<String>) {
    let Some(module) = module(&source.path).filter(|m| CORE.contains(m)) else {
        return;
    };
    if is_test(&source.path) {
        return;
    }
    let shells = [
        "tokio",
        "sqlx",
        "mio",
        "socket2",
        "axum",
        "hyper",
        "clap",
        "hound",
        "rust_embed",
        "indicatif",
    ];
    let parts = [
        "std::fs",
        "std::thread",
        "std::io::",
        "std::env",
        "std::net::UdpSocket",
        "std::net::Tcp",
        "UdpSocket",
        "time::Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "std::process",
        ".await",
        "async fn",
    ];
    for (line, text) in code_lines(source) {
        // Whether we are unwinding is no clock and no thread: it keeps a drop from aborting.
        let text = &text.replace("std::thread::panicking()", "");
        let package = shells.iter().find(|name| text.contains(&format!("{name}::")));
        let part = parts.iter().find(|part| text.contains(*part));
        if let Some(word) = package.or(part) {
            found.push(format!(
                "{}:{line}: `{word}` below the line (module {module})",
                source.path
            ));
        }
    }
}

/// What each module may name; `None`: everything above itself in `CORE`.
fn may_use(module: &str) -> Vec<&'static str> {
    let base = ["units", "ids", "secret", "now", "fault", "config"];
    let own: &[&str] = match module {
        "units" => return vec!["units"],
        "ids" => return vec!["ids", "units"],
        "secret" => return vec!["secret"],
        "now" => return vec!["now", "ids"],
        "config" => return vec!["config", "units"],
        "sdp" => &["sdp"],
        "media" => &["media", "sdp"],
        "sip" => &["sip", "sdp"],
        // The CDR's facts are the call's; the ledger carries them to the store unread.
        "card" => &["card", "call::cdr"],
        "call" => &["call", "sip", "sdp", "media", "card"],
        "switch" => &["switch", "call", "sip", "sdp", "media", "card"],
        "store" => &["store", "call", "card", "media", "sdp", "sip", "switch"],
        "driver" => &["driver", "store", "switch", "call", "sip", "sdp", "media", "card"],
        "admin" => &["admin", "store", "switch", "call", "sip", "sdp", "media", "card"],
        "demo" => &[
            "demo", "serve", "admin", "driver", "store", "switch", "call", "sip", "sdp", "media", "card",
            "cli",
        ],
        "cli" => &["cli", "admin"],
        _ => return [&CORE[..], &SHELLS[..], &["serve"]].concat(),
    };
    [&base, own].concat()
}

fn arrows(source: &Source, found: &mut Vec<String>) {
    let Some(module) = module(&source.path) else {
        return;
    };
    if matches!(module, "main" | "lib" | "serve") {
        return;
    }
    let allowed = may_use(module);
    for (line, text) in code_lines(source) {
        for (at, _) in text.match_indices("crate::") {
            let rest = &text[at + "crate::".len()..];
            let fine = allowed.iter().any(|name| {
                rest.strip_prefix(name)
                    .is_some_and(|r| !r.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            });
            if !fine && !rest.starts_with('{') {
                let named: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                found.push(format!(
                    "{}:{line}: {module} names {named}: no such arrow",
                    source.path
                ));
            }
        }
    }
}

/// The one place that may name each package.
const IMPORTERS: [(&str, &[&str]); 9] = [
    ("rsip", &["src/sip/wire", "src/sip/message"]),
    ("rtp_rs", &["src/media/rtp.rs"]),
    ("hound", &["src/driver/prompts"]),
    ("webrtc_util", &["src/media/"]),
    ("sqlx", &["src/store/"]),
    ("axum", &["src/admin/"]),
    ("clap", &["src/cli/"]),
    ("rlibphonenumber", &["src/admin/number_input.rs"]),
    ("rustix", &["src/driver/clock.rs"]),
];

fn importers(source: &Source, found: &mut Vec<String>) {
    if source.path.starts_with("tests/") {
        return;
    }
    for (line, text) in code_lines(source) {
        for (package, places) in IMPORTERS {
            let named = text
                .match_indices(&format!("{package}::"))
                .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
            if named && !places.iter().any(|place| source.path.starts_with(place)) {
                found.push(format!(
                    "{}:{line}: {package} has another importer: {}",
                    source.path,
                    places.join(", ")
                ));
            }
        }
    }
}

fn sizes(source: &Source, found: &mut Vec<String>) {
    let count = source.text.lines().count();
    if count > 500 && !is_test(&source.path) {
        found.push(format!("{}: {count} lines, 500 at most", source.path));
    }
    let mut start: Option<(usize, usize)> = None;
    for (n, line) in source.text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let head = line.trim_start();
        let is_fn = [
            "fn ",
            "pub fn ",
            "async fn ",
            "pub async fn ",
            "pub(super) fn ",
            "pub(crate) fn ",
            "const fn ",
            "pub const fn ",
        ]
        .iter()
        .any(|p| head.starts_with(p));
        if is_fn && !head.ends_with(';') && !head.ends_with('}') {
            start = Some((n, indent));
        }
        if let Some((first, depth)) = start
            && indent == depth
            && head.starts_with('}')
        {
            let length = n - first + 1;
            if length > 70 {
                found.push(format!(
                    "{}:{}: function of {length} lines, 70 at most",
                    source.path,
                    first + 1
                ));
            }
            start = None;
        }
    }
}

/// Words that the glossary gave away for others, as parts of new identifiers in the core.
fn words(source: &Source, found: &mut Vec<String>) {
    let Some(module) = module(&source.path).filter(|m| CORE.contains(m) || SHELLS.contains(m)) else {
        return;
    };
    let everywhere = [
        "gateway",
        "callee",
        "voucher",
        "disposition",
        "controller",
        "singleton",
        "dnis",
        "refund",
        "rate_plan",
        "call_log",
    ];
    let core = ["credit", "manager", "whitelist", "blacklist", "deposit", "top_up"];
    let call = ["session_", "_session", "SessionManager"];
    for (line, text) in code_lines(source) {
        let code = strip_strings(text);
        let lower = code.to_lowercase();
        let mut hit = everywhere.iter().find(|w| lower.contains(*w)).copied();
        if CORE.contains(&module) {
            hit = hit.or_else(|| {
                core.iter()
                    .find(|w| lower.contains(*w) && !lower.contains("creditend"))
                    .copied()
            });
        }
        if module == "call" || module == "card" {
            let timer = ["session_id", "session_expires", "session_description"];
            let clean = timer.iter().fold(code.clone(), |c, w| c.replace(w, ""));
            hit = hit.or_else(|| call.iter().find(|w| clean.contains(*w)).copied());
        }
        if let Some(word) = hit {
            found.push(format!(
                "{}:{line}: the word `{word}` has another name in the glossary",
                source.path
            ));
        }
    }
}

/// The line without what stands between double quotes.
fn strip_strings(text: &str) -> String {
    text.split('"').step_by(2).collect::<Vec<_>>().join("\"")
}

fn habits(source: &Source, found: &mut Vec<String>) {
    if source.path == "tests/it/tidy.rs" {
        return;
    }
    for (line, text) in source.text.lines().enumerate().map(|(n, t)| (n + 1, t)) {
        let trimmed = text.trim_start();
        if trimmed.starts_with("#[allow(") || trimmed.starts_with("#![allow(") {
            found.push(format!(
                "{}:{line}: allow: use expect with the reason",
                source.path
            ));
        }
        if ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("]
            .iter()
            .any(|w| text.contains(w))
        {
            found.push(format!(
                "{}:{line}: TODO without an owner and a condition: finish it or delete it",
                source.path
            ));
        }
        if text.contains("thread::sleep(")
            || text.contains("time::sleep(") && source.path.starts_with("tests/")
        {
            found.push(format!("{}:{line}: sleep: wait for the event", source.path));
        }
    }
}

fn read_tree(dir: &Path) -> Vec<Source> {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    let mut sources = Vec::new();
    for path in entries {
        if path.is_dir() {
            sources.extend(read_tree(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            sources.push(Source {
                path: path.to_string_lossy().replace('\\', "/"),
                text,
            });
        }
    }
    sources
}
