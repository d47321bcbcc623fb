//! The texts. One list is one constant text, chosen by sort, direction and filter; nothing is built from input.
//!
//! Text keys are compared by bytes: the default collation of a file does so, and the columns on a server say so. Sort keys
//! are never null, so that no order needs a place for nulls. Lists of any length are one parameter: JSON, or null where the
//! filter is not set; the schema on a server has a `json_each` for them. A parameter that is only compared with null is
//! cast: a server would not know its type.

use std::sync::LazyLock;

use super::query::{Direction, Sort, ThreadQuery};
use crate::sql::rows_of_values;

/// How many folders one text walks; a merge of as many index walks.
pub(super) const FOLDERS_PER_WALK: usize = 8;

macro_rules! columns {
    () => {
        "id, rollout_path, created_at, updated_at, recency_at, archived_at, source, model_provider, model, \
         reasoning_effort, cwd, title, name, preview, first_user_message, cli_version, sandbox_policy, \
         approval_mode, tokens_used, git_sha, git_branch, git_origin_url, agent_nickname, agent_role, \
         forked_from_id, is_pinned, memory_mode, user_set"
    };
}

/// The same for a page: what messages and policies are made of, no longer than `bounds` says.
macro_rules! listed {
    () => {
        "id, rollout_path, created_at, updated_at, recency_at, archived_at, source, model_provider, model, \
         reasoning_effort, cwd, substr(title, 1, 500) AS title, substr(name, 1, 500) AS name, \
         substr(preview, 1, 500) AS preview, substr(first_user_message, 1, 4096) AS first_user_message, \
         cli_version, substr(sandbox_policy, 1, 4096) AS sandbox_policy, approval_mode, tokens_used, git_sha, \
         git_branch, git_origin_url, agent_nickname, agent_role, forked_from_id, is_pinned, memory_mode, user_set"
    };
}

macro_rules! ordered {
    ($sort:literal, $direction:literal) => {
        concat!(" ORDER BY ", $sort, " ", $direction, ", id ", $direction, " LIMIT $3")
    };
}

macro_rules! walk {
    ($columns:expr, $sort:literal, $after:literal, $archived:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM thread WHERE archived_at ",
            $archived,
            " AND (",
            $sort,
            ", id) ",
            $after,
            " ($1, $2)"
        )
    };
}

macro_rules! all {
    ($sort:literal, $after:literal, $direction:literal, $archived:literal) => {
        concat!(walk!(listed!(), $sort, $after, $archived), ordered!($sort, $direction))
    };
}

macro_rules! folder {
    ($sort:literal, $after:literal, $direction:literal, $archived:literal) => {
        concat!(walk!(listed!(), $sort, $after, $archived), " AND cwd = $4", ordered!($sort, $direction))
    };
}

macro_rules! folders {
    ($sort:literal, $after:literal, $direction:literal, $archived:literal) => {
        concat!(
            walk!(listed!(), $sort, $after, $archived),
            " AND cwd = $4 UNION ALL ",
            walk!(listed!(), $sort, $after, $archived),
            " AND cwd = $5 UNION ALL ",
            walk!(listed!(), $sort, $after, $archived),
            " AND cwd = $6 UNION ALL ",
            walk!(listed!(), $sort, $after, $archived),
            " AND cwd = $7 UNION ALL ",
            walk!(listed!(), $sort, $after, $archived),
            " AND cwd = $8 UNION ALL ",
            walk!(listed!(), $sort, $after, $archived),
            " AND cwd = $9 UNION ALL ",
            walk!(listed!(), $sort, $after, $archived),
            " AND cwd = $10 UNION ALL ",
            walk!(listed!(), $sort, $after, $archived),
            " AND cwd = $11",
            ordered!($sort, $direction)
        )
    };
}

macro_rules! bounded_folder {
    ($folder:literal, $sort:literal, $after:literal, $direction:literal, $archived:literal) => {
        concat!(
            "SELECT * FROM (",
            walk!(listed!(), $sort, $after, $archived),
            " AND cwd = ",
            $folder,
            ordered!($sort, $direction),
            ") AS one"
        )
    };
}

macro_rules! folders_on_server {
    ($sort:literal, $after:literal, $direction:literal, $archived:literal) => {
        concat!(
            bounded_folder!("$4", $sort, $after, $direction, $archived),
            " UNION ALL ",
            bounded_folder!("$5", $sort, $after, $direction, $archived),
            " UNION ALL ",
            bounded_folder!("$6", $sort, $after, $direction, $archived),
            " UNION ALL ",
            bounded_folder!("$7", $sort, $after, $direction, $archived),
            " UNION ALL ",
            bounded_folder!("$8", $sort, $after, $direction, $archived),
            " UNION ALL ",
            bounded_folder!("$9", $sort, $after, $direction, $archived),
            " UNION ALL ",
            bounded_folder!("$10", $sort, $after, $direction, $archived),
            " UNION ALL ",
            bounded_folder!("$11", $sort, $after, $direction, $archived),
            ordered!($sort, $direction)
        )
    };
}

/// The filters that no index has: sources `$5`, model providers `$6`.
macro_rules! rows_match {
    () => {
        " (CAST($5 AS TEXT) IS NULL OR source IN (SELECT value FROM json_each($5))) \
         AND (CAST($6 AS TEXT) IS NULL OR model_provider IN (SELECT value FROM json_each($6)))"
    };
}

/// The same, and folders `$7`.
macro_rules! rows_and_folders_match {
    () => {
        concat!(rows_match!(), " AND (CAST($7 AS TEXT) IS NULL OR cwd IN (SELECT value FROM json_each($7)))")
    };
}

// The inner walk is a coroutine: it gives its rows in its order, one by one, and ends where the outer limit is reached.
macro_rules! scan {
    ($sort:literal, $after:literal, $direction:literal, $archived:literal) => {
        concat!(
            "SELECT ",
            listed!(),
            " FROM (",
            walk!(columns!(), $sort, $after, $archived),
            " ORDER BY ",
            $sort,
            " ",
            $direction,
            ", id ",
            $direction,
            " LIMIT $4) AS walked WHERE",
            rows_and_folders_match!(),
            " LIMIT $3"
        )
    };
}

macro_rules! scan_folder {
    ($sort:literal, $after:literal, $direction:literal, $archived:literal) => {
        concat!(
            "SELECT ",
            listed!(),
            " FROM (",
            walk!(columns!(), $sort, $after, $archived),
            " AND cwd = $7 ORDER BY ",
            $sort,
            " ",
            $direction,
            ", id ",
            $direction,
            " LIMIT $4) AS walked WHERE",
            rows_match!(),
            " LIMIT $3"
        )
    };
}

macro_rules! place {
    ($sort:literal, $after:literal, $direction:literal, $archived:literal) => {
        concat!(
            walk!(concat!($sort, ", id"), $sort, $after, $archived),
            " ORDER BY ",
            $sort,
            " ",
            $direction,
            ", id ",
            $direction,
            " LIMIT 1 OFFSET $3"
        )
    };
}

macro_rules! place_in_folder {
    ($sort:literal, $after:literal, $direction:literal, $archived:literal) => {
        concat!(
            walk!(concat!($sort, ", id"), $sort, $after, $archived),
            " AND cwd = $4 ORDER BY ",
            $sort,
            " ",
            $direction,
            ", id ",
            $direction,
            " LIMIT 1 OFFSET $3"
        )
    };
}

// What has to be sorted are ids: whole rows would go through temporary files when a page of them is large.
// The join in this order, whatever the planner thinks: the ids are few.
macro_rules! among {
    ($sort:literal, $after:literal, $direction:literal, $archived:literal) => {
        concat!(
            "SELECT id FROM (SELECT value AS wanted FROM json_each($4)) AS ids CROSS JOIN thread \
             WHERE thread.id = wanted AND archived_at ",
            $archived,
            " AND (",
            $sort,
            ", id) ",
            $after,
            " ($1, $2) AND",
            rows_and_folders_match!(),
            ordered!($sort, $direction)
        )
    };
}

macro_rules! by_direction {
    ($shape:ident, $query:expr, $sort:literal) => {
        match ($query.direction, $query.filter.archived) {
            (Direction::Descending, false) => $shape!($sort, "<", "DESC", "IS NULL"),
            (Direction::Descending, true) => $shape!($sort, "<", "DESC", "IS NOT NULL"),
            (Direction::Ascending, false) => $shape!($sort, ">", "ASC", "IS NULL"),
            (Direction::Ascending, true) => $shape!($sort, ">", "ASC", "IS NOT NULL"),
        }
    };
}

macro_rules! by_sort {
    ($shape:ident, $query:expr) => {
        match $query.sort {
            Sort::Created => by_direction!($shape, $query, "created_at"),
            Sort::Updated => by_direction!($shape, $query, "updated_at"),
            Sort::Recency => by_direction!($shape, $query, "recency_at"),
        }
    };
}

/// Every folder: `$1` sort value, `$2` id, `$3` limit.
pub(super) fn page(query: &ThreadQuery) -> &'static str {
    by_sort!(all, query)
}

/// One folder, `$4`.
pub(super) fn page_of_folder(query: &ThreadQuery) -> &'static str {
    by_sort!(folder, query)
}

/// Up to [`FOLDERS_PER_WALK`] folders, from `$4` on; null where there are fewer.
pub(super) fn page_of_folders(query: &ThreadQuery) -> &'static str {
    by_sort!(folders, query)
}

/// The same on a server, which does not merge the walks: it would sort all that they lead to, so each one is bounded.
pub(super) fn page_of_folders_on_server(query: &ThreadQuery) -> &'static str {
    by_sort!(folders_on_server, query)
}

/// Every folder, looking at `$4` rows at most: sources `$5`, model providers `$6`, folders `$7`.
pub(super) fn scan(query: &ThreadQuery) -> &'static str {
    by_sort!(scan, query)
}

/// One folder `$7`, looking at `$4` rows at most: sources `$5`, model providers `$6`.
pub(super) fn scan_of_folder(query: &ThreadQuery) -> &'static str {
    by_sort!(scan_folder, query)
}

/// Sort value and id of the row that lies `$3` rows behind the next one.
pub(super) fn place(query: &ThreadQuery) -> &'static str {
    by_sort!(place, query)
}

/// The same in one folder, `$4`.
pub(super) fn place_in_folder(query: &ThreadQuery) -> &'static str {
    by_sort!(place_in_folder, query)
}

/// Which of these ids, `$4`; the others as in [`scan`].
pub(super) fn page_among(query: &ThreadQuery) -> &'static str {
    by_sort!(among, query)
}

// What is found first: its newest hits, then the rows that they are of.
macro_rules! found {
    ($hits:expr, $rows:literal, $archived:literal, $behind:literal, $order:literal) => {
        concat!(
            "SELECT id FROM (",
            $hits,
            ") AS hits ",
            $rows,
            " AND archived_at ",
            $archived,
            " AND",
            rows_and_folders_match!(),
            " AND (CAST($4 AS TEXT) IS NULL OR id IN (SELECT value FROM json_each($4)))",
            $behind,
            " ORDER BY ",
            $order,
            " LIMIT $3"
        )
    };
}

macro_rules! by_rank_and_recency {
    ($hits:ident, $rows:literal, $scored:literal, $order:literal, $has_more:expr) => {
        Search {
            by_rank: [
                found!($hits!($scored), $rows, "IS NULL", "", $order),
                found!($hits!($scored), $rows, "IS NOT NULL", "", $order),
            ],
            by_recency: [
                found!(
                    $hits!(""),
                    $rows,
                    "IS NULL",
                    " AND (recency_at, id) < ($8, $9)",
                    "recency_at DESC, id DESC"
                ),
                found!(
                    $hits!(""),
                    $rows,
                    "IS NOT NULL",
                    " AND (recency_at, id) < ($8, $9)",
                    "recency_at DESC, id DESC"
                ),
            ],
            has_more: $has_more,
        }
    };
}

macro_rules! hits_in_file {
    ($score:literal) => {
        concat!(
            "SELECT rowid AS hit",
            $score,
            " FROM thread_search WHERE thread_search MATCH $1 ORDER BY rowid DESC LIMIT $2"
        )
    };
}

macro_rules! hits_on_server {
    ($score:literal) => {
        concat!(
            "SELECT thread_id AS hit",
            $score,
            " FROM thread_text WHERE words @@ searched_for($1) ORDER BY created_at DESC, thread_id DESC LIMIT $2"
        )
    };
}

/// The texts of a search, for one engine.
pub(super) struct Search {
    by_rank: [&'static str; 2],
    by_recency: [&'static str; 2],
    /// Whether `$1` has more than `$2` hits.
    pub(super) has_more: &'static str,
}

impl Search {
    /// Which are the best of the `$2` newest hits of `$1`, `$3` of them: ids `$4`, sources `$5`, model providers `$6`,
    /// folders `$7`. A word in a name counts ten times as much as one in a preview. In a file the newest have the highest
    /// numbers, which come from the time a thread was created: its index can be walked in that one order only.
    pub(super) fn by_rank(&self, archived: bool) -> &'static str {
        self.by_rank[usize::from(archived)]
    }

    /// The same, the last used first, behind recency `$8` and id `$9`.
    pub(super) fn by_recency(&self, archived: bool) -> &'static str {
        self.by_recency[usize::from(archived)]
    }
}

pub(super) const SEARCH_IN_FILE: Search = by_rank_and_recency!(
    hits_in_file,
    "CROSS JOIN thread_text ON number = hit CROSS JOIN thread WHERE id = thread_id",
    ", bm25(thread_search, 10.0, 5.0, 1.0) AS score",
    "score, recency_at DESC, id DESC",
    "SELECT rowid FROM thread_search WHERE thread_search MATCH $1 ORDER BY rowid DESC LIMIT 1 OFFSET $2"
);

pub(super) const SEARCH_ON_SERVER: Search = by_rank_and_recency!(
    hits_on_server,
    "CROSS JOIN thread WHERE id = hit",
    ", ts_rank('{0.1, 0.1, 0.5, 1.0}', words, searched_for($1)) AS score",
    "score DESC, recency_at DESC, id DESC",
    "SELECT thread_id FROM thread_text WHERE words @@ searched_for($1) \
     ORDER BY created_at DESC, thread_id DESC LIMIT 1 OFFSET $2"
);

macro_rules! ids_that_end {
    ($archived:literal) => {
        concat!(
            "SELECT id FROM (SELECT id FROM thread WHERE archived_at ",
            $archived,
            " ORDER BY recency_at DESC, id DESC LIMIT $3) AS newest \
             WHERE substr(replace(id, '-', ''), 33 - $2) = $1 LIMIT 11"
        )
    };
}

/// Up to `$3` ids from `$1` on and before `$2`.
pub(super) const IDS_THAT_BEGIN: &str =
    "SELECT id FROM thread WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3";

/// Up to 11 ids whose last `$2` digits are `$1`, of the `$3` last used threads: the live ones, the archived ones.
pub(super) const IDS_THAT_END: [&str; 2] = [ids_that_end!("IS NULL"), ids_that_end!("IS NOT NULL")];

/// A row of a page.
pub(super) const LISTED: &str = concat!("SELECT ", listed!(), " FROM thread WHERE id = $1");

pub(super) const BY_ID: &str = concat!(
    "SELECT ",
    columns!(),
    ", rollout_size, rollout_mtime_ns, rollout_inode FROM thread WHERE id = $1"
);

/// $1 behind this id, $2 how many.
pub(super) const BEHIND: &str =
    concat!("SELECT ", columns!(), " FROM thread WHERE id > $1 ORDER BY id LIMIT $2");

/// A row while a folder of transcripts is not indexed.
pub(super) const IS_PARTIAL: &str = "SELECT root FROM backfill WHERE listed = 0 LIMIT 1";

pub(super) const IS_READ: &str = "SELECT id FROM thread WHERE rollout_path = $1 AND rollout_size = $2
 AND rollout_mtime_ns = $3 AND rollout_inode = $4 ORDER BY id LIMIT 1";

pub(super) const FILE_OF: &str =
    "SELECT rollout_path, rollout_size, rollout_mtime_ns, rollout_inode FROM thread
 WHERE id = $1 AND rollout_path IS NOT NULL AND rollout_size IS NOT NULL";

/// Rows of one statement. Each changes a dozen indexes: what they share is read, and put aside for the case that the
/// statement fails, once for all.
pub(super) const TOGETHER: usize = 16;
const COLUMNS: usize = 31;

/// The whole row, in the order of [`StoredThread::params`](super::row::StoredThread::params).
pub(super) static PUT: LazyLock<String> = LazyLock::new(|| put(1));
/// So many rows, of different threads.
pub(super) static PUT_TOGETHER: LazyLock<String> = LazyLock::new(|| put(TOGETHER));

fn put(rows: usize) -> String {
    format!("{INTO}{}{OVER}", rows_of_values(rows, "", 1, COLUMNS))
}

const INTO: &str =
    concat!("INSERT INTO thread (", columns!(), ", rollout_size, rollout_mtime_ns, rollout_inode) VALUES ");

const OVER: &str = " ON CONFLICT (id) DO UPDATE SET
   rollout_path = excluded.rollout_path, created_at = excluded.created_at, updated_at = excluded.updated_at,
   recency_at = excluded.recency_at, archived_at = excluded.archived_at, source = excluded.source,
   model_provider = excluded.model_provider, model = excluded.model,
   reasoning_effort = excluded.reasoning_effort, cwd = excluded.cwd, title = excluded.title,
   name = excluded.name, preview = excluded.preview, first_user_message = excluded.first_user_message,
   cli_version = excluded.cli_version, sandbox_policy = excluded.sandbox_policy,
   approval_mode = excluded.approval_mode, tokens_used = excluded.tokens_used, git_sha = excluded.git_sha,
   git_branch = excluded.git_branch, git_origin_url = excluded.git_origin_url,
   agent_nickname = excluded.agent_nickname, agent_role = excluded.agent_role,
   forked_from_id = excluded.forked_from_id, is_pinned = excluded.is_pinned,
   memory_mode = excluded.memory_mode, user_set = excluded.user_set, rollout_size = excluded.rollout_size,
   rollout_mtime_ns = excluded.rollout_mtime_ns, rollout_inode = excluded.rollout_inode";

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;
    use rusqlite::{Connection, StatementStatus};

    use super::*;

    const SCHEMA: &str = include_str!("../../../migrations_state/V1__thread.sql");

    /// Threads in 20 folders, every seventh archived; a tenth of them share one time.
    const FILL: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO thread (id, created_at, updated_at, recency_at, archived_at, cwd)
        SELECT printf('%08x-0000-7000-8000-%012x', i * 7919 % 1000003, i), max(i, ?1 / 10), max(i * 31 % ?1, ?1 / 10),
            max(i * 17 % ?1, ?1 / 10), iif(i % 7 = 0, 1, NULL), '/home/ada/' || (i * 13 % 20) FROM n";

    fn filled(threads: i64) -> Connection {
        let connection = Connection::open_in_memory().expect("a database");
        connection.execute_batch(SCHEMA).expect("the schema");
        connection.execute(FILL, [threads]).expect("threads");
        connection
    }

    fn every_query() -> Vec<ThreadQuery> {
        let mut all = Vec::new();
        for sort in [Sort::Created, Sort::Updated, Sort::Recency] {
            for direction in [Direction::Ascending, Direction::Descending] {
                for archived in [false, true] {
                    for folders in [0, 1, 8] {
                        let query = ThreadQuery::recent().sort(sort).direction(direction).archived(archived);
                        let folders = (0..folders).map(|n| format!("/home/ada/{n}"));
                        all.push(if folders.len() == 0 { query } else { query.cwds(folders) });
                    }
                }
            }
        }
        all
    }

    /// Rows found and virtual machine steps taken by a page of 51 behind this position.
    fn cost(connection: &Connection, query: &ThreadQuery, position: (i64, &str)) -> (usize, i32) {
        let folders = query.filter.folders().unwrap_or_default();
        let sql = match folders.len() {
            0 => page(query),
            1 => page_of_folder(query),
            _ => page_of_folders(query),
        };
        let mut statement = connection.prepare(sql).expect("the text");
        let mut params = vec![Value::from(position.0), Value::from(position.1.to_owned()), Value::from(51)];
        params.extend(folders.iter().map(|folder| Value::from(folder.clone())));
        for (number, value) in (1..).zip(params) {
            let index =
                statement.parameter_index(&format!("${number}")).expect("utf-8").expect("the parameter");
            statement.raw_bind_parameter(index, value).expect("bound");
        }
        let mut rows = statement.raw_query();
        let mut found = 0;
        while rows.next().expect("a row").is_some() {
            found += 1;
        }
        drop(rows);
        assert_eq!(statement.get_status(StatementStatus::Sort), 0, "sorted: {sql}");
        assert_eq!(statement.get_status(StatementStatus::FullscanStep), 0, "scanned: {sql}");
        assert_eq!(statement.get_status(StatementStatus::AutoIndex), 0, "index made: {sql}");
        (found, statement.get_status(StatementStatus::VmStep))
    }

    #[test]
    fn a_page_of_many_threads_costs_what_a_page_of_few_does() {
        let (few, many) = (filled(10_000), filled(100_000));
        for connection in [&few, &many] {
            for query in every_query() {
                let first = match query.direction {
                    Direction::Ascending => (i64::MIN, ""),
                    Direction::Descending => (i64::MAX, "~"),
                };
                let (rows, steps) = cost(connection, &query, first);
                assert_eq!(rows, 51);
                assert!(steps < 51 * 100, "{steps} steps for {query:?}");
            }
        }
    }

    #[test]
    fn going_on_amid_threads_of_one_time_costs_no_more() {
        let many = filled(100_000);
        let amid = (10_000, "00080000-0000-7000-8000-000000000000");
        for analysed in [false, true] {
            if analysed {
                many.execute_batch("ANALYZE").expect("statistics");
            }
            for query in every_query() {
                let (_, steps) = cost(&many, &query, amid);
                assert!(steps < 51 * 100, "{steps} steps for {query:?}");
            }
        }
    }
}
