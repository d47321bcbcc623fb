//! Which domains are on a PostgreSQL server, and which server that is.

use super::file::ConfigFile;
use super::{Origin, Said, Setting};

const DEFAULT: &str = "sqlite";
const POOL_SIZE: u64 = 10;
const VARIABLE: &str = "ROWHOUSE_POSTGRES_URL";
const UNDER: &str = "state.postgres";

/// What a home's file may hold of it.
pub(super) const NAMES: [&str; 10] = [
    "state.backend",
    "goals.backend",
    "logs.backend",
    "device_keys.backend",
    "state.postgres.url",
    "state.postgres.url_file",
    "state.postgres.direct_url",
    "state.postgres.pool_size",
    "state.postgres.pooler",
    "state.postgres.root_cert",
];

/// Whether a name is that of the engine of some domain, also of one that only its own program knows.
pub(super) fn is_backend(name: &str) -> bool {
    name.split_once('.').is_some_and(|(_, key)| key == "backend")
}

/// Nothing of a server where no domain is on one.
pub(super) fn settings(
    file: Option<&ConfigFile>,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<String>,
) -> impl Iterator<Item = Setting> {
    let said = |name: &str| {
        let file = file?;
        Some(Said::new(Origin::File, file.path.display().to_string(), file.get(name)?))
    };
    let backend = |name: &'static str| {
        // Goals go where the threads are.
        let inherited = (name == "goals.backend").then(|| said("state.backend")).flatten();
        let default = Said::new(Origin::Default, None, DEFAULT);
        Setting::of(name, said(name).into_iter().chain(inherited).chain([default]).collect())
    };
    let mut all: Vec<_> = NAMES[..4].iter().filter_map(|name| backend(name)).collect();
    if all.iter().all(|setting| setting.decided.value == DEFAULT) {
        return all.into_iter();
    }
    let url = |mut said: Said| {
        said.value = shown(said.value.as_str().unwrap_or_default()).into();
        said
    };
    let (in_file, beside) = (said("state.postgres.url"), said("state.postgres.url_file"));
    if in_file.is_some() && beside.is_some() {
        problems.push(format!("[{UNDER}] has both url and url_file"));
    }
    let environment = variable(VARIABLE).map(|url| Said::new(Origin::Environment, VARIABLE.to_owned(), url));
    if environment.is_none() && in_file.is_none() && beside.is_none() {
        problems.push(format!(
            "a domain is on a PostgreSQL server, and nothing says where that is: set url or url_file under [{UNDER}], or {VARIABLE}"
        ));
    }
    let pool_size = file.and_then(|file| file.get("state.postgres.pool_size"));
    // A number is a number again.
    let pool_size = pool_size.zip(file).map(|(text, file)| {
        let value = text.parse::<u64>().map_or_else(|_| text.clone().into(), serde_json::Value::from);
        Said::new(Origin::File, file.path.display().to_string(), value)
    });
    let default = Said::new(Origin::Default, None, POOL_SIZE);
    let urls = environment.into_iter().chain(in_file).map(url).collect();
    all.extend(Setting::of("state.postgres.url", urls));
    all.extend(Setting::of("state.postgres.url_file", beside.into_iter().collect()));
    let direct = said("state.postgres.direct_url").map(url);
    all.extend(Setting::of("state.postgres.direct_url", direct.into_iter().collect()));
    all.extend(Setting::of("state.postgres.pool_size", pool_size.into_iter().chain([default]).collect()));
    all.extend(Setting::of(
        "state.postgres.root_cert",
        said("state.postgres.root_cert").into_iter().collect(),
    ));
    all.into_iter()
}

/// Host and database. What cannot be read may be a secret in any part.
#[cfg(feature = "postgres")]
fn shown(url: &str) -> String {
    rowhouse::name_of_url(url).unwrap_or_else(|| rowhouse::redact::REDACTED.to_owned())
}

#[cfg(not(feature = "postgres"))]
fn shown(_: &str) -> String {
    rowhouse::redact::REDACTED.to_owned()
}
