//! HTTP over the admin socket: one request a connection, repeated once when the reply was lost and
//! repeating is harmless.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Response, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::args::Lang;

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub body: Option<Value>,
    /// A file instead of a JSON body.
    pub raw: Option<Vec<u8>>,
    /// Makes repeating harmless.
    pub key: Option<String>,
}

impl Request {
    pub fn get(path: impl Into<String>) -> Request {
        Request {
            method: Method::GET,
            path: path.into(),
            body: None,
            raw: None,
            key: None,
        }
    }

    pub fn new(method: Method, path: impl Into<String>, body: Value) -> Request {
        Request {
            method,
            path: path.into(),
            body: Some(body),
            raw: None,
            key: None,
        }
    }

    fn harmless(&self) -> bool {
        self.key.is_some() || self.method == Method::GET
    }
}

/// What the daemon said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub document: Value,
}

/// There is no answer to show.
#[derive(Debug, thiserror::Error)]
pub enum ClientFault {
    #[error(
        "no daemon answers at {path}: {why}. Is `cardline serve` running? --socket or CARDLINE_SOCKET names another socket"
    )]
    Unreachable { path: String, why: String },
    #[error("the daemon's reply was lost ({0}); the order may have been carried out")]
    Lost(String),
    #[error("what answers there is no cardline: {0}")]
    NotOurs(String),
}

/// Asks the daemon behind one socket.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    lang: Lang,
}

impl Client {
    pub fn new(socket: &Path, lang: Lang) -> Client {
        Client {
            socket: socket.to_owned(),
            lang,
        }
    }

    /// # Errors
    /// No daemon, no reply (after one repetition where that is harmless), or no JSON.
    pub async fn send(&self, request: &Request) -> Result<Reply, ClientFault> {
        match self.once(request).await {
            Err(ClientFault::Lost(_)) if request.harmless() => self.once(request).await,
            outcome => outcome,
        }
    }

    async fn once(&self, request: &Request) -> Result<Reply, ClientFault> {
        let exchange = async {
            let response = self.begin(request).await?;
            let status = response.status().as_u16();
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(|e| ClientFault::Lost(e.to_string()))?
                .to_bytes();
            let document = serde_json::from_slice(&body).map_err(|e| ClientFault::NotOurs(e.to_string()))?;
            Ok(Reply { status, document })
        };
        let patience = match request.path.ends_with("/ledger/check") {
            true => PATIENCE_FOR_ALL,
            false => PATIENCE,
        };
        tokio::time::timeout(patience, exchange)
            .await
            .unwrap_or_else(|_| Err(ClientFault::Lost("timeout".to_owned())))
    }

    /// Prints an endless answer as it comes, until the daemon ends it.
    ///
    /// # Errors
    /// No daemon, or one that refuses.
    pub async fn follow(&self, path: &str) -> Result<(), ClientFault> {
        let response = self.begin(&Request::get(path)).await?;
        if !response.status().is_success() {
            return Err(ClientFault::NotOurs(response.status().to_string()));
        }
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| ClientFault::Lost(e.to_string()))?;
            if let Ok(data) = frame.into_data() {
                // Whoever reads us has left.
                let mut out = std::io::stdout().lock();
                if std::io::Write::write_all(&mut out, &data).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn begin(&self, request: &Request) -> Result<Response<Incoming>, ClientFault> {
        let unreachable = |why: std::io::Error| ClientFault::Unreachable {
            path: self.socket.display().to_string(),
            why: why.to_string(),
        };
        let lost = |why: hyper::Error| ClientFault::Lost(why.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let json = || request.body.as_ref().map(Value::to_string).unwrap_or_default();
        let (kind, body) = match &request.raw {
            Some(bytes) => ("text/csv", Bytes::from(bytes.clone())),
            None => ("application/json", Bytes::from(json())),
        };
        let mut builder = hyper::Request::builder()
            .method(request.method.clone())
            .uri(&request.path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, kind)
            .header(header::ACCEPT_LANGUAGE, self.lang.as_str());
        if let Some(key) = &request.key {
            builder = builder.header("idempotency-key", key);
        }
        let message = builder
            .body(Full::new(body))
            .map_err(|e| ClientFault::NotOurs(e.to_string()))?;
        #[expect(
            clippy::disallowed_methods,
            reason = "hyper's connection must be driven beside the request"
        )]
        let driving = tokio::spawn(connection);
        let response = sender.send_request(message).await.map_err(lost);
        if response.is_err() {
            driving.abort();
        }
        response
    }
}

/// How long the daemon may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// For the check, which reads all books.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(3600);
