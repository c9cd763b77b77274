//! Conformance of every row of [`CODECS`].

use proptest::prelude::*;

use super::*;

/// Decision values and outputs of G.711 tables 1a and 2a, scaled to 16 bits.
const REFERENCE: [(Codec, u8, i16); 24] = [
    (Codec::Pcma, 0xd5, 8),
    (Codec::Pcma, 0x55, -8),
    (Codec::Pcma, 0xd4, 24),
    (Codec::Pcma, 0xda, 248),
    (Codec::Pcma, 0xc5, 264),
    (Codec::Pcma, 0xca, 504),
    (Codec::Pcma, 0xf5, 528),
    (Codec::Pcma, 0xe5, 1_056),
    (Codec::Pcma, 0x95, 2_112),
    (Codec::Pcma, 0x85, 4_224),
    (Codec::Pcma, 0xb5, 8_448),
    (Codec::Pcma, 0xa5, 16_896),
    (Codec::Pcma, 0xaa, 32_256),
    (Codec::Pcma, 0x2a, -32_256),
    (Codec::Pcmu, 0xff, 0),
    (Codec::Pcmu, 0xfe, 8),
    (Codec::Pcmu, 0x7e, -8),
    (Codec::Pcmu, 0xf0, 120),
    (Codec::Pcmu, 0xef, 132),
    (Codec::Pcmu, 0xdf, 396),
    (Codec::Pcmu, 0xcf, 924),
    (Codec::Pcmu, 0x8f, 16_764),
    (Codec::Pcmu, 0x80, 32_124),
    (Codec::Pcmu, 0x00, -32_124),
];

#[test]
fn the_tables_hold_the_values_of_g711() {
    for (codec, byte, sample) in REFERENCE {
        assert_eq!(decode(codec, byte), sample, "{codec:?} {byte:#04x}");
        assert_eq!(encode(codec, sample), byte, "{codec:?} {sample}");
    }
}

#[test]
fn every_row_stands_where_its_codec_finds_it() {
    for codec in CODECS {
        assert_eq!(row(codec.codec).name, codec.name);
        assert_eq!(codec.clock_hz, 8000);
        assert!((codec.decode)(codec.silence).abs() <= 8);
    }
}

#[test]
fn every_byte_survives_decoding_and_encoding() {
    for codec in CODECS {
        for byte in 0..=u8::MAX {
            let sample = (codec.decode)(byte);
            let again = (codec.encode)(sample);
            // Minus zero of µ-law is zero.
            assert!(
                again == byte || sample == 0,
                "{} {byte:#04x} -> {again:#04x}",
                codec.name
            );
            assert_eq!(decode(codec.codec, byte), sample);
            assert_eq!((codec.decode)(again), sample);
        }
    }
}

#[test]
fn every_sample_goes_to_the_nearest_interval_and_order_is_kept() {
    for codec in CODECS {
        let mut before = i16::MIN;
        for sample in i16::MIN..=i16::MAX {
            let heard = (codec.decode)((codec.encode)(sample));
            assert!(heard >= before, "{} {sample}", codec.name);
            before = heard;
            let error = (i32::from(heard) - i32::from(sample)).abs();
            let clipped = i32::from(sample).abs() > 32_124;
            // Half of the widest interval is 1/32 of the value; µ-law's clip costs a little more.
            assert!(
                error <= 16.max((i32::from(sample).abs() + 132) / 31) || clipped,
                "{} {sample} -> {heard}",
                codec.name
            );
        }
    }
}

#[test]
fn transcoding_is_decoding_and_encoding() {
    for from in CODECS {
        for to in CODECS {
            let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
            transcode(from.codec, to.codec, &mut bytes);
            for byte in 0..=u8::MAX {
                let expected = if from.codec == to.codec {
                    byte
                } else {
                    (to.encode)((from.decode)(byte))
                };
                assert_eq!(bytes[usize::from(byte)], expected);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_transcoded_talk_stays_within_a_step(sample: i16) {
        let mut byte = [encode(Codec::Pcma, sample)];
        transcode(Codec::Pcma, Codec::Pcmu, &mut byte);
        let heard = i32::from(decode(Codec::Pcmu, byte[0]));
        prop_assert!((heard - i32::from(sample)).abs() <= 20.max(i32::from(sample).abs() / 14));
    }
}
