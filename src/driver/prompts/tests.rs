use std::f64::consts::PI;
use std::io::Cursor;

use hound::{SampleFormat, WavSpec, WavWriter};

use super::*;

const MASTER: WavSpec = WavSpec {
    channels: 1,
    sample_rate: 16_000,
    bits_per_sample: 16,
    sample_format: SampleFormat::Int,
};

fn wav_of(spec: WavSpec, samples: &[i32]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
    for sample in samples {
        match spec.sample_format {
            SampleFormat::Int => writer.write_sample(*sample).unwrap(),
            SampleFormat::Float => writer.write_sample(0.1f32).unwrap(),
        }
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

/// `count` samples of a sine of half scale.
#[expect(clippy::cast_possible_truncation, reason = "half scale fits")]
fn sine(hz: f64, rate: u32, count: usize) -> Vec<i32> {
    let step = 2.0 * PI * hz / f64::from(rate);
    (0..count)
        .map(|n| ((n as f64 * step).sin() * 16_000.0) as i32)
        .collect()
}

fn refused(name: &str, bytes: &[u8], words: [&str; 2]) {
    let fault = wav::read(bytes).expect_err(name).to_string();
    for word in words {
        assert!(fault.contains(word), "{name}: {fault:?}, want {word:?}");
    }
}

#[test]
fn a_wrong_wav_is_refused_with_what_is_wrong_and_how_to_mend_it() {
    let with = |spec: WavSpec| wav_of(spec, &sine(440.0, 16_000, 160));
    for (name, bytes, words) in [
        (
            "text",
            b"hello, this is no sound at all".to_vec(),
            ["no WAV", "save it"],
        ),
        ("empty file", Vec::new(), ["no WAV", "save it"]),
        (
            "rate",
            with(WavSpec {
                sample_rate: 44_100,
                ..MASTER
            }),
            ["44100", "-r 16000"],
        ),
        (
            "stereo",
            with(WavSpec {
                channels: 2,
                ..MASTER
            }),
            ["2 channels", "-c 1"],
        ),
        (
            "24 bits",
            with(WavSpec {
                bits_per_sample: 24,
                ..MASTER
            }),
            ["24 bits", "-b 16"],
        ),
        (
            "8 bits",
            wav_of(
                WavSpec {
                    bits_per_sample: 8,
                    ..MASTER
                },
                &[1, 2, 3],
            ),
            ["8 bits", "-b 16"],
        ),
        (
            "float",
            with(WavSpec {
                bits_per_sample: 32,
                sample_format: SampleFormat::Float,
                ..MASTER
            }),
            ["floating point", "-e signed"],
        ),
    ] {
        refused(name, &bytes, words);
    }
}

#[test]
fn a_wav_of_foreign_encoding_or_broken_content_is_refused_too() {
    let good = wav_of(MASTER, &sine(440.0, 16_000, 1600));
    let changed = |at: usize, bytes: &[u8]| {
        let mut wav = good.clone();
        wav[at..at + bytes.len()].copy_from_slice(bytes);
        wav
    };
    let loud = vec![32_767; 400];
    for (name, bytes, words) in [
        ("A-law", changed(20, &[6, 0]), ["A-law", "-e signed"]),
        ("mu-law", changed(20, &[7, 0]), ["µ-law", "-e signed"]),
        ("mp3 in wav", changed(20, &[0x55, 0]), ["MP3", "-e signed"]),
        (
            "streaming",
            changed(40, &[0xff; 4]),
            ["streaming", "--ignore-length"],
        ),
        (
            "unfilled length",
            changed(40, &[0; 4]),
            ["streaming", "--ignore-length"],
        ),
        ("cut off", good[..good.len() - 100].to_vec(), ["cut off", "again"]),
        ("head only", good[..30].to_vec(), ["cut off", "again"]),
        ("no samples", wav_of(MASTER, &[]), ["no samples", "again"]),
        ("silence", wav_of(MASTER, &[0; 800]), ["silence", "again"]),
        ("clipped", wav_of(MASTER, &loud), ["clipped", "lower"]),
    ] {
        refused(name, &bytes, words);
    }
}

#[test]
fn no_cut_or_flipped_byte_of_a_head_panics() {
    let good = wav_of(MASTER, &sine(440.0, 16_000, 400));
    for at in 0..60 {
        wav::read(&good[..at]).expect_err("cut off");
        for bit in 0..8 {
            let mut wav = good.clone();
            wav[at] ^= 1 << bit;
            // Refused or read: both are answers.
            wav::read(&wav).ok();
        }
    }
}

#[test]
fn masters_are_halved_and_eight_kilohertz_is_taken_as_it_is() {
    let speech = sine(1_000.0, 16_000, 16_001);
    let halved = wav::read(&wav_of(MASTER, &speech)).unwrap();
    assert_eq!(halved.len(), 8_001);
    let telephone = WavSpec {
        sample_rate: 8_000,
        ..MASTER
    };
    let direct = wav::read(&wav_of(telephone, &sine(1_000.0, 8_000, 8_001))).unwrap();
    // Away from the edges the two are one sine, sample for sample.
    for (n, (a, b)) in halved.iter().zip(&direct).enumerate().skip(40).take(7_900) {
        assert!((a - b).abs() < 60, "sample {n}: {a} and {b}");
    }
}

#[test]
fn what_eight_kilohertz_cannot_carry_is_gone_and_speech_stays() {
    for (hz, least, most) in [
        (300.0, 15_800, 16_200),
        (1_000.0, 15_800, 16_200),
        (3_000.0, 15_500, 16_300),
        (4_200.0, 0, 80),
        (5_000.0, 0, 80),
        (7_500.0, 0, 80),
    ] {
        let halved = wav::read(&wav_of(MASTER, &sine(hz, 16_000, 16_000))).unwrap();
        let peak = halved[100..7_900].iter().map(|s| s.unsigned_abs()).max().unwrap();
        assert!((least..=most).contains(&peak), "{hz} Hz comes out at {peak}");
    }
}

#[test]
fn the_built_in_prompts_are_complete_in_both_languages() {
    let prompts = load(None).unwrap();
    assert!(prompts.count >= 2 * 150, "{}", prompts.count);
    for (set, grammar) in &prompts.grammars {
        for id in grammar.required() {
            assert!(prompts.bank.has(*set, &id), "{id:?}");
        }
    }
    assert_eq!(prompts.sets["de"], PromptSetId(0));
}

#[test]
fn a_missing_or_wrong_file_in_a_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |words: &[&str]| {
        let fault = load(Some(dir.path())).unwrap_err().to_string();
        for word in words {
            assert!(fault.contains(word), "{fault:?}, want {word:?}");
        }
    };
    refused(&["language de", "missing"]);
    for language in ["de", "en"] {
        std::fs::create_dir(dir.path().join(language)).unwrap();
    }
    std::fs::write(dir.path().join("de/readme.txt"), "").unwrap();
    refused(&["de: grammar.toml", "missing"]);
    std::fs::write(dir.path().join("de/grammar.toml"), "language = 7").unwrap();
    refused(&["de/grammar.toml"]);
    std::fs::write(
        dir.path().join("de/grammar.toml"),
        unpack(PACK)["de/grammar.toml"],
    )
    .unwrap();
    refused(&["de:", "prompts are missing", ".wav", "..."]);
    std::fs::write(dir.path().join("de/welcome.wav"), "RIFF").unwrap();
    refused(&["de/welcome.wav", "no WAV file"]);
}
