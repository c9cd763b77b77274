//! Cardline: a SIP back-to-back user agent for prepaid minute cards.
//!
//! Everything that decides is a clockless value in one process-wide [`switch::Switch`], driven by
//! one task through two closed enums; everything that waits (sockets, 20 ms ticks, SQL, HTTP) is a
//! shell that turns the world into an `Input` and carries out an `Output`. `ARCHITECTURE.md` has
//! the map, the arrows and the reasons.
//!
//! The modules below stand in dependency order: each may use those above it. From `units` to
//! `switch` nothing waits, reads a clock, draws randomness of its own or touches a file.

pub mod units;
pub mod ids;
pub mod secret;
pub mod now;
pub mod fault;
pub mod config;

pub mod sdp;
pub mod media;
pub mod sip;
pub mod card;
pub mod call;
pub mod switch;

pub mod store;
pub mod driver;
pub mod admin;
pub mod demo;
pub mod cli;

pub mod serve;
