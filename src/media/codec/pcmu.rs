//! µ-law (ITU-T G.711 §3, table 2): 14 bits in 8, all bits inverted.

/// What a silent line sends.
pub const SILENCE: u8 = 0xff;

const BIAS: u16 = 0x84;
const CLIP: u16 = 32_635;

/// The middle of the interval that `byte` stands for, in 16-bit samples.
pub const fn decode(byte: u8) -> i16 {
    let plain = !byte;
    let mantissa = (((plain & 0x0f) as i16) << 3) + BIAS.cast_signed();
    let magnitude = (mantissa << ((plain & 0x70) >> 4)) - BIAS.cast_signed();
    if plain & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The interval that holds `sample`; magnitudes beyond the last one are clipped.
pub const fn encode(sample: i16) -> u8 {
    let magnitude = sample.unsigned_abs();
    let biased = if magnitude > CLIP { CLIP } else { magnitude } + BIAS;
    let mut segment: u8 = 0;
    while segment < 7 && biased >> (segment + 8) != 0 {
        segment += 1;
    }
    let [_, mantissa] = (biased >> (segment + 3)).to_be_bytes();
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (segment << 4) | (mantissa & 0x0f))
}
