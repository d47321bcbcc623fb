//! What the commands for files say of domains that are on a PostgreSQL server.

use std::time::Duration;

use bytesize::ByteSize;
use rowhouse::{DatabaseInfo, Home, RuntimeDbRegistry, ServerSession, ServerStatus};

use crate::bench::count;
use crate::output;
use crate::table::Table;

/// How long a list waits for a server: it is a list of other things, too.
const LONGEST: Duration = Duration::from_secs(2);

/// Asks the server of these databases, when one of them is there. What is in the way is told, and in nobody's.
pub(crate) fn ask(
    home: &Home,
    databases: &[DatabaseInfo],
    warnings: &mut Vec<String>,
) -> Option<ServerStatus> {
    if !databases.iter().any(DatabaseInfo::is_on_server) {
        return None;
    }
    RuntimeDbRegistry::new(home).server(LONGEST).unwrap_or_else(|error| {
        warnings.push(format!("the server could not be asked: {error}"));
        None
    })
}

/// Says of the domains of a home that are on a server what becomes of them.
///
/// # Errors
/// Those of listing the home.
pub(crate) fn tell(home: &Home, what: &str) -> rowhouse::Result<()> {
    for database in RuntimeDbRegistry::new(home).list()? {
        if let Some(place) = &database.server {
            output::warn(&format!("{} is on {}: {what}", database.name, place.server));
        }
    }
    Ok(())
}

/// Two lines or so: where, what, how much.
pub(crate) fn text(databases: &[DatabaseInfo], asked: Option<&ServerStatus>) -> String {
    let there = databases.iter().filter_map(|database| Some((database, database.server.as_ref()?)));
    let mut table =
        Table::new(&["on a server", "where", "schema there", "version", "rows", "size"]).right(&[3, 4, 5]);
    let mut any = false;
    for (database, place) in there {
        any = true;
        let found = asked.and_then(|asked| asked.domains.iter().find(|domain| domain.name == database.name));
        let unknown = || "?".to_owned();
        table.row(&[
            database.name.clone(),
            place.server.clone(),
            place.schema.clone(),
            found.map_or_else(unknown, |found| {
                found.schema_version.map_or_else(|| "not made yet".to_owned(), |version| version.to_string())
            }),
            found.map_or_else(unknown, |found| format!("~{}", count(found.rows as f64))),
            found.map_or_else(unknown, |found| ByteSize::b(found.bytes).to_string()),
        ]);
    }
    if !any {
        return String::new();
    }
    let version = asked.map_or_else(String::new, |asked| format!("{}\n", asked.version));
    format!("\n{}{version}", table.render())
}

/// Who is connected.
pub(crate) fn sessions(asked: &ServerStatus) -> String {
    if asked.sessions.is_empty() {
        return format!("nobody of this library is connected to {}\n", asked.server);
    }
    let mut table = Table::new(&[
        "connected to the server",
        "server pid",
        "what it does",
        "transaction",
        "keeps waiting",
    ])
    .right(&[1, 3, 4]);
    for ServerSession { server_pid, name, state, transaction_ms, blocks, .. } in &asked.sessions {
        table.row(&[
            name.clone(),
            server_pid.to_string(),
            state.clone().unwrap_or_else(|| "not for this user to see".to_owned()),
            transaction_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
            if *blocks > 0 { blocks.to_string() } else { "-".to_owned() },
        ]);
    }
    format!("{}on {} ({})\n", table.render(), asked.server, asked.version)
}
