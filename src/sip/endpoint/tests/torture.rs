//! What the endpoint answers to the torture messages of RFC 4475 and RFC 5118: each has the verdict
//! that the RFC gives, or one that it allows.

use std::fmt::Write as _;
use std::path::Path;

use expect_test::expect_file;

use super::solo::{PEER, Solo};

#[test]
fn each_torture_message_gets_the_answer_of_its_rfc() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torture");
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let mut table = String::new();
    for path in names {
        let mut solo = Solo::new();
        solo.datagram(PEER, std::fs::read(&path).unwrap());
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let said: Vec<&str> = solo
            .ladder
            .lines()
            .map(|line| line.split(" |").next().unwrap_or(line))
            .collect();
        writeln!(table, "{name}: {}", said.join(", ")).unwrap();
    }
    expect_file!["torture.txt"].assert_eq(&table);
}
