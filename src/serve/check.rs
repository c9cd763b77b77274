//! `cardline check`: tries in turn what would stop `serve`, and says each finding in words.

use std::net::SocketAddr;
use std::path::Path;

use super::{assemble, open_store, read_config};
use crate::driver::clock::Clock;
use crate::driver::prompts;
use crate::driver::sip_udp::SipSockets;
use crate::store::NodeRow;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `config`, `sip`, `media`, `prompts`, `node`, `database`, `trunks`.
    pub part: &'static str,
    /// What was found, or what is wrong and how to mend it.
    pub outcome: Result<String, String>,
}

/// Looks at everything; after a bad configuration there is nothing else to look at. Ports are
/// given back at once. Opening the database brings its schema up, as `serve` would.
pub async fn check(file: &Path) -> Vec<Finding> {
    let config = match read_config(file) {
        Ok(config) => config,
        Err(why) => return vec![finding("config", Err(why))],
    };
    let mut findings = vec![finding("config", Ok(format!("{} is right", file.display())))];
    findings.push(finding(
        "trunks",
        match config.trunks.len() {
            0 => Err(format!("{}: no [[trunk]]: nobody may send calls", file.display())),
            count => Ok(format!("{count}")),
        },
    ));
    let listen: Vec<SocketAddr> = config.sip.listen.iter().map(|address| address.udp).collect();
    let bound = SipSockets::bind(&listen);
    findings.push(finding(
        "sip",
        match &bound {
            Ok(sockets) => Ok(format!("{:?} can be bound", sockets.addresses())),
            Err(fault) => Err(fault.to_string()),
        },
    ));
    if let Ok(sockets) = &bound {
        let addresses = sockets.addresses();
        let advertised = assemble::advertised(&config, &addresses);
        let grammars = std::collections::BTreeMap::new();
        let assembled = assemble::switch(&config, &addresses, advertised, grammars);
        findings.push(finding(
            "address",
            assembled
                .map(|_| format!("{advertised} is what Contact and SDP will name"))
                .map_err(|fault| fault.to_string()),
        ));
    }
    let loaded = prompts::load(config.prompts.dir.as_deref());
    findings.push(finding(
        "prompts",
        loaded
            .map(|prompts| format!("{} prompts in {} languages", prompts.count, prompts.sets.len()))
            .map_err(|fault| fault.to_string()),
    ));
    let database = match open_store(&config).await {
        Ok(store) => {
            let wall = Clock::start().wall();
            let checked = store.check(wall).await;
            let nodes = store.nodes().await;
            let node = store.node().to_owned();
            store.close().await;
            findings.push(finding(
                "node",
                nodes
                    .map(|nodes| lease_words(&node, &nodes))
                    .map_err(|fault| fault.to_string()),
            ));
            checked
                .map(|_| {
                    format!(
                        "{} answers",
                        config.store.url.split('@').next_back().unwrap_or_default()
                    )
                })
                .map_err(|fault| fault.to_string())
        }
        Err(fault) => Err(fault.to_string()),
    };
    findings.push(finding("database", database));
    findings
}

/// What the lease of this node's name would say to a start.
fn lease_words(node: &str, nodes: &[NodeRow]) -> String {
    let lease = nodes
        .iter()
        .find(|row| row.node == node)
        .and_then(|row| row.lease_ms);
    match lease.map(|ms| (ms, ms / 1000)) {
        Some((1.., seconds)) => format!("\"{node}\" is being served; its lease lives for {seconds} s more"),
        Some((..=0, _)) | None => format!("\"{node}\" is served by nobody"),
    }
}

/// One JSON document for `--json`.
pub fn to_json(findings: &[Finding]) -> serde_json::Value {
    let rows = findings.iter().map(|finding| {
        let (ok, text) = match &finding.outcome {
            Ok(text) => (true, text),
            Err(text) => (false, text),
        };
        serde_json::json!({ "part": finding.part, "ok": ok, "text": text })
    });
    let rows: Vec<serde_json::Value> = rows.collect();
    let ok = findings.iter().all(|finding| finding.outcome.is_ok());
    serde_json::json!({ "ok": ok, "findings": rows })
}

fn finding(part: &'static str, outcome: Result<String, String>) -> Finding {
    Finding { part, outcome }
}
