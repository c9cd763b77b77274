//! What was heard, as a stereo WAV: the caller's ear left, the advisor's ear right.
//!
//! The header is written by hand: 44 bytes of RIFF need no package.

use std::io::{self, Write};
use std::path::Path;

/// Samples a second, both channels.
pub const RATE: usize = 8000;

/// One ear's line of time, from the demo's start; silence where nothing came.
#[derive(Debug, Default)]
pub struct Ear {
    samples: Vec<i16>,
}

impl Ear {
    /// Lays samples at a time (milliseconds since the start); late packets do not overlap earlier ones.
    pub fn put(&mut self, at_ms: u64, samples: &[i16]) {
        let wanted = usize::try_from(at_ms)
            .unwrap_or(usize::MAX)
            .saturating_mul(RATE / 1000);
        // Packets follow one another within a few milliseconds of jitter: then the line goes on unbroken.
        let jitter = 30 * RATE / 1000;
        let start = if wanted.abs_diff(self.samples.len()) <= jitter {
            self.samples.len()
        } else {
            wanted
        };
        if start > LONGEST {
            return;
        }
        if start > self.samples.len() {
            self.samples.resize(start, 0);
        }
        self.samples.truncate(start.max(self.samples.len()));
        self.samples.extend_from_slice(samples);
    }

    pub fn samples(&self) -> &[i16] {
        &self.samples
    }
}

/// Ten minutes: no demo is longer, and no peer fills the memory.
const LONGEST: usize = 600 * RATE;

/// Writes both ears as 16-bit stereo.
///
/// # Errors
/// The file cannot be written.
pub fn write_stereo(path: &Path, left: &Ear, right: &Ear) -> io::Result<()> {
    let frames = left.samples.len().max(right.samples.len());
    let bytes = u32::try_from(frames * 4).map_err(|_| io::Error::other("recording too long"))?;
    let mut out = io::BufWriter::new(std::fs::File::create(path)?);
    out.write_all(b"RIFF")?;
    out.write_all(&(36 + bytes).to_le_bytes())?;
    out.write_all(b"WAVEfmt ")?;
    out.write_all(&16u32.to_le_bytes())?;
    for half in [1u16, 2] {
        out.write_all(&half.to_le_bytes())?;
    }
    for word in [8000u32, 8000 * 4] {
        out.write_all(&word.to_le_bytes())?;
    }
    for half in [4u16, 16] {
        out.write_all(&half.to_le_bytes())?;
    }
    out.write_all(b"data")?;
    out.write_all(&bytes.to_le_bytes())?;
    for n in 0..frames {
        for ear in [left, right] {
            out.write_all(&ear.samples.get(n).copied().unwrap_or(0).to_le_bytes())?;
        }
    }
    out.flush()
}

/// Share of a block's energy at one frequency (Goertzel), 0.0 to 1.0: how the demo knows whom it hears.
pub fn share_at(samples: &[i16], hz: f64) -> f64 {
    let turn = 2.0 * (2.0 * std::f64::consts::PI * hz / 8000.0).cos();
    let (mut last, mut before, mut total) = (0.0, 0.0, 0.0);
    for sample in samples.iter().map(|s| f64::from(*s)) {
        (last, before) = (sample + turn * last - before, last);
        total += sample * sample;
    }
    let length = u32::try_from(samples.len()).map_or(1.0, f64::from);
    let power = last * last + before * before - turn * last * before;
    if total > 0.0 {
        2.0 * power / (length * total)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_does_not_tear_the_line_and_a_gap_is_silence() {
        let mut ear = Ear::default();
        ear.put(0, &[1; 160]);
        ear.put(23, &[2; 160]);
        ear.put(100, &[3; 160]);
        assert_eq!(ear.samples().len(), 800 + 160);
        assert_eq!(ear.samples()[160], 2);
        assert_eq!(ear.samples()[400], 0);
        assert_eq!(ear.samples()[800], 3);
    }

    #[test]
    fn a_tone_is_found_at_its_own_frequency_only() {
        #[expect(clippy::cast_possible_truncation, reason = "a sine of 6000 fits")]
        let tone: Vec<i16> = (0..800)
            .map(|n| (6000.0 * (f64::from(n) * 440.0 * std::f64::consts::TAU / 8000.0).sin()) as i16)
            .collect();
        assert!(share_at(&tone, 440.0) > 0.95);
        assert!(share_at(&tone, 1000.0) < 0.05);
    }
}
