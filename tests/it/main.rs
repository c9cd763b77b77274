//! The one integration binary: boundaries, ladders, simulation, conformance and the guards of style.
#![expect(clippy::unwrap_used, reason = "a test says what it needs by failing")]

mod admin;
mod books;
mod config;
mod daemon;
mod database;
mod housekeeping;
mod ladders;
mod money;
mod nodes;
mod outage;
mod pins;
mod migrate;
mod prompts;
mod redaction;
mod serve;
mod sim;
mod store;
mod store_batch;
mod store_model;
mod tidy;
