//! The prompt files against their manifest, their catalogue and the level that callers are promised
//! (prompts/README.md). Headers are read by hand, so that the loader is not its own judge.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cardline::call::speech::Grammar;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const LANGUAGES: [&str; 2] = ["de", "en"];
const RATE: usize = 16_000;
const FULL: f64 = 32_767.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    rate_hz: usize,
    files: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    text: String,
    said: Option<String>,
    kind: Kind,
    engine: String,
    version: String,
    voice: String,
    commands: Vec<String>,
    edges_ms: [f64; 2],
    licence: String,
    sha256: String,
    seconds: f64,
    dbov: f64,
    peak_dbfs: f64,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Speech,
    Tone,
}

#[derive(Deserialize)]
struct Catalogue {
    prompts: BTreeMap<String, String>,
}

fn manifest() -> Manifest {
    serde_json::from_str(&fs::read_to_string("prompts/manifest.json").unwrap()).unwrap()
}

fn grammar(language: &str) -> Grammar {
    let path = format!("prompts/{language}/grammar.toml");
    Grammar::parse(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The samples of a canonical 16-bit mono WAV of 16 kHz; anything else is told.
fn samples(bytes: &[u8]) -> Result<Vec<f64>, String> {
    let header = bytes.get(..44).ok_or("shorter than a header")?;
    let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap()) as usize;
    let tags = [&header[..4], &header[8..16], &header[36..40]];
    if tags != [b"RIFF".as_slice(), b"WAVEfmt ", b"data"] || long(16) != 16 {
        return Err("no canonical RIFF header".to_owned());
    }
    let format = (word(20), word(22), long(24), word(34));
    if format != (1, 1, RATE, 16) {
        return Err(format!("(format, channels, rate, bits) is {format:?}"));
    }
    if long(40) != bytes.len() - 44 || long(4) != bytes.len() - 8 {
        return Err("its lengths lie".to_owned());
    }
    let pairs = bytes[44..].chunks_exact(2);
    Ok(pairs
        .map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])) / FULL)
        .collect())
}

fn decibel(power: f64) -> f64 {
    10.0 * power.log10()
}

/// Active speech level after the idea of ITU-T P.56: the mean power of exactly those 20 ms frames
/// that are less than 15.9 dB below it.
fn active_level(samples: &[f64]) -> f64 {
    let frame = RATE / 50;
    let powers: Vec<f64> = samples
        .chunks_exact(frame)
        .map(|part| part.iter().map(|s| s * s).sum::<f64>() / frame as f64)
        .filter(|power| *power > 0.0)
        .collect();
    let mut level = f64::NEG_INFINITY;
    loop {
        let active: Vec<f64> = powers
            .iter()
            .copied()
            .filter(|power| decibel(*power) >= level - 15.9)
            .collect();
        let next = decibel(active.iter().sum::<f64>() / active.len() as f64);
        if next <= level + 1e-9 {
            return next;
        }
        level = next;
    }
}

/// Milliseconds before the first and after the last sample that is louder than -60 dBFS.
fn silent_edges(samples: &[f64]) -> [f64; 2] {
    let audible = |s: &f64| s.abs() > 0.001;
    let ms = |count: usize| count as f64 * 1000.0 / RATE as f64;
    let lead = samples.iter().position(audible).unwrap_or(samples.len());
    let tail = samples.iter().rev().position(audible).unwrap_or(samples.len());
    [ms(lead), ms(tail)]
}

fn faults(bytes: &[u8], entry: &Entry) -> Vec<String> {
    let samples = match samples(bytes) {
        Ok(samples) => samples,
        Err(fault) => return vec![fault],
    };
    let mut faults = Vec::new();
    let mut near = |what: &str, got: f64, want: f64, by: f64| {
        if (got - want).abs() > by {
            faults.push(format!("{what} is {got:.2}, want {want:.2} +-{by}"));
        }
    };
    let promised = match entry.kind {
        Kind::Speech => -22.0,
        Kind::Tone => -26.0,
    };
    let level = active_level(&samples);
    let peak = 20.0 * samples.iter().fold(0.0_f64, |most, s| most.max(s.abs())).log10();
    near("level in dBov", level, promised, 1.0);
    near("level in the manifest", entry.dbov, level, 0.1);
    near("peak in the manifest", entry.peak_dbfs, peak, 0.01);
    near(
        "length in the manifest",
        entry.seconds,
        samples.len() as f64 / RATE as f64,
        0.001,
    );
    for (what, got, want) in [
        (
            "silence before in ms",
            silent_edges(&samples)[0],
            entry.edges_ms[0],
        ),
        (
            "silence after in ms",
            silent_edges(&samples)[1],
            entry.edges_ms[1],
        ),
    ] {
        near(what, got, want + 10.0, 30.0);
    }
    if peak > -3.0 {
        faults.push(format!("peak is {peak:.2} dBFS, -3 at most"));
    }
    let digest: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if digest != entry.sha256 {
        faults.push("is not the file that the manifest describes".to_owned());
    }
    faults
}

#[test]
fn every_prompt_is_as_the_manifest_says_and_at_its_level() {
    let manifest = manifest();
    assert_eq!(manifest.rate_hz, RATE);
    let mut complaints = Vec::new();
    for (name, entry) in &manifest.files {
        match fs::read(Path::new("prompts").join(name)) {
            Ok(bytes) => complaints.extend(
                faults(&bytes, entry)
                    .into_iter()
                    .map(|fault| format!("{name}: {fault}")),
            ),
            Err(fault) => complaints.push(format!("{name}: {fault}")),
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_required_prompt_is_there_with_the_text_of_its_catalogue() {
    let manifest = manifest();
    let mut expected = BTreeSet::new();
    for language in LANGUAGES {
        let path = format!("prompts/{language}/catalogue.toml");
        let catalogue: Catalogue = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        for id in grammar(language).required() {
            let name = format!("{language}/{}.wav", id.as_str());
            let entry = manifest.files.get(&name);
            let entry = entry.unwrap_or_else(|| panic!("the manifest has no {name}"));
            assert_eq!(Some(&entry.text), catalogue.prompts.get(id.as_str()), "{name}");
            expected.insert(name);
        }
    }
    let listed: BTreeSet<String> = manifest.files.into_keys().collect();
    assert_eq!(listed, expected);
    assert_eq!(wav_files(), expected);
}

fn wav_files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for language in LANGUAGES {
        for file in fs::read_dir(format!("prompts/{language}")).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".wav") {
                found.insert(format!("{language}/{name}"));
            }
        }
    }
    found
}

#[test]
fn the_origin_of_every_prompt_is_told() {
    for (name, entry) in manifest().files {
        for told in [&entry.engine, &entry.version, &entry.voice, &entry.licence] {
            assert!(!told.is_empty(), "{name}");
        }
        assert!(!entry.commands.is_empty(), "{name}");
        assert_eq!(entry.said.is_some(), entry.kind == Kind::Speech, "{name}");
    }
}

#[test]
fn a_wrong_wav_is_told() {
    let good = fs::read("prompts/de/bye.wav").unwrap();
    let mut entry = manifest().files.remove("de/bye.wav").unwrap();
    let told = |bytes: &[u8], entry: &Entry| faults(bytes, entry).join("; ");
    assert_eq!(told(&good, &entry), "");

    let mut stereo = good.clone();
    stereo[22] = 2;
    assert!(told(&stereo, &entry).contains("channels"));
    assert!(told(&good[..good.len() - 2], &entry).contains("lengths"));
    assert!(told(&good[..20], &entry).contains("header"));
    let mut changed = good.clone();
    changed[5_000] ^= 1;
    assert!(told(&changed, &entry).contains("not the file"));
    let halved: Vec<u8> = (good[44..].chunks_exact(2))
        .flat_map(|pair| (i16::from_le_bytes([pair[0], pair[1]]) / 2).to_le_bytes())
        .collect();
    assert!(told(&[&good[..44], &halved].concat(), &entry).contains("level in dBov"));
    entry.edges_ms = [200.0, 100.0];
    assert!(told(&good, &entry).contains("silence before"));
}
