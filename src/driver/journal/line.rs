//! One line of the journal: a checksum, a blank, and an order or a mark as JSON.
//!
//! ```text
//! 1c291ca3 {"id":7,"at":1764057600000,"epoch":3,"order":"settle","call":"...","card":5,...}
//! ```
//! No PIN is in any order; callers' numbers are, which is why the file is private.

use serde::{Deserialize, Serialize};

use crate::call::cdr::{CallAttempt, Cdr, EndCause};
use crate::card::{CdrOpening, LedgerRequest, Settlement};
use crate::ids::{CallKey, CardId, NumberId, ProjectId, TargetId};
use crate::media::LegStats;
use crate::now::UnixTime;
use crate::sdp::Codec;
use crate::units::{E164, TalkTime};

/// What a line says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub id: u64,
    /// Milliseconds since 1970 UTC: when it was written.
    pub at: i64,
    /// The node's epoch then: a later one means that others may have settled the call.
    pub epoch: i64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(super) enum What {
    OpenCdr(Opening),
    Checkpoint {
        call: String,
        card: i64,
        used_ms: i64,
    },
    Settle {
        call: String,
        card: i64,
        raw_ms: i64,
        billed_ms: i64,
    },
    CloseCdr(Box<Closing>),
    /// The order with this id is in the books.
    Done,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Opening {
    call: String,
    project: Option<i64>,
    number: Option<i64>,
    trunk: String,
    called: Option<String>,
    caller: Option<String>,
    sip_call_id: String,
    invited_at: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Closing {
    call: String,
    card: Option<i64>,
    target: Option<i64>,
    answered_at: Option<i64>,
    ringing_at: Option<i64>,
    advisor_answered_at: Option<i64>,
    bridged_at: Option<i64>,
    ended_at: i64,
    hold_ms: i64,
    raw_ms: i64,
    billed_ms: i64,
    end_cause: String,
    warnings_s: Vec<u32>,
    codec: Option<u8>,
    stats_a: Stats,
    stats_b: Stats,
    tariff_version: Option<i64>,
    attempts: Vec<(i64, i64, u16)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stats {
    received: u64,
    lost: u64,
    sent: u64,
    jitter_us: u32,
    foreign: u64,
}

impl Line {
    /// With its checksum and the end of the line.
    pub fn text(&self) -> String {
        let json = serde_json::to_string(self).expect("strings and numbers always serialize");
        format!("{:08x} {json}\n", crc32(json.as_bytes()))
    }

    /// `None`: the checksum is wrong, or a newer program wrote it.
    pub fn parse(text: &str) -> Option<Line> {
        let (sum, json) = text.split_once(' ')?;
        let same = u32::from_str_radix(sum, 16) == Ok(crc32(json.as_bytes()));
        same.then(|| serde_json::from_str(json).ok()).flatten()
    }
}

impl What {
    /// `None`: a question, which nobody waits for once the database is back.
    pub fn of(request: &LedgerRequest) -> Option<What> {
        match request {
            LedgerRequest::OpenCdr(opening) => Some(What::OpenCdr(Opening::of(opening))),
            LedgerRequest::Checkpoint { call, card, used } => Some(What::Checkpoint {
                call: call.to_string(),
                card: card.get(),
                used_ms: used.as_ms(),
            }),
            LedgerRequest::Settle(settlement) => {
                let Settlement {
                    call,
                    card,
                    raw,
                    billed,
                } = settlement;
                Some(What::Settle {
                    call: call.to_string(),
                    card: card.get(),
                    raw_ms: raw.as_ms(),
                    billed_ms: billed.as_ms(),
                })
            }
            LedgerRequest::CloseCdr(cdr) => Some(What::CloseCdr(Box::new(Closing::of(cdr)))),
            LedgerRequest::FindLine { .. }
            | LedgerRequest::CheckPin { .. }
            | LedgerRequest::Bind { .. }
            | LedgerRequest::Reserve { .. }
            | LedgerRequest::Renew { .. }
            | LedgerRequest::ReadCard { .. } => None,
        }
    }

    /// `None` for a mark, and for words that this program does not know.
    pub fn order(&self) -> Option<LedgerRequest> {
        match self {
            What::OpenCdr(opening) => Some(LedgerRequest::OpenCdr(Box::new(opening.order()?))),
            What::Checkpoint { call, card, used_ms } => Some(LedgerRequest::Checkpoint {
                call: CallKey::parse(call)?,
                card: CardId::new(*card),
                used: TalkTime::from_ms(*used_ms),
            }),
            What::Settle {
                call,
                card,
                raw_ms,
                billed_ms,
            } => Some(LedgerRequest::Settle(Settlement {
                call: CallKey::parse(call)?,
                card: CardId::new(*card),
                raw: TalkTime::from_ms(*raw_ms),
                billed: TalkTime::from_ms(*billed_ms),
            })),
            What::CloseCdr(closing) => Some(LedgerRequest::CloseCdr(Box::new(closing.order()?))),
            What::Done => None,
        }
    }
}

impl Opening {
    fn of(opening: &CdrOpening) -> Opening {
        let CdrOpening {
            call,
            project,
            number,
            trunk,
            called,
            caller,
            sip_call_id,
            invited_at,
        } = opening;
        let text = |number: &Option<E164>| number.as_ref().map(|number| number.as_str().to_owned());
        Opening {
            call: call.to_string(),
            project: project.map(ProjectId::get),
            number: number.map(NumberId::get),
            trunk: trunk.clone(),
            called: text(called),
            caller: text(caller),
            sip_call_id: sip_call_id.clone(),
            invited_at: invited_at.as_ms(),
        }
    }

    fn order(&self) -> Option<CdrOpening> {
        let number = |text: &Option<String>| text.as_ref().and_then(|text| E164::parse(text).ok());
        Some(CdrOpening {
            call: CallKey::parse(&self.call)?,
            project: self.project.map(ProjectId::new),
            number: self.number.map(NumberId::new),
            trunk: self.trunk.clone(),
            called: number(&self.called),
            caller: number(&self.caller),
            sip_call_id: self.sip_call_id.clone(),
            invited_at: UnixTime::from_ms(self.invited_at),
        })
    }
}

impl Closing {
    fn of(cdr: &Cdr) -> Closing {
        let Cdr {
            call,
            card,
            target,
            answered_at,
            ringing_at,
            advisor_answered_at,
            bridged_at,
            ended_at,
            hold,
            raw,
            billed,
            end_cause,
            warnings_s,
            codec,
            stats_a,
            stats_b,
            tariff_version,
            attempts,
        } = cdr;
        let attempt = |a: &CallAttempt| (a.target.get(), a.dialled_at.as_ms(), a.status);
        Closing {
            call: call.to_string(),
            card: card.map(CardId::get),
            target: target.map(TargetId::get),
            answered_at: answered_at.map(UnixTime::as_ms),
            ringing_at: ringing_at.map(UnixTime::as_ms),
            advisor_answered_at: advisor_answered_at.map(UnixTime::as_ms),
            bridged_at: bridged_at.map(UnixTime::as_ms),
            ended_at: ended_at.as_ms(),
            hold_ms: hold.as_ms(),
            raw_ms: raw.as_ms(),
            billed_ms: billed.as_ms(),
            end_cause: end_cause.as_str().to_owned(),
            warnings_s: warnings_s.clone(),
            codec: codec.map(payload_type),
            stats_a: Stats::of(stats_a),
            stats_b: Stats::of(stats_b),
            tariff_version: *tariff_version,
            attempts: attempts.iter().map(attempt).collect(),
        }
    }

    fn order(&self) -> Option<Cdr> {
        let time = |at: Option<i64>| at.map(UnixTime::from_ms);
        let attempts = self.attempts.iter().map(|(target, at, status)| CallAttempt {
            target: TargetId::new(*target),
            dialled_at: UnixTime::from_ms(*at),
            status: *status,
        });
        Some(Cdr {
            call: CallKey::parse(&self.call)?,
            card: self.card.map(CardId::new),
            target: self.target.map(TargetId::new),
            answered_at: time(self.answered_at),
            ringing_at: time(self.ringing_at),
            advisor_answered_at: time(self.advisor_answered_at),
            bridged_at: time(self.bridged_at),
            ended_at: UnixTime::from_ms(self.ended_at),
            hold: TalkTime::from_ms(self.hold_ms),
            raw: TalkTime::from_ms(self.raw_ms),
            billed: TalkTime::from_ms(self.billed_ms),
            end_cause: EndCause::parse(&self.end_cause)?,
            warnings_s: self.warnings_s.clone(),
            codec: self.codec.and_then(codec),
            stats_a: self.stats_a.figures(),
            stats_b: self.stats_b.figures(),
            tariff_version: self.tariff_version,
            attempts: attempts.collect(),
        })
    }
}

impl Stats {
    fn of(stats: &LegStats) -> Stats {
        let LegStats {
            received,
            lost,
            sent,
            jitter_us,
            // A monotonic time means nothing to a later life.
            last_packet: _,
            foreign,
        } = stats;
        Stats {
            received: *received,
            lost: *lost,
            sent: *sent,
            jitter_us: *jitter_us,
            foreign: *foreign,
        }
    }

    fn figures(&self) -> LegStats {
        LegStats {
            received: self.received,
            lost: self.lost,
            sent: self.sent,
            jitter_us: self.jitter_us,
            last_packet: None,
            foreign: self.foreign,
        }
    }
}

/// RFC 3551, table 4.
const fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
    }
}

const fn codec(payload_type: u8) -> Option<Codec> {
    match payload_type {
        0 => Some(Codec::Pcmu),
        8 => Some(Codec::Pcma),
        _ => None,
    }
}

/// CRC-32 (ISO 3309), bit by bit: a line is a few hundred bytes.
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = sum & 1;
            sum >>= 1;
            if carry == 1 {
                sum ^= 0xedb8_8320;
            }
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    fn closing() -> Cdr {
        Cdr {
            call: CallKey::new(u64::MAX),
            card: Some(CardId::new(5)),
            target: Some(TargetId::new(2)),
            answered_at: Some(UnixTime::from_ms(1)),
            ringing_at: None,
            advisor_answered_at: Some(UnixTime::from_ms(2)),
            bridged_at: Some(UnixTime::from_ms(3)),
            ended_at: UnixTime::from_ms(4),
            hold: TalkTime::from_ms(5),
            raw: TalkTime::from_ms(6),
            billed: TalkTime::from_ms(7),
            end_cause: EndCause::StoreDown,
            warnings_s: vec![60, 10],
            codec: Some(Codec::Pcma),
            stats_a: LegStats {
                received: 9,
                jitter_us: 11,
                ..LegStats::default()
            },
            stats_b: LegStats::default(),
            tariff_version: Some(3),
            attempts: vec![CallAttempt {
                target: TargetId::new(2),
                dialled_at: UnixTime::from_ms(8),
                status: 200,
            }],
        }
    }

    #[test]
    fn each_order_comes_back_as_it_went() {
        let opening = CdrOpening {
            call: CallKey::new(7),
            project: Some(ProjectId::new(1)),
            number: None,
            trunk: "carrier".to_owned(),
            called: Some(E164::parse("+493023125101").unwrap()),
            caller: None,
            sip_call_id: "a\u{7f}\n\"b\"@c".to_owned(),
            invited_at: UnixTime::from_ms(-1),
        };
        let orders = [
            LedgerRequest::OpenCdr(Box::new(opening)),
            LedgerRequest::Checkpoint {
                call: CallKey::new(7),
                card: CardId::new(5),
                used: TalkTime::from_secs(10),
            },
            LedgerRequest::Settle(Settlement {
                call: CallKey::new(7),
                card: CardId::new(5),
                raw: TalkTime::from_ms(10_001),
                billed: TalkTime::from_ms(11_000),
            }),
            LedgerRequest::CloseCdr(Box::new(closing())),
        ];
        for order in orders {
            let what = What::of(&order).unwrap();
            let line = Line {
                id: 1,
                at: 2,
                epoch: 3,
                what,
            };
            let text = line.text();
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            let back = Line::parse(text.trim_end()).unwrap();
            let found = back.what.order().unwrap();
            assert_eq!(format!("{found:?}"), format!("{order:?}"));
            // One wrong bit anywhere is noticed.
            for at in 0..text.len() - 1 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                let changed = String::from_utf8(bytes).ok();
                let parsed = changed
                    .as_deref()
                    .and_then(|text| Line::parse(text.trim_end_matches('\n')));
                assert!(parsed.is_none(), "byte {at} of {text}");
            }
        }
    }
}
