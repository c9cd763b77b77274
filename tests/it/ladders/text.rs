//! How things are written in a ladder.

use cardline::card::{LedgerReply, LedgerRequest, LineVerdict, PinVerdict};
use cardline::media::{Duck, MediaCommand, MediaEvent, PromptId, Utterance};
use cardline::sdp::Direction;
use cardline::units::TalkTime;

pub fn seconds(time: TalkTime) -> String {
    format!("{}.{:03}s", time.as_ms() / 1000, time.as_ms() % 1000)
}

/// First line, called and calling number, codecs, reasons: what a reader wants of a SIP message.
pub fn message(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let header = |name: &str| {
        let mut lines = head.split("\r\n");
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let method = header("CSeq")
        .and_then(|value| value.split(' ').nth(1))
        .unwrap_or("?");
    let mut words = match first.strip_prefix("SIP/2.0 ") {
        Some(status) => format!("{} {method}", status.split(' ').next().unwrap_or_default()),
        None => {
            let uri = first.split(' ').nth(1).unwrap_or_default();
            format!(
                "{method} {}",
                uri.trim_start_matches("sip:").trim_end_matches(":5060")
            )
        }
    };
    if first.starts_with("INVITE") {
        let from = header("From").unwrap_or_default();
        let user = from.split("sip:").nth(1).and_then(|uri| uri.split('@').next());
        words += &format!(" from={}", user.unwrap_or("?"));
    }
    if let Some(after) = header("Retry-After") {
        words += &format!(" retry-after={after}");
    }
    for line in head
        .split("\r\n")
        .filter_map(|line| line.strip_prefix("Reason: "))
    {
        words += &format!(" reason={line}");
    }
    words + &description(body)
}

fn description(body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    let codecs = body.lines().filter_map(|line| {
        let map = line.strip_prefix("a=rtpmap:")?.split(' ').nth(1)?;
        map.split('/').next().map(str::to_owned)
    });
    let codecs: Vec<String> = codecs.collect();
    let way = ["sendonly", "recvonly", "inactive"];
    let way = way.iter().find(|way| body.contains(&format!("a={way}")));
    let way = way.map(|way| format!(" {way}")).unwrap_or_default();
    format!(" sdp={}{way}", codecs.join(","))
}

fn prompts(utterance: &Utterance) -> String {
    let words: Vec<&str> = utterance.prompts.iter().map(PromptId::as_str).collect();
    words.join(" ")
}

pub fn media_command(command: &MediaCommand) -> String {
    match command {
        MediaCommand::Open { .. } => "open".to_owned(),
        MediaCommand::Update { audio } => format!("update {}", way(audio.direction)),
        MediaCommand::Play { utterance, .. } => format!("play {}", prompts(utterance)),
        MediaCommand::Ringback => "ringback".to_owned(),
        MediaCommand::Silence => "silence".to_owned(),
        MediaCommand::Bridge => "bridge".to_owned(),
        MediaCommand::Unbridge => "unbridge".to_owned(),
        MediaCommand::Mix { utterance, duck, .. } => {
            let duck = match duck {
                Duck::Db12 => "-12dB",
                Duck::None => "0dB",
            };
            format!("mix {} talk={duck}", prompts(utterance))
        }
        MediaCommand::StopMix => "stop mix".to_owned(),
        MediaCommand::Close => "close".to_owned(),
    }
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    }
}

pub fn media_event(event: &MediaEvent) -> &'static str {
    match event {
        MediaEvent::Digit(_) => "digit",
        MediaEvent::PlayEnded { .. } => "play ended",
        MediaEvent::FirstPacket => "first packet",
        MediaEvent::Lost { .. } => "lost",
        MediaEvent::Back => "back",
        MediaEvent::Closed(_) => "closed",
    }
}

/// Checkpoints and looks at the card pass unwritten: they come by the clock.
pub fn request(request: &LedgerRequest) -> Option<String> {
    Some(match request {
        LedgerRequest::OpenCdr(_) => "open row".to_owned(),
        LedgerRequest::FindLine { .. } => "find line".to_owned(),
        LedgerRequest::CheckPin { .. } => "check pin".to_owned(),
        LedgerRequest::Bind { card, line, .. } => {
            let line = if line.is_some() { "line" } else { "no line" };
            format!("bind #{card} {line}")
        }
        LedgerRequest::Reserve { card, want, .. } => format!("reserve #{card} {}", seconds(*want)),
        LedgerRequest::Renew { card, want, .. } => format!("renew #{card} {}", seconds(*want)),
        LedgerRequest::Settle(settlement) => format!(
            "settle #{} raw={} billed={}",
            settlement.card,
            seconds(settlement.raw),
            seconds(settlement.billed)
        ),
        LedgerRequest::CloseCdr(cdr) => format!(
            "close row {} raw={} billed={}",
            cdr.end_cause.as_str(),
            seconds(cdr.raw),
            seconds(cdr.billed)
        ),
        LedgerRequest::Checkpoint { .. } | LedgerRequest::ReadCard { .. } => return None,
    })
}

pub fn reply(request: &LedgerRequest, reply: &LedgerReply) -> Option<String> {
    Some(match reply {
        LedgerReply::Line(LineVerdict::Unknown) => "line unknown".to_owned(),
        LedgerReply::Line(LineVerdict::Locked) => "line locked".to_owned(),
        LedgerReply::Line(LineVerdict::Known(card)) => format!("line of #{}", card.card),
        LedgerReply::Pin(PinVerdict::Right(card)) => format!("pin of #{}", card.card),
        LedgerReply::Pin(PinVerdict::Wrong) => "pin wrong".to_owned(),
        LedgerReply::Pin(PinVerdict::Locked) => "pin locked".to_owned(),
        LedgerReply::Bound(verdict) => format!("{verdict:?}").to_lowercase(),
        LedgerReply::Reserved(grant) => {
            let last = if grant.is_last() { " last" } else { "" };
            format!("granted #{} {}{last}", grant.card(), seconds(grant.total()))
        }
        LedgerReply::Renewed { granted, last } => {
            let last = if *last { " last" } else { "" };
            format!("renewed {}{last}", seconds(*granted))
        }
        LedgerReply::NotReserved(why) => format!("not reserved: {why:?}"),
        LedgerReply::Settled { balance } => format!("settled balance={}", seconds(*balance)),
        LedgerReply::Unavailable => match request {
            LedgerRequest::Checkpoint { .. } | LedgerRequest::ReadCard { .. } => return None,
            LedgerRequest::OpenCdr(_)
            | LedgerRequest::FindLine { .. }
            | LedgerRequest::CheckPin { .. }
            | LedgerRequest::Bind { .. }
            | LedgerRequest::Reserve { .. }
            | LedgerRequest::Renew { .. }
            | LedgerRequest::Settle(_)
            | LedgerRequest::CloseCdr(_) => "unavailable".to_owned(),
        },
        LedgerReply::Done | LedgerReply::Card(_) => return None,
    })
}
