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
/// The key that a rotation changes to, when the old one is in the environment too.
const NEXT_IN_ENVIRONMENT: &str = "CARDLINE_PIN_KEY_NEW";

/// 32 bytes from which the look-up, the reveal and the line keys are derived.
#[derive(Clone, Debug)]
pub struct PinKey {
    key: Secret<[u8; 32]>,
    /// Where it stands, or shall stand; `None`: in the environment.
    file: Option<PathBuf>,
    /// Drawn just now: the file is made once a fresh database has taken it.
    unsaved: bool,
}

impl PinKey {
    pub const fn from_bytes(bytes: [u8; 32]) -> PinKey {
        PinKey {
            key: Secret::new(bytes),
            file: None,
            unsaved: false,
        }
    }

    /// `CARDLINE_PIN_KEY`, else the file. If there is none, a key is drawn, and its file made (mode
    /// 0600) when a fresh database is opened with it.
    /// `file: None` stands for `pin.key` beside the SQLite file of `url`.
    ///
    /// # Errors
    /// A key that is no 32 bytes, a file that cannot be read.
    pub fn find(url: &str, file: Option<&Path>) -> Result<PinKey, StoreFault> {
        if let Some(key) = from_environment(ENVIRONMENT)? {
            return Ok(key);
        }
        let beside = super::sqlite_path(url).map(|path| path.with_file_name("pin.key"));
        let Some(path) = file.map(PathBuf::from).or(beside) else {
            return Err(StoreFault::PinKey {
                place: "store.pin_key_file".to_owned(),
                problem: "it is not set, and this database has no file to put it beside".to_owned(),
                cure: "set store.pin_key_file, or CARDLINE_PIN_KEY",
            });
        };
        match read(&path)? {
            Some(key) => Ok(key),
            None => Ok(PinKey {
                file: Some(path),
                unsaved: true,
                ..PinKey::from_bytes(random_bytes()?)
            }),
        }
    }

    /// The key to change to: `CARDLINE_PIN_KEY_NEW` if this one is in the environment, else that of
    /// `pin.key.new`, which is made if an earlier rotation did not leave it.
    ///
    /// # Errors
    /// A key that is no 32 bytes or none at all, a file that cannot be read or made.
    pub fn next(&self) -> Result<PinKey, StoreFault> {
        let Some(file) = &self.file else {
            return from_environment(NEXT_IN_ENVIRONMENT)?.ok_or(StoreFault::PinKey {
                place: NEXT_IN_ENVIRONMENT.to_owned(),
                problem: "it is not set, but the present key is in CARDLINE_PIN_KEY".to_owned(),
                cure: "make a key with: openssl rand -hex 32",
            });
        };
        let path = suffixed(file, ".new");
        if let Some(next) = read(&path)? {
            return Ok(next);
        }
        let next = PinKey {
            file: Some(path),
            ..PinKey::from_bytes(random_bytes()?)
        };
        next.save()?;
        Ok(next)
    }

    /// After the database has taken the key of `pin.key.new`: it becomes `pin.key`, the old one
    /// `pin.key.old`. At no moment is there no `pin.key`.
    ///
    /// # Errors
    /// The file system's; asking again goes on.
    pub fn finish_rotation(&self) -> Result<(), StoreFault> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let old = suffixed(file, ".old");
        let done = match std::fs::remove_file(&old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => std::fs::hard_link(file, &old),
        };
        done.and_then(|()| std::fs::rename(suffixed(file, ".new"), file))
            .and_then(|()| sync_folder(file))
            .map_err(|error| {
                fault(
                    file,
                    error.to_string(),
                    "give the directory to the user that runs cardline",
                )
            })
    }

    /// This key or the one of an unfinished rotation, whichever made `proof`; then its files are put
    /// in order. `proof: None`: a fresh database, which takes this key.
    ///
    /// # Errors
    /// The database was made with a key that is not here.
    pub(super) fn for_proof(self, url: &str, proof: Option<&str>) -> Result<PinKey, StoreFault> {
        let Some(proof) = proof else {
            if self.unsaved {
                self.save()?;
            }
            return Ok(self);
        };
        if self.proof() == proof {
            return Ok(self);
        }
        if let Some(file) = &self.file
            && let Some(next) = read(&suffixed(file, ".new"))?
            && next.proof() == proof
        {
            tracing::warn!(file = %file.display(), "a rotation of the PIN key broke off after its commit; it is finished now");
            self.finish_rotation()?;
            return Ok(PinKey {
                file: self.file,
                ..next
            });
        }
        let missing = self.file.as_ref().filter(|_| self.unsaved);
        Err(match missing {
            Some(file) => fault(
                file,
                format!(
                    "it is missing, and the database {} needs it",
                    super::without_password(url)
                ),
                "restore it from a backup: without it no PIN of this database works",
            ),
            None => StoreFault::PinKey {
                place: super::without_password(url),
                problem: "the database was made with another PIN key".to_owned(),
                cure: "give the key it was made with (store.pin_key_file or CARDLINE_PIN_KEY)",
            },
        })
    }

    /// Makes the file, never over another.
    fn save(&self) -> Result<(), StoreFault> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let Some(file) = &self.file else {
            return Ok(());
        };
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)
            .and_then(|mut open| {
                open.write_all(format!("{}\n", hex(self.key.expose())).as_bytes())?;
                open.sync_all()
            })
            .and_then(|()| sync_folder(file))
            .map_err(|error| {
                fault(
                    file,
                    error.to_string(),
                    "give the directory to the user that runs cardline",
                )
            })
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
        let mut derive = keyed(self.key.expose());
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

fn from_environment(name: &str) -> Result<Option<PinKey>, StoreFault> {
    let Ok(text) = std::env::var(name) else {
        return Ok(None);
    };
    parse(&text).map(Some).ok_or(StoreFault::PinKey {
        place: name.to_owned(),
        problem: "it is not 64 hex digits".to_owned(),
        cure: "make one with: openssl rand -hex 32",
    })
}

/// `None`: there is no such file.
fn read(path: &Path) -> Result<Option<PinKey>, StoreFault> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let key = parse(&text).ok_or_else(|| {
                fault(
                    path,
                    "it does not hold 64 hex digits".to_owned(),
                    "restore it from a backup: without it no PIN of this database works",
                )
            })?;
            Ok(Some(PinKey {
                file: Some(path.to_owned()),
                ..key
            }))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(
            path,
            error.to_string(),
            "give the file to the user that runs cardline",
        )),
    }
}

fn fault(path: &Path, problem: String, cure: &'static str) -> StoreFault {
    StoreFault::PinKey {
        place: path.display().to_string(),
        problem,
        cure,
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// So that a power failure does not take a file's name away.
fn sync_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
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
        let find = || PinKey::find("postgres://db/cards", Some(&path));
        let first = find().unwrap().for_proof("", None).unwrap();
        assert_eq!(first.proof(), find().unwrap().proof());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(find().is_err());
    }

    #[test]
    fn a_missing_key_file_is_not_made_for_a_database_that_has_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin.key");
        let key = PinKey::find("postgres://db/cards", Some(&path)).unwrap();
        let why = key
            .for_proof("postgres://joe:secret@db/cards", Some("other"))
            .unwrap_err();
        assert!(why.to_string().contains("missing"), "{why}");
        assert!(!why.to_string().contains("secret"), "{why}");
        assert!(!path.exists());
    }

    #[test]
    fn a_rotation_may_break_off_between_any_two_steps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin.key");
        let find = || PinKey::find("postgres://db/cards", Some(&path)).unwrap();
        let old = find().for_proof("", None).unwrap();
        let next = old.next().unwrap();
        assert_eq!(old.next().unwrap().proof(), next.proof(), "asked for again");
        // Before the commit the old key is in force.
        assert_eq!(
            find().for_proof("", Some(&old.proof())).unwrap().proof(),
            old.proof()
        );
        // After it, and with the old file linked already, the start puts the files in order.
        std::fs::hard_link(&path, dir.path().join("pin.key.old")).unwrap();
        assert_eq!(
            find().for_proof("", Some(&next.proof())).unwrap().proof(),
            next.proof()
        );
        assert_eq!(find().proof(), next.proof());
        let kept = read(&dir.path().join("pin.key.old")).unwrap().unwrap();
        assert_eq!(kept.proof(), old.proof());
        assert!(!dir.path().join("pin.key.new").exists());
    }
}
