//! BYE of ours, on its way (RFC 3261 §15.1.1).

use crate::sip::dialog::Dialog;
use crate::sip::leg::forks::Forks;
use crate::sip::leg::{Cx, LegInput, Next, Purpose, plain};
use crate::sip::message::Method;
use crate::sip::{LegEnd, LegEvent, Reason};

/// A BYE is out; the dialog still answers the BYE of a peer who was as fast.
#[derive(Debug)]
pub struct Bye {
    pub dialog: Dialog,
    /// What is reported once the BYE is through; `None` if the leg has reported already.
    report: Option<LegEnd>,
    forks: Option<Box<Forks>>,
}

impl Bye {
    /// Sends BYE and reports `ByUs` when it is through.
    pub fn hang_up(cx: &mut Cx<'_>, dialog: Dialog, reasons: &[Reason], forks: Option<Box<Forks>>) -> Next {
        Bye::start(cx, dialog, reasons, Some(LegEnd::ByUs), forks)
    }

    /// Sends BYE and reports at once, since it was not the call that wanted it.
    pub fn give_up(cx: &mut Cx<'_>, dialog: Dialog, end: LegEnd, forks: Option<Box<Forks>>) -> Next {
        cx.event(LegEvent::Ended(end));
        Bye::start(cx, dialog, &[], None, forks)
    }

    fn start(
        cx: &mut Cx<'_>,
        mut dialog: Dialog,
        reasons: &[Reason],
        report: Option<LegEnd>,
        forks: Option<Box<Forks>>,
    ) -> Next {
        let branch = cx.branch();
        let outline = dialog.next_request(branch);
        let request = outline.request(&Method::Bye).reasons(reasons);
        cx.request(Purpose::Bye, Method::Bye, outline, request);
        Next::Bye(Box::new(Bye {
            dialog,
            report,
            forks,
        }))
    }

    pub fn handle(mut self: Box<Bye>, cx: &mut Cx<'_>, input: LegInput) -> Next {
        match input {
            // Whatever the answer is, the dialog is over; a challenge is not answered here.
            LegInput::Response {
                of: Purpose::Bye,
                response,
                ..
            } if response.status >= 200 => self.through(cx),
            LegInput::TimedOut(Purpose::Bye) => self.through(cx),
            LegInput::Response {
                of: Purpose::Invite,
                response,
                ..
            } => {
                if let Some(forks) = &mut self.forks {
                    forks.late_2xx(cx, &response);
                }
                Next::Bye(self)
            }
            LegInput::Request(asked) => {
                // Both hung up at once: each BYE is answered, and ours goes on.
                let status = if asked.request.method == Method::Bye {
                    200
                } else {
                    481
                };
                plain::refuse(cx, &asked, status);
                Next::Bye(self)
            }
            LegInput::Response { .. }
            | LegInput::TimedOut(_)
            | LegInput::Command(_)
            | LegInput::Cancel { .. }
            | LegInput::Ack(_)
            | LegInput::Timeout => Next::Bye(self),
        }
    }

    fn through(self, cx: &mut Cx<'_>) -> Next {
        if let Some(end) = self.report {
            cx.event(LegEvent::Ended(end));
        }
        Next::Done(self.forks)
    }
}
