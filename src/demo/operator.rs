//! The demo's operator: the same requests over the same admin socket as `cardline`'s own verbs.

use std::path::Path;

use hyper::Method;
use serde_json::Value;

use crate::cli::Lang;
use crate::cli::client::{Client, Request};

/// Asks the daemon and waits, from outside of the runtime's threads.
#[derive(Debug)]
pub struct Operator {
    client: Client,
    runtime: tokio::runtime::Handle,
}

impl Operator {
    pub fn new(socket: &Path, lang: Lang, runtime: tokio::runtime::Handle) -> Operator {
        Operator {
            client: Client::new(socket, lang),
            runtime,
        }
    }

    /// # Errors
    /// No answer, or a refusal, in words.
    pub fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|e| e.to_string())?;
        let request = Request {
            raw: None,
            method,
            path: path.to_owned(),
            body,
            key: None,
        };
        let reply = self
            .runtime
            .block_on(self.client.send(&request))
            .map_err(|e| e.to_string())?;
        if reply.status >= 400 {
            return Err(format!(
                "{} {path}: {} {}",
                request.method, reply.status, reply.document
            ));
        }
        Ok(reply.document)
    }
}
