//! `config/example.toml` shows every key at its built-in default.

use cardline::config;

#[test]
fn the_example_equals_the_built_in_defaults() {
    let text = std::fs::read_to_string("config/example.toml").unwrap();
    let switched_on: String = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
        .fold(String::new(), |all, line| all + line + "\n");
    let parsed = config::parse("config/example.toml", &switched_on).unwrap();
    assert_eq!(
        format!("{parsed:#?}"),
        format!("{:#?}", config::Config::default())
    );
}

#[test]
fn the_example_as_it_stands_is_accepted() {
    let text = std::fs::read_to_string("config/example.toml").unwrap();
    config::parse("config/example.toml", &text).unwrap();
}

#[test]
fn the_example_names_every_key() {
    let text = std::fs::read_to_string("config/example.toml").unwrap();
    for source in [
        "src/config/mod.rs",
        "src/config/node.rs",
        "src/config/sip.rs",
        "src/config/call.rs",
        "src/config/trunk.rs",
    ] {
        let code = std::fs::read_to_string(source).unwrap();
        for key in keys(&code) {
            let named = text.lines().any(|line| {
                line.trim_start_matches(['#', ' '])
                    .starts_with(&format!("{key} ="))
            });
            assert!(named, "config/example.toml does not name `{key}` of {source}");
        }
    }
}

/// The keys of every `Deserialize` struct: each public field, under its renamed name if it has one.
fn keys(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut renamed = None;
    let mut inside = false;
    for line in code.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            inside = rest.ends_with("Config {");
        } else if line == "}" {
            inside = false;
        } else if let Some((_, rest)) = line.split_once("rename = \"") {
            renamed = rest.split('"').next().map(str::to_owned);
        } else if inside && let Some(rest) = line.strip_prefix("pub ") {
            let field = rest.split(':').next().unwrap_or_default().to_owned();
            let section = rest.contains("Config");
            found.extend(Some(renamed.take().unwrap_or(field)).filter(|_| !section));
        }
    }
    found
}
