//! The snapshot of numbers, projects and targets that calls are admitted by.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;

use super::numbers::sip_destination;
use super::projects::{Settings, live_cards, tariff_of_project};
use super::{Store, StoreFault};
use crate::call::directory::{Directory, Number, Project, Role, Target};
use crate::card::pin;
use crate::config::{NumberFormat, TrunkConfig};
use crate::ids::{NumberId, ProjectId, TargetId};
use crate::media::PromptSetId;
use crate::units::E164;

impl Store {
    /// `prompt_sets`: the loaded sets by name (`de`, `en`, ...); a project whose set is missing
    /// speaks its language's. `trunks`: E.164 targets go to the first one that has a proxy.
    ///
    /// # Errors
    /// The database's; a prompt set that is not loaded at all.
    pub async fn directory(
        &self,
        prompt_sets: &BTreeMap<String, PromptSetId>,
        trunks: &[TrunkConfig],
    ) -> Result<Directory, StoreFault> {
        let mut conn = self.pool().acquire().await?;
        let all: Vec<Settings> = sqlx::query_as("SELECT * FROM project ORDER BY id")
            .fetch_all(&mut *conn)
            .await?;
        let mut directory = Directory::default();
        for settings in &all {
            let project = project(&mut conn, settings, prompt_sets, trunks).await?;
            directory.projects.insert(project.id, Arc::new(project));
        }
        let numbers: Vec<(i64, i64, String, String)> =
            sqlx::query_as("SELECT id, project_id, e164, role FROM number WHERE removed_at IS NULL")
                .fetch_all(&mut *conn)
                .await?;
        for (id, project, e164, word) in numbers {
            let number = Number {
                id: NumberId::new(id),
                project: ProjectId::new(project),
                role: role(&word)?,
            };
            directory.numbers.insert(parsed(&e164)?, number);
        }
        Ok(directory)
    }
}

async fn project(
    conn: &mut AnyConnection,
    settings: &Settings,
    prompt_sets: &BTreeMap<String, PromptSetId>,
    trunks: &[TrunkConfig],
) -> Result<Project, StoreFault> {
    let prompts = prompt_sets
        .get(&settings.prompt_set)
        .or_else(|| prompt_sets.get(&settings.language))
        .copied()
        .ok_or_else(|| {
            StoreFault::damaged(format!(
                "project {:?} wants the prompt set {:?}, which is not loaded",
                settings.name, settings.prompt_set
            ))
        })?;
    let consultation: Option<String> = sqlx::query_scalar(
        "SELECT e164 FROM number WHERE project_id = $1 AND removed_at IS NULL AND role <> 'activation'
         ORDER BY CASE WHEN role = 'consultation' THEN 0 ELSE 1 END, id LIMIT 1",
    )
    .bind(settings.id)
    .fetch_optional(&mut *conn)
    .await?;
    let hold = settings.hold_pause_ms.and_then(|ms| u64::try_from(ms).ok());
    Ok(Project {
        id: ProjectId::new(settings.id),
        name: settings.name.clone(),
        prompts,
        enabled: settings.enabled == 1,
        tariff: tariff_of_project(conn, settings.id).await?,
        pin_length: entry_length(conn, settings).await?,
        accept_key: settings.accept_key == 1,
        hold_pause: hold.map(Duration::from_millis),
        show_caller: settings.show_caller == 1,
        show_note: settings.show_note == 1,
        consultation: consultation.as_deref().map(parsed).transpose()?,
        targets: targets(conn, settings, trunks).await?,
    })
}

/// The length that completes an entry: the longest PIN in use, so that a project whose PINs grew
/// takes both kinds (the short ones end with # or by the pause between digits).
async fn entry_length(conn: &mut AnyConnection, settings: &Settings) -> Result<u8, StoreFault> {
    let longest: i64 = sqlx::query_scalar(
        "SELECT COALESCE(MAX(pin_length), 0) FROM card WHERE project_id = $1 AND state <> 'storniert'",
    )
    .bind(settings.id)
    .fetch_one(&mut *conn)
    .await?;
    let cards = u64::try_from(live_cards(conn, settings.id).await?).unwrap_or(0);
    let chosen = settings.pin_length.and_then(|n| u8::try_from(n).ok());
    let issued = pin::length(cards, chosen);
    Ok(match longest {
        0 => issued,
        longest => u8::try_from(longest).unwrap_or(issued),
    })
}

async fn targets(
    conn: &mut AnyConnection,
    settings: &Settings,
    trunks: &[TrunkConfig],
) -> Result<Vec<Target>, StoreFault> {
    let rows: Vec<(i64, String, i64)> = sqlx::query_as(
        "SELECT id, address, ring_ms FROM target WHERE project_id = $1 AND removed_at IS NULL
         ORDER BY position, id",
    )
    .bind(settings.id)
    .fetch_all(conn)
    .await?;
    let mut targets = Vec::with_capacity(rows.len());
    for (id, address, ring_ms) in rows {
        let Some((uri, destination)) = resolve(&address, trunks) else {
            tracing::warn!(target_id = id, project = %settings.name, "no trunk has a proxy: this target cannot be dialled");
            continue;
        };
        targets.push(Target {
            id: TargetId::new(id),
            uri,
            destination,
            ring: Duration::from_millis(u64::try_from(ring_ms).unwrap_or(25_000)),
        });
    }
    Ok(targets)
}

/// Request-URI and address of what the operator typed.
fn resolve(address: &str, trunks: &[TrunkConfig]) -> Option<(String, SocketAddr)> {
    if let Some(destination) = sip_destination(address) {
        return Some((address.to_owned(), destination));
    }
    let number = E164::parse(address).ok()?;
    let (trunk, proxy) = trunks
        .iter()
        .find_map(|trunk| trunk.proxy.map(|proxy| (trunk, proxy)))?;
    let user = written(&number, trunk);
    Some((format!("sip:{user}@{proxy};user=phone"), proxy))
}

/// As the carrier declares that it writes numbers.
fn written(number: &E164, trunk: &TrunkConfig) -> String {
    let digits = number.digits();
    match trunk.number_format {
        NumberFormat::E164 => number.as_str().to_owned(),
        NumberFormat::Digits => digits.to_owned(),
        NumberFormat::DoubleZero => format!("00{digits}"),
        NumberFormat::National => match digits.strip_prefix(&trunk.country_code) {
            Some(national) => format!("0{national}"),
            None => format!("00{digits}"),
        },
    }
}

fn parsed(e164: &str) -> Result<E164, StoreFault> {
    E164::parse(e164).map_err(|_| StoreFault::damaged(format!("number {e164:?}")))
}

fn role(word: &str) -> Result<Role, StoreFault> {
    match word {
        "activation" => Ok(Role::Activation),
        "consultation" => Ok(Role::Consultation),
        "both" => Ok(Role::Both),
        other => Err(StoreFault::damaged(format!("role {other:?}"))),
    }
}
