//! Digest as a client: reads challenges, writes Authorization (RFC 7616, RFC 8760; RFC 2617 for
//! those without qop).
//!
//! Deliberately absent: being a server, qop `auth-int`, the `-sess` algorithms, user hashing.

use std::fmt::Write as _;

use md5::{Digest, Md5};
use sha2::Sha256;

use crate::sip::Credentials;
use crate::sip::message::{Headers, Method, quoted};
use crate::sip::wire::{self, Split};

/// One challenge of a 401 or 407 that we can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub realm: String,
    pub nonce: String,
    pub opaque: Option<String>,
    pub algorithm: Algorithm,
    /// The server offers qop `auth`; without any qop the old form of RFC 2617 is used.
    pub qop_auth: bool,
    /// Our nonce was too old, the password was right: answer once more with the new nonce.
    pub stale: bool,
    pub by: Challenger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha256,
}

/// Who asks: the user agent itself (401) or a proxy (407).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenger {
    Server,
    Proxy,
}

impl Challenger {
    const fn header(self) -> &'static str {
        match self {
            Challenger::Server => "WWW-Authenticate",
            Challenger::Proxy => "Proxy-Authenticate",
        }
    }

    /// The header that answers.
    pub const fn answer_header(self) -> &'static str {
        match self {
            Challenger::Server => "Authorization",
            Challenger::Proxy => "Proxy-Authorization",
        }
    }
}

/// What an answer is made for.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub method: &'a Method,
    /// The Request-URI as it stands in the request.
    pub uri: &'a str,
    /// Fresh for each challenge, such as `IdSource::token`.
    pub cnonce: &'a str,
    /// How often this nonce has been used, from 1.
    pub count: u32,
}

/// The challenges of a response that we can answer, one per realm, in the server's order of
/// preference (RFC 8760 §2.4). Empty: there is no way in.
pub fn challenges(response: &Headers) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    for by in [Challenger::Server, Challenger::Proxy] {
        for line in response.headers(by.header()) {
            for challenge in split(line).into_iter().filter_map(|one| one.read(by)) {
                let known = |other: &Challenge| other.by == by && other.realm == challenge.realm;
                if found.len() < MOST_CHALLENGES && !found.iter().any(known) {
                    found.push(challenge);
                }
            }
        }
    }
    found
}

/// More realms than these no honest path has.
const MOST_CHALLENGES: usize = 8;

impl Challenge {
    /// The value of `answer_header`.
    pub fn authorize(&self, credentials: &Credentials, attempt: Attempt<'_>) -> String {
        let Attempt {
            method,
            uri,
            cnonce,
            count,
        } = attempt;
        let (user, realm, nonce) = (&credentials.username, &self.realm, &self.nonce);
        let password = credentials.password.expose();
        let who = self.algorithm.hash(&format!("{user}:{realm}:{password}"));
        let what = self.algorithm.hash(&format!("{}:{uri}", method.as_str()));
        let response = if self.qop_auth {
            format!("{who}:{nonce}:{count:08x}:{cnonce}:auth:{what}")
        } else {
            format!("{who}:{nonce}:{what}")
        };
        let response = self.algorithm.hash(&response);
        let name = match self.algorithm {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        };
        let mut value = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\", algorithm={name}",
            quoted(user),
            quoted(realm),
            quoted(nonce),
            quoted(uri),
        );
        if let Some(opaque) = &self.opaque {
            value.push_str(", opaque=");
            value.push_str(&quoted(opaque));
        }
        if self.qop_auth {
            value.push_str(&format!(", qop=auth, nc={count:08x}, cnonce={}", quoted(cnonce)));
        }
        value
    }
}

impl Algorithm {
    fn hash(self, text: &str) -> String {
        match self {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// One scheme and its parameters, as written.
struct Raw {
    scheme: String,
    params: wire::Params,
}

impl Raw {
    fn read(self, by: Challenger) -> Option<Challenge> {
        if !self.scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let get = |name| wire::param(&self.params, name);
        let algorithm = match get("algorithm") {
            None => Algorithm::Md5,
            Some(name) if name.eq_ignore_ascii_case("MD5") => Algorithm::Md5,
            Some(name) if name.eq_ignore_ascii_case("SHA-256") => Algorithm::Sha256,
            Some(_) => return None,
        };
        let mut qops = get("qop").map(|list| list.split(','));
        let qop_auth = qops
            .as_mut()
            .map(|list| list.any(|qop| qop.trim_ascii().eq_ignore_ascii_case("auth")));
        if qop_auth == Some(false) {
            return None;
        }
        Some(Challenge {
            realm: get("realm")?.to_owned(),
            nonce: get("nonce")?.to_owned(),
            opaque: get("opaque").map(str::to_owned),
            algorithm,
            qop_auth: qop_auth.is_some(),
            stale: get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            by,
        })
    }
}

/// Cuts a header line into challenges: a scheme's name is the one word that a blank separates from
/// its first parameter; all else between commas is `name=value` (RFC 7235 §2.1).
fn split(line: &str) -> Vec<Raw> {
    let mut found: Vec<Raw> = Vec::new();
    for part in Split::new(line, ',') {
        let (first, rest) = part.split_once([' ', '\t']).unwrap_or((part, ""));
        let param = if wire::is_token(first) && !rest.trim_ascii_start().starts_with('=') {
            found.push(Raw {
                scheme: first.to_owned(),
                params: Vec::new(),
            });
            rest
        } else {
            part
        };
        if let (Some(raw), Some((name, value))) = (found.last_mut(), param.split_once('=')) {
            let name = name.trim_ascii().to_owned();
            raw.params.push((name, Some(wire::unquote(value))));
        }
    }
    found
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
