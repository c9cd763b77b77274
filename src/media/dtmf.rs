//! Key presses as telephone-events (RFC 4733): many packets in, one digit per press out; and the
//! other way, one press as a packet train for the advisor's leg.
//!
//! ```text
//!  packet   seq 10 ts 800  event 5  dur  160   <- the press is reported here, marker or not
//!           seq 11 ts 800  event 5  dur  320   same key
//!           seq 12 ts 800  event 5  dur  480 E same key; sent three times, each may be lost
//!           seq 15 ts 2400 event 5  dur  160   the next press
//! ```
//!
//! Deliberately absent: in-band tones, and the keys A to D and all line events, which are ignored.

use std::collections::VecDeque;
use std::time::Duration;

use crate::fault::{self, Fault};
use crate::media::rtp::RtpTime;
use crate::now::Instant;
use crate::secret::Digit;

/// Two runs of the same key closer than this are one press whose timestamp was changed midway
/// (product.md 3.2).
const SAME_KEY: Duration = Duration::from_millis(40);
/// The same on the sender's own clock, which no network jitter blurs. Samples.
const SAME_KEY_SAMPLES: i32 = 320;
/// An older timestamp is a straggler only this long after the last packet; later on, the sender has
/// begun a new line.
const STRAGGLER: Duration = Duration::from_secs(2);
/// A press without news and without its end for this long has been let go.
const LET_GO: Duration = Duration::from_millis(100);

/// Event packets of a train come this often.
const UPDATE: Duration = Duration::from_millis(20);
const UPDATE_SAMPLES: u16 = 160;
/// The shortest press that is relayed; phones and switches want at least 40 ms. Samples; 80 ms.
const SHORTEST: u16 = 640;
/// The longest one: the duration field must not wrap. Samples; 8 s.
const LONGEST: u16 = 64_000;
/// Pause between two trains.
const TRAIN_GAP: Duration = Duration::from_millis(40);
/// The end is sent three times (RFC 4733 §2.5.1.4).
const END_PACKETS: u8 = 3;
/// -10 dBm0, a usual level of a key tone.
const VOLUME: u8 = 10;
/// Presses that may wait behind the one being sent.
const QUEUE_LIMIT: usize = 16;

/// The payload of one event packet (RFC 4733 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPayload {
    pub event: u8,
    pub end: bool,
    /// -dBm0, 0..=63.
    pub volume: u8,
    /// Samples since the start of the event.
    pub duration: u16,
}

impl EventPayload {
    /// Reads the first four bytes; `None` if there are fewer. The reserved bit is ignored.
    pub fn read(payload: &[u8]) -> Option<EventPayload> {
        let [event, flags, high, low] = *payload.first_chunk::<4>()?;
        Some(EventPayload {
            event,
            end: flags & 0x80 != 0,
            volume: flags & 0x3f,
            duration: u16::from_be_bytes([high, low]),
        })
    }

    pub fn to_bytes(self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        let flags = if self.end { 0x80 } else { 0 } | self.volume & 0x3f;
        [self.event, flags, high, low]
    }
}

/// What an event packet means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyNews {
    /// A key went down.
    Pressed(Digit),
    /// The key of the last `Pressed` was let go.
    Released,
    /// Nothing new: an update, a repeat, a straggler, or no digit at all.
    Nothing,
}

/// Finds the presses in one leg's event packets.
#[derive(Debug, Default)]
pub struct KeyReader {
    last: Option<Press>,
    /// SSRC and timestamp of the last press that an earlier process has dealt with.
    passed: Option<(u32, RtpTime)>,
}

#[derive(Clone, Copy, Debug)]
struct Press {
    ssrc: u32,
    time: RtpTime,
    digit: Digit,
    /// The longest duration seen, samples.
    duration: u16,
    last_packet: Instant,
    down: bool,
}

impl KeyReader {
    /// A reader that knows which press was the last one, but not which key.
    pub fn after(passed: Option<(u32, u32)>) -> KeyReader {
        KeyReader {
            last: None,
            passed: passed.map(|(ssrc, time)| (ssrc, RtpTime::new(time))),
        }
    }

    /// SSRC and timestamp of the last press.
    pub fn last_press(&self) -> Option<(u32, u32)> {
        let last = self.last.map(|press| (press.ssrc, press.time));
        last.or(self.passed).map(|(ssrc, time)| (ssrc, time.get()))
    }

    /// Takes one event packet of the leg's peer. The sequence number is of no use here: repeats
    /// have new ones.
    pub fn read(&mut self, now: Instant, ssrc: u32, time: RtpTime, payload: &[u8]) -> KeyNews {
        let Some(event) = EventPayload::read(payload) else {
            return KeyNews::Nothing;
        };
        let Some(digit) = Digit::from_event(event.event) else {
            return KeyNews::Nothing;
        };
        let Some(last) = self.last else {
            let passed = self.passed.filter(|(of, _)| *of == ssrc);
            if passed.is_some_and(|(_, passed)| time.since(passed) <= 0) {
                return KeyNews::Nothing;
            }
            return self.press(now, ssrc, time, digit, event);
        };
        let quiet = now.since(last.last_packet);
        if last.ssrc == ssrc && last.time == time {
            return self.update(now, last, event);
        }
        let older = last.ssrc == ssrc && time.since(last.time) < 0;
        if older && quiet < STRAGGLER {
            return KeyNews::Nothing;
        }
        if digit == last.digit && quiet < SAME_KEY && follows_on(&last, ssrc, time) {
            let moved = Press {
                ssrc,
                time,
                duration: 0,
                ..last
            };
            return self.update(now, moved, event);
        }
        self.press(now, ssrc, time, digit, event)
    }

    /// Ends a press whose end packets were all lost; called at or after [`KeyReader::let_go_at`].
    pub fn let_go(&mut self, now: Instant) -> KeyNews {
        match &mut self.last {
            Some(press) if press.down && now.since(press.last_packet) >= LET_GO => {
                press.down = false;
                KeyNews::Released
            }
            Some(_) | None => KeyNews::Nothing,
        }
    }

    /// When a key that is down counts as let go for want of packets.
    pub fn let_go_at(&self) -> Option<Instant> {
        self.last
            .filter(|press| press.down)
            .map(|press| press.last_packet + LET_GO)
    }

    fn press(
        &mut self,
        now: Instant,
        ssrc: u32,
        time: RtpTime,
        digit: Digit,
        event: EventPayload,
    ) -> KeyNews {
        self.last = Some(Press {
            ssrc,
            time,
            digit,
            duration: event.duration,
            last_packet: now,
            down: !event.end,
        });
        KeyNews::Pressed(digit)
    }

    fn update(&mut self, now: Instant, press: Press, event: EventPayload) -> KeyNews {
        let down = press.down && !event.end;
        self.last = Some(Press {
            duration: press.duration.max(event.duration),
            last_packet: now,
            down,
            ..press
        });
        if event.end && !press.down && fault::planted(Fault::KeyCountedTwice) {
            return KeyNews::Pressed(press.digit);
        }
        if press.down && !down {
            KeyNews::Released
        } else {
            KeyNews::Nothing
        }
    }
}

/// Whether a run with this timestamp begins where the press has ended, on the sender's clock.
fn follows_on(press: &Press, ssrc: u32, time: RtpTime) -> bool {
    let pressed_until = press.time.plus(u32::from(press.duration));
    press.ssrc != ssrc || time.since(pressed_until) < SAME_KEY_SAMPLES
}

/// Sends presses to one leg: an update every 20 ms, three end packets, a pause.
#[derive(Debug)]
pub struct KeyTrain {
    state: TrainState,
    waiting: VecDeque<Digit>,
    /// The source still holds the newest key.
    held: bool,
}

#[derive(Debug)]
enum TrainState {
    Idle { free_at: Instant },
    Sending { key: SentKey, due: Instant },
    Ending { key: SentKey, left: u8, due: Instant },
}

/// The press that occupies the line.
#[derive(Clone, Copy, Debug)]
struct SentKey {
    digit: Digit,
    start: RtpTime,
    /// Samples, so far.
    duration: u16,
}

/// One packet that the train wants on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainPacket {
    pub marker: bool,
    pub start: RtpTime,
    pub payload: EventPayload,
    /// The last one of its press.
    pub last: bool,
}

impl Default for KeyTrain {
    fn default() -> KeyTrain {
        KeyTrain {
            state: TrainState::Idle {
                free_at: Instant::default(),
            },
            waiting: VecDeque::new(),
            held: false,
        }
    }
}

impl KeyTrain {
    /// A key went down at the source. Beyond [`QUEUE_LIMIT`] waiting presses it is dropped.
    pub fn press(&mut self, digit: Digit) {
        if self.waiting.len() < QUEUE_LIMIT {
            self.waiting.push_back(digit);
            self.held = true;
        }
    }

    /// The newest key was let go.
    pub fn release(&mut self) {
        self.held = false;
    }

    /// Lets the press being sent end and forgets those that wait.
    pub fn abort(&mut self) {
        self.waiting.clear();
        self.held = false;
    }

    /// An event occupies the line, so no audio goes out.
    pub fn is_sending(&self) -> bool {
        match self.state {
            TrainState::Idle { .. } => false,
            TrainState::Sending { .. } | TrainState::Ending { .. } => true,
        }
    }

    pub fn due(&self) -> Option<Instant> {
        match self.state {
            TrainState::Idle { free_at } => (!self.waiting.is_empty()).then_some(free_at),
            TrainState::Sending { due, .. } | TrainState::Ending { due, .. } => Some(due),
        }
    }

    /// The packet that is due at `now`, if any. `start` is where an event that begins now stands
    /// on the line.
    pub fn step(&mut self, now: Instant, start: RtpTime) -> Option<TrainPacket> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let (part, key) = match self.state {
            TrainState::Idle { .. } => {
                let digit = self.waiting.pop_front()?;
                let duration = UPDATE_SAMPLES;
                let (key, due) = (
                    SentKey {
                        digit,
                        start,
                        duration,
                    },
                    now + UPDATE,
                );
                self.state = TrainState::Sending { key, due };
                (Part::First, key)
            }
            TrainState::Sending { key, due } => {
                let duration = key.duration + UPDATE_SAMPLES;
                let (key, due) = (SentKey { duration, ..key }, next_due(due, now));
                let still_held = self.held && self.waiting.is_empty();
                if duration >= SHORTEST && !still_held || duration >= LONGEST {
                    let left = END_PACKETS - 1;
                    self.state = TrainState::Ending { key, left, due };
                    (Part::End, key)
                } else {
                    self.state = TrainState::Sending { key, due };
                    (Part::Update, key)
                }
            }
            TrainState::Ending { key, left, due } if left > 1 => {
                let (left, due) = (left - 1, next_due(due, now));
                self.state = TrainState::Ending { key, left, due };
                (Part::End, key)
            }
            TrainState::Ending { key, .. } => {
                let free_at = now + TRAIN_GAP;
                self.state = TrainState::Idle { free_at };
                (Part::LastEnd, key)
            }
        };
        Some(packet(key, part))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    First,
    Update,
    End,
    LastEnd,
}

fn packet(key: SentKey, part: Part) -> TrainPacket {
    let end = matches!(part, Part::End | Part::LastEnd);
    let payload = EventPayload {
        event: key.digit.event(),
        end,
        volume: VOLUME,
        duration: key.duration,
    };
    TrainPacket {
        marker: part == Part::First,
        start: key.start,
        payload,
        last: part == Part::LastEnd,
    }
}

/// The next packet's time: on the 20 ms grid, or a whole step from now after a late wake-up.
fn next_due(due: Instant, now: Instant) -> Instant {
    let on_grid = due + UPDATE;
    if on_grid > now { on_grid } else { now + UPDATE }
}

#[cfg(test)]
#[path = "dtmf_tests.rs"]
mod tests;
