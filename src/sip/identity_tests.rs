//! Caller and called numbers as fixtures: what carriers send, and what it means.

use super::*;
use crate::config::Cidr;

fn trunk(number_format: NumberFormat, trust_pai: bool) -> TrunkConfig {
    TrunkConfig {
        name: "carrier".to_owned(),
        peers: vec![Cidr::parse("192.0.2.0/24").expect("a range")],
        proxy: None,
        number_format,
        called_from: CalledFrom::RequestUri,
        trust_pai,
        country_code: "49".to_owned(),
        username: None,
        password_file: None,
        inbound: true,
    }
}

fn invite(uri: &str, from: &str, more: &str) -> Request {
    let text = format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: {from};tag=1\r\n\
         To: <sip:+493077@example.com>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n{more}\r\n"
    );
    Request::parse(text.as_bytes()).expect("the fixture is readable")
}

/// A short word for a caller: the number and how it is screened.
fn word(caller: &Caller) -> String {
    match caller {
        Caller::Withheld => "withheld".to_owned(),
        Caller::Line { number, screening } => format!("{} {screening:?}", number.as_str()),
    }
}

const FROM: &str = "<sip:+491701234567@example.com>";

/// From, other headers, what comes of them.
const CALLERS: [(&str, &str, &str); 16] = [
    (FROM, "", "+491701234567 User"),
    (
        FROM,
        "P-Asserted-Identity: <sip:+491701234567@ims>\r\n",
        "+491701234567 Network",
    ),
    (
        FROM,
        "P-Asserted-Identity: <tel:+49-170-1234567>\r\n",
        "+491701234567 Network",
    ),
    (
        FROM,
        "P-Asserted-Identity: <sip:%2B491701234567@ims;user=phone>\r\n",
        "+491701234567 Network",
    ),
    (
        FROM,
        "P-Asserted-Identity: <sip:+491701234567;cpc=mobile-hplmn@ims;user=phone>\r\n",
        "+491701234567 Network",
    ),
    (
        FROM,
        "P-Asserted-Identity: \"Bob, Inc.\" <sip:desk@ims>, <tel:+491701234567;cpc=ordinary>\r\n",
        "+491701234567 Network",
    ),
    (
        FROM,
        "P-Asserted-Identity: <sip:desk@ims>\r\nP-asserted-identity: <tel:+491701234567>\r\n",
        "+491701234567 Network",
    ),
    (
        FROM,
        "P-Asserted-Identity: <tel:+493012345>\r\n",
        "+493012345 Contradicted",
    ),
    (FROM, "P-Asserted-Identity: rubbish\r\n", "+491701234567 User"),
    (
        "<sip:account17@ims>",
        "P-Asserted-Identity: <tel:+493012345>\r\n",
        "+493012345 Network",
    ),
    ("<sip:account17@ims>", "", "withheld"),
    ("<sip:01701234567@ims>", "", "withheld"),
    (
        "\"Ada\" <tel:+49-170-1234567;phone-context=x>",
        "",
        "+491701234567 User",
    ),
    (
        "<sip:account17@ims>",
        "Remote-Party-ID: <sip:+493012345@ims>;party=calling;screen=yes;privacy=off\r\n",
        "+493012345 Network",
    ),
    (
        FROM,
        "Remote-Party-ID: <sip:+493099@ims>;party=called;screen=yes\r\n",
        "+491701234567 User",
    ),
    (
        FROM,
        "Remote-Party-ID: <sip:+491701234567@ims>;privacy=full\r\n",
        "withheld",
    ),
];

#[test]
fn the_caller_is_read_from_whoever_vouches_for_it() {
    for (from, more, want) in CALLERS {
        let request = invite("sip:+493023125101@192.0.2.9", from, more);
        let (_, caller) = resolve(&request, &trunk(NumberFormat::E164, true));
        assert_eq!(word(&caller), want, "From: {from} {more}");
    }
}

#[test]
fn every_spelling_of_anonymity_withholds_the_number() {
    let pai = "P-Asserted-Identity: <tel:+491701234567>\r\n";
    let rows = [
        ("<sip:anonymous@anonymous.invalid>", ""),
        ("\"Anonymous\" <sip:anonymous@192.0.2.1>", ""),
        ("\"Anonymous\" <sip:+491701234567@192.0.2.1>", ""),
        ("<sip:Unknown@192.0.2.1>", ""),
        ("<sip:restricted@192.0.2.1>", ""),
        ("<sip:UNAVAILABLE@192.0.2.1>", ""),
        ("<sip:+491701234567@anonymous.invalid>", ""),
        ("<sip:@192.0.2.1>", ""),
        ("<sip:192.0.2.1>", ""),
        ("sip:192.0.2.1", ""),
        ("<sip:+491701234567@192.0.2.1>", "Privacy: id\r\n"),
        ("<sip:+491701234567@192.0.2.1>", "Privacy: ID\r\n"),
        ("<sip:+491701234567@192.0.2.1>", "Privacy: user;critical\r\n"),
        ("<sip:+491701234567@192.0.2.1>", "Privacy: none, header\r\n"),
        (
            "<sip:+491701234567@192.0.2.1>",
            "Privacy: session\r\nPrivacy: critical;\r\n id\r\n",
        ),
    ];
    for (from, more) in rows {
        for more in [more.to_owned(), format!("{more}{pai}")] {
            let request = invite("sip:+493023125101@192.0.2.9", from, &more);
            let (_, caller) = resolve(&request, &trunk(NumberFormat::E164, true));
            assert_eq!(caller, Caller::Withheld, "From: {from} {more}");
        }
    }
    let plain = invite(
        "sip:+49301@192.0.2.9",
        "<sip:+491701234567@192.0.2.1>",
        "Privacy: none\r\n",
    );
    let (_, caller) = resolve(&plain, &trunk(NumberFormat::E164, true));
    assert_eq!(word(&caller), "+491701234567 User");
}

#[test]
fn an_untrusted_trunk_vouches_for_nothing() {
    let request = invite(
        "sip:+493023125101@192.0.2.9",
        "<sip:+491701234567@example.com>",
        "P-Asserted-Identity: <tel:+493012345>\r\n",
    );
    let (_, caller) = resolve(&request, &trunk(NumberFormat::E164, false));
    assert_eq!(word(&caller), "+491701234567 User");
}

#[test]
fn numbers_that_cannot_call_are_taken_for_forged() {
    for user in [
        "110",
        "112",
        "+49110",
        "+49112",
        "01371234567",
        "+491371234567",
        "09001234567",
        "+499001234567",
        "11833",
        "118000",
        "+4911833",
    ] {
        for format in [NumberFormat::E164, NumberFormat::Digits, NumberFormat::National] {
            let from = format!("<sip:{user}@example.com>");
            let request = invite("sip:+493023125101@192.0.2.9", &from, "");
            let (_, caller) = resolve(&request, &trunk(format, true));
            assert_eq!(caller, Caller::Withheld, "{user} as {format:?}");
            let more = format!("P-Asserted-Identity: <sip:{user}@example.com>\r\n");
            let request = invite("sip:+493023125101@192.0.2.9", "<sip:+491701234567@x>", &more);
            let (_, caller) = resolve(&request, &trunk(format, true));
            assert_eq!(caller, Caller::Withheld, "{user} asserted, as {format:?}");
        }
    }
}

#[test]
fn each_format_reads_what_it_declares_and_nothing_else() {
    use NumberFormat::{Digits, DoubleZero, E164 as Plus, National};
    let rows = [
        ("+493023125101", [true, true, true, true]),
        ("493023125101", [false, true, false, false]),
        ("00493023125101", [false, false, true, true]),
        ("03023125101", [false, false, false, true]),
        ("23125101x", [false, false, false, false]),
        ("", [false, false, false, false]),
    ];
    for (text, readable) in rows {
        for (format, readable) in [Plus, Digits, DoubleZero, National].into_iter().zip(readable) {
            let number = to_e164(text, format, "49");
            let want = readable.then_some("+493023125101");
            assert_eq!(number.as_ref().map(E164::as_str), want, "{text} as {format:?}");
        }
    }
}

#[test]
fn the_called_number_stands_where_the_trunk_says() {
    let mut rules = trunk(NumberFormat::National, true);
    let request = invite("sip:030-23125101;x=y@192.0.2.9;user=phone", "<sip:a@b>", "");
    let (called, _) = resolve(&request, &rules);
    assert_eq!(called.as_ref().map(E164::as_str), Some("+493023125101"));
    rules.called_from = CalledFrom::To;
    let (called, _) = resolve(&request, &rules);
    assert_eq!(called.as_ref().map(E164::as_str), Some("+493077"));
    rules.called_from = CalledFrom::RequestUri;
    let (called, _) = resolve(&invite("sip:account@192.0.2.9", "<sip:a@b>", ""), &rules);
    assert_eq!(called, None);
}
