//! The session timer (RFC 4028): who refreshes when, and when the dialog is given up.
//!
//! Deliberately absent: the refresh request itself (`established`).

use std::time::Duration;

use crate::now::Instant;
use crate::sip::message::{Headers, Refresher};
use crate::sip::timers;

/// What we offer and the least that we take, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Session-Expires of our INVITEs, 1800 by default.
    pub expires_s: u32,
    /// Min-SE, 90 by default and never less (RFC 4028 §4).
    pub min_se_s: u32,
}

/// Who sends the refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Us,
    Peer,
}

/// What a request or response says about the session timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerHeaders {
    /// Session-Expires, seconds.
    pub expires_s: Option<u32>,
    pub refresher: Option<Refresher>,
    /// Min-SE, seconds.
    pub min_se_s: Option<u32>,
    /// Supported or Require names `timer`.
    pub supports_timer: bool,
}

impl TimerHeaders {
    pub fn of(headers: &Headers) -> TimerHeaders {
        let expires = headers.session_expires();
        let required = headers
            .require()
            .any(|option| option.eq_ignore_ascii_case("timer"));
        TimerHeaders {
            expires_s: expires.map(|(seconds, _)| seconds),
            refresher: expires.and_then(|(_, refresher)| refresher),
            min_se_s: headers.min_se(),
            supports_timer: required || headers.supports("timer"),
        }
    }
}

/// The peer asks for less than we take: 422 with our Min-SE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

/// A session timer as both sides agreed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub interval_s: u32,
    pub turn: Turn,
}

impl Agreed {
    /// What we answer to a request of the peer (RFC 4028 §9). Where the peer leaves the choice we
    /// refresh ourselves: a dead peer then shows before its timer ends, and a peer that says
    /// `timer` but never refreshes is not cut off.
    ///
    /// # Errors
    /// Session-Expires below our Min-SE.
    pub fn as_uas(headers: TimerHeaders, limits: SessionLimits) -> Result<Agreed, TooSmall> {
        let most = limits
            .expires_s
            .max(limits.min_se_s)
            .max(headers.min_se_s.unwrap_or(0));
        let interval_s = match headers.expires_s {
            Some(asked) if asked < limits.min_se_s => return Err(TooSmall),
            Some(asked) => asked.min(most),
            None => most,
        };
        let peer = headers.supports_timer && headers.refresher == Some(Refresher::Uac);
        let turn = if peer { Turn::Peer } else { Turn::Us };
        Ok(Agreed { interval_s, turn })
    }

    /// What a 2xx to a request of ours settles (RFC 4028 §7.2). A peer without the timer is
    /// refreshed by us all the same, so that a call nobody ends does not live for ever.
    pub fn as_uac(headers: TimerHeaders, asked_s: u32) -> Agreed {
        let interval_s = headers.expires_s.unwrap_or(asked_s).clamp(LEAST_S, MOST_S);
        let peer = headers.expires_s.is_some() && headers.refresher == Some(Refresher::Uas);
        let turn = if peer { Turn::Peer } else { Turn::Us };
        Agreed { interval_s, turn }
    }

    /// The Session-Expires of our 2xx, where we are the UAS of this exchange.
    pub fn as_uas_header(self) -> String {
        let refresher = match self.turn {
            Turn::Us => "uas",
            Turn::Peer => "uac",
        };
        format!("{};refresher={refresher}", self.interval_s)
    }
}

/// The running timer of an established leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    pub agreed: Agreed,
    /// When we refresh next; `None` while the peer is to do it or our refresh is on its way.
    pub refresh_at: Option<Instant>,
    /// When the dialog is given up.
    pub expires_at: Instant,
}

impl SessionTimer {
    /// Starts over, as each refresh does. The one who waits gives up a little before the end
    /// (RFC 4028 §10: the lesser of 32 s and a third); the refresher at the very end.
    pub fn start(now: Instant, agreed: Agreed) -> SessionTimer {
        let interval = Duration::from_secs(agreed.interval_s.into());
        match agreed.turn {
            Turn::Us => SessionTimer {
                agreed,
                refresh_at: Some(now + interval / 2),
                expires_at: now + interval,
            },
            Turn::Peer => SessionTimer {
                agreed,
                refresh_at: None,
                expires_at: now + interval.saturating_sub((interval / 3).min(Duration::from_secs(32))),
            },
        }
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        timers::earlier(
            Some((self.expires_at, "session expires")),
            self.refresh_at.map(|at| (at, "session refresh")),
        )
    }
}

/// No session timer may be shorter (RFC 4028 §4).
const LEAST_S: u32 = 90;
/// A day: longer ones are no use as a guard.
const MOST_S: u32 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SessionLimits = SessionLimits {
        expires_s: 1800,
        min_se_s: 90,
    };
    const UAC: Option<Refresher> = Some(Refresher::Uac);
    const UAS: Option<Refresher> = Some(Refresher::Uas);

    fn said(
        expires_s: Option<u32>,
        refresher: Option<Refresher>,
        min_se_s: Option<u32>,
        supports_timer: bool,
    ) -> TimerHeaders {
        TimerHeaders {
            expires_s,
            refresher,
            min_se_s,
            supports_timer,
        }
    }

    #[test]
    fn the_answer_to_a_peers_session_expires() {
        for (headers, want) in [
            (said(None, None, None, false), Ok((1800, Turn::Us))),
            (said(None, None, None, true), Ok((1800, Turn::Us))),
            (said(Some(600), None, None, true), Ok((600, Turn::Us))),
            (said(Some(600), UAC, None, true), Ok((600, Turn::Peer))),
            (said(Some(600), UAS, None, true), Ok((600, Turn::Us))),
            // A proxy put it in: the peer itself cannot refresh.
            (said(Some(600), UAC, None, false), Ok((600, Turn::Us))),
            (said(Some(90), UAC, None, true), Ok((90, Turn::Peer))),
            (said(Some(89), UAC, None, true), Err(TooSmall)),
            (said(Some(7200), None, None, true), Ok((1800, Turn::Us))),
            (said(Some(7200), None, Some(3600), true), Ok((3600, Turn::Us))),
            (said(None, None, Some(3600), true), Ok((3600, Turn::Us))),
        ] {
            let got = Agreed::as_uas(headers, LIMITS).map(|a| (a.interval_s, a.turn));
            assert_eq!(got, want, "{headers:?}");
        }
    }

    #[test]
    fn what_a_peers_2xx_settles() {
        for (headers, want) in [
            (said(None, None, None, false), (1800, Turn::Us)),
            (said(Some(1800), UAC, None, true), (1800, Turn::Us)),
            (said(Some(600), UAS, None, true), (600, Turn::Peer)),
            (said(Some(600), None, None, true), (600, Turn::Us)),
            (said(Some(5), UAS, None, true), (90, Turn::Peer)),
            (said(Some(u32::MAX), UAS, None, true), (86_400, Turn::Peer)),
        ] {
            let got = Agreed::as_uac(headers, 1800);
            assert_eq!((got.interval_s, got.turn), want, "{headers:?}");
        }
    }

    #[test]
    fn the_waiting_side_gives_up_a_little_early() {
        let ms = |at: Instant| at.as_nanos() / 1_000_000;
        for (interval_s, turn, refresh_ms, expires_ms) in [
            (1800, Turn::Us, Some(900_000), 1_800_000),
            (1800, Turn::Peer, None, 1_768_000),
            (90, Turn::Peer, None, 60_000),
        ] {
            let timer = SessionTimer::start(Instant::default(), Agreed { interval_s, turn });
            assert_eq!(timer.refresh_at.map(ms), refresh_ms, "{timer:?}");
            assert_eq!(ms(timer.expires_at), expires_ms, "{timer:?}");
        }
    }
}
