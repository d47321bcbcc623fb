//! `rowhouse threads search`: words in names, titles and first messages.

use anyhow::Result;
use clap::{Args, ValueEnum};
use rowhouse::Home;
use rowhouse::stores::threads::{SEARCHED_HITS, SearchOrder, ThreadSearch};
use serde::Serialize;

use super::{FilterArguments, Row, Sort, filtered, spellings, table, tell_missing};
use crate::open;
use crate::output::{self, Output};

#[derive(Args)]
pub(super) struct SearchArguments {
    /// The words
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
    /// What comes first: the best match, or the last used
    #[arg(long, value_enum, default_value_t = By::Rank)]
    by: By,
    #[command(flatten)]
    filter: FilterArguments,
    /// Threads on a page
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the page before this one ended; only by recency
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Rank,
    Recency,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    threads: Vec<Row>,
    next_cursor: Option<String>,
    /// Older threads are still being brought into the index.
    partial: bool,
    /// There were more hits than one search looks at.
    truncated: bool,
}

pub(super) fn run(home: &Home, arguments: &SearchArguments, output: &Output) -> Result<()> {
    let runtime = open::state(home)?;
    let threads = runtime.threads();
    let order = match arguments.by {
        By::Rank => SearchOrder::Rank,
        By::Recency => SearchOrder::Recency,
    };
    let search = ThreadSearch::text(arguments.text.join(" ")).by(order).limit(arguments.limit);
    let mut search = filtered!(search, &arguments.filter, &threads);
    if let Some(cursor) = &arguments.cursor {
        search = search.cursor(cursor);
    }
    let page = threads.search(&search)?;
    let found = Found {
        threads: page.threads.into_iter().map(Row::from).collect(),
        next_cursor: page.next_cursor,
        partial: page.partial,
        truncated: page.truncated,
    };
    if output.is_json() {
        return output.document(&found);
    }
    if found.threads.is_empty() {
        output.text("nothing found\n")?;
    } else {
        output.text(&table(&found.threads, Sort::Recency, output::width()))?;
    }
    tell_missing(&found.threads);
    if found.partial {
        output::warn("the index is still being made, so older threads may be missing: ask again later");
    }
    if found.truncated {
        output::warn(&format!(
            "only the newest {SEARCHED_HITS} hits were looked at: another word narrows it"
        ));
    }
    if let Some(cursor) = &found.next_cursor {
        output::more(cursor);
    }
    Ok(())
}
