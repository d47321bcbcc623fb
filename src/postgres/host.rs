//! One host of an address: how it is reached, for a connection or to cancel what goes on at another one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Config, NoTls, SimpleQueryMessage};

use super::client::{Client, finish};
use super::failure::Failure;
use super::pooler::announced_process;
use super::socket::Socket;
use super::tls;
use crate::error::{Error, ErrorKind};

/// How long it is tried to tell a server that nobody waits for a statement any more. The server stops it by itself too,
/// a little later.
const LONGEST_CANCEL: Duration = Duration::from_secs(1);

/// Where it is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Tcp(IpAddr, u16),
    /// The folder of its sockets, and the port that is a part of the socket's name.
    Unix(PathBuf, u16),
}

#[derive(Clone)]
pub(super) struct Host {
    place: Place,
    /// By which its certificate must know it; empty for a socket in a folder.
    name: String,
    config: Arc<Config>,
    tls: Option<tls::Connector>,
}

/// A connection as it was made.
pub(super) struct Reached {
    pub(super) client: Client,
    pub(super) host: Host,
    /// A pooler stands before the server.
    pub(super) pooled: bool,
}

/// Which process answers, and whether it takes writes.
const LOOK: &str = "SELECT pg_backend_pid(), current_setting('transaction_read_only')";

impl Host {
    pub(super) fn new(place: Place, name: String, config: Arc<Config>, tls: Option<tls::Connector>) -> Self {
        Self { place, name, config, tls }
    }

    /// Connects, and looks whether it is the kind of server that the address asks for, by `until`.
    pub(super) fn connect(self, until: Instant) -> Result<Reached, Failure> {
        let socket = self.socket(until)?;
        let mut client = match self.tls()? {
            None => {
                let connected = finish(&socket, until, self.config.connect_raw(socket.clone(), NoTls));
                let (asks, messages) = in_time(connected)??;
                Client::new(asks, messages, socket, until)
            }
            Some(tls) => {
                let connected = finish(&socket, until, self.config.connect_raw(socket.clone(), tls));
                let (asks, messages) = in_time(connected)??;
                Client::new(asks, messages, socket, until)
            }
        };
        let announced = client.with_token(announced_process);
        let said = client.run(|asks| asks.simple_query(LOOK))?;
        let row = said.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let (process, read_only) = row.map_or((None, None), |row| (row.get(0), row.get(1)));
        let wants_writes = match self.config.get_target_session_attrs() {
            TargetSessionAttrs::ReadWrite => Some(true),
            TargetSessionAttrs::ReadOnly => Some(false),
            _ => None,
        };
        if let Some(wants_writes) = wants_writes.filter(|wants| (read_only == Some("off")) != *wants) {
            return Err(Failure::other_kind(wants_writes));
        }
        let pooled = process.and_then(|number| number.parse().ok()) != announced;
        Ok(Reached { client, host: self, pooled })
    }

    /// Tells the server that nobody waits for that statement any more. Another thread does it: the one that asked has no
    /// time left.
    pub(super) fn cancel(&self, token: CancelToken) {
        let host = self.clone();
        let named = std::thread::Builder::new().name("rowhouse-cancel".to_owned());
        // Without a thread the server goes on until it looks at the clock itself.
        let _ = named.spawn(move || host.send(&token, Instant::now() + LONGEST_CANCEL).ok());
    }

    fn send(&self, token: &CancelToken, until: Instant) -> Result<(), Failure> {
        let socket = self.socket(until)?;
        let sent = match self.tls()? {
            None => finish(&socket, until, token.cancel_query_raw(socket.clone(), NoTls)),
            Some(tls) => finish(&socket, until, token.cancel_query_raw(socket.clone(), tls)),
        };
        Ok(in_time(sent)??)
    }

    fn socket(&self, until: Instant) -> Result<Socket, Failure> {
        Socket::connect(&self.place, &self.config, until).map_err(|error| Failure::unreachable(&error))
    }

    fn tls(&self) -> Result<Option<<tls::Connector as MakeTlsConnect<Socket>>::TlsConnect>, Failure> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let made = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls.clone(), &self.name);
        made.map(Some).map_err(|error| {
            Failure::told(
                Error::new(ErrorKind::Invalid, "the server's name is none for TLS").caused_by(error),
            )
        })
    }
}

fn in_time<T>(done: std::io::Result<Option<T>>) -> Result<T, Failure> {
    done.map_err(|error| Failure::unreachable(&error))?.ok_or_else(Failure::late)
}
