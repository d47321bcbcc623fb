//! Where a server is: a URL or the key words of libpq, as `tokio_postgres::Config` reads them, and what is added to them.
//!
//! Invariants:
//! - The name by which errors call a server has no password and no user in it.
//! - What goes over a network is encrypted: `sslmode=prefer`, the default, would go on in plain text where a server, or
//!   somebody between, says that it has no TLS.

use std::path::PathBuf;
use std::time::Duration;

use postgres::Config;
use postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::tls;
use crate::error::{Error, ErrorKind, Result};

/// Longer than any server that can be reached takes to answer; one that cannot is not waited for longer, since another
/// host may be next in the list.
const LONGEST_CONNECT: Duration = Duration::from_secs(5);
/// How long what was sent may stay without an answer of the other machine before the connection counts as lost.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A server, or several of which one takes writes.
#[derive(Clone)]
pub(crate) struct Address {
    config: Config,
    name: String,
    roots: Option<PathBuf>,
}

impl Address {
    /// Of a URL; `roots` is a file of the certificates to trust, instead of the system's.
    ///
    /// # Errors
    /// `Invalid` when it is not one, names no user, or refuses TLS to another machine.
    pub(crate) fn parse(url: &str, roots: Option<PathBuf>) -> Result<Self> {
        // The parser's error quotes what it could not read, which may be a part of the password.
        let mut config: Config = url.trim().parse().map_err(|_| {
            invalid("the URL of the PostgreSQL server cannot be read")
                .advise("write it as postgres://user:password@host:5432/database")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(invalid("the URL of the PostgreSQL server names no host"));
        }
        if config.get_user().is_none() {
            return Err(invalid("the URL of the PostgreSQL server names no user"));
        }
        let mode = match (is_near(&config), config.get_ssl_mode()) {
            (false, SslMode::Disable) => {
                return Err(invalid("a connection to another machine must be encrypted")
                    .advise("take sslmode=disable out of the URL of the PostgreSQL server"));
            }
            (false, _) => SslMode::Require,
            // A server on this machine has no certificate for `localhost`.
            (true, SslMode::Prefer) => SslMode::Disable,
            (true, other) => other,
        };
        config.ssl_mode(mode);
        if config.get_application_name().is_none() {
            config.application_name(env!("CARGO_PKG_NAME"));
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(LONGEST_SILENCE);
        }
        config
            .keepalives_idle(LONGEST_SILENCE)
            .keepalives_interval(LONGEST_SILENCE / 4)
            .keepalives_retries(4);
        if has_others(&config) && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let name = name_of(&config);
        Ok(Self { config, name, roots })
    }

    /// By what errors call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether another host may be the one that takes writes by now.
    pub(super) fn has_others(&self) -> bool {
        has_others(&self.config)
    }

    /// Connects, within at most that time for each host.
    pub(super) fn connect(&self, within: Duration) -> Result<postgres::Client, ConnectError> {
        let mut config = self.config.clone();
        let own = self.config.get_connect_timeout().copied().unwrap_or(LONGEST_CONNECT);
        config.connect_timeout(own.min(within).max(Duration::from_millis(1)));
        if config.get_ssl_mode() == SslMode::Disable {
            return config.connect(postgres::NoTls).map_err(ConnectError::Server);
        }
        let tls = tls::connector(self.roots.as_deref()).map_err(ConnectError::Here)?;
        config.connect(tls).map_err(ConnectError::Server)
    }
}

/// Why there is no connection.
pub(super) enum ConnectError {
    /// As the driver says it.
    Server(postgres::Error),
    /// Nothing was tried.
    Here(Error),
}

fn has_others(config: &Config) -> bool {
    config.get_hosts().len().max(config.get_hostaddrs().len()) > 1
}

/// Whether all its hosts are this machine.
fn is_near(config: &Config) -> bool {
    let hosts = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => LOOPBACK.contains(&name.as_str()),
    });
    hosts && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

fn name_of(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(at)),
        Host::Unix(path) => format!("{}:{}", path.display(), port(at)),
    });
    let mut hosts: Vec<_> = hosts.collect();
    if hosts.is_empty() {
        hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{}/{database}", hosts.join(","))
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        Address::parse(url, None).expect(url).config.get_ssl_mode()
    }

    fn refused(url: &str) -> Error {
        Address::parse(url, None).err().expect("refused")
    }

    #[test]
    fn what_goes_over_a_network_is_encrypted() {
        for far in
            ["postgres://a@db.example/x", "postgres://a@127.0.0.1,db.example/x", "host=10.0.0.9 user=a"]
        {
            assert_eq!(mode(far), SslMode::Require, "{far}");
        }
        for near in ["postgres://a@localhost/x", "host=/run/postgresql user=a", "host=127.0.0.1 user=a"] {
            assert_eq!(mode(near), SslMode::Disable, "{near}");
        }
        assert_eq!(mode("postgres://a@localhost/x?sslmode=require"), SslMode::Require);
        let error = refused("postgres://a@db.example/x?sslmode=disable");
        assert!(error.kind() == ErrorKind::Invalid && error.advice().is_some(), "{error}");
        // A host that is named as this machine and lies elsewhere.
        assert_eq!(mode("host=localhost hostaddr=10.0.0.9 user=a"), SslMode::Require);
    }

    #[test]
    fn no_secret_is_in_its_name_or_in_an_error() {
        let address =
            Address::parse("postgres://ada:s3cret@db.example:6000/agents", None).expect("an address");
        assert_eq!(address.name(), "postgres://db.example:6000/agents");
        for bad in ["postgres://ada:s3cret@db.example:nine/x", "s3cret", "password=s3cret user=ada"] {
            let error = refused(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }
}
