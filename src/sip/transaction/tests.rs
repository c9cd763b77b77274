//! Walks the rows of the four state tables.

use std::time::Duration;

use super::client::Client;
use super::invite_client::InviteClient;
use super::invite_server::InviteServer;
use super::server::Server;
use super::*;

/// At this millisecond, this input, these effects; then the next timer as `letter@millisecond`.
type Row<I> = (u64, I, &'static [&'static str], &'static str);

fn at(ms: u64) -> Instant {
    Instant::default() + Duration::from_millis(ms)
}

fn name(effect: &Effect) -> String {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    match effect {
        Effect::Send(bytes) => format!("send {}", text(bytes)),
        Effect::Resend(bytes) => format!("again {}", text(bytes)),
        Effect::Deliver => "deliver".into(),
        Effect::TimedOut => "timed out".into(),
    }
}

fn timer(next: Option<(Instant, &'static str)>) -> String {
    next.map_or(String::from("-"), |(at, letter)| {
        format!("{letter}@{}", at.as_nanos() / 1_000_000)
    })
}

fn walk_client(
    what: &str,
    start: fn(Instant, Vec<u8>, &mut Vec<Effect>) -> ClientMachine,
    rows: &[Row<ClientInput>],
) {
    let mut out = Vec::new();
    let mut machine = start(at(0), b"request".to_vec(), &mut out);
    assert_eq!(out, [Effect::Send(b"request".to_vec())], "{what}");
    for (n, (ms, input, effects, next)) in rows.iter().enumerate() {
        out.clear();
        machine = machine.handle(at(*ms), input.clone(), &mut out);
        let got: Vec<String> = out.iter().map(name).collect();
        assert_eq!(got, *effects, "{what}, row {n}: {input:?} at {ms}");
        assert_eq!(
            timer(machine.next_timeout()),
            *next,
            "{what}, row {n}: {input:?} at {ms}"
        );
    }
    assert!(machine.is_over(), "{what} must end Terminated: {machine:?}");
}

fn walk_server(what: &str, start: ServerMachine, rows: &[Row<ServerInput>]) {
    let mut machine = start;
    for (n, (ms, input, effects, next)) in rows.iter().enumerate() {
        let mut out = Vec::new();
        machine = machine.handle(at(*ms), input.clone(), &mut out);
        let got: Vec<String> = out.iter().map(name).collect();
        assert_eq!(got, *effects, "{what}, row {n}: {input:?} at {ms}");
        assert_eq!(
            timer(machine.next_timeout()),
            *next,
            "{what}, row {n}: {input:?} at {ms}"
        );
    }
    assert!(machine.is_over(), "{what} must end Terminated: {machine:?}");
}

fn invite_client(now: Instant, request: Vec<u8>, out: &mut Vec<Effect>) -> ClientMachine {
    ClientMachine::Invite(InviteClient::start(now, request, out))
}

fn other_client(now: Instant, request: Vec<u8>, out: &mut Vec<Effect>) -> ClientMachine {
    ClientMachine::Other(Client::start(now, request, out))
}

fn provisional() -> ClientInput {
    ClientInput::Response(ResponseClass::Provisional)
}

fn success() -> ClientInput {
    ClientInput::Response(ResponseClass::Success)
}

fn failure() -> ClientInput {
    ClientInput::Response(ResponseClass::Failure { ack: b"ack".to_vec() })
}

fn tick() -> ClientInput {
    ClientInput::Timeout
}

fn reply(status: u16) -> ServerInput {
    ServerInput::Reply(Reply::new(status, status.to_string().into_bytes()))
}

#[test]
fn invite_client_repeats_with_doubling_gaps_until_timer_b() {
    walk_client(
        "no answer",
        invite_client,
        &[
            (499, tick(), &[], "A@500"),
            (500, tick(), &["again request"], "A@1500"),
            (1500, tick(), &["again request"], "A@3500"),
            (3500, tick(), &["again request"], "A@7500"),
            (7500, tick(), &["again request"], "A@15500"),
            (15500, tick(), &["again request"], "A@31500"),
            (31500, tick(), &["again request"], "B@32000"),
            (32000, tick(), &["timed out"], "-"),
            (32001, success(), &[], "-"),
            (32002, tick(), &[], "-"),
        ],
    );
}

#[test]
fn invite_client_in_calling_takes_every_class() {
    walk_client(
        "2xx at once",
        invite_client,
        &[
            (10, success(), &["deliver"], "M@32010"),
            (20, success(), &["deliver"], "M@32010"),
            (30, provisional(), &[], "M@32010"),
            (40, failure(), &[], "M@32010"),
            (32009, tick(), &[], "M@32010"),
            (32010, tick(), &[], "-"),
        ],
    );
    walk_client(
        "refusal at once",
        invite_client,
        &[
            (10, failure(), &["send ack", "deliver"], "D@32010"),
            (20, failure(), &["again ack"], "D@32010"),
            (30, provisional(), &[], "D@32010"),
            (40, success(), &[], "D@32010"),
            (32010, tick(), &[], "-"),
        ],
    );
}

#[test]
fn invite_client_in_proceeding_waits_without_timers() {
    walk_client(
        "ringing, then 2xx",
        invite_client,
        &[
            (10, provisional(), &["deliver"], "-"),
            (20, provisional(), &["deliver"], "-"),
            (60_000, tick(), &[], "-"),
            (60_001, success(), &["deliver"], "M@92001"),
            (92_001, tick(), &[], "-"),
        ],
    );
    walk_client(
        "ringing, then refusal",
        invite_client,
        &[
            (10, provisional(), &["deliver"], "-"),
            (20, failure(), &["send ack", "deliver"], "D@32020"),
            (32_020, tick(), &[], "-"),
        ],
    );
}

#[test]
fn client_repeats_with_gaps_up_to_t2_until_timer_f() {
    walk_client(
        "no answer",
        other_client,
        &[
            (500, tick(), &["again request"], "E@1500"),
            (1500, tick(), &["again request"], "E@3500"),
            (3500, tick(), &["again request"], "E@7500"),
            (7500, tick(), &["again request"], "E@11500"),
            (11500, tick(), &["again request"], "E@15500"),
            (31500, tick(), &["again request"], "F@32000"),
            (32000, tick(), &["timed out"], "-"),
        ],
    );
}

#[test]
fn client_in_proceeding_repeats_every_t2() {
    walk_client(
        "1xx, then final",
        other_client,
        &[
            (10, provisional(), &["deliver"], "E@500"),
            (500, tick(), &["again request"], "E@4500"),
            (600, provisional(), &["deliver"], "E@4500"),
            (4500, tick(), &["again request"], "E@8500"),
            (5000, success(), &["deliver"], "K@10000"),
            (5001, success(), &[], "K@10000"),
            (5002, failure(), &[], "K@10000"),
            (5003, provisional(), &[], "K@10000"),
            (9999, tick(), &[], "K@10000"),
            (10000, tick(), &[], "-"),
            (10001, success(), &[], "-"),
        ],
    );
    walk_client(
        "1xx, then nothing",
        other_client,
        &[
            (10, provisional(), &["deliver"], "E@500"),
            (31000, tick(), &["again request"], "F@32000"),
            (32000, tick(), &["timed out"], "-"),
        ],
    );
}

#[test]
fn invite_server_refuses_until_the_ack() {
    walk_server(
        "refused, ACK lost for long",
        ServerMachine::Invite(InviteServer::start()),
        &[
            (0, ServerInput::Request, &[], "-"),
            (0, reply(100), &["send 100"], "-"),
            (10, ServerInput::Request, &["again 100"], "-"),
            (20, ServerInput::Ack, &[], "-"),
            (30, ServerInput::Timeout, &[], "-"),
            (40, reply(180), &["send 180"], "-"),
            (50, ServerInput::Request, &["again 180"], "-"),
            (100, reply(486), &["send 486"], "G@600"),
            (110, reply(200), &[], "G@600"),
            (120, ServerInput::Request, &["again 486"], "G@600"),
            (600, ServerInput::Timeout, &["again 486"], "G@1600"),
            (1600, ServerInput::Timeout, &["again 486"], "G@3600"),
            (3600, ServerInput::Timeout, &["again 486"], "G@7600"),
            (7600, ServerInput::Timeout, &["again 486"], "G@11600"),
            (8000, ServerInput::Ack, &[], "I@13000"),
            (8001, ServerInput::Ack, &[], "I@13000"),
            (8002, ServerInput::Request, &[], "I@13000"),
            (8003, reply(486), &[], "I@13000"),
            (12999, ServerInput::Timeout, &[], "I@13000"),
            (13000, ServerInput::Timeout, &[], "-"),
            (13001, ServerInput::Request, &[], "-"),
        ],
    );
    walk_server(
        "refused, never an ACK",
        ServerMachine::Invite(InviteServer::start()),
        &[
            (0, reply(486), &["send 486"], "G@500"),
            (31900, ServerInput::Timeout, &["again 486"], "H@32000"),
            (32000, ServerInput::Timeout, &["timed out"], "-"),
        ],
    );
}

#[test]
fn invite_server_in_accepted_absorbs_invites_and_lets_the_200_pass() {
    walk_server(
        "accepted",
        ServerMachine::Invite(InviteServer::start()),
        &[
            (0, reply(200), &["send 200"], "L@32000"),
            (500, reply(200), &["again 200"], "L@32000"),
            (600, ServerInput::Request, &[], "L@32000"),
            (700, ServerInput::Ack, &["deliver"], "L@32000"),
            (800, reply(486), &[], "L@32000"),
            (900, reply(180), &[], "L@32000"),
            (31999, ServerInput::Timeout, &[], "L@32000"),
            (32000, ServerInput::Timeout, &[], "-"),
            (32001, reply(200), &[], "-"),
        ],
    );
}

#[test]
fn server_repeats_what_it_has_said() {
    walk_server(
        "OPTIONS",
        ServerMachine::Other(Server::start()),
        &[
            (0, ServerInput::Request, &[], "-"),
            (0, ServerInput::Ack, &[], "-"),
            (0, ServerInput::Timeout, &[], "-"),
            (10, reply(100), &["send 100"], "-"),
            (20, ServerInput::Request, &["again 100"], "-"),
            (30, reply(182), &["send 182"], "-"),
            (31, ServerInput::Ack, &[], "-"),
            (32, ServerInput::Timeout, &[], "-"),
            (40, reply(200), &["send 200"], "J@32040"),
            (50, ServerInput::Request, &["again 200"], "J@32040"),
            (60, reply(500), &[], "J@32040"),
            (70, ServerInput::Ack, &[], "J@32040"),
            (32040, ServerInput::Timeout, &[], "-"),
            (32041, ServerInput::Request, &[], "-"),
        ],
    );
    walk_server(
        "refused at once",
        ServerMachine::Other(Server::start()),
        &[
            (0, reply(405), &["send 405"], "J@32000"),
            (32000, ServerInput::Timeout, &[], "-"),
        ],
    );
}
