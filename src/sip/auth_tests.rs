//! The RFCs' own vectors, and challenges as servers write them.

#![expect(clippy::indexing_slicing, reason = "a test may fail on a bad index")]

use super::*;
use crate::secret::Secret;
use crate::sip::message::Response;

fn unauthorized(headers: &str) -> Response {
    let text = format!(
        "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:c@d>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n{headers}\r\n"
    );
    Response::parse(text.as_bytes()).expect("the fixture is readable")
}

fn credentials(username: &str, password: &str) -> Credentials {
    Credentials {
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
    }
}

fn response_of(headers: &str, password: &str, method: &str, uri: &str, cnonce: &str) -> Vec<String> {
    let found = challenges(&unauthorized(headers));
    let answers = found.iter().map(|challenge| {
        challenge.authorize(
            &credentials("Mufasa", password),
            Attempt {
                method: &Method::parse(method).expect("a token"),
                uri,
                cnonce,
                count: 1,
            },
        )
    });
    answers
        .map(|value| {
            let (_, rest) = value.split_once("response=\"").expect("an answer has a response");
            rest.split('"').next().expect("and its end").to_owned()
        })
        .collect()
}

#[test]
fn the_vector_of_rfc_2617_comes_out() {
    let challenge = "WWW-Authenticate: Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
        nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"\r\n";
    let answers = response_of(challenge, "Circle Of Life", "GET", "/dir/index.html", "0a4f113b");
    assert_eq!(answers, ["6629fae49393a05397450978507c4ef1"]);
}

#[test]
fn the_vectors_of_rfc_7616_come_out() {
    let challenge = |algorithm: &str| {
        format!(
            "Proxy-Authenticate: Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
             algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"\r\n"
        )
    };
    let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    for (algorithm, want) in [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        (
            "SHA-256",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ] {
        let answers = response_of(
            &challenge(algorithm),
            "Circle of Life",
            "GET",
            "/dir/index.html",
            cnonce,
        );
        assert_eq!(answers, [want], "{algorithm}");
    }
}

#[test]
fn the_first_usable_challenge_of_a_realm_is_taken() {
    let found = challenges(&unauthorized(
        "WWW-Authenticate: Basic realm=\"r\"\r\n\
         WWW-Authenticate: Digest realm=\"r\", nonce=\"a\", algorithm=SHA-512-256, qop=\"auth\"\r\n\
         WWW-Authenticate: Digest realm=\"r\", nonce=\"b\", algorithm=SHA-256, qop=\"auth-int\"\r\n\
         WWW-Authenticate: DIGEST realm = \"r\" , nonce= \"c,\\\"d\" , algorithm=sha-256,qop=auth,stale=TRUE\r\n\
         WWW-Authenticate: Digest realm=\"r\", nonce=\"e\", algorithm=MD5, Digest realm=\"s\",nonce=\"f\"\r\n\
         Proxy-Authenticate: Digest realm=\"r\", nonce=\"g\", opaque=\"\"\r\n\
         Proxy-Authenticate: Digest realm=\"no nonce\"\r\n",
    ));
    let short: Vec<_> = found
        .iter()
        .map(|c| (c.realm.as_str(), c.nonce.as_str(), c.by))
        .collect();
    assert_eq!(
        short,
        [
            ("r", "c,\"d", Challenger::Server),
            ("s", "f", Challenger::Server),
            ("r", "g", Challenger::Proxy)
        ]
    );
    assert!(found[0].stale && found[0].qop_auth && found[0].algorithm == Algorithm::Sha256);
    assert!(!found[1].qop_auth && !found[1].stale);
    assert_eq!(found[2].opaque.as_deref(), Some(""));
}

#[test]
fn an_answer_cannot_break_out_of_its_quotes_and_hides_the_password() {
    let found = challenges(&unauthorized(
        "WWW-Authenticate: Digest realm=\"a\\\"b\", nonce=\"n\"\r\n",
    ));
    let value = found[0].authorize(
        &credentials("x\", y=\"z\r\n", "geheim"),
        Attempt {
            method: &Method::Invite,
            uri: "sip:a@b",
            cnonce: "c",
            count: 1,
        },
    );
    assert!(value.contains("username=\"x\\\", y=\\\"z\""), "{value}");
    assert!(value.contains("realm=\"a\\\"b\""), "{value}");
    assert!(!value.contains("geheim") && !value.contains('\n'));
}
