//! One leg's audio as the call sees it: the port, our last description, what was agreed.

use crate::media::MediaPort;
use crate::now::Instant;
use crate::sdp::negotiate::{self, LocalMedia, NoAudio};
use crate::sdp::{AudioParams, Direction, SessionDescription};

/// From the moment a port is taken until the audio is closed.
pub(super) struct Stream {
    pub port: MediaPort,
    session_id: u64,
    /// What we said last; the next one follows from it.
    ours: Option<SessionDescription>,
    /// `Some` once the media plane was told to open it.
    pub audio: Option<AudioParams>,
    /// Whether anything at all arrived from the peer.
    pub heard: bool,
    /// The last packet of a peer that fell silent.
    pub silent_since: Option<Instant>,
}

impl Stream {
    pub fn new(port: MediaPort, session_id: u64) -> Stream {
        Stream {
            port,
            session_id,
            ours: None,
            audio: None,
            heard: false,
            silent_since: None,
        }
    }

    pub fn has_digits(&self) -> bool {
        self.audio.as_ref().is_some_and(|audio| audio.dtmf.is_some())
    }

    /// Whether the peer does not want to hear us (RFC 3264 §8.4).
    pub fn is_on_hold(&self) -> bool {
        self.audio.as_ref().is_some_and(|audio| match audio.direction {
            Direction::RecvOnly | Direction::Inactive => true,
            Direction::SendRecv | Direction::SendOnly => false,
        })
    }

    pub fn offer(&mut self) -> SessionDescription {
        let offer = negotiate::offer(&self.local());
        self.say(offer)
    }

    /// Answers the peer's offer; what was agreed is kept only if there is an answer.
    ///
    /// # Errors
    /// No audio that both could do.
    pub fn answer(&mut self, offer: &SessionDescription) -> Result<SessionDescription, NoAudio> {
        let (answer, audio) = negotiate::answer(offer, &self.local())?;
        self.audio = Some(audio);
        Ok(self.say(answer))
    }

    /// Takes the peer's answer to our last offer.
    ///
    /// # Errors
    /// No audio that both could do; the leg is of no use.
    pub fn accept(&mut self, answer: &SessionDescription) -> Result<(), NoAudio> {
        let ours = self.ours.as_ref().ok_or(NoAudio::NoStream)?;
        self.audio = Some(negotiate::accept(ours, answer)?);
        Ok(())
    }

    fn local(&self) -> LocalMedia {
        LocalMedia {
            rtp: self.port.rtp,
            session_id: self.session_id,
            version: self.session_id,
            direction: Direction::SendRecv,
        }
    }

    fn say(&mut self, next: SessionDescription) -> SessionDescription {
        let next = match &self.ours {
            Some(before) => negotiate::follow(before, next),
            None => next,
        };
        self.ours = Some(next.clone());
        next
    }
}
