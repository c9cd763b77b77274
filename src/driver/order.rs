//! What the desk needs to know of a request: whose it is, whether it must be carried out, its name.

use crate::card::LedgerRequest;
use crate::ids::CallKey;

pub(super) fn call_of(request: &LedgerRequest) -> Option<CallKey> {
    match request {
        LedgerRequest::OpenCdr(opening) => Some(opening.call),
        LedgerRequest::CloseCdr(cdr) => Some(cdr.call),
        LedgerRequest::Settle(settlement) => Some(settlement.call),
        LedgerRequest::CheckPin { call, .. }
        | LedgerRequest::Bind { call, .. }
        | LedgerRequest::Reserve { call, .. }
        | LedgerRequest::Renew { call, .. }
        | LedgerRequest::Checkpoint { call, .. }
        | LedgerRequest::ReadCard { call, .. } => Some(*call),
        LedgerRequest::FindLine { .. } => None,
    }
}

/// Whether this must reach the books, however long it takes.
pub(super) fn is_order(request: &LedgerRequest) -> bool {
    match request {
        LedgerRequest::OpenCdr(_)
        | LedgerRequest::Checkpoint { .. }
        | LedgerRequest::Settle(_)
        | LedgerRequest::CloseCdr(_) => true,
        LedgerRequest::FindLine { .. }
        | LedgerRequest::CheckPin { .. }
        | LedgerRequest::Bind { .. }
        | LedgerRequest::Reserve { .. }
        | LedgerRequest::Renew { .. }
        | LedgerRequest::ReadCard { .. } => false,
    }
}

/// For logs: a request's content may be a PIN.
pub(super) fn name(request: &LedgerRequest) -> &'static str {
    match request {
        LedgerRequest::OpenCdr(_) => "open_cdr",
        LedgerRequest::FindLine { .. } => "find_line",
        LedgerRequest::CheckPin { .. } => "check_pin",
        LedgerRequest::Bind { .. } => "bind",
        LedgerRequest::Reserve { .. } => "reserve",
        LedgerRequest::Renew { .. } => "renew",
        LedgerRequest::Checkpoint { .. } => "checkpoint",
        LedgerRequest::Settle(_) => "settle",
        LedgerRequest::ReadCard { .. } => "read_card",
        LedgerRequest::CloseCdr(_) => "close_cdr",
    }
}
