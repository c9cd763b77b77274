//! The codecs of ours: one file and one row in [`CODECS`] each.
//!
//! Every codec here makes one byte of one sample at 8000 Hz. Deliberately absent: anything with
//! state or look-ahead; such a codec needs frames in place of bytes in this table.

pub mod pcma;
pub mod pcmu;

use crate::sdp::Codec;

/// What the media plane needs to know of a codec.
#[derive(Clone, Copy, Debug)]
pub struct CodecRow {
    pub codec: Codec,
    /// The encoding name in SDP.
    pub name: &'static str,
    /// The static payload type (RFC 3551 §6).
    pub payload_type: u8,
    pub clock_hz: u32,
    /// The byte of a silent line.
    pub silence: u8,
    pub encode: fn(i16) -> u8,
    pub decode: fn(u8) -> i16,
}

pub const CODECS: [CodecRow; 2] = [
    CodecRow {
        codec: Codec::Pcma,
        name: "PCMA",
        payload_type: 8,
        clock_hz: 8000,
        silence: pcma::SILENCE,
        encode: pcma::encode,
        decode: pcma::decode,
    },
    CodecRow {
        codec: Codec::Pcmu,
        name: "PCMU",
        payload_type: 0,
        clock_hz: 8000,
        silence: pcmu::SILENCE,
        encode: pcmu::encode,
        decode: pcmu::decode,
    },
];

/// The table's row of a codec.
pub const fn row(codec: Codec) -> &'static CodecRow {
    let [pcma, pcmu] = &CODECS;
    match codec {
        Codec::Pcma => pcma,
        Codec::Pcmu => pcmu,
    }
}

/// Rewrites samples of one codec as samples of another, in place.
pub fn transcode(from: Codec, to: Codec, samples: &mut [u8]) {
    let table = match (from, to) {
        (Codec::Pcma, Codec::Pcma) | (Codec::Pcmu, Codec::Pcmu) => return,
        (Codec::Pcma, Codec::Pcmu) => &A_TO_U,
        (Codec::Pcmu, Codec::Pcma) => &U_TO_A,
    };
    for sample in samples {
        *sample = table.get(usize::from(*sample)).copied().unwrap_or(*sample);
    }
}

/// The 16-bit sample of a byte, by table.
pub fn decode(codec: Codec, byte: u8) -> i16 {
    let table = match codec {
        Codec::Pcma => &FROM_A,
        Codec::Pcmu => &FROM_U,
    };
    table.get(usize::from(byte)).copied().unwrap_or(0)
}

/// The byte of a 16-bit sample.
pub fn encode(codec: Codec, sample: i16) -> u8 {
    match codec {
        Codec::Pcma => pcma::encode(sample),
        Codec::Pcmu => pcmu::encode(sample),
    }
}

#[expect(clippy::indexing_slicing, reason = "a byte cannot exceed 256 entries")]
static FROM_A: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte: u8 = 0;
    loop {
        table[byte as usize] = pcma::decode(byte);
        if byte == 255 {
            break;
        }
        byte += 1;
    }
    table
};

#[expect(clippy::indexing_slicing, reason = "a byte cannot exceed 256 entries")]
static FROM_U: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte: u8 = 0;
    loop {
        table[byte as usize] = pcmu::decode(byte);
        if byte == 255 {
            break;
        }
        byte += 1;
    }
    table
};

#[expect(clippy::indexing_slicing, reason = "a byte cannot exceed 256 entries")]
static A_TO_U: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte: u8 = 0;
    loop {
        table[byte as usize] = pcmu::encode(pcma::decode(byte));
        if byte == 255 {
            break;
        }
        byte += 1;
    }
    table
};

#[expect(clippy::indexing_slicing, reason = "a byte cannot exceed 256 entries")]
static U_TO_A: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte: u8 = 0;
    loop {
        table[byte as usize] = pcma::encode(pcmu::decode(byte));
        if byte == 255 {
            break;
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
