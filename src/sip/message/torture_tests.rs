//! The torture messages of RFC 4475 and RFC 5118 in our own transcription, and some of ours.

#![expect(clippy::indexing_slicing, reason = "a test may fail on a bad index")]

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// A file's verdict in a word: `ok`, `400`, `505`, `junk` or `drop`.
fn verdict(bytes: &[u8]) -> String {
    match Message::parse(bytes) {
        Ok(_) => "ok".to_owned(),
        Err(WireFault::Junk) => "junk".to_owned(),
        Err(WireFault::BadResponse) => "drop".to_owned(),
        Err(WireFault::Malformed(broken)) => broken.status.to_string(),
    }
}

fn torture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/torture/{name}.sip"));
    std::fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

const VERDICTS: [(&str, &[&str]); 5] = [
    (
        "ok",
        &[
            "wsinv",
            "intmeth",
            "esc01",
            "escnull",
            "esc02",
            "lwsdisp",
            "longreq",
            "dblreq",
            "semiuri",
            "transports",
            "mpart01",
            "unreason",
            "noreason",
            "bcast",
            "badbranch",
            "unkscm",
            "novelsc",
            "unksm2",
            "bext01",
            "invut",
            "regaut01",
            "zeromf",
            "cparam01",
            "cparam02",
            "regescrt",
            "inv2543",
            "ipv6-good",
            "ipv6-received-in-brackets",
            "ipv6-mapped",
            "seventy-vias",
            "tel-uris",
            "line-feeds-only",
            "latin1-display",
            // RFC 4475 allows these to be refused or read; they are read.
            "escruri",
            "baddate",
            "badaspec",
            "baddn",
        ],
    ),
    (
        "400",
        &[
            "badinv01",
            "clerr",
            "ncl",
            "scalar02",
            "maxforwards300",
            "quotbal",
            "ltgtruri",
            "lwsruri",
            "lwsstart",
            "trws",
            "regbadct",
            "mismatch01",
            "mismatch02",
            "insuf",
            "multi01",
            "mcl01",
            "ipv6-without-brackets",
            "port-zero-in-via",
            "port-65536-in-via",
            "port-negative-in-via",
            "port-empty-in-via",
            "port-word-in-via",
            "port-zero-in-contact",
            "port-65536-in-contact",
            "port-negative-in-contact",
            "port-empty-in-contact",
            "port-word-in-contact",
            "port-zero-in-request-uri",
            "port-65536-in-request-uri",
            "port-negative-in-request-uri",
            "port-empty-in-request-uri",
            "port-word-in-request-uri",
            "nul-bare",
            "carriage-return-bare",
            "no-colon",
            "blank-name",
            "seventy-one-vias",
            "many-headers",
            "long-line",
            "long-folded-line",
            "no-empty-line",
        ],
    ),
    ("505", &["badvers"]),
    ("drop", &["scalarlg", "bigcode"]),
    ("junk", &["keepalive", "stun", "http", "novia", "ack-broken"]),
];

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    VERDICTS
        .iter()
        .flat_map(|(verdict, names)| names.iter().map(|name| (*name, *verdict)))
}

#[test]
fn every_torture_message_gets_its_verdict() {
    let wrong: Vec<String> = rows()
        .filter(|(name, want)| verdict(&torture(name)) != *want)
        .map(|(name, want)| format!("{name}: {:?}, want {want}", Message::parse(&torture(name)).err()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known: BTreeSet<String> = rows().map(|(name, _)| format!("{name}.sip")).collect();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torture");
    let files = std::fs::read_dir(dir).expect("the folder is there");
    let files: BTreeSet<String> = files
        .map(|file| file.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, known, "files and rows");
}

#[test]
fn every_malformed_request_has_a_readable_answer() {
    let remote = "192.0.2.200:5099".parse().expect("an address");
    for (name, _) in rows().filter(|(_, want)| matches!(*want, "400" | "505")) {
        let Err(WireFault::Malformed(broken)) = Message::parse(&torture(name)) else {
            panic!("{name} is malformed");
        };
        let bytes = ResponseBuilder::malformed(&broken, "tag", remote).build();
        let text = String::from_utf8(bytes).expect("our head is UTF-8");
        assert!(
            text.starts_with(&format!("SIP/2.0 {} ", broken.status)),
            "{name}: {text}"
        );
        assert!(text.contains("\r\nVia: "), "{name}: {text}");
        assert!(text.ends_with("\r\nContent-Length: 0\r\n\r\n"), "{name}: {text}");
    }
}

fn request(name: &str) -> Request {
    Request::parse(&torture(name)).unwrap_or_else(|| panic!("{name} is a request"))
}

#[test]
fn the_short_tortuous_invite_means_what_the_rfc_says() {
    let invite = request("wsinv");
    assert_eq!(invite.to().tag.as_deref(), Some("1918181833n"));
    assert_eq!(invite.from().display.as_deref(), Some("J Rosenberg \\\""));
    assert_eq!(invite.from().tag.as_deref(), Some("98asjd8"));
    assert_eq!(invite.max_forwards(), Some(68));
    assert_eq!(invite.cseq(), (9, &Method::Invite));
    assert_eq!(invite.via().branch.as_deref(), Some("390skdjuw"));
    assert_eq!(invite.vias_raw().count(), 3);
    assert_eq!(invite.header("Subject"), None);
    assert_eq!(
        invite.header("NewFangledHeader"),
        Some("newfangled value continued newfangled value")
    );
    let contact = invite.contact().expect("readable");
    assert_eq!(contact.as_str(), "sip:jdrosen@bell-tel.example.com");
    assert_eq!(invite.body().len(), 150);
}

#[test]
fn single_values_survive_their_torture() {
    let odd = request("intmeth");
    assert!(matches!(&odd.method, Method::Other(name) if name.starts_with("!interesting")));
    assert_eq!(
        odd.uri.user().as_deref(),
        Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/")
    );
    assert_eq!(odd.from().tag.as_deref(), Some("_token~1'+`*%!-."));
    assert_eq!(
        request("esc01").uri.user().as_deref(),
        Some("sips:user@example.com")
    );
    assert_eq!(request("esc02").method, Method::Other("RE%47IST%45R".to_owned()));
    assert_eq!(request("lwsdisp").from().display.as_deref(), Some("caller"));
    assert_eq!(request("dblreq").body(), b"");
    assert_eq!(
        request("semiuri").uri.raw_user.as_deref(),
        Some("user;par=u%40example.net")
    );
    assert_eq!(
        request("mpart01").content_type().as_deref(),
        Some("multipart/mixed")
    );
    assert!(request("mpart01").body().contains(&0));
    assert_eq!(request("unkscm").uri.scheme, Scheme::Other);
    assert_eq!(request("bext01").require().count(), 2);
    assert_eq!(request("badbranch").via().branch.as_deref(), Some("z9hG4bK"));
    assert_eq!(request("inv2543").via().branch, None);
    assert_eq!(request("inv2543").max_forwards(), None);
    assert_eq!(
        request("latin1-display").from().display.as_deref(),
        Some("Jürgen")
    );
    let six = request("ipv6-good");
    assert_eq!(six.uri.address(), "[2001:db8::10:5070]:5060".parse().ok());
    assert_eq!(six.via().sent_by(), "[2001:db8::9:1]:5060");
    assert_eq!(six.via().received, "2001:db8::9:255".parse().ok());
    let bracketed = request("ipv6-received-in-brackets");
    assert_eq!(bracketed.via().received, "2001:db8::9:255".parse().ok());
    let tel = request("tel-uris");
    assert_eq!(
        (tel.uri.scheme, tel.uri.user().as_deref()),
        (Scheme::Tel, Some("+493023125101"))
    );
    assert_eq!(tel.from().tag.as_deref(), Some("5"));
    let Some(response) = Response::parse(&torture("noreason")) else {
        panic!("a response");
    };
    assert_eq!((response.status, response.reason_phrase.as_str()), (100, ""));
}

#[test]
fn what_is_built_is_read_by_rsip_too() {
    let bytes = RequestBuilder::new(&Method::Invite, "sip:+49301@192.0.2.9:5070;user=phone")
        .via("192.0.2.1:5060".parse().expect("an address"), "z9hG4bKx")
        .max_forwards(70)
        .header(
            "From",
            &format!("{};tag=a", name_addr(Some("A \\ \"B\""), "sip:+49302@192.0.2.1")),
        )
        .header("To", &name_addr(None, "sip:+49301@192.0.2.9"))
        .call_id("b@c")
        .cseq(4711, &Method::Invite)
        .body("application/sdp", b"v=0\r\n".to_vec())
        .build();
    let theirs = rsip::Request::try_from(&bytes[..]).expect("rsip reads it");
    assert_eq!(theirs.uri.to_string(), "sip:+49301@192.0.2.9:5070;user=phone");
    assert_eq!(theirs.headers.iter().count(), 9);
    assert_eq!(theirs.body, b"v=0\r\n");
}

#[test]
fn hostile_repetition_takes_linear_time() {
    // Each of these is some 60 kB of what a careless parser goes over again and again; the bound is
    // that the test ends at all in a debug build.
    let frame = |filling: &str| {
        format!(
            "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: sip:c@d;tag=1\r\n\
             To: sip:a@b\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n{filling}\r\n"
        )
    };
    for filling in [
        format!("Route: {}\r\n", "<,".repeat(4_000)),
        format!("Route: {}\r\n", ",".repeat(8_000)),
        format!("Contact: sip:a@b{}\r\n", ";a".repeat(4_000)),
        format!("Subject: {}\r\n", "\"\\".repeat(4_000)),
        "Subject: a\r\n".repeat(5_000),
        "\r\n".repeat(30_000),
        format!("X: y{}\r\n", "\r\n z".repeat(15_000)),
        "Via: SIP/2.0/UDP h,".repeat(3_000),
    ] {
        wire::fuzz(frame(&filling).as_bytes());
    }
}

/// Applies edits at places counted from the start, round the end.
fn mutate(seed: &mut Vec<u8>, edits: &[(u16, u8, u8)]) {
    for &(at, byte, kind) in edits {
        let at = usize::from(at) % (seed.len() + 1);
        match kind {
            0 => seed.insert(at, byte),
            1 => seed.truncate(at),
            2 => seed.splice(at..at, *b"\r\n").for_each(drop),
            3 => {
                let copy = seed.split_off(at);
                seed.extend_from_within(at.saturating_sub(usize::from(byte))..);
                seed.extend(copy);
            }
            _ => seed.iter_mut().skip(at).take(1).for_each(|b| *b = byte),
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        wire::fuzz(&bytes);
    }

    #[test]
    fn any_mutated_message_is_read_without_a_panic(
        which in 0usize..120,
        edits in proptest::collection::vec((any::<u16>(), any::<u8>(), 0u8..12), 0..10),
    ) {
        let names: Vec<_> = rows().map(|(name, _)| name).collect();
        let mut seed = torture(names[which % names.len()]);
        mutate(&mut seed, &edits);
        wire::fuzz(&seed);
    }

    #[test]
    fn what_is_built_is_read_back(
        user in "[a-z0-9 @:;<>\"%äß]{1,12}",
        display in proptest::option::of("\\PC{1,20}"),
        subject in "\\PC{0,40}",
        text in "[ -~\r\n\0]{1,30}",
        hops: u8, number in 0u32..(1 << 31),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let uri = Uri::at(Some(&user), "[2001:db8::1]:5070".parse().expect("an address"));
        let reasons = [Reason { protocol: ReasonProtocol::Sip, cause: 402, text: Some(text.clone()) }];
        let bytes = RequestBuilder::new(&Method::Invite, uri.as_str())
            .via("192.0.2.1:5060".parse().expect("an address"), "z9hG4bKx")
            .max_forwards(hops)
            .header("From", &format!("{};tag=a", name_addr(display.as_deref(), uri.as_str())))
            .header("To", &name_addr(None, uri.as_str()))
            .call_id("b@c")
            .cseq(number, &Method::Invite)
            .header("Contact", &name_addr(None, uri.as_str()))
            .header("Subject", &format!("{subject}{text}"))
            .headers("Route", &["<sip:p1;lr>", "<sip:p2;lr>"])
            .reasons(&reasons)
            .body("application/sdp", body.clone())
            .build();
        let request = Request::parse(&bytes).expect("our own request is readable");
        prop_assert_eq!(&request.uri, &uri);
        prop_assert_eq!(request.uri.user(), Some(user.split(';').next().unwrap_or_default().to_owned()));
        let shown: Option<String> = display.map(|d| d.chars().filter(|c| !c.is_control()).collect());
        prop_assert_eq!(request.from().display.clone(), shown.filter(|d| !d.is_empty()));
        prop_assert_eq!(request.contact(), Some(uri));
        prop_assert_eq!(request.cseq(), (number, &Method::Invite));
        prop_assert_eq!(request.max_forwards(), Some(hops));
        prop_assert_eq!(request.routes(), ["<sip:p1;lr>", "<sip:p2;lr>"]);
        prop_assert_eq!(request.body(), &body[..]);
        let plain: String = text.chars().filter(|c| !c.is_control()).collect();
        prop_assert_eq!(request.reasons()[0].text.clone().unwrap_or_default(), plain);
    }
}
