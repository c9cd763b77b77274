//! Requests of peers: repeated, inside a dialog, or new. The checks of a new one stand in the
//! order of RFC 3261 §8.2.

use crate::ids::{LegKey, TrunkId};
use crate::now::Instant;
use crate::sip::endpoint::Endpoint;
use crate::sip::endpoint::transactions::{MergeKey, reply_flow};
use crate::sip::leg::body::Body;
use crate::sip::leg::refresh::{Agreed, TimerHeaders};
use crate::sip::leg::uas::Uas;
use crate::sip::leg::{ACCEPT, ALLOW, Asked, Cx, LOOP_MARKER, Leg, LegInput, SUPPORTED, ServerId};
use crate::sip::message::{Method, Request, ResponseBuilder, Scheme};
use crate::sip::transaction::{Reply, ServerInput, ServerKey};
use crate::sip::{Counter, EndpointOutput, Flow, Incoming, identity};

/// A new request with all that its checks look at.
struct Fresh {
    flow: Flow,
    trunk: Option<TrunkId>,
    request: Request,
}

/// A final answer that needs no leg.
struct Verdict {
    status: u16,
    count: Option<Counter>,
    headers: Vec<(&'static str, String)>,
}

impl Verdict {
    fn new(status: u16) -> Verdict {
        Verdict {
            status,
            count: None,
            headers: Vec::new(),
        }
    }

    fn counted(self, counter: Counter) -> Verdict {
        Verdict {
            count: Some(counter),
            ..self
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Verdict {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl Endpoint {
    pub(super) fn request(
        &mut self,
        now: Instant,
        flow: Flow,
        trunk: Option<TrunkId>,
        request: Request,
        out: &mut Vec<EndpointOutput>,
    ) {
        let key = ServerKey::of(&request);
        let known = self.transactions.find_server(&key);
        if request.method == Method::Ack {
            return self.ack(now, known, request, out);
        }
        if let Some(id) = known {
            let input = ServerInput::Request;
            self.transactions
                .drive_server(now, id, input, &mut self.deadlines, out);
            return;
        }
        if request.method == Method::Cancel {
            return self.cancel(now, flow, key, request, out);
        }
        if request.to().tag.is_some() {
            return self.in_dialog(now, flow, request, out);
        }
        self.fresh(now, Fresh { flow, trunk, request }, out);
    }

    /// The ACK of a refusal ends with its transaction; that of a 2xx is for the leg. One that fits
    /// nothing is dropped in silence.
    fn ack(&mut self, now: Instant, known: Option<ServerId>, ack: Request, out: &mut Vec<EndpointOutput>) {
        let for_leg = match known {
            Some(id) => self
                .transactions
                .drive_server(now, id, ServerInput::Ack, &mut self.deadlines, out),
            None => true,
        };
        if let Some(key) = self.find_leg(&ack).filter(|_| for_leg) {
            self.run_leg(now, key, LegInput::Ack(ack), out);
        }
    }

    fn cancel(
        &mut self,
        now: Instant,
        flow: Flow,
        key: ServerKey,
        cancel: Request,
        out: &mut Vec<EndpointOutput>,
    ) {
        let invite = self.transactions.find_server(&key.of_invite());
        let Some((txn, tag, leg)) = invite.and_then(|id| {
            let txn = self.transactions.server(id)?;
            Some((id, txn.tag.clone(), txn.leg))
        }) else {
            return self.verdict(now, flow, &cancel, Verdict::new(481), out);
        };
        let own = self.transactions.serve(&cancel, flow, tag.clone(), None);
        let ok = ResponseBuilder::response_to(&cancel, 200, Some(&tag), flow.remote).build();
        self.reply(now, own, 200, ok, out);
        if let Some(leg) = leg {
            self.run_leg(now, leg, LegInput::Cancel { txn, cancel }, out);
        }
    }

    /// Without its dialog a To-tagged request gets 481 before anything else is looked at
    /// (RFC 3261 §12.2.2).
    fn in_dialog(&mut self, now: Instant, flow: Flow, request: Request, out: &mut Vec<EndpointOutput>) {
        let Some(leg) = self.find_leg(&request) else {
            return self.verdict(
                now,
                flow,
                &request,
                Verdict::new(481).counted(Counter::NoDialog),
                out,
            );
        };
        // A BYE is always taken: it makes room.
        let most = self.config.max_transactions + self.config.max_transactions / 4;
        if self.transactions.len() >= most && request.method != Method::Bye {
            return self.full(flow, &request, out);
        }
        let tag = request.to().tag.clone().unwrap_or_default();
        let txn = self.transactions.serve(&request, flow, tag, None);
        self.transactions.give_to_leg(txn, leg);
        let asked = Asked {
            txn,
            request,
            remote: flow.remote,
        };
        self.run_leg(now, leg, LegInput::Request(asked), out);
    }

    fn find_leg(&self, request: &Request) -> Option<LegKey> {
        let tag = request.to().tag.clone()?;
        let key = *self.dialogs.get(&(request.call_id().to_owned(), tag))?;
        let entry = self.legs.get(&key)?;
        entry.leg.takes(request).then_some(key)
    }

    fn fresh(&mut self, now: Instant, fresh: Fresh, out: &mut Vec<EndpointOutput>) {
        if self.transactions.len() >= self.config.max_transactions {
            return self.full(fresh.flow, &fresh.request, out);
        }
        let verdict = match fresh.request.method {
            Method::Options => self.options(&fresh),
            Method::Invite if fresh.trunk.is_none() => Verdict::new(403),
            Method::Invite => match self.check_invite(&fresh) {
                Ok(agreed) => return self.invite(now, fresh, agreed, out),
                Err(verdict) => verdict,
            },
            // These live inside dialogs only.
            Method::Bye | Method::Update | Method::Info | Method::Prack | Method::Notify => Verdict::new(481),
            Method::Ack | Method::Cancel => return,
            Method::Refer | Method::Subscribe | Method::Message | Method::Register | Method::Publish => {
                Verdict::new(405).with("Allow", ALLOW)
            }
            Method::Other(_) => Verdict::new(501).with("Allow", ALLOW),
        };
        self.verdict(now, fresh.flow, &fresh.request, verdict, out);
    }

    /// OPTIONS asks us, not somebody behind us, so Max-Forwards does not matter: carriers ping with
    /// zero (RFC 3261 §11, §16.3 step 3).
    fn options(&self, fresh: &Fresh) -> Verdict {
        if let Err(verdict) = check_uri_and_options(&fresh.request) {
            return verdict;
        }
        if self.draining {
            return Verdict::new(503).with("Retry-After", &self.config.retry_after_s.to_string());
        }
        Verdict::new(200)
            .with("Allow", ALLOW)
            .with("Supported", SUPPORTED)
            .with("Accept", ACCEPT)
    }

    fn check_invite(&self, fresh: &Fresh) -> Result<Agreed, Verdict> {
        let request = &fresh.request;
        check_uri_and_options(request)?;
        if request.max_forwards() == Some(0) {
            return Err(Verdict::new(483).counted(Counter::Loop));
        }
        let ours = |via: &str| via.contains(&self.rules.branch_prefix);
        let marked = request
            .headers(LOOP_MARKER)
            .any(|marker| marker == self.rules.loop_marker);
        if marked || request.vias_raw().any(ours) {
            return Err(Verdict::new(482).counted(Counter::Loop));
        }
        if self.transactions.is_merged(&MergeKey::of(request)) {
            return Err(Verdict::new(482));
        }
        let reads = |kind: &str| {
            let kind = kind
                .split(';')
                .next()
                .unwrap_or_default()
                .trim_ascii()
                .to_ascii_lowercase();
            matches!(kind.as_str(), ACCEPT | "application/*" | "*/*")
        };
        if request.header("Accept").is_some() && !request.headers("Accept").any(reads) {
            return Err(Verdict::new(406));
        }
        let plain = |coding: &str| coding.eq_ignore_ascii_case("identity");
        if !request.headers("Content-Encoding").all(plain) {
            return Err(Verdict::new(415).with("Accept-Encoding", "identity"));
        }
        match Body::of(request) {
            Body::Empty | Body::Description(_) => {}
            Body::Foreign => return Err(Verdict::new(415).with("Accept", ACCEPT)),
            Body::Unreadable => return Err(Verdict::new(488)),
        }
        let limits = self.config.session;
        Agreed::as_uas(TimerHeaders::of(request), limits)
            .map_err(|_| Verdict::new(422).with("Min-SE", &limits.min_se_s.to_string()))
    }

    fn invite(&mut self, now: Instant, fresh: Fresh, agreed: Agreed, out: &mut Vec<EndpointOutput>) {
        let Fresh { flow, trunk, request } = fresh;
        let trunk = trunk.and_then(|id| Some((id, self.config.trunks.get(id.0)?)));
        let Some((trunk, rules)) = trunk.filter(|_| !self.is_full()) else {
            return self.full(flow, &request, out);
        };
        let (called, caller) = identity::resolve(&request, rules);
        let incoming = Incoming {
            trunk,
            sip_call_id: request.call_id().to_owned(),
            called,
            caller,
            offer: Body::of(&request).description(),
            max_forwards: request.max_forwards().unwrap_or(70).saturating_sub(1),
        };
        let key = LegKey(self.ids.next_u64());
        let tag = self.ids.token();
        let merge = Some(MergeKey::of(&request));
        let txn = self.transactions.serve(&request, flow, tag.clone(), merge);
        self.transactions.give_to_leg(txn, key);
        let dialog = (request.call_id().to_owned(), tag.clone());
        let place = self.place(Flow {
            remote: reply_flow(&request, flow).remote,
            ..flow
        });
        let asked = Asked {
            txn,
            request,
            remote: flow.remote,
        };
        let mut outputs = Vec::new();
        let mut cx = Cx {
            now,
            ids: &mut self.ids,
            rules: &self.rules,
            out: &mut outputs,
        };
        let next = Uas::start(&mut cx, asked, place, tag, agreed, incoming);
        self.add_leg(key, Leg::new(place, next), dialog);
        self.after_leg(now, key, outputs, out);
    }

    /// Answers without a transaction, since there is no room for one; a repetition is answered
    /// again (RFC 3261 §8.2.7).
    fn full(&mut self, flow: Flow, request: &Request, out: &mut Vec<EndpointOutput>) {
        let tag = self.ids.token();
        let bytes = ResponseBuilder::response_to(request, 503, Some(&tag), flow.remote)
            .header("Retry-After", &self.config.retry_after_s.to_string())
            .build();
        out.push(EndpointOutput::Count(Counter::Full));
        out.push(EndpointOutput::Send {
            flow: reply_flow(request, flow),
            bytes,
        });
    }

    fn verdict(
        &mut self,
        now: Instant,
        flow: Flow,
        request: &Request,
        verdict: Verdict,
        out: &mut Vec<EndpointOutput>,
    ) {
        if self.transactions.len() >= self.config.max_transactions {
            return self.full(flow, request, out);
        }
        out.extend(verdict.count.map(EndpointOutput::Count));
        let tag = self.ids.token();
        let mut response = ResponseBuilder::response_to(request, verdict.status, Some(&tag), flow.remote);
        for (name, value) in &verdict.headers {
            response = response.header(name, value);
        }
        let merge = (verdict.status != 482).then(|| MergeKey::of(request));
        let txn = self.transactions.serve(request, flow, tag, merge);
        self.reply(now, txn, verdict.status, response.build(), out);
    }

    fn reply(
        &mut self,
        now: Instant,
        txn: ServerId,
        status: u16,
        bytes: Vec<u8>,
        out: &mut Vec<EndpointOutput>,
    ) {
        let input = ServerInput::Reply(Reply::new(status, bytes));
        self.transactions
            .drive_server(now, txn, input, &mut self.deadlines, out);
    }
}

/// 416 for a Request-URI that is not ours to read, 420 for options that we do not know.
fn check_uri_and_options(request: &Request) -> Result<(), Verdict> {
    match request.uri.scheme {
        Scheme::Sip | Scheme::Tel => {}
        // sips promises encryption on every hop, which UDP has not.
        Scheme::Sips | Scheme::Other => return Err(Verdict::new(416)),
    }
    let known = |option: &&str| SUPPORTED.eq_ignore_ascii_case(option);
    let unknown: Vec<&str> = request.require().filter(|option| !known(option)).collect();
    if !unknown.is_empty() {
        return Err(Verdict::new(420).with("Unsupported", &unknown.join(", ")));
    }
    Ok(())
}
