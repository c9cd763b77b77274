//! PINs and digits reach no log and no `Debug`; caller numbers are masked from INFO up (I17).

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::Level;

use crate::sim::{Wish, build};

/// Collects what the log would hold.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_whole_pin_call_leaves_no_digit_in_any_log() {
    let mut talked = 0;
    for seed in 0..5 {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        let wish = Wish {
            polite: true,
            ..Wish::default()
        };
        let mut world = build::world(seed, wish);
        world.spied = Some(Vec::new());
        tracing::subscriber::with_default(subscriber, || world.run());
        let spied = world.spied.take().unwrap();
        let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let asked = spied.iter().filter(|line| line.contains("CheckPin")).count();
        let bridged = log.lines().filter(|line| line.contains("bridged")).count();
        talked += asked.min(bridged);
        let pins: Vec<&String> = world.cast.pins.values().flatten().collect();
        let lines = log.lines().chain(spied.iter().map(String::as_str));
        for line in lines.map(without_keys) {
            let pin = pins.iter().find(|pin| shows(&line, pin));
            assert!(pin.is_none(), "seed {seed}: part of PIN {pin:?} in {line:?}");
        }
        masked(seed, &log, &spied);
    }
    assert!(
        talked >= 3,
        "the calls of these seeds entered {talked} PINs and talked"
    );
}

/// The caller's number is whole on the wire only.
fn masked(seed: u64, log: &str, spied: &[String]) {
    let loud = log.lines().filter(|line| {
        ["INFO", "WARN", "ERROR"]
            .iter()
            .any(|level| line.trim_start().starts_with(level))
    });
    for line in loud.chain(spied.iter().map(String::as_str)) {
        assert!(
            !line.contains("4917612345"),
            "seed {seed}: a caller number in {line:?}"
        );
    }
}

/// Whether four digits in a row of the PIN stand in the line.
fn shows(line: &str, pin: &str) -> bool {
    (0..=pin.len() - 4).any(|at| line.contains(&pin[at..at + 4]))
}

/// The line without random keys and times, which hold any digits by chance; a PIN has 12 at most.
fn without_keys(line: &str) -> String {
    let word = |c: char| !c.is_ascii_alphanumeric();
    let random = |token: &str| token.len() >= 13 && token.bytes().all(|b| b.is_ascii_hexdigit());
    line.split(word)
        .filter(|token| !random(token))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_guard_sees_a_planted_pin() {
    assert!(shows("digit 4711 typed", "90471138"));
    assert!(!shows("digit 471 typed", "90471138"));
    let line = "call=00aa11bb22cc33dd at=1790000141870 pin=4711";
    assert!(shows(&without_keys(line), "90471138"));
    assert!(!shows(&without_keys(line), "90141838"));
}
