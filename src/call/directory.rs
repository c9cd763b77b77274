//! The snapshot of numbers, projects and targets that calls are admitted by: read-only here,
//! replaced as a whole by `Input::Directory` when the operator changes something.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::card::tariff::Tariff;
use crate::ids::{NumberId, ProjectId, TargetId};
use crate::media::PromptSetId;
use crate::units::E164;

/// Everything, by the key it is looked up with.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pub numbers: BTreeMap<E164, Number>,
    pub projects: BTreeMap<ProjectId, Arc<Project>>,
}

/// A DID of ours.
#[derive(Clone, Debug)]
pub struct Number {
    pub id: NumberId,
    pub project: ProjectId,
    pub role: Role,
}

/// What follows a fresh PIN on this number (A2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// „Nummer zum Freischalten": confirm, offer "press 1".
    Activation,
    /// „Nummer für die Beratung": connect.
    Consultation,
    /// One number for both: connects right after the confirmation.
    Both,
}

/// A project's rules, as calls need them.
#[derive(Clone, Debug)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    pub prompts: PromptSetId,
    /// An operator may switch a project off: callers get 480.
    pub enabled: bool,
    pub tariff: Tariff,
    /// PIN length that completes an entry (8..=12).
    pub pin_length: u8,
    /// Whether the advisor must press 1 (ACCEPT).
    pub accept_key: bool,
    /// Whether hold by the advisor pauses the clock, and for how long at most.
    pub hold_pause: Option<Duration>,
    /// Whether the caller's number is shown to the advisor, unless withheld.
    pub show_caller: bool,
    /// `Karte <Hinweis>` as display name towards the advisor.
    pub show_note: bool,
    /// Number of the consultation line, spoken on the activation line and sent as From.
    pub consultation: Option<E164>,
    /// In hunting order.
    pub targets: Vec<Target>,
}

/// One dialable address of an advisor.
#[derive(Clone, Debug)]
pub struct Target {
    pub id: TargetId,
    /// Request-URI.
    pub uri: String,
    pub destination: SocketAddr,
    /// 25 s by default.
    pub ring: Duration,
}
