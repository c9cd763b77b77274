//! The two doors: a Unix socket, whose peers are known by their uid, and loopback TCP, whose peers
//! show the token. Each door bounds its connections.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::secret::Secret;

/// Who asks, as the audit writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A process of this user on the Unix socket.
    Uid(u32),
    /// Whoever holds the token.
    Tcp,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Actor::Uid(uid) => write!(f, "uid:{uid}"),
            Actor::Tcp => f.write_str("tcp:token"),
        }
    }
}

/// A door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorFault {
    #[error("another cardline answers at {0}; stop it, or set admin.socket to another path")]
    AnotherDaemon(PathBuf),
    #[error("{0} exists and is no socket; move it away, or set admin.socket to another path")]
    NotASocket(PathBuf),
    #[error("the admin socket {path}: {source}")]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("admin.http {address}: {source}")]
    Http {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("admin.http {0} is no loopback address")]
    NotLoopback(SocketAddr),
    #[error("the token file {path}: {problem}")]
    Token { path: PathBuf, problem: String },
}

/// The Unix socket; its file goes when the door does.
#[derive(Debug)]
pub struct UnixDoor {
    listener: UnixListener,
    path: PathBuf,
    free: Arc<Semaphore>,
}

impl UnixDoor {
    /// Binds with mode 0660. A file left by a dead daemon is replaced, a living one is respected.
    ///
    /// # Errors
    /// When another daemon answers there, or the path cannot be used.
    pub async fn open(path: &Path) -> Result<UnixDoor, DoorFault> {
        let fault = |source| DoorFault::Socket {
            path: path.to_owned(),
            source,
        };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(DoorFault::NotASocket(path.to_owned()));
            }
            Ok(_) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(DoorFault::AnotherDaemon(path.to_owned()));
                }
                fs::remove_file(path).map_err(fault)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                    fs::create_dir_all(folder).map_err(fault)?;
                }
            }
            Err(e) => return Err(fault(e)),
        }
        // Bound under a name of its own and moved into place once the mode is right, so that the
        // socket is never open to more people than it should be.
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fault(e)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(fault)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o660)).map_err(fault)?;
        fs::rename(&fresh, path).map_err(fault)?;
        Ok(UnixDoor {
            listener,
            path: path.to_owned(),
            free: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        if let Err(why) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %why, "the admin socket was gone already");
        }
    }
}

impl Listener for UnixDoor {
    type Io = Guarded<UnixStream>;
    type Addr = Actor;

    async fn accept(&mut self) -> (Self::Io, Actor) {
        let permit = permit(&self.free).await;
        loop {
            match self.listener.accept().await {
                Ok((io, _)) => match io.peer_cred() {
                    Ok(peer) => return (Guarded { io, _permit: permit }, Actor::Uid(peer.uid())),
                    Err(why) => tracing::debug!(%why, "an admin client left at once"),
                },
                Err(why) => pause_after(&why).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Actor> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

/// The API over loopback TCP.
#[derive(Debug)]
pub struct TcpDoor {
    listener: TcpListener,
    pub address: SocketAddr,
    free: Arc<Semaphore>,
}

impl TcpDoor {
    /// # Errors
    /// When the address is no loopback address or is taken.
    pub async fn open(address: SocketAddr) -> Result<TcpDoor, DoorFault> {
        if !address.ip().is_loopback() {
            return Err(DoorFault::NotLoopback(address));
        }
        let fault = |source| DoorFault::Http { address, source };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        Ok(TcpDoor {
            address: listener.local_addr().map_err(fault)?,
            listener,
            free: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }
}

impl Listener for TcpDoor {
    type Io = Guarded<TcpStream>;
    type Addr = Actor;

    async fn accept(&mut self) -> (Self::Io, Actor) {
        let permit = permit(&self.free).await;
        loop {
            match self.listener.accept().await {
                Ok((io, _)) => return (Guarded { io, _permit: permit }, Actor::Tcp),
                Err(why) => pause_after(&why).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Actor> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

impl Connected<IncomingStream<'_, UnixDoor>> for Actor {
    fn connect_info(stream: IncomingStream<'_, UnixDoor>) -> Actor {
        *stream.remote_addr()
    }
}

impl Connected<IncomingStream<'_, TcpDoor>> for Actor {
    fn connect_info(stream: IncomingStream<'_, TcpDoor>) -> Actor {
        *stream.remote_addr()
    }
}

/// A connection that gives back its place when it ends.
#[derive(Debug)]
pub struct Guarded<T> {
    io: T,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Reads the bearer token, or makes one (256 bits, mode 0600) at the first start.
///
/// # Errors
/// When the file cannot be read or written, or holds less than 16 characters.
pub fn token(path: &Path) -> Result<Secret<String>, DoorFault> {
    let fault = |problem: String| DoorFault::Token {
        path: path.to_owned(),
        problem,
    };
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 16 => return Ok(Secret::new(text.trim().to_owned())),
        Ok(_) => {
            return Err(fault(
                "the token must have 16 characters or more; delete the file to get a new one".into(),
            ));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(fault(e.to_string())),
    }
    let made = make_token().map_err(|e| fault(e.to_string()))?;
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        io::Write::write_all(&mut file, format!("{made}\n").as_bytes())
    };
    write().map_err(|e| fault(e.to_string()))?;
    Ok(Secret::new(made))
}

fn make_token() -> io::Result<String> {
    let mut bytes = [0_u8; 32];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

async fn permit(free: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // The semaphore is never closed; if it were, the door would stay open without a bound.
    Arc::clone(free).acquire_owned().await.ok()
}

/// Out of file descriptors, most likely: spinning would make it worse.
async fn pause_after(why: &io::Error) {
    tracing::warn!(%why, "the admin listener could not accept a connection");
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Connections at a time, each door.
const MAX_CONNECTIONS: usize = 128;
