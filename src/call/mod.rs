//! One call's script, from INVITE to CDR, as a state machine.

pub mod cdr;
pub mod directory;
pub mod speech;
