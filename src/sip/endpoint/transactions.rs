//! The endpoint's transactions: their tables, and what their effects mean.

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;

use crate::ids::LegKey;
use crate::now::Instant;
use crate::sip::dialog::Outline;
use crate::sip::endpoint::deadlines::{ClientId, Deadlines, Owner};
use crate::sip::leg::{Purpose, ServerId};
use crate::sip::message::{Method, Request, Rport};
use crate::sip::transaction::client::Client;
use crate::sip::transaction::invite_client::InviteClient;
use crate::sip::transaction::invite_server::InviteServer;
use crate::sip::transaction::server::Server;
use crate::sip::transaction::{
    ClientInput, ClientKey, ClientMachine, Effect, ServerInput, ServerKey, ServerMachine,
};
use crate::sip::{Counter, EndpointOutput, Flow};

/// Both tables.
#[derive(Debug, Default)]
pub struct Transactions {
    servers: BTreeMap<ServerId, ServerTxn>,
    server_keys: BTreeMap<ServerKey, ServerId>,
    /// Out-of-dialog requests by what a merged copy of them repeats.
    merges: BTreeMap<MergeKey, ServerId>,
    clients: BTreeMap<ClientId, ClientTxn>,
    client_keys: BTreeMap<ClientKey, ClientId>,
    /// How many of our requests are under way to each address.
    peers: BTreeMap<IpAddr, usize>,
    last_id: u64,
}

/// A request of the peer.
#[derive(Debug)]
pub struct ServerTxn {
    key: ServerKey,
    merge: Option<MergeKey>,
    /// Where its responses go.
    flow: Flow,
    /// The leg that answers it.
    pub leg: Option<LegKey>,
    /// Our tag in its responses, for the 200 to its CANCEL.
    pub tag: String,
    machine: ServerMachine,
}

/// A request of ours.
#[derive(Debug)]
pub struct ClientTxn {
    key: ClientKey,
    pub flow: Flow,
    pub leg: LegKey,
    pub of: Purpose,
    /// For the ACK of a refused INVITE.
    pub outline: Outline,
    machine: ClientMachine,
}

/// Two requests that agree in this are one that came twice, over two ways (RFC 3261 §8.2.2.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MergeKey {
    from_tag: String,
    call_id: String,
    cseq: u32,
    method: Method,
}

impl MergeKey {
    pub fn of(request: &Request) -> MergeKey {
        MergeKey {
            from_tag: request.from().tag.clone().unwrap_or_default(),
            call_id: request.call_id().to_owned(),
            cseq: request.cseq().0,
            method: request.method.clone(),
        }
    }
}

/// What the leg hears of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Response,
    TimedOut,
}

impl Transactions {
    pub fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    pub fn server(&self, id: ServerId) -> Option<&ServerTxn> {
        self.servers.get(&id)
    }

    pub fn client(&self, id: ClientId) -> Option<&ClientTxn> {
        self.clients.get(&id)
    }

    pub fn find_server(&self, key: &ServerKey) -> Option<ServerId> {
        self.server_keys.get(key).copied()
    }

    pub fn find_client(&self, key: &ClientKey) -> Option<ClientId> {
        self.client_keys.get(key).copied()
    }

    pub fn is_merged(&self, key: &MergeKey) -> bool {
        self.merges.contains_key(key)
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A transaction for a request that matches none.
    pub fn serve(&mut self, request: &Request, flow: Flow, tag: String, merge: Option<MergeKey>) -> ServerId {
        let id = ServerId(self.new_id());
        let key = ServerKey::of(request);
        let machine = if request.method == Method::Invite {
            ServerMachine::Invite(InviteServer::start())
        } else {
            ServerMachine::Other(Server::start())
        };
        self.server_keys.insert(key.clone(), id);
        if let Some(merge) = &merge {
            self.merges.insert(merge.clone(), id);
        }
        let flow = reply_flow(request, flow);
        self.servers.insert(
            id,
            ServerTxn {
                key,
                merge,
                flow,
                leg: None,
                tag,
                machine,
            },
        );
        id
    }

    pub fn give_to_leg(&mut self, id: ServerId, leg: LegKey) {
        if let Some(txn) = self.servers.get_mut(&id) {
            txn.leg = Some(leg);
        }
    }

    /// Drives a server transaction; true if what came in is news.
    pub fn drive_server(
        &mut self,
        now: Instant,
        id: ServerId,
        input: ServerInput,
        deadlines: &mut Deadlines,
        out: &mut Vec<EndpointOutput>,
    ) -> bool {
        let Some(txn) = self.servers.get_mut(&id) else {
            return false;
        };
        let machine = mem::replace(&mut txn.machine, ServerMachine::Other(Server::Terminated));
        let mut effects = Vec::new();
        txn.machine = machine.handle(now, input, &mut effects);
        let flow = txn.flow;
        let over = txn.machine.is_over();
        deadlines.set(Owner::Server(id), txn.machine.next_timeout().map(|(at, _)| at));
        if over {
            self.end_server(id);
        }
        // Without an ACK to a refusal (timer H) there is nothing left to do for anybody.
        carry_out(effects, flow, out).contains(&News::Response)
    }

    fn end_server(&mut self, id: ServerId) {
        let Some(txn) = self.servers.remove(&id) else {
            return;
        };
        if self.server_keys.get(&txn.key) == Some(&id) {
            self.server_keys.remove(&txn.key);
        }
        if let Some(merge) = txn.merge
            && self.merges.get(&merge) == Some(&id)
        {
            self.merges.remove(&merge);
        }
    }

    /// Sends a request of ours.
    pub fn request(
        &mut self,
        now: Instant,
        flow: Flow,
        leg: LegKey,
        ours: (Purpose, Method, Outline, Vec<u8>),
        deadlines: &mut Deadlines,
        out: &mut Vec<EndpointOutput>,
    ) {
        let (of, method, outline, bytes) = ours;
        let id = ClientId(self.new_id());
        let mut effects = Vec::new();
        let machine = if method == Method::Invite {
            ClientMachine::Invite(InviteClient::start(now, bytes, &mut effects))
        } else {
            ClientMachine::Other(Client::start(now, bytes, &mut effects))
        };
        carry_out(effects, flow, out);
        deadlines.set(Owner::Client(id), machine.next_timeout().map(|(at, _)| at));
        let key = ClientKey {
            branch: outline.branch.clone(),
            method,
        };
        self.client_keys.insert(key.clone(), id);
        *self.peers.entry(flow.remote.ip()).or_default() += 1;
        self.clients.insert(
            id,
            ClientTxn {
                key,
                flow,
                leg,
                of,
                outline,
                machine,
            },
        );
    }

    /// Drives a client transaction; gives what its leg is to hear.
    pub fn drive_client(
        &mut self,
        now: Instant,
        id: ClientId,
        input: ClientInput,
        deadlines: &mut Deadlines,
        out: &mut Vec<EndpointOutput>,
    ) -> Vec<News> {
        let Some(txn) = self.clients.get_mut(&id) else {
            return Vec::new();
        };
        let machine = mem::replace(&mut txn.machine, ClientMachine::Other(Client::Terminated));
        let mut effects = Vec::new();
        txn.machine = machine.handle(now, input, &mut effects);
        let flow = txn.flow;
        deadlines.set(Owner::Client(id), txn.machine.next_timeout().map(|(at, _)| at));
        if txn.machine.is_over() {
            self.end_client(id);
        }
        carry_out(effects, flow, out)
    }

    fn end_client(&mut self, id: ClientId) {
        let Some(txn) = self.clients.remove(&id) else {
            return;
        };
        if self.client_keys.get(&txn.key) == Some(&id) {
            self.client_keys.remove(&txn.key);
        }
        let ip = txn.flow.remote.ip();
        if let Some(count) = self.peers.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&ip);
            }
        }
    }

    /// The leg is gone: an INVITE of its that never got a final answer has nobody left to end it.
    pub fn forget_leg(&mut self, leg: LegKey, deadlines: &mut Deadlines) {
        let waiting = |txn: &ClientTxn| {
            let open = matches!(
                txn.machine,
                ClientMachine::Invite(InviteClient::Calling { .. } | InviteClient::Proceeding)
            );
            open && txn.leg == leg
        };
        let ids: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, txn)| waiting(txn))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.end_client(id);
            deadlines.set(Owner::Client(id), None);
        }
    }

    pub fn timeout_name(&self, owner: Owner) -> Option<&'static str> {
        let next = match owner {
            Owner::Server(id) => self.servers.get(&id)?.machine.next_timeout(),
            Owner::Client(id) => self.clients.get(&id)?.machine.next_timeout(),
            Owner::Leg(_) => None,
        };
        next.map(|(_, name)| name)
    }

    /// Whether requests of ours are under way to that address: it is no stranger.
    pub fn talks_to(&self, ip: IpAddr) -> bool {
        self.peers.contains_key(&ip)
    }
}

/// Datagrams and counts of the effects; the news is left over.
fn carry_out(effects: Vec<Effect>, flow: Flow, out: &mut Vec<EndpointOutput>) -> Vec<News> {
    let mut news = Vec::new();
    for effect in effects {
        match effect {
            Effect::Send(bytes) => out.push(EndpointOutput::Send { flow, bytes }),
            Effect::Resend(bytes) => {
                out.push(EndpointOutput::Count(Counter::Retransmission));
                out.push(EndpointOutput::Send { flow, bytes });
            }
            Effect::Deliver => news.push(News::Response),
            Effect::TimedOut => news.push(News::TimedOut),
        }
    }
    news
}

/// Where responses go (RFC 3261 §18.2.2, RFC 3581 §4): always to the source address, to its port
/// if the peer asked by `rport`, else to the port of its Via. `maddr` is not followed: it would
/// make us send where nobody asked from.
pub fn reply_flow(request: &Request, flow: Flow) -> Flow {
    let via = request.via();
    let mut remote = flow.remote;
    match via.rport {
        Rport::Asked | Rport::Filled(_) => {}
        Rport::Absent => remote.set_port(via.port.unwrap_or(5060)),
    }
    Flow { remote, ..flow }
}
