//! What the endpoint answers to the torture messages of RFC 4475 and RFC 5118: each has the verdict
//! that the RFC gives, or one that it allows.

use std::fmt::Write as _;
use std::path::Path;

use expect_test::expect;

use super::solo::{PEER, Solo};

#[test]
fn each_torture_message_gets_the_answer_of_its_rfc() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torture");
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let mut table = String::new();
    for path in names {
        let mut solo = Solo::new();
        solo.datagram(PEER, std::fs::read(&path).unwrap());
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let said: Vec<&str> = solo
            .ladder
            .lines()
            .map(|line| line.split(" |").next().unwrap_or(line))
            .collect();
        writeln!(table, "{name}: {}", said.join(", ")).unwrap();
    }
    expect![[r#"
        ack-broken: # Junk
        badaspec: > 200 OPTIONS
        badbranch: > 200 OPTIONS
        baddate: > 100 INVITE, * Incoming without offer
        baddn: > 200 OPTIONS
        badinv01: # Malformed, > SIP/2.0 400 Bad Request (a Via without protocol and transport)
        badvers: # Malformed, > SIP/2.0 505 Version Not Supported
        bcast: # StrayResponse
        bext01: > 420 OPTIONS
        bigcode: # Junk
        blank-name: # Malformed, > 400 OPTIONS
        carriage-return-bare: # Malformed, > 400 OPTIONS
        clerr: # Malformed, > 400 INVITE
        cparam01: > 405 REGISTER
        cparam02: > 405 REGISTER
        dblreq: > 405 REGISTER
        esc01: > 100 INVITE, * Incoming without offer
        esc02: > 501 RE%47IST%45R
        escnull: > 405 REGISTER
        escruri: > 100 INVITE, * Incoming without offer
        http: # Junk
        insuf: # Malformed, > SIP/2.0 400 Bad Request (no From, or two)
        intmeth: > 501 !interesting-Method0123456789_*+`.%indeed'~
        inv2543: > 100 INVITE, * Incoming
        invut: > 415 INVITE
        ipv6-good: > 100 INVITE, * Incoming without offer
        ipv6-mapped: > 200 OPTIONS
        ipv6-received-in-brackets: > 200 OPTIONS
        ipv6-without-brackets: # Malformed, > 400 INVITE
        keepalive: 
        latin1-display: > 200 OPTIONS
        line-feeds-only: > 200 OPTIONS
        long-folded-line: # Malformed, > 400 OPTIONS
        long-line: # Malformed, > 400 OPTIONS
        longreq: > 100 INVITE, * Incoming without offer
        ltgtruri: # Malformed, > 400 INVITE
        lwsdisp: > 200 OPTIONS
        lwsruri: # Malformed, > 400 INVITE
        lwsstart: # Malformed, > 400 INVITE
        many-headers: # Malformed, > 400 OPTIONS
        maxforwards300: # Malformed, > 400 OPTIONS
        mcl01: # Malformed, > 400 OPTIONS
        mismatch01: # Malformed, > 400 INVITE
        mismatch02: # Malformed, > 400 INVITE
        mpart01: > 405 MESSAGE
        multi01: # Malformed, > 400 INVITE
        ncl: # Malformed, > 400 INVITE
        no-colon: # Malformed, > 400 OPTIONS
        no-empty-line: # Malformed, > 400 OPTIONS
        noreason: # StrayResponse
        novelsc: > 416 OPTIONS
        novia: # Junk
        nul-bare: # Malformed, > 400 OPTIONS
        port-65536-in-contact: # Malformed, > 400 INVITE
        port-65536-in-request-uri: # Malformed, > 400 INVITE
        port-65536-in-via: # Malformed, > SIP/2.0 400 Bad Request (a port out of 1..=65535)
        port-empty-in-contact: # Malformed, > 400 INVITE
        port-empty-in-request-uri: # Malformed, > 400 INVITE
        port-empty-in-via: # Malformed, > SIP/2.0 400 Bad Request (a port out of 1..=65535)
        port-negative-in-contact: # Malformed, > 400 INVITE
        port-negative-in-request-uri: # Malformed, > 400 INVITE
        port-negative-in-via: # Malformed, > SIP/2.0 400 Bad Request (a port out of 1..=65535)
        port-word-in-contact: # Malformed, > 400 INVITE
        port-word-in-request-uri: # Malformed, > 400 INVITE
        port-word-in-via: # Malformed, > SIP/2.0 400 Bad Request (a port out of 1..=65535)
        port-zero-in-contact: # Malformed, > 400 INVITE
        port-zero-in-request-uri: # Malformed, > 400 INVITE
        port-zero-in-via: # Malformed, > SIP/2.0 400 Bad Request (a port out of 1..=65535)
        quotbal: # Malformed, > SIP/2.0 400 Bad Request (a URI with blanks, quotes or brackets)
        regaut01: > 405 REGISTER
        regbadct: # Malformed, > 400 REGISTER
        regescrt: > 405 REGISTER
        scalar02: # Malformed, > SIP/2.0 400 Bad Request (an unreadable CSeq)
        scalarlg: # Junk
        semiuri: > 200 OPTIONS
        seventy-one-vias: # Malformed, > 400 OPTIONS
        seventy-vias: > 200 OPTIONS
        stun: # Junk
        tel-uris: > 100 INVITE, * Incoming without offer
        transports: > 200 OPTIONS
        trws: # Malformed, > 400 OPTIONS
        unkscm: > 416 OPTIONS
        unksm2: > 405 REGISTER
        unreason: # StrayResponse
        wsinv: # NoDialog, > 481 INVITE
        zeromf: > 200 OPTIONS
    "#]]
    .assert_eq(&table);
}
