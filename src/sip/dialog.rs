//! A dialog as a value (RFC 3261 §12): its ids, sequence numbers, route set and target, and the
//! requests that these make.
//!
//! Deliberately absent: timers, states, bodies.

use std::net::SocketAddr;

use crate::sip::Flow;
use crate::sip::message::{Headers, Method, NameAddr, Request, RequestBuilder, Response, Uri};

/// Who we are on one leg: the flow it uses, and our address as its peer reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `remote` is where the first request came from or went to.
    pub flow: Flow,
    /// What our Via and Contact say.
    pub advertised: SocketAddr,
}

impl Place {
    /// Our Contact value.
    pub fn contact(&self) -> String {
        format!("<{}>", Uri::at(Some("cardline"), self.advertised))
    }
}

/// All that a request of ours says beside its method's own headers: kept for the ACK of a refusal
/// and for CANCEL, which must repeat it (RFC 3261 §9.1, §17.1.1.3).
#[derive(Clone, Debug)]
pub struct Outline {
    pub uri: String,
    /// Where it is sent.
    pub hop: SocketAddr,
    /// What our Via says.
    pub sent_by: SocketAddr,
    pub branch: String,
    pub from: String,
    pub to: String,
    pub call_id: String,
    pub cseq: u32,
    pub routes: Vec<String>,
    pub max_forwards: u8,
}

impl Outline {
    /// A request with the headers that all have.
    pub fn request(&self, method: &Method) -> RequestBuilder {
        RequestBuilder::new(method, &self.uri)
            .via(self.sent_by, &self.branch)
            .headers("Route", &self.routes)
            .max_forwards(self.max_forwards)
            .header("From", &self.from)
            .header("To", &self.to)
            .call_id(&self.call_id)
            .cseq(self.cseq, method)
    }

    /// The ACK of a 3xx to 6xx: the INVITE's branch, the response's To (RFC 3261 §17.1.1.3).
    pub fn ack_of_refusal(&self, response: &Response) -> Vec<u8> {
        let to = response.to().raw.clone();
        Outline { to, ..self.clone() }.request(&Method::Ack).build()
    }
}

/// A dialog with a peer.
#[derive(Clone, Debug)]
pub struct Dialog {
    pub call_id: String,
    pub local_tag: String,
    /// Empty for a peer of RFC 2543 times, which has none.
    pub remote_tag: String,
    /// From of our requests, with our tag.
    local: String,
    /// To of our requests, with the peer's tag.
    remote: String,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    route_set: Vec<String>,
    target: String,
    place: Place,
}

impl Dialog {
    /// The UAS side of an INVITE (RFC 3261 §12.1.1).
    pub fn from_invite(invite: &Request, local_tag: String, place: Place) -> Dialog {
        Dialog {
            call_id: invite.call_id().to_owned(),
            remote_tag: invite.from().tag.clone().unwrap_or_default(),
            local: tagged(invite.to(), &local_tag),
            remote: invite.from().raw.clone(),
            local_tag,
            local_cseq: 0,
            remote_cseq: Some(invite.cseq().0),
            route_set: bounded(invite.record_routes()),
            target: contact(invite).unwrap_or_else(|| Uri::at(None, place.flow.remote).to_string()),
            place,
        }
    }

    /// The UAC side, once a response has a To tag (RFC 3261 §12.1.2).
    pub fn from_response(invite: &Outline, local_tag: &str, response: &Response, place: Place) -> Dialog {
        let mut route_set = bounded(response.record_routes());
        route_set.reverse();
        Dialog {
            call_id: invite.call_id.clone(),
            local_tag: local_tag.to_owned(),
            remote_tag: response.to().tag.clone().unwrap_or_default(),
            local: invite.from.clone(),
            remote: response.to().raw.clone(),
            local_cseq: invite.cseq,
            remote_cseq: None,
            route_set,
            target: contact(response).unwrap_or_else(|| invite.uri.clone()),
            place,
        }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// Whether a request with this From tag belongs here.
    pub fn is_from(&self, request: &Headers) -> bool {
        request.from().tag.as_deref().unwrap_or_default() == self.remote_tag
    }

    /// The peer's sequence number; false if it has been there before (RFC 3261 §12.2.2). ACK and
    /// CANCEL repeat the INVITE's and are not asked.
    pub fn take_cseq(&mut self, request: &Request) -> bool {
        let (number, _) = request.cseq();
        let fresh = self.remote_cseq.is_none_or(|last| number > last);
        if fresh {
            self.remote_cseq = Some(number);
        }
        fresh
    }

    /// A target refresh: the peer may have moved (RFC 3261 §12.2.1.2, §12.2.2).
    pub fn refresh_target(&mut self, headers: &Headers) {
        if let Some(target) = contact(headers) {
            self.target = target;
        }
    }

    /// The outline of the next request of ours.
    pub fn next_request(&mut self, branch: String) -> Outline {
        // A peer cannot drive this number, and 2^31 requests do not fit in any call.
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.outline(self.local_cseq, branch)
    }

    /// The ACK of a 2xx to the INVITE with this number: a request of its own (RFC 3261 §13.2.2.4).
    pub fn ack(&self, invite_cseq: u32, branch: String) -> Outline {
        self.outline(invite_cseq, branch)
    }

    /// Where our requests go: the first route or the target if that is an address. A name would
    /// have to be resolved, so then it is where the peer sent from (RFC 3261 §8.1.2).
    pub fn hop(&self) -> SocketAddr {
        let first = match self.route_set.first() {
            Some(route) => NameAddr::parse(route).ok().and_then(|route| route.uri.address()),
            None => Uri::parse(&self.target).ok().and_then(|uri| uri.address()),
        };
        let remote = self.place.flow.remote;
        let usable = |hop: &SocketAddr| hop.is_ipv4() == remote.is_ipv4() && !hop.ip().is_unspecified();
        first.filter(usable).unwrap_or(remote)
    }

    fn outline(&self, cseq: u32, branch: String) -> Outline {
        let (uri, routes) = self.routed();
        Outline {
            uri,
            hop: self.hop(),
            sent_by: self.place.advertised,
            branch,
            from: self.local.clone(),
            to: self.remote.clone(),
            call_id: self.call_id.clone(),
            cseq,
            routes,
            max_forwards: 70,
        }
    }

    /// Request-URI and Route; a strict router takes the Request-URI's place, and the target goes
    /// to the end (RFC 3261 §12.2.1.1).
    fn routed(&self) -> (String, Vec<String>) {
        let first = self
            .route_set
            .first()
            .and_then(|route| NameAddr::parse(route).ok());
        match first.filter(|first| first.uri.param("lr").is_none()) {
            None => (self.target.clone(), self.route_set.clone()),
            Some(strict) => {
                let mut routes = self.route_set.get(1..).unwrap_or_default().to_vec();
                routes.push(format!("<{}>", self.target));
                (strict.uri.to_string(), routes)
            }
        }
    }
}

/// The Contact's URI without the headers that a Request-URI may not have (RFC 3261 §19.1.1).
fn contact(headers: &Headers) -> Option<String> {
    let uri = headers.contact()?;
    let text = uri.as_str().split('?').next().unwrap_or_default();
    Some(text.to_owned())
}

/// A header value with our tag at its end.
fn tagged(to: &NameAddr, tag: &str) -> String {
    match (&to.tag, to.raw.contains('<')) {
        (Some(_), _) => to.raw.clone(),
        (None, true) => format!("{};tag={tag}", to.raw),
        (None, false) => format!("<{}>;tag={tag}", to.uri),
    }
}

fn bounded(mut routes: Vec<String>) -> Vec<String> {
    routes.truncate(MAX_ROUTES);
    routes
}

/// More hops than this no real route has.
const MAX_ROUTES: usize = 16;
