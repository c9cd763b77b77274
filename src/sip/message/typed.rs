//! The values that the package rsip types for us, one normalised value at a time. Its error means
//! that our own reading decides.

use std::net::IpAddr;

use rsip::headers::typed::Tokenize;
use rsip::typed::{MediaType, media_type::Tokenizer as MediaTokenizer};

use super::{Host, Method};
use crate::sip::wire;

/// A host that is a name or an IPv4 address: rsip's `Host` decides which.
pub fn host(text: &str) -> Host {
    match rsip::Host::from(text) {
        rsip::Host::IpAddr(ip @ IpAddr::V4(_)) => Host::Ip(ip),
        rsip::Host::IpAddr(IpAddr::V6(_)) | rsip::Host::Domain(_) => Host::Name(text.to_owned()),
    }
}

/// `4711 INVITE`. The number must be below 2^31; the method keeps its case, which rsip would fold.
pub fn cseq(value: &str) -> Option<(u32, Method)> {
    let value = value.replace('\t', " ");
    let parts = rsip::typed::cseq::Tokenizer::tokenize(&value).ok()?;
    let number = wire::number(parts.seq.trim_ascii())?;
    let method = Method::parse(parts.method.trim_ascii())?;
    (number < 1 << 31).then_some((number, method))
}

/// Type and subtype in lower case.
pub fn media_type(value: &str) -> String {
    let plain = |text: &str| {
        text.split(';')
            .next()
            .unwrap_or_default()
            .trim_ascii()
            .to_ascii_lowercase()
    };
    let typed = MediaTokenizer::tokenize(value).ok();
    match typed.and_then(|parts| MediaType::try_from(parts).ok()) {
        Some(MediaType::Sdp(_)) => "application/sdp".to_owned(),
        Some(MediaType::Other(name, _)) => plain(&name),
        None => plain(value),
    }
}
