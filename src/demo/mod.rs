//! `cardline demo`: the main job on one machine, with a simulated caller and advisor.
//!
//! The daemon is the real one, on a temporary SQLite store and free loopback ports; the phones are
//! real SIP and RTP user agents. Nothing is left behind but the folder that is named at the end.

mod operator;
mod phone;
mod recording;
mod scenes;
mod screen;
mod stage;
mod talk;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use serde_json::json;

use crate::cli::Lang;
use crate::config::{CallConfig, CalledFrom, Cidr, Config, ListenAddr, NumberFormat, TrunkConfig};
use crate::driver::clock::Clock;
use crate::now::{IdSource, Instant};
use crate::sip::endpoint::{Endpoint, EndpointConfig};
use crate::switch::CallEvent;
use crate::units::TalkTime;

use operator::Operator;
use phone::{Heard, Phone, PhoneSpec};
use recording::{RATE, share_at};
use scenes::CutFigures;
use screen::Screen;
use stage::{Flop, Stage, must};

/// The demo's warning: late enough that a card of 45 s has time to talk before it.
pub const WARNING_S: u32 = 15;

/// What the command line chose.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    pub headless: bool,
    pub lang: Lang,
    /// Divides the length of the first card: 1 or 2.
    pub speed: u32,
}

/// A running daemon, as the composition root hands it over.
pub struct Daemon {
    pub sip: SocketAddr,
    pub socket: PathBuf,
    pub clock: Clock,
    pub runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon")
            .field("sip", &self.sip)
            .finish_non_exhaustive()
    }
}

/// The daemon's configuration for the demo: free ports, everything below `folder`.
pub fn daemon_config(folder: &Path) -> Config {
    let mut config = Config::default();
    config.sip.listen = vec![ListenAddr {
        udp: SocketAddr::from(([127, 0, 0, 1], 0)),
    }];
    config.media.listen = std::net::Ipv4Addr::LOCALHOST.into();
    config.media.stock = 8;
    config.call = CallConfig {
        warnings_s: vec![WARNING_S, 5],
        ..CallConfig::default()
    };
    config.store.url = format!("sqlite://{}", folder.join("cardline.db").display());
    config.admin.socket = folder.join("admin.sock");
    config.admin.http = None;
    config.trunks = vec![trunk("demo", SocketAddr::from(([127, 0, 0, 1], 0)))];
    config
}

/// What the demo found.
#[derive(Debug)]
pub struct Summary {
    pub passed: bool,
    /// For programs.
    pub document: serde_json::Value,
    /// For people.
    pub text: String,
}

/// Plays the scenes; blocks the calling thread for about two minutes.
///
/// # Errors
/// The phones or the recording cannot be set up at all; a scene that goes wrong is in the summary.
pub fn run(
    options: &DemoOptions,
    folder: &Path,
    daemon: &Daemon,
    feed: mpsc::Receiver<CallEvent>,
    ready: &str,
) -> std::io::Result<Summary> {
    let epoch = daemon.clock.mono();
    let phone = |name, tone_hz, seed| {
        Phone::start(PhoneSpec {
            name,
            peer: daemon.sip,
            tone_hz,
            seed,
            clock: daemon.clock,
            epoch,
        })
    };
    let german = options.lang == Lang::De;
    let mut stage = Stage {
        caller: phone("caller", CALLER_HZ, 1)?,
        advisor: phone("advisor", ADVISOR_HZ, 2)?,
        operator: Operator::new(&daemon.socket, options.lang, daemon.runtime.clone()),
        feed,
        screen: Screen::new(options.headless, german, epoch),
        clock: daemon.clock,
        talks: Vec::new(),
    };
    stage.screen.line(ready);
    let port = stage.advisor.sip.port();
    let talk = TalkTime::from_secs(45 / options.speed.clamp(1, 2));
    let mut scenes = Vec::new();
    let mut figures = CutFigures::default();
    let verdict = play(
        &mut stage,
        options.lang.as_str(),
        port,
        talk,
        &mut scenes,
        &mut figures,
    );
    let Stage {
        caller,
        advisor,
        talks,
        ..
    } = stage;
    let (left, right) = (caller.stop(), advisor.stop());
    let verdict = verdict.and_then(|()| both_heard_one_another(&talks, epoch, &left, &right));
    let recording = folder.join("conversation.wav");
    recording::write_stereo(&recording, &left.ear, &right.ear)?;
    Ok(summary(&Facts {
        verdict,
        scenes,
        figures,
        talk,
        left,
        right,
        recording,
    }))
}

fn play(
    stage: &mut Stage,
    language: &str,
    port: u16,
    talk: TalkTime,
    scenes: &mut Vec<(&'static str, Result<(), String>)>,
    figures: &mut CutFigures,
) -> Result<(), Flop> {
    scenes::prelude(stage, language, port)?;
    let mut note = |name: &'static str, outcome: Result<(), Flop>| {
        scenes.push((name, outcome.as_ref().copied().map_err(ToString::to_string)));
        outcome
    };
    let (card, cut) = match scenes::a_new_card(stage, talk) {
        Ok(done) => done,
        Err(flop) => return note("A", Err(flop)),
    };
    *figures = cut;
    note("A", Ok(()))?;
    note("B", scenes::b_known_line(stage, &card))?;
    note("C", scenes::c_withheld(stage, &card))?;
    note("D", scenes::d_recharge(stage, &card))?;
    let check = stage.operate("ledger check", "POST", "/api/v1/ledger/check", None)?;
    must(check["clean"] == true, || format!("ledger check: {check}"))
}

/// In each talk the advisor heard the caller's tone and the caller the advisor's.
fn both_heard_one_another(
    talks: &[(Instant, Instant)],
    epoch: Instant,
    left: &Heard,
    right: &Heard,
) -> Result<(), Flop> {
    for (from, to) in talks {
        for (who, heard, hz) in [("caller", left, ADVISOR_HZ), ("advisor", right, CALLER_HZ)] {
            let place = |at: &Instant| {
                usize::try_from(at.since(epoch).as_millis())
                    .unwrap_or(usize::MAX)
                    .saturating_mul(RATE / 1000)
            };
            let samples = heard
                .ear
                .samples()
                .get(place(from)..place(to))
                .unwrap_or_default();
            let share = share_at(samples, f64::from(hz));
            must(share > 0.5, || {
                format!("the {who} did not hear the other side's tone (share {share:.2})")
            })?;
        }
    }
    Ok(())
}

struct Facts {
    verdict: Result<(), Flop>,
    scenes: Vec<(&'static str, Result<(), String>)>,
    figures: CutFigures,
    talk: TalkTime,
    left: Heard,
    right: Heard,
    recording: PathBuf,
}

fn summary(facts: &Facts) -> Summary {
    let mut pacing = facts.left.pacing_us.clone();
    pacing.sort_unstable();
    let p99 = pacing.get(pacing.len() * 99 / 100).copied().unwrap_or(0);
    let lost = facts.left.missing + facts.right.missing;
    let passed =
        facts.verdict.is_ok() && facts.scenes.len() == 4 && facts.scenes.iter().all(|(_, s)| s.is_ok());
    let scenes: Vec<_> = facts
        .scenes
        .iter()
        .map(|(name, outcome)| json!({ "scene": name, "ok": outcome.is_ok(), "why": outcome.as_ref().err() }))
        .collect();
    let document = json!({
        "ok": passed,
        "scenes": scenes,
        "why": facts.verdict.as_ref().err().map(ToString::to_string),
        "cut_error_us": facts.figures.error_us,
        "raw_ms": facts.figures.raw.as_ms(),
        "billed_ms": facts.figures.billed.as_ms(),
        "card_ms": facts.talk.as_ms(),
        "pacing_p99_us": p99,
        "rtp_received": facts.left.received + facts.right.received,
        "rtp_lost": lost,
        "recording": facts.recording,
    });
    Summary {
        passed,
        document,
        text: text(facts, p99, lost),
    }
}

/// The summary in lines.
fn text(facts: &Facts, pacing_us: u64, lost: u64) -> String {
    let ms = |us: i64| f64::from(i32::try_from(us).unwrap_or(i32::MAX)) / 1000.0;
    let mut lines = vec![String::new()];
    for (name, outcome) in &facts.scenes {
        let word = outcome
            .as_ref()
            .map_or_else(|why| format!("✗ {why}"), |()| "✓".to_owned());
        lines.push(format!("scene {name}  {word}"));
    }
    lines.extend(facts.verdict.as_ref().err().map(|flop| format!("✗ {flop}")));
    lines.push(format!(
        "cut-off error {:+.1} ms, charged {} ms of {} ms, RTP packets lost {lost}, prompt pacing p99 {:.2} ms",
        ms(facts.figures.error_us),
        facts.figures.billed.as_ms(),
        facts.talk.as_ms(),
        ms(i64::try_from(pacing_us).unwrap_or(i64::MAX)),
    ));
    let folder = facts.recording.parent().unwrap_or(Path::new("."));
    lines.push(format!(
        "the conversation: {} (left the caller's ear, right the advisor's)",
        facts.recording.display()
    ));
    lines.push(format!("log and database: {}", folder.display()));
    lines.push("next: cp config/example.toml cardline.toml, name your trunk, then".to_owned());
    lines.push("  cardline check --config cardline.toml && cardline serve --config cardline.toml".to_owned());
    lines.join("\n")
}

/// A phone's own SIP endpoint, which takes calls from the daemon only.
fn phone_endpoint(phone: SocketAddr, daemon: SocketAddr, ids: IdSource) -> Endpoint {
    let config = Config {
        trunks: vec![trunk("daemon", daemon)],
        ..Config::default()
    };
    Endpoint::new(EndpointConfig::new(&config, vec![phone]), ids)
}

fn trunk(name: &str, peer: SocketAddr) -> TrunkConfig {
    TrunkConfig {
        name: name.to_owned(),
        peers: Cidr::parse(&peer.ip().to_string()).into_iter().collect(),
        proxy: None,
        number_format: NumberFormat::E164,
        called_from: CalledFrom::RequestUri,
        trust_pai: true,
        country_code: "49".to_owned(),
        username: None,
        password_file: None,
        inbound: true,
    }
}

const CALLER_HZ: u32 = 440;
const ADVISOR_HZ: u32 = 1000;
