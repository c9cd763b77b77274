//! Which of several nodes this one is.

use std::path::PathBuf;

use serde::Deserialize;

/// This process among those that share a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Its name in the books, of its own. "": the host's name with PostgreSQL, `main` with SQLite.
    pub name: String,
    /// With PostgreSQL: the file that proves to the next start on this machine that the earlier
    /// process is dead. Default: `.node` behind the name of the admin socket.
    pub lock_file: Option<PathBuf>,
}

impl NodeConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let right = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if self.name.len() <= 64 && self.name.chars().all(right) {
            return Ok(());
        }
        Err(format!(
            "node.name = \"{}\": up to 64 letters, digits, dots, hyphens and underscores",
            self.name
        ))
    }
}
