//! Where a server is: a URL or the key words of libpq, as `tokio_postgres::Config` reads them, and what is added to them.
//!
//! Invariants:
//! - The name by which errors call a server has no password and no user in it, and is a URL: it can be given to `psql`, or
//!   back to a configuration.
//! - What goes over a network is encrypted: `sslmode=prefer`, the default, would go on in plain text where a server, or
//!   somebody between, says that it has no TLS.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};

use super::failure::Failure;
use super::host::{Host as Found, Place, Reached};
use super::socket::look_up;
use super::tls;
use super::tries::random;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::unnamed_program;

/// Longer than any server that can be reached takes to answer; one that cannot is not waited for longer, since another
/// host may be next in the list.
const LONGEST_CONNECT: Duration = Duration::from_secs(5);
/// How long what was sent may stay without an answer of the other machine before the connection counts as lost.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

/// How a server's own lists call each connection: `rowhouse codex@build-7:4242`, the program, the machine, the process.
pub(super) const NAME_PREFIX: &str = "rowhouse ";
/// A server cuts longer ones (<https://www.postgresql.org/docs/current/runtime-config-logging.html>, `application_name`).
const LONGEST_NAME: usize = 63;

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A server, or several of which one takes writes.
#[derive(Clone)]
pub(crate) struct Address {
    config: Arc<Config>,
    name: String,
    roots: Option<PathBuf>,
}

impl Address {
    /// Of a URL; `roots` is a file of the certificates to trust, instead of the system's.
    ///
    /// # Errors
    /// `Invalid` when it is not one, or refuses TLS to another machine; when it names no user, and whoever runs this has no
    /// name.
    pub(crate) fn parse(url: &str, roots: Option<PathBuf>) -> Result<Self> {
        // The parser's error quotes what it could not read, which may be a part of the password.
        let mut config: Config = url.trim().parse().map_err(|_| {
            invalid("the URL of the PostgreSQL server cannot be read")
                .advise("write it as postgres://user@host:5432/database, with a colon and the password behind the user")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(invalid("the URL of the PostgreSQL server names no host"));
        }
        let hosts = count_of_hosts(&config);
        let (named, addressed) = (config.get_hosts().len(), config.get_hostaddrs().len());
        if (named > 0 && addressed > 0 && named != addressed)
            || (config.get_ports().len() > 1 && config.get_ports().len() != hosts)
        {
            return Err(invalid(
                "the URL of the PostgreSQL server has not one address and port for each host",
            ));
        }
        if config.get_user().is_none() {
            // As libpq does.
            let user = crate::home::own_user_name().ok_or_else(|| {
                invalid("the URL of the PostgreSQL server names no user")
                    .advise("write it as postgres://user@host")
            })?;
            config.user(user);
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
            config.application_name(own_name());
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
        Ok(Self { config: Arc::new(config), name, roots })
    }

    /// By what errors call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether all its hosts are this machine: what is said to them goes over no network.
    pub(crate) fn is_near(&self) -> bool {
        is_near(&self.config)
    }

    /// How each of its hosts is called.
    pub(super) fn names_of_hosts(&self) -> Vec<String> {
        let database = database_of(&self.config);
        hosts_of(&self.config).into_iter().map(|host| url_of(&[host], database)).collect()
    }

    /// Connects to the one of its hosts that has this place in the list, whatever kind of server that is.
    pub(super) fn connect_at(&self, at: usize, until: Instant) -> Result<Reached, Failure> {
        let mut config = (*self.config).clone();
        config.target_session_attrs(TargetSessionAttrs::Any);
        let own = config.get_connect_timeout().copied().unwrap_or(LONGEST_CONNECT);
        let any = Self { config: Arc::new(config), ..self.clone() };
        any.connect_to(at, self.tls()?.as_ref(), until.min(Instant::now() + own))
    }

    fn tls(&self) -> Result<Option<tls::Connector>, Failure> {
        match self.config.get_ssl_mode() {
            SslMode::Disable => Ok(None),
            _ => tls::connector(self.roots.as_deref()).map(Some).map_err(Failure::told),
        }
    }

    /// Whether another host may be the one that takes writes by now.
    pub(super) fn has_others(&self) -> bool {
        has_others(&self.config)
    }

    /// Connects to the first host that will do, by `until`.
    ///
    /// # Errors
    /// Those of the last host that was tried.
    pub(super) fn connect(&self, until: Instant) -> Result<Reached, Failure> {
        let tls = self.tls()?;
        let own = self.config.get_connect_timeout().copied().unwrap_or(LONGEST_CONNECT);
        let hosts = count_of_hosts(&self.config);
        let first = match self.config.get_load_balance_hosts() {
            LoadBalanceHosts::Random => (random() * hosts as f64) as usize,
            _ => 0,
        };
        let mut failed = Failure::late();
        for tried in 0..hosts {
            let now = Instant::now();
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                break;
            }
            // The others get their part of what is left.
            let by = now + own.min(left / (hosts - tried) as u32);
            match self.connect_to((first + tried) % hosts, tls.as_ref(), by) {
                Ok(found) => return Ok(found),
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }

    fn connect_to(
        &self,
        at: usize,
        tls: Option<&tls::Connector>,
        until: Instant,
    ) -> Result<Reached, Failure> {
        let config = &self.config;
        let port = port_of(config, at);
        let name = match config.get_hosts().get(at) {
            Some(Host::Tcp(name)) => name.clone(),
            _ => String::new(),
        };
        let places = match (config.get_hostaddrs().get(at), config.get_hosts().get(at)) {
            (Some(ip), _) => vec![Place::Tcp(*ip, port)],
            (None, Some(Host::Unix(folder))) => vec![Place::Unix(folder.clone(), port)],
            (None, _) => {
                let found = look_up(&name, until).map_err(|error| Failure::unreachable(&error))?;
                found.into_iter().map(|ip| Place::Tcp(ip, port)).collect()
            }
        };
        let mut failed = Failure::late();
        for place in places {
            let host = Found::new(place, name.clone(), config.clone(), tls.cloned());
            match host.connect(until) {
                Ok(reached) => return Ok(reached),
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }
}

fn count_of_hosts(config: &Config) -> usize {
    config.get_hosts().len().max(config.get_hostaddrs().len())
}

fn port_of(config: &Config, at: usize) -> u16 {
    let ports = config.get_ports();
    ports.get(at).or(ports.first()).copied().unwrap_or(5432)
}

fn has_others(config: &Config) -> bool {
    count_of_hosts(config) > 1
}

/// Whether all its hosts are this machine.
fn is_near(config: &Config) -> bool {
    let hosts = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => LOOPBACK.contains(&name.as_str()),
    });
    hosts && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

fn own_name() -> String {
    let (program, _) = unnamed_program();
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    // The process is what a person looks for: the program's name makes room for it.
    let end = format!("@{}:{}", machine.split('.').next().unwrap_or_default(), std::process::id());
    let room = LONGEST_NAME.saturating_sub(NAME_PREFIX.len() + end.len());
    let program: String = program.chars().filter(char::is_ascii_graphic).take(room).collect();
    format!("{NAME_PREFIX}{program}{end}")
}

fn name_of(config: &Config) -> String {
    url_of(&hosts_of(config), database_of(config))
}

/// A URL of these hosts and their ports, which `psql` and this library read alike. Of several hosts in a parameter they would
/// not: so it has a folder of sockets only where that is alone.
fn url_of(hosts: &[(Host, u16)], database: &str) -> String {
    let database = encoded(database.as_bytes(), "");
    if let [(Host::Unix(folder), port)] = hosts {
        let folder = encoded(folder.as_os_str().as_bytes(), "/");
        return format!("postgres:///{database}?host={folder}&port={port}");
    }
    let host = |(host, port): &(Host, u16)| match host {
        Host::Tcp(name) if name.contains(':') => format!("[{}]:{port}", encoded(name.as_bytes(), ":")),
        Host::Tcp(name) => format!("{}:{port}", encoded(name.as_bytes(), "")),
        Host::Unix(folder) => format!("{}:{port}", encoded(folder.as_os_str().as_bytes(), "")),
    };
    let hosts: Vec<_> = hosts.iter().map(host).collect();
    format!("postgres://{}/{database}", hosts.join(","))
}

/// What a URL has no other meaning for, and what it has none for there, as it is (RFC 3986, 2.1).
fn encoded(bytes: &[u8], also: &str) -> String {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.as_bytes().contains(&byte);
    bytes.iter().fold(String::new(), |mut text, byte| {
        if is_plain(*byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

fn hosts_of(config: &Config) -> Vec<(Host, u16)> {
    let named = config.get_hosts().iter().cloned();
    let addressed = config.get_hostaddrs().iter().map(|ip| Host::Tcp(ip.to_string()));
    let hosts: Vec<_> = if config.get_hosts().is_empty() { addressed.collect() } else { named.collect() };
    hosts.into_iter().enumerate().map(|(at, host)| (host, port_of(config, at))).collect()
}

fn database_of(config: &Config) -> &str {
    config.get_dbname().or(config.get_user()).unwrap_or_default()
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
    fn its_hosts_and_this_process_have_names() {
        let all = Address::parse("postgres://ada:s3cret@one:6000,two:6001/agents", None).expect("an address");
        assert_eq!(all.names_of_hosts(), ["postgres://one:6000/agents", "postgres://two:6001/agents"]);
        let name = own_name();
        assert!(name.len() <= LONGEST_NAME && name.ends_with(&format!(":{}", std::process::id())), "{name}");
    }

    #[test]
    fn its_name_is_a_url_that_leads_to_the_same_place() {
        for (url, name) in [
            ("host=/run/postgresql user=a dbname=x", "postgres:///x?host=/run/postgresql&port=5432"),
            ("host=/a,/b port=1,2 user=a dbname=x", "postgres://%2Fa:1,%2Fb:2/x"),
            (
                "host=/tmp/a&b@c port=6000 user=a dbname='x y/z'",
                "postgres:///x%20y%2Fz?host=/tmp/a%26b%40c&port=6000",
            ),
            ("host=/a,localhost user=a password=s3cret dbname=x", "postgres://%2Fa:5432,localhost:5432/x"),
            ("postgres://a@[::1]:6000,one/x", "postgres://[::1]:6000,one:5432/x"),
            ("hostaddr=10.0.0.9 port=7 user=a dbname=x", "postgres://10.0.0.9:7/x"),
            ("host=db.example user=a", "postgres://db.example:5432/a"),
        ] {
            let address = Address::parse(url, None).expect(url);
            assert_eq!(address.name(), name);
            let again = Address::parse(name, None).expect(name);
            assert_eq!((again.name(), hosts_of(&again.config)), (name, hosts_of(&address.config)));
            for (host, alone) in hosts_of(&address.config).into_iter().zip(address.names_of_hosts()) {
                let one = Address::parse(&alone, None).expect(&alone);
                assert_eq!(hosts_of(&one.config), [host], "{alone}");
            }
        }
    }

    #[test]
    fn who_is_not_named_is_whoever_runs_this() {
        let address = Address::parse("postgres://localhost/x", None).expect("as libpq does");
        assert_eq!(address.config.get_user().map(str::to_owned), crate::home::own_user_name());
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
