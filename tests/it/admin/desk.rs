//! An admin listener over a real socket and a real database, with a switch that a test scripts.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cardline::admin::feed::Feed;
use cardline::admin::live::SwitchPort;
use cardline::admin::{self, Admin, Doors, Places, StoreState};
use cardline::ids::CardId;
use cardline::now::UnixTime;
use cardline::secret::Secret;
use cardline::store::{PinKey, Store, StoreOptions};
use cardline::switch::{AdminAsk, AdminReply, Input, LiveCall, SwitchStatus};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::watch;

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// 2026-11-25T12:00:00Z
pub const NOW: UnixTime = UnixTime::from_ms(1_795_608_000_000);

/// What the scripted switch saw and says.
#[derive(Debug, Default)]
pub struct Script {
    pub changed: Vec<CardId>,
    pub hung_up: Vec<String>,
    pub live: Vec<LiveCall>,
    pub draining: bool,
    pub refreshed: usize,
}

pub struct Desk {
    pub dir: tempfile::TempDir,
    pub socket: PathBuf,
    pub http: std::net::SocketAddr,
    pub script: Arc<Mutex<Script>>,
    pub feed: Arc<Feed>,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub struct Reply {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub json: Value,
}

impl Reply {
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or("")
    }
}

impl Desk {
    pub async fn open() -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let url = format!("sqlite://{}", dir.path().join("cards.db").display());
        let mut options = StoreOptions::new(&url, PinKey::from_bytes([7; 32]));
        options.durable = false;
        let store = Store::open(options).await.unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let switch = scripted_switch(Arc::clone(&script));
        let feed = Arc::new(Feed::default());
        let refreshed = Arc::clone(&script);
        let admin = Arc::new(Admin {
            store,
            switch,
            feed: Arc::clone(&feed),
            clock: Box::new(|| NOW),
            refresh_directory: Box::new(move || {
                refreshed.lock().unwrap().refreshed += 1;
                Box::pin(async { Ok(()) })
            }),
            reload: Box::new(|| Box::pin(async { Err("cardline.toml: line 3".to_owned()) })),
            store_state: Box::new(StoreState::default),
            started_at: NOW,
            token: Some(Secret::new(TOKEN.to_owned())),
            at_work: Places::default(),
        });
        let doors = Doors::open(&socket, Some("127.0.0.1:0".parse().unwrap()))
            .await
            .unwrap();
        let http = doors.tcp.as_ref().unwrap().address;
        let (stop, stopped) = watch::channel(false);
        #[expect(clippy::disallowed_methods, reason = "the listener runs beside the test")]
        let served = tokio::spawn(admin::serve(admin, doors, stopped));
        Desk {
            dir,
            socket,
            http,
            script,
            feed,
            stop,
            served,
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "", &[]).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, &body.to_string(), &[]).await
    }

    pub async fn send(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        ask(TokioIo::new(stream), method, path, body, headers).await
    }

    pub async fn send_tcp(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        let stream = tokio::net::TcpStream::connect(self.http).await.unwrap();
        ask(TokioIo::new(stream), method, path, body, headers).await
    }

    pub async fn close(self) {
        self.stop.send(true).unwrap();
        self.served.await.unwrap().unwrap();
        assert!(!self.socket.exists(), "the socket file goes with the daemon");
    }
}

fn scripted_switch(script: Arc<Mutex<Script>>) -> Arc<SwitchPort> {
    let (inputs, mut inbox) = tokio::sync::mpsc::unbounded_channel();
    let port = Arc::new(SwitchPort::new(move |input| inputs.send(input).is_ok()));
    let answering = Arc::downgrade(&port);
    #[expect(
        clippy::disallowed_methods,
        reason = "the scripted switch runs beside the test"
    )]
    tokio::spawn(async move {
        while let Some(input) = inbox.recv().await {
            let Some(port) = answering.upgrade() else { return };
            match input {
                Input::CardChanged(card) => script.lock().unwrap().changed.push(card),
                Input::Admin { token, ask } => {
                    let reply = answer(&mut script.lock().unwrap(), &ask);
                    port.answer(token, reply);
                }
                Input::Datagram { .. }
                | Input::Media(_)
                | Input::Ledger { .. }
                | Input::Ports(_)
                | Input::Directory(_)
                | Input::Timeout => panic!("admin posts no {input:?}"),
            }
        }
    });
    port
}

fn answer(script: &mut Script, ask: &AdminAsk) -> AdminReply {
    match ask {
        AdminAsk::Status => AdminReply::Status(Box::new(SwitchStatus {
            calls: script.live.len(),
            draining: script.draining,
            ..SwitchStatus::default()
        })),
        AdminAsk::LiveCalls => AdminReply::LiveCalls(script.live.clone()),
        AdminAsk::HangUp(key) => {
            let known = script.live.iter().any(|call| call.call == *key);
            script.hung_up.push(key.to_string());
            if known {
                AdminReply::Done
            } else {
                AdminReply::NoSuchCall
            }
        }
        AdminAsk::Drain => {
            script.draining = true;
            AdminReply::Done
        }
    }
}

pub async fn ask<T>(io: T, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "hyper's connection is driven beside the request"
    )]
    tokio::spawn(connection);
    let mut request = hyper::Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Reply {
        status,
        headers,
        json: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}
