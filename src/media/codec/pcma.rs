//! A-law (ITU-T G.711 §3, table 1): 13 bits in 8, even bits inverted.

/// What a silent line sends.
pub const SILENCE: u8 = 0xd5;

const EVEN_BITS: u8 = 0x55;

/// The middle of the interval that `byte` stands for, in 16-bit samples.
pub const fn decode(byte: u8) -> i16 {
    let plain = byte ^ EVEN_BITS;
    let mantissa = ((plain & 0x0f) as i16) << 4;
    let magnitude = match (plain & 0x70) >> 4 {
        0 => mantissa + 8,
        segment => (mantissa + 0x108) << (segment - 1),
    };
    if plain & 0x80 == 0 { -magnitude } else { magnitude }
}

/// The interval that holds `sample`; magnitudes beyond the last one are clipped.
pub const fn encode(sample: i16) -> u8 {
    let (sign, magnitude) = if sample >= 0 {
        (0x80, sample.unsigned_abs())
    } else {
        // The intervals below zero are those above mirrored, so -1 falls into the first one.
        (0, sample.unsigned_abs() - 1)
    };
    let [high, low] = (magnitude >> 4).to_be_bytes();
    let steps = u16::from_be_bytes([high, low]);
    let mut segment: u8 = 0;
    while segment < 7 && steps >> (segment + 4) != 0 {
        segment += 1;
    }
    let shift = if segment == 0 { 0 } else { segment - 1 };
    let [_, mantissa] = (steps >> shift).to_be_bytes();
    (sign | (segment << 4) | (mantissa & 0x0f)) ^ EVEN_BITS
}
