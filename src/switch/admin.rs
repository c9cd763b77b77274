//! What the operator asks of live calls.

use crate::call::{Call, CallInput};
use crate::ids::ReplyToken;
use crate::now::Now;
use crate::sip::EndpointInput;
use crate::switch::{AdminAsk, AdminReply, LiveCall, Output, Switch, SwitchStatus, Work};
use crate::units::TalkTime;

impl Switch {
    pub(super) fn admin(&mut self, now: Now, token: ReplyToken, ask: AdminAsk, out: &mut Vec<Output>) {
        let reply = match ask {
            AdminAsk::Status => AdminReply::Status(Box::new(self.status(now))),
            AdminAsk::LiveCalls => AdminReply::LiveCalls(self.live_calls(now)),
            AdminAsk::HangUp(key) if self.calls.contains_key(&key) => {
                self.push(Work::Call(key, CallInput::HangUp));
                AdminReply::Done
            }
            AdminAsk::HangUp(_) => AdminReply::NoSuchCall,
            AdminAsk::Drain => {
                self.draining = true;
                self.push(Work::Endpoint(EndpointInput::Drain(true)));
                AdminReply::Done
            }
        };
        out.push(Output::AdminReply { token, reply });
    }

    /// All calls, by their keys.
    pub fn live_calls(&self, now: Now) -> Vec<LiveCall> {
        self.calls.values().map(|call| call.live(now)).collect()
    }

    pub fn status(&self, now: Now) -> SwitchStatus {
        let rests = self.calls.values().map(|call| call.live(now).rest);
        SwitchStatus {
            calls: self.calls.len(),
            bridged: self.calls.values().filter(|call| Call::is_bridged(call)).count(),
            draining: self.draining,
            free_ports: self.ports.len(),
            endpoint: self.endpoint.load(),
            counters: self
                .counters
                .iter()
                .map(|(counter, count)| (*counter, *count))
                .collect(),
            longest_rest: rests.max().unwrap_or(TalkTime::ZERO),
        }
    }
}
