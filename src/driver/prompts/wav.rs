//! One prompt file to 8 kHz samples: what a WAV must be, and in words what is wrong with one.
//!
//! Deliberately absent: repair. A wrong file is mended where it was made, not here.

use std::io::Cursor;

use hound::{SampleFormat, WavReader};

/// What is wrong with a prompt file, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WavFault {
    #[error("is no WAV file (it does not begin with RIFF and WAVE); save it as WAV")]
    NotWav,
    #[error("holds {0}, not 16-bit PCM; convert it: sox IN.wav -e signed -b 16 OUT.wav")]
    Encoding(&'static str),
    #[error("has {0} bits a sample, not 16; convert it: sox IN.wav -b 16 OUT.wav")]
    Bits(u16),
    #[error("has {0} channels; make it mono: sox IN.wav -c 1 OUT.wav")]
    Channels(u16),
    #[error("has {0} samples a second; convert it to 16000 or 8000: sox IN.wav -r 16000 OUT.wav")]
    Rate(u32),
    #[error(
        "was written by a program that never filled in its length (a streaming header); rewrite it: sox --ignore-length IN.wav OUT.wav"
    )]
    Streaming,
    #[error("is cut off: the header promises more samples than there are; copy or render it again")]
    Truncated,
    #[error("cannot be read as WAV ({0}); rewrite it: sox IN.wav OUT.wav")]
    Broken(String),
    #[error("holds no samples; record it again")]
    Empty,
    #[error("holds only silence; record it again")]
    Silent,
    #[error("is clipped ({0} samples in a row at full scale); lower the level and render it again")]
    Clipped(usize),
    #[error("lasts {0} s; at most {LONGEST_S} s")]
    Long(u32),
}

/// Reads a mono 16-bit PCM file of 16 or 8 kHz and gives it at 8 kHz.
///
/// # Errors
/// The first thing that is wrong with the file.
pub fn read(bytes: &[u8]) -> Result<Vec<i16>, WavFault> {
    check_head(bytes)?;
    let reader = WavReader::new(Cursor::new(bytes)).map_err(broken)?;
    let spec = reader.spec();
    if spec.sample_format == SampleFormat::Float {
        return Err(WavFault::Encoding("floating point"));
    }
    if spec.bits_per_sample != 16 {
        return Err(WavFault::Bits(spec.bits_per_sample));
    }
    if spec.channels != 1 {
        return Err(WavFault::Channels(spec.channels));
    }
    if spec.sample_rate != MASTER_HZ && spec.sample_rate != OUT_HZ {
        return Err(WavFault::Rate(spec.sample_rate));
    }
    let seconds = reader.duration() / spec.sample_rate;
    if seconds > LONGEST_S {
        return Err(WavFault::Long(seconds));
    }
    let samples: Result<Vec<i16>, hound::Error> = reader.into_samples::<i16>().collect();
    let samples = samples.map_err(broken)?;
    check_samples(&samples)?;
    Ok(if spec.sample_rate == MASTER_HZ {
        halve(&samples)
    } else {
        samples
    })
}

/// What hound would report in its own words, or not at all: foreign encodings and lengths.
fn check_head(bytes: &[u8]) -> Result<(), WavFault> {
    if bytes.get(..4) != Some(b"RIFF") || bytes.get(8..12) != Some(b"WAVE") {
        return Err(WavFault::NotWav);
    }
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((head, body)) = rest.split_at_checked(8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if head.starts_with(b"fmt ") {
            check_encoding(body)?;
        } else if head.starts_with(b"data") {
            let endless = length >= 0xFFFF_FF00 || (length == 0 && body.len() > 1);
            return match length {
                _ if endless => Err(WavFault::Streaming),
                _ if length > body.len() => Err(WavFault::Truncated),
                _ => Ok(()),
            };
        }
        // Chunks are padded to an even length.
        rest = body.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    Err(WavFault::Truncated)
}

fn check_encoding(format: &[u8]) -> Result<(), WavFault> {
    let tag = format.first_chunk().map_or(0, |tag| u16::from_le_bytes(*tag));
    match tag {
        // PCM, and the extensible form, whose inner tag hound reads.
        1 | 0xFFFE => Ok(()),
        3 => Err(WavFault::Encoding("floating point")),
        6 => Err(WavFault::Encoding("A-law")),
        7 => Err(WavFault::Encoding("µ-law")),
        0x11 | 0x02 => Err(WavFault::Encoding("ADPCM")),
        0x31 => Err(WavFault::Encoding("GSM")),
        0x55 => Err(WavFault::Encoding("MP3")),
        _ => Err(WavFault::Encoding("an unknown encoding")),
    }
}

fn check_samples(samples: &[i16]) -> Result<(), WavFault> {
    if samples.is_empty() {
        return Err(WavFault::Empty);
    }
    if samples.iter().all(|sample| *sample == 0) {
        return Err(WavFault::Silent);
    }
    let (mut run, mut longest) = (0, 0);
    for sample in samples {
        run = if sample.unsigned_abs() >= FULL_SCALE {
            run + 1
        } else {
            0
        };
        longest = longest.max(run);
    }
    if longest >= CLIPPED_RUN {
        return Err(WavFault::Clipped(longest));
    }
    Ok(())
}

fn broken(fault: hound::Error) -> WavFault {
    match fault {
        hound::Error::IoError(_) => WavFault::Truncated,
        hound::Error::FormatError(_)
        | hound::Error::TooWide
        | hound::Error::UnfinishedSample
        | hound::Error::Unsupported
        | hound::Error::InvalidSampleFormat => WavFault::Broken(fault.to_string()),
    }
}

/// 16 kHz to 8 kHz: low-pass, then every second sample. Group delay is taken out, so the result
/// is as long as the master.
fn halve(samples: &[i16]) -> Vec<i16> {
    let taps = low_pass();
    let mut padded = vec![0i32; TAPS / 2];
    padded.extend(samples.iter().map(|sample| i32::from(*sample)));
    padded.extend([0; TAPS / 2]);
    let mut halved = Vec::with_capacity(samples.len() / 2 + 1);
    let mut rest = padded.as_slice();
    while let Some(window) = rest.first_chunk() {
        halved.push(filter(window, &taps));
        rest = rest.get(2..).unwrap_or_default();
    }
    halved
}

/// The taps mirror about the middle one, so each pair of samples is multiplied once. Written with
/// an index because an unoptimised build script runs it some eight million times.
fn filter(window: &[i32; TAPS], taps: &[i32; TAPS]) -> i16 {
    // The taps' magnitudes add up to less than 2^16: the sum of products stays below 2^31.
    let mut sum = window[TAPS / 2] * taps[TAPS / 2];
    let mut place = 0;
    while place < TAPS / 2 {
        sum += (window[place] + window[TAPS - 1 - place]) * taps[place];
        place += 1;
    }
    let rounded = (sum + (UNITY >> 1)) >> UNITY.trailing_zeros();
    i16::try_from(rounded).unwrap_or(if rounded < 0 { i16::MIN } else { i16::MAX })
}

/// A windowed sinc (Kaiser, beta 4.6: 50 dB) at 3.65 kHz: flat to 3.3 kHz, 50 dB down from 4 kHz,
/// where the halved rate would fold it back.
fn low_pass() -> [i32; TAPS] {
    let mut shape = [0f64; TAPS];
    let middle = (TAPS as f64 - 1.0) / 2.0;
    for (place, tap) in shape.iter_mut().enumerate() {
        let t = place as f64 - middle;
        let turn = 2.0 * CUTOFF_HZ / f64::from(MASTER_HZ);
        let sinc = if t == 0.0 {
            turn
        } else {
            (std::f64::consts::PI * turn * t).sin() / (std::f64::consts::PI * t)
        };
        let edge = 1.0 - (t / middle).powi(2);
        *tap = sinc * bessel_i0(BETA * edge.sqrt()) / bessel_i0(BETA);
    }
    let sum: f64 = shape.iter().sum();
    shape.map(|tap| whole(tap / sum * f64::from(UNITY)))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a tap is at most UNITY, and as rounds to zero"
)]
fn whole(tap: f64) -> i32 {
    tap.round() as i32
}

/// Modified Bessel function of the first kind, order zero, by its series.
fn bessel_i0(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..30 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

const MASTER_HZ: u32 = 16_000;
const OUT_HZ: u32 = 8_000;
/// Longest prompt.
const LONGEST_S: u32 = 120;
const FULL_SCALE: u16 = 32_767;
/// Speech at -22 dBov touches full scale for one sample at most.
const CLIPPED_RUN: usize = 8;
const TAPS: usize = 63;
const CUTOFF_HZ: f64 = 3_650.0;
const BETA: f64 = 4.6;
/// The taps' sum: 1.0 in 15 fractional bits.
const UNITY: i32 = 1 << 15;
