//! Which engine a domain is on: `backend` under its name in the home's `config.toml`.
//!
//! ```toml
//! [state]
//! backend = "postgres"    # default "sqlite"; also for goals, unless [goals] says otherwise
//! [state.postgres]
//! url = "postgres://user:password@host:5432/database"   # or url_file; the variable ROWHOUSE_POSTGRES_URL counts before both
//! direct_url = "..."      # for migrations, where url leads to a pooler
//! pooler = "transaction"  # or "session"; without it a pooler is recognised
//! pool_size = 10
//! root_cert = "ca.pem"    # the certificates to trust, instead of the system's
//! ```
//!
//! A setting that is wrong, or that this program cannot follow, is an error; nothing falls back to a file.
//!
//! Tests: below; `tests/postgres.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use super::file::{config_of, parse, text_of};
use crate::error::{Error, ErrorKind, Result};

/// The engines of a home's domains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Backends {
    /// On a server; all others are in files.
    #[cfg(feature = "postgres")]
    on_server: BTreeSet<String>,
    #[cfg(feature = "postgres")]
    server: Option<ServerSection>,
}

/// `[state.postgres]`, as it is written.
#[cfg(feature = "postgres")]
#[derive(Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerSection {
    url: Option<String>,
    url_file: Option<std::path::PathBuf>,
    direct_url: Option<String>,
    pooler: Option<crate::postgres::Pooler>,
    pool_size: Option<u16>,
    root_cert: Option<std::path::PathBuf>,
}

/// The names in it.
#[cfg(all(test, feature = "postgres"))]
pub(super) const SERVER_SETTINGS: [&str; 6] =
    ["url", "url_file", "direct_url", "pooler", "pool_size", "root_cert"];
#[cfg(feature = "postgres")]
const URL_VARIABLE: &str = "ROWHOUSE_POSTGRES_URL";
#[cfg(feature = "postgres")]
const POOL_SIZE: u16 = 10;

impl Backends {
    /// What a home says of these domains.
    ///
    /// # Errors
    /// `Invalid` when its config file cannot be understood; `Unsupported` when it asks for a server and this program was
    /// built without one; of the system.
    pub(crate) fn of<'d>(home: &Path, domains: impl Iterator<Item = &'d str>) -> Result<Self> {
        let file = config_of(home);
        let Some(text) = text_of(&file)? else { return Ok(Self::default()) };
        Self::read(&text, domains).map_err(|error| error.at_path(&file))
    }

    fn read<'d>(text: &str, domains: impl Iterator<Item = &'d str>) -> Result<Self> {
        let mut sections: toml::Table = parse(text)?;
        let mut on_server = BTreeSet::new();
        for domain in domains {
            // Goals go where the threads are.
            let inherits = (domain == "goals").then_some("state");
            let said = [Some(domain), inherits]
                .into_iter()
                .flatten()
                .find_map(|name| Some((name, sections.get(name)?.get("backend")?)));
            match said.map(|(section, word)| (section, word.as_str())) {
                None | Some((_, Some("sqlite"))) => {}
                Some((_, Some("postgres"))) => drop(on_server.insert(domain.to_owned())),
                Some((section, _)) => {
                    let message = format!("backend under [{section}] names no engine");
                    return Err(Error::new(ErrorKind::Invalid, message)
                        .advise("write backend = \"sqlite\" or backend = \"postgres\""));
                }
            }
        }
        if on_server.is_empty() {
            return Ok(Self::default());
        }
        Self::with_server(on_server, sections.remove("state"))
    }

    #[cfg(not(feature = "postgres"))]
    fn with_server(on_server: BTreeSet<String>, _: Option<toml::Value>) -> Result<Self> {
        let names: Vec<_> = on_server.into_iter().collect();
        let message =
            format!("{} should be on a PostgreSQL server, which this program cannot use", names.join(", "));
        Err(Error::new(ErrorKind::Unsupported, message)
            .advise("build the program with the feature `postgres` of rowhouse"))
    }

    #[cfg(feature = "postgres")]
    fn with_server(on_server: BTreeSet<String>, state: Option<toml::Value>) -> Result<Self> {
        let section = match state.and_then(|mut state| state.as_table_mut()?.remove("postgres")) {
            // The parser's message may quote a value.
            Some(section) => section.try_into().map_err(|_| {
                Error::new(ErrorKind::Invalid, "[state.postgres] is not as it should be").advise(
                    "it takes url or url_file, direct_url, root_cert (texts), pooler (transaction or session) and \
                     pool_size (a number from 1 to 1000)",
                )
            })?,
            None => ServerSection::default(),
        };
        Ok(Self { on_server, server: Some(section) })
    }

    /// The server that a home names, whether a domain is on it or not.
    ///
    /// # Errors
    /// `Invalid` when nothing says where it is; as [`of`](Self::of) and [`server`](Self::server).
    #[cfg(feature = "postgres")]
    pub(crate) fn named_server(home: &Path) -> Result<crate::postgres::Settings> {
        let file = config_of(home);
        let mut sections: toml::Table =
            text_of(&file)?.map_or_else(|| Ok(toml::Table::new()), |text| parse(&text))?;
        let found = Self::with_server(BTreeSet::new(), sections.remove("state"))
            .map_err(|error| error.at_path(&file))?;
        Ok(found.server(home)?.expect("it was made with one"))
    }

    /// Whether the home's config file says where the server is, so that no variable is needed.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    #[cfg(feature = "postgres")]
    pub(crate) fn names_server_in_file(home: &Path) -> Result<bool> {
        let Some(text) = text_of(&config_of(home))? else { return Ok(false) };
        let mut sections: toml::Table = parse(&text)?;
        let found = Self::with_server(BTreeSet::new(), sections.remove("state"))?;
        Ok(found.server.is_some_and(|section| section.url.is_some() || section.url_file.is_some()))
    }

    /// The text of a home's config file with these domains on that engine, and nothing else changed; and the lines that say
    /// so.
    ///
    /// # Errors
    /// `Invalid` when it is written in a way that is not changed here; as [`of`](Self::of).
    #[cfg(feature = "postgres")]
    pub(crate) fn moved(text: &str, domains: &[String], to_server: bool) -> Result<(String, Vec<String>)> {
        let word = if to_server { "postgres" } else { "sqlite" };
        let is_there = |text: &str, domain: &String| -> Result<bool> {
            Ok(Self::read(text, std::iter::once(&**domain))?.is_on_server(domain) == to_server)
        };
        let (mut changed, mut lines) = (text.to_owned(), Vec::new());
        // The state first: goals may go where it goes.
        let (state, others): (Vec<_>, Vec<_>) = domains.iter().partition(|domain| *domain == "state");
        for domain in state.into_iter().chain(others) {
            if is_there(&changed, domain)? {
                continue;
            }
            lines.push(format!("[{domain}] backend = \"{word}\""));
            changed = super::edit::with_value(&changed, domain, "backend", Some(word)).ok_or_else(|| {
                let message = format!("the section [{domain}] is written in a way that is not changed here");
                Error::new(ErrorKind::Invalid, message)
                    .advise(format!("write it as a section of its own: [{domain}] with backend = \"{word}\""))
            })?;
        }
        Ok((changed, lines))
    }

    /// Where it stands which server that is.
    #[cfg(feature = "postgres")]
    pub(crate) fn url_origin(&self) -> &'static str {
        match &self.server {
            _ if url_of_environment().is_some() => "the variable ROWHOUSE_POSTGRES_URL",
            Some(ServerSection { url_file: Some(_), .. }) => "url_file",
            _ => "url",
        }
    }

    /// Whether a domain is on a server.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_on_server(&self, domain: &str) -> bool {
        self.on_server.contains(domain)
    }

    /// Whether a domain is on a server: without one, what says so was an error.
    #[cfg(not(feature = "postgres"))]
    #[expect(clippy::unused_self, reason = "as with a server")]
    pub(crate) fn is_on_server(&self, _: &str) -> bool {
        false
    }

    /// The server, when a domain is on it. A relative path is one in the home.
    ///
    /// # Errors
    /// `Invalid` when it is not said where the server is, or twice, and for a size out of range; of `url_file`.
    #[cfg(feature = "postgres")]
    pub(crate) fn server(&self, home: &Path) -> Result<Option<crate::postgres::Settings>> {
        let Some(section) = &self.server else { return Ok(None) };
        let invalid =
            |message: &'static str| Error::new(ErrorKind::Invalid, message).at_path(&config_of(home));
        let url = match (&section.url, &section.url_file) {
            (Some(_), Some(_)) => return Err(invalid("[state.postgres] has both url and url_file")),
            _ if let Some(url) = url_of_environment() => url,
            (Some(url), None) => url.clone(),
            (None, Some(file)) => {
                let file = home.join(file);
                let text = text_of(&file)?;
                text.ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, "there is no file with the URL of the server")
                        .at_path(&file)
                        .advise("write the URL into it, readable for you alone, or correct url_file")
                })?
            }
            (None, None) => {
                let error = invalid("a domain is on a PostgreSQL server, and nothing says where that is");
                return Err(error.advise(format!(
                    "set url or url_file under [state.postgres], or the variable {URL_VARIABLE}"
                )));
            }
        };
        let pool_size = section.pool_size.unwrap_or(POOL_SIZE);
        if !(1..=1000).contains(&pool_size) {
            return Err(invalid("pool_size under [state.postgres] is a number from 1 to 1000"));
        }
        Ok(Some(crate::postgres::Settings {
            url,
            direct_url: section.direct_url.clone(),
            pooler: section.pooler,
            pool_size: pool_size.into(),
            root_cert: section.root_cert.as_ref().map(|file| home.join(file)),
        }))
    }
}

/// One that is empty says nothing.
#[cfg(feature = "postgres")]
fn url_of_environment() -> Option<String> {
    std::env::var(URL_VARIABLE).ok().filter(|url| !url.trim().is_empty())
}

// A URL holds a password.
#[cfg(feature = "postgres")]
impl std::fmt::Debug for ServerSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerSection").field("pool_size", &self.pool_size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Backends> {
        Backends::read(text, ["state", "goals", "logs"].into_iter())
    }

    #[test]
    fn without_a_word_everything_is_in_files() {
        for text in [
            "",
            "[logs]\nlevel = \"warn\"\n",
            "[state]\nbackend = \"sqlite\"\n",
            "[state.postgres]\nurl = \"x\"\n",
        ] {
            let found = read(text).expect(text);
            assert_eq!(format!("{found:?}"), format!("{:?}", Backends::default()), "{text}");
        }
    }

    #[test]
    fn what_is_no_engine_is_an_error_that_quotes_nothing() {
        for text in
            ["[state]\nbackend = \"s3cret\"\n", "[state]\nbackend = 3\n", "[state\nbackend = \"s3cret\"\n"]
        {
            let error = read(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(!error.to_string().contains("s3cret") && error.advice().is_some(), "{error}");
        }
        // Goals follow, and are not to blame.
        let error =
            Backends::read("[state]\nbackend = \"mongo\"\n", ["goals"].into_iter()).expect_err("no engine");
        assert_eq!(error.message(), "backend under [state] names no engine");
    }

    #[cfg(not(feature = "postgres"))]
    #[test]
    fn a_program_without_a_server_says_so() {
        let error = read("[state]\nbackend = \"postgres\"\n").expect_err("it cannot");
        assert!(error.kind() == ErrorKind::Unsupported && error.message().contains("state"), "{error}");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn every_setting_of_a_server_is_one_that_is_read() {
        for name in SERVER_SETTINGS {
            let value = match name {
                "pool_size" => "5",
                "pooler" => "\"session\"",
                _ => "\"x\"",
            };
            read(&format!("[state]\nbackend = \"postgres\"\n[state.postgres]\n{name} = {value}\n"))
                .expect(name);
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn goals_go_where_the_threads_are_and_logs_stay() {
        let found = read("[state]\nbackend = \"postgres\"\n").expect("a server");
        let on = |found: &Backends| ["state", "goals", "logs"].map(|domain| found.is_on_server(domain));
        assert_eq!(on(&found), [true, true, false]);
        let apart = "[state]\nbackend = \"postgres\"\n[goals]\nbackend = \"sqlite\"\n";
        assert_eq!(on(&read(apart).expect("apart")), [true, false, false]);
        assert_eq!(on(&read("[goals]\nbackend = \"postgres\"\n").expect("alone")), [false, true, false]);
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_move_changes_the_lines_that_say_where_and_no_other() {
        let names = ["state", "goals"].map(str::to_owned);
        let there = |text: &str| Backends::moved(text, &names, true).expect(text);
        let text = "# ours\n[state.postgres]\nurl = \"x\"\n";
        let (changed, lines) = there(text);
        assert_eq!(changed, format!("{text}[state]\nbackend = \"postgres\"\n"));
        assert_eq!(lines, ["[state] backend = \"postgres\""], "goals follow");
        let (back, lines) = Backends::moved(&changed, &names, false).expect("back");
        assert_eq!((back.as_str(), lines.len()), (changed.replace("postgres\"", "sqlite\"").as_str(), 1));
        let apart = "[goals]\nbackend = \"sqlite\"\n";
        let (changed, lines) = there(apart);
        assert_eq!(lines.len(), 2);
        assert!(names.iter().all(|name| read(&changed).expect("read").is_on_server(name)), "{changed}");
        assert_eq!(there(&changed), (changed.clone(), Vec::new()), "once more changes nothing");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn the_server_is_named_once_and_a_typing_error_is_one() {
        let home = tempfile::tempdir().expect("a folder");
        let server = |section: &str| {
            let text = format!("[state]\nbackend = \"postgres\"\n[state.postgres]\n{section}\n");
            read(&text).and_then(|found| found.server(home.path()))
        };
        let found = server("url = \"postgres://a@h/x\"").expect("a server").expect("it is said");
        assert_eq!((found.url.as_str(), found.pool_size), ("postgres://a@h/x", 10));
        crate::home::write_atomically(&home.path().join("url"), b"postgres://b@h/x\n").expect("a file");
        assert!(
            server("url_file = \"url\"").expect("a server").expect("said").url.starts_with("postgres://b@h")
        );
        for (section, kind) in [
            ("url = \"x\"\nurl_file = \"url\"", ErrorKind::Invalid),
            ("url_file = \"none\"", ErrorKind::NotFound),
            ("url = \"s3cret\"\npool_sise = 3", ErrorKind::Invalid),
            ("url = \"s3cret\"\npool_size = 0", ErrorKind::Invalid),
            ("url = \"s3cret\"\npooler = \"statement\"", ErrorKind::Invalid),
            ("url = \"s3cret\"\npool_size = \"many\"", ErrorKind::Invalid),
        ] {
            let error = server(section).err().expect(section);
            assert_eq!(error.kind(), kind, "{section}: {error}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error}");
        }
    }
}
