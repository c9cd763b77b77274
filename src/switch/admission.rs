//! ADMIT: may this call start, and whose is it?

use crate::call::cdr::{Cdr, EndCause};
use crate::call::refusal::Refusal;
use crate::call::{Admission, Call, Env};
use crate::card::{CdrOpening, LedgerRequest};
use crate::ids::{CallKey, LegKey};
use crate::media::LegStats;
use crate::now::Now;
use crate::sip::{Caller, EndpointInput, Incoming, LegCommand, Rejection};
use crate::switch::{Output, Switch};
use crate::units::TalkTime;

impl Switch {
    pub(super) fn admit(&mut self, now: Now, leg: LegKey, incoming: Box<Incoming>, out: &mut Vec<Output>) {
        let key = self.ids.call_key();
        let admission = match self.find(key, leg, &incoming) {
            Ok(admission) => admission,
            Err(refusal) => return self.turn_away(now, key, (leg, &incoming), refusal, out),
        };
        let mut env = Env {
            now,
            ids: &mut self.ids,
            ports: &mut self.ports,
            guard: &mut self.guard,
            rules: &self.config.rules,
            last_ledger: &mut self.last_ledger,
        };
        match Call::admit(&mut env, admission, &mut self.orders) {
            Ok(call) => {
                self.calls.insert(key, call);
                self.legs.insert(leg, key);
                self.carry_out(now, key, out);
                self.after(key);
            }
            Err(refusal) => self.turn_away(now, key, (leg, &incoming), refusal, out),
        }
    }

    /// Load first: an overloaded process refuses at once, whatever was dialled.
    fn find(&self, key: CallKey, leg: LegKey, incoming: &Incoming) -> Result<Admission, Refusal> {
        if self.draining || self.calls.len() >= self.config.max_calls || self.ports.is_empty() {
            return Err(Refusal::Capacity);
        }
        let trunk = self.config.endpoint.trunks.get(incoming.trunk.0);
        let trunk = trunk.filter(|trunk| trunk.inbound).ok_or(Refusal::Forbidden)?;
        let called = incoming.called.as_ref().ok_or(Refusal::NoNumber)?;
        let number = self.directory.numbers.get(called).ok_or(Refusal::NoNumber)?;
        let project = self
            .directory
            .projects
            .get(&number.project)
            .ok_or(Refusal::NoNumber)?;
        if !project.enabled {
            return Err(Refusal::Off);
        }
        Ok(Admission {
            key,
            leg,
            number: number.clone(),
            project: project.clone(),
            called: called.clone(),
            trunk: trunk.name.clone(),
            incoming: Box::new(incoming.clone()),
        })
    }

    /// A final response instead of a call. It leaves a row like any call; only overload does not,
    /// which would turn the flood on the store.
    fn turn_away(
        &mut self,
        now: Now,
        key: CallKey,
        (leg, incoming): (LegKey, &Incoming),
        refusal: Refusal,
        out: &mut Vec<Output>,
    ) {
        let rejection: Rejection = refusal.rejection(self.config.retry_after_s);
        tracing::info!(
            call = %key,
            called = ?incoming.called,
            status = rejection.status,
            cause = refusal.cause().as_str(),
            "turned away"
        );
        let command = LegCommand::Reject(rejection);
        self.run_endpoint(now, EndpointInput::Command { leg, command }, out);
        if refusal == Refusal::Capacity {
            return;
        }
        let opening = self.opening(now, key, incoming);
        self.tell_ledger(LedgerRequest::OpenCdr(Box::new(opening)), out);
        let cdr = unanswered(now, key, refusal.cause());
        self.tell_ledger(LedgerRequest::CloseCdr(Box::new(cdr)), out);
    }

    fn opening(&self, now: Now, key: CallKey, incoming: &Incoming) -> CdrOpening {
        let number = incoming
            .called
            .as_ref()
            .and_then(|called| self.directory.numbers.get(called));
        let trunk = self.config.endpoint.trunks.get(incoming.trunk.0);
        CdrOpening {
            call: key,
            project: number.map(|number| number.project),
            number: number.map(|number| number.id),
            trunk: trunk.map(|trunk| trunk.name.clone()).unwrap_or_default(),
            called: incoming.called.clone(),
            caller: match &incoming.caller {
                Caller::Withheld => None,
                Caller::Line { number, .. } => Some(number.clone()),
            },
            sip_call_id: incoming.sip_call_id.clone(),
            invited_at: now.wall,
        }
    }
}

fn unanswered(now: Now, call: CallKey, end_cause: EndCause) -> Cdr {
    Cdr {
        call,
        card: None,
        target: None,
        answered_at: None,
        ringing_at: None,
        advisor_answered_at: None,
        bridged_at: None,
        ended_at: now.wall,
        hold: TalkTime::ZERO,
        raw: TalkTime::ZERO,
        billed: TalkTime::ZERO,
        end_cause,
        warnings_s: Vec::new(),
        codec: None,
        stats_a: LegStats::default(),
        stats_b: LegStats::default(),
        tariff_version: None,
        attempts: Vec::new(),
    }
}
