//! PINs at rest: a keyed hash to look one up, a ciphertext to show it again. The key is not in the
//! database, so a stolen dump gives neither.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::StoreFault;
use crate::secret::{Pin, Secret};

/// The environment variable that goes before the key file: 64 hex digits.
const ENVIRONMENT: &str = "CARDLINE_PIN_KEY";

/// 32 bytes from which the look-up, the reveal and the line keys are derived.
#[derive(Clone, Debug)]
pub struct PinKey(Secret<[u8; 32]>);

impl PinKey {
    pub const fn from_bytes(bytes: [u8; 32]) -> PinKey {
        PinKey(Secret::new(bytes))
    }

    /// `CARDLINE_PIN_KEY`, else the file; a missing file is made with random bytes, mode 0600.
    /// `file: None` stands for `pin.key` beside the SQLite file of `url`.
    ///
    /// # Errors
    /// A key that is no 32 bytes, a file that cannot be read or made.
    pub fn find(url: &str, file: Option<&Path>) -> Result<PinKey, StoreFault> {
        if let Ok(text) = std::env::var(ENVIRONMENT) {
            return parse(&text).ok_or(StoreFault::PinKey {
                place: ENVIRONMENT.to_owned(),
                problem: "it is not 64 hex digits".to_owned(),
                cure: "make one with: openssl rand -hex 32",
            });
        }
        let beside = super::sqlite_path(url).map(|path| path.with_file_name("pin.key"));
        let Some(path) = file.map(PathBuf::from).or(beside) else {
            return Err(StoreFault::PinKey {
                place: "store.pin_key_file".to_owned(),
                problem: "it is not set, and this database has no file to put it beside".to_owned(),
                cure: "set store.pin_key_file, or CARDLINE_PIN_KEY",
            });
        };
        read_or_make(&path)
    }

    /// Tells two keys apart without telling the key.
    pub(super) fn proof(&self) -> String {
        hex(&self.mac("proof", b""))
    }

    /// Equal for equal PINs; the unique column of live cards.
    pub(super) fn look_up(&self, pin: &Pin) -> String {
        hex(&self.mac("look-up", pin.expose().as_bytes()))
    }

    /// Tells one wrong try of a call from a repeated question about it.
    pub(super) fn guess(&self, call: &str, pin: &Pin) -> String {
        hex(&self.mac("guess", format!("{call}:{}", pin.expose()).as_bytes()))
    }

    /// A line in the list of wrong tries.
    pub(super) fn line(&self, line: &str) -> String {
        hex(&self.mac("line", line.as_bytes()))
    }

    /// `nonce` must never repeat; it is drawn from 192 random bits.
    pub(super) fn seal(&self, serial: &str, pin: &Pin, nonce: [u8; 24]) -> Result<String, StoreFault> {
        let payload = Payload {
            msg: pin.expose().as_bytes(),
            aad: serial.as_bytes(),
        };
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| StoreFault::damaged("a PIN could not be encrypted"))?;
        Ok(format!("{}{}", hex(&nonce), hex(&sealed)))
    }

    pub(super) fn reveal(&self, serial: &str, sealed: &str) -> Result<Pin, StoreFault> {
        let fault = || StoreFault::damaged(format!("the PIN of card {serial} cannot be decrypted"));
        let bytes = unhex(sealed).ok_or_else(fault)?;
        let (nonce, body) = bytes.split_at_checked(24).ok_or_else(fault)?;
        let nonce: [u8; 24] = nonce.try_into().map_err(|_| fault())?;
        let payload = Payload {
            msg: body,
            aad: serial.as_bytes(),
        };
        let plain = self
            .cipher()
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| fault())?;
        std::str::from_utf8(&plain)
            .ok()
            .and_then(Pin::parse)
            .ok_or_else(fault)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.mac("reveal", b"").into())
    }

    /// HMAC-SHA256 under a key of its own per purpose.
    fn mac(&self, purpose: &str, data: &[u8]) -> [u8; 32] {
        let mut derive = keyed(self.0.expose());
        derive.update(b"cardline ");
        derive.update(purpose.as_bytes());
        let own: [u8; 32] = derive.finalize().into_bytes().into();
        let mut mac = keyed(&own);
        mac.update(data);
        mac.finalize().into_bytes().into()
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn parse(text: &str) -> Option<PinKey> {
    let bytes: [u8; 32] = unhex(text.trim())?.try_into().ok()?;
    Some(PinKey::from_bytes(bytes))
}

fn read_or_make(path: &Path) -> Result<PinKey, StoreFault> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let fault = |problem: String, cure| StoreFault::PinKey {
        place: path.display().to_string(),
        problem,
        cure,
    };
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).ok_or_else(|| {
            fault(
                "it does not hold 64 hex digits".to_owned(),
                "restore it from a backup: without it no PIN of this database works",
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let bytes = random_bytes()?;
            let written = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .and_then(|mut file| {
                    file.write_all(format!("{}\n", hex(&bytes)).as_bytes())?;
                    file.sync_all()
                });
            match written {
                Ok(()) => Ok(PinKey::from_bytes(bytes)),
                Err(error) => Err(fault(
                    error.to_string(),
                    "give the directory to the user that runs cardline",
                )),
            }
        }
        Err(error) => Err(fault(
            error.to_string(),
            "give the file to the user that runs cardline",
        )),
    }
}

/// From the operating system.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], StoreFault> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| StoreFault::PinKey {
            place: "/dev/urandom".to_owned(),
            problem: error.to_string(),
            cure: "the system must offer random bytes",
        })?;
    Ok(bytes)
}

pub(super) fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_pin_opens_only_for_its_card_and_key() {
        let key = PinKey::from_bytes([7; 32]);
        let pin = Pin::parse("1234567890").unwrap();
        let sealed = key.seal("K1", &pin, [1; 24]).unwrap();
        assert!(!sealed.contains("1234567890"));
        assert_eq!(key.reveal("K1", &sealed).unwrap(), pin);
        assert!(key.reveal("K2", &sealed).is_err());
        assert!(PinKey::from_bytes([8; 32]).reveal("K1", &sealed).is_err());
        assert!(key.reveal("K1", "zz").is_err());
        assert!(key.reveal("K1", "").is_err());
    }

    #[test]
    fn the_key_file_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin.key");
        let first = read_or_make(&path).unwrap();
        assert_eq!(first.proof(), read_or_make(&path).unwrap().proof());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(read_or_make(&path).is_err());
    }
}
