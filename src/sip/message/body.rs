//! Where the session description stands in a body: it is the body, or a part of a multipart one, as
//! trunks send it that carry ISUP beside it (RFC 3204, RFC 5621).

use super::{Headers, typed};
use crate::sip::wire;

const SDP: &str = "application/sdp";
/// Longest boundary (RFC 2046 §5.1.1) and most parts that are looked at.
const MAX_BOUNDARY: usize = 70;
const MAX_PARTS: usize = 16;

impl Headers {
    /// The session description's bytes; `None` for an empty body and one without any.
    pub fn sdp(&self) -> Option<&[u8]> {
        let value = self.header("Content-Type")?;
        let kind = typed::media_type(value);
        if kind == SDP {
            return (!self.body().is_empty()).then_some(self.body());
        }
        if !kind.starts_with("multipart/") {
            return None;
        }
        let (_, params) = value.split_once(';')?;
        let params = wire::params(params);
        let boundary = wire::param(&params, "boundary")?;
        let usable = (1..=MAX_BOUNDARY).contains(&boundary.len());
        usable.then(|| sdp_part(self.body(), boundary)).flatten()
    }
}

fn sdp_part<'a>(body: &'a [u8], boundary: &str) -> Option<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let (_, mut rest) = cut(body, delimiter.as_bytes())?;
    for _ in 0..MAX_PARTS {
        let (part, after) = cut(rest, delimiter.as_bytes())?;
        rest = after;
        // The rest of the delimiter's own line, the part's headers, an empty line, its content.
        let (_, part) = cut(part, b"\n")?;
        let (head, content) = match part.strip_prefix(b"\r\n") {
            Some(content) => (&b""[..], content),
            None => cut(part, b"\r\n\r\n").or_else(|| cut(part, b"\n\n"))?,
        };
        let head = String::from_utf8_lossy(head);
        let is_sdp = head.lines().any(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            wire::long_name(name.trim_ascii()).eq_ignore_ascii_case("Content-Type")
                && typed::media_type(value.trim_ascii()) == SDP
        });
        if is_sdp {
            return Some(content);
        }
    }
    None
}

/// What stands before and behind the first `mark`.
fn cut<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(mark.len()).position(|window| window == mark)?;
    Some((text.get(..at)?, text.get(at + mark.len()..)?))
}
