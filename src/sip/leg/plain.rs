//! In-dialog requests that change nothing, and refusals that need no state.

use crate::sip::leg::{ACCEPT, ALLOW, Asked, Cx, SUPPORTED};
use crate::sip::message::Method;

/// 481: no such dialog or transaction (RFC 3261 §12.2.2).
pub fn no_dialog(cx: &mut Cx<'_>, asked: &Asked) {
    refuse(cx, asked, 481);
}

/// A refusal that says no more than its code.
pub fn refuse(cx: &mut Cx<'_>, asked: &Asked, status: u16) {
    let tag = cx.ids.token();
    cx.reply(asked, status, asked.response(status, &tag));
}

/// 500 with Retry-After of 0 to 10 s: not now, but soon (RFC 3261 §14.2).
pub fn not_now(cx: &mut Cx<'_>, asked: &Asked) {
    let tag = cx.ids.token();
    let wait_s = cx.ids.below(11).to_string();
    let response = asked.response(500, &tag).header("Retry-After", &wait_s);
    cx.reply(asked, 500, response);
}

/// 420 if the request requires an option that we do not know; false if all is well
/// (RFC 3261 §8.2.2.3). ACK and CANCEL are not asked.
pub fn refuses_options(cx: &mut Cx<'_>, asked: &Asked, to_tag: &str) -> bool {
    let known = |option: &&str| SUPPORTED.eq_ignore_ascii_case(option);
    let unknown: Vec<&str> = asked.request.require().filter(|option| !known(option)).collect();
    if unknown.is_empty() {
        return false;
    }
    let response = asked
        .response(420, to_tag)
        .header("Unsupported", &unknown.join(", "));
    cx.reply(asked, 420, response);
    true
}

/// Answers OPTIONS, INFO and whatever is none of our methods. BYE, INVITE, UPDATE and CANCEL are
/// the states' own matter and never come here; if one does it gets 481.
pub fn answer(cx: &mut Cx<'_>, asked: &Asked, to_tag: &str) {
    if refuses_options(cx, asked, to_tag) {
        return;
    }
    let empty = asked.request.body().is_empty();
    let (status, response) = match &asked.request.method {
        Method::Options => {
            let response = asked.response(200, to_tag).header("Allow", ALLOW);
            (
                200,
                response.header("Supported", SUPPORTED).header("Accept", ACCEPT),
            )
        }
        // An INFO without a body is a sign of life (RFC 6086 knows no other kind without a package).
        Method::Info if empty => (200, asked.response(200, to_tag)),
        Method::Info => (415, asked.response(415, to_tag).header("Accept", ACCEPT)),
        // A transfer would escape the clock of the call.
        Method::Refer => (403, asked.response(403, to_tag)),
        // We send no reliable provisional response, so none can be acknowledged (RFC 3262 §3), and
        // there is no subscription to notify.
        Method::Prack | Method::Notify | Method::Invite | Method::Bye | Method::Update => {
            (481, asked.response(481, to_tag))
        }
        Method::Ack | Method::Cancel => return,
        Method::Subscribe | Method::Message | Method::Register | Method::Publish => {
            (405, asked.response(405, to_tag).header("Allow", ALLOW))
        }
        Method::Other(_) => (501, asked.response(501, to_tag).header("Allow", ALLOW)),
    };
    cx.reply(asked, status, response);
}
