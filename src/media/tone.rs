//! Tones that need no recording: German ringback and the two warning beeps.

use std::f64::consts::TAU;

const RATE_HZ: f64 = 8000.0;

/// German ringback: 425 Hz, 1 s on (the 4 s off are counted by who plays it).
pub const RINGBACK_HZ: f64 = 425.0;
/// Samples of one ringback burst, and of burst and pause together.
pub const RINGBACK_ON: usize = 8_000;
pub const RINGBACK_CYCLE: usize = 40_000;

/// One stretch of a tone; silence if `hz` is 0.
struct Stretch {
    hz: f64,
    ms: u16,
    /// Peak, 0..=32767.
    peak: f64,
}

/// One ringback burst at about -16 dBm0.
pub fn ringback() -> Vec<i16> {
    render(&[Stretch {
        hz: RINGBACK_HZ,
        ms: 1000,
        peak: 5_000.0,
    }])
}

/// Three soft tones: ten seconds left.
pub fn beep_10() -> Vec<i16> {
    let tone = || Stretch {
        hz: 800.0,
        ms: 120,
        peak: 3_000.0,
    };
    let pause = || Stretch {
        hz: 0.0,
        ms: 130,
        peak: 0.0,
    };
    render(&[tone(), pause(), tone(), pause(), tone()])
}

/// A double tone, for the advisor only: one minute left.
pub fn adv_beep_60() -> Vec<i16> {
    render(&[
        Stretch {
            hz: 620.0,
            ms: 150,
            peak: 3_000.0,
        },
        Stretch {
            hz: 0.0,
            ms: 100,
            peak: 0.0,
        },
        Stretch {
            hz: 480.0,
            ms: 150,
            peak: 3_000.0,
        },
    ])
}

/// Renders stretches one after the other, each eased in and out over 5 ms so that nothing clicks.
fn render(stretches: &[Stretch]) -> Vec<i16> {
    let mut samples = Vec::new();
    for stretch in stretches {
        let count = u32::from(stretch.ms) * 8;
        for n in 0..count {
            let edge = f64::from(n.min(count - 1 - n));
            let ease = (edge / 40.0).min(1.0);
            let value = stretch.peak * ease * (TAU * stretch.hz * f64::from(n) / RATE_HZ).sin();
            samples.push(to_sample(value));
        }
    }
    samples
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "clamped to the range of i16 first"
)]
fn to_sample(value: f64) -> i16 {
    value.round().clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
}
