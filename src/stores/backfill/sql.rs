//! The texts of the backfill's tables.

pub(super) const GET: &str = "SELECT state, token, owner_host, owner_boot, owner_pid, owner_start, heartbeat_at, watermark, \
     listed, everything, facts, progress, finished_at FROM backfill WHERE root = $1";

pub(super) const ALL: &str = "SELECT root, state, token, owner_host, owner_boot, owner_pid, owner_start, heartbeat_at, \
     watermark, listed, everything, facts, progress, finished_at FROM backfill ORDER BY root";

/// $1 root, $2 facts, $3 progress. Says that there is something to do; nothing when that is known.
pub(super) const ANNOUNCE: &str = "INSERT INTO backfill(root, state, listed, everything, facts, progress) VALUES ($1, 'pending', 0, 0, $2, $3) \
     ON CONFLICT (root) DO NOTHING";

/// $1 root, $2 token, $3 to $6 owner, $7 now, $8 watermark, $9 listed, $10 everything, $11 facts, $12 progress.
pub(super) const CLAIM: &str = "INSERT INTO backfill(root, state, token, owner_host, owner_boot, owner_pid, owner_start, heartbeat_at, watermark, \
     listed, everything, facts, progress) VALUES ($1, 'running', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
     ON CONFLICT (root) DO UPDATE SET state = 'running', token = excluded.token, owner_host = excluded.owner_host, \
     owner_boot = excluded.owner_boot, owner_pid = excluded.owner_pid, owner_start = excluded.owner_start, \
     heartbeat_at = excluded.heartbeat_at, watermark = excluded.watermark, listed = excluded.listed, \
     everything = excluded.everything, facts = excluded.facts, progress = excluded.progress";

/// $1 root, $2 token: whether it is still that owner's.
macro_rules! ours {
    () => {
        " WHERE root = $1 AND token = $2"
    };
}

/// $3 now, $4 the watermark, null to leave it.
pub(super) const MARK: &str =
    concat!("UPDATE backfill SET heartbeat_at = $3, watermark = coalesce($4, watermark)", ours!());
/// $3 progress.
pub(super) const PROGRESS: &str = concat!("UPDATE backfill SET progress = $3", ours!());
/// $3 now, $4 progress.
pub(super) const LISTED: &str =
    concat!("UPDATE backfill SET listed = 1, heartbeat_at = $3, progress = $4", ours!());
/// $3 now, $4 progress.
pub(super) const FINISH: &str = concat!(
    "UPDATE backfill SET state = 'complete', token = NULL, watermark = NULL, listed = 1, everything = 0, \
     heartbeat_at = $3, finished_at = $3, progress = $4",
    ours!()
);
/// $3 now. The watermark stays.
pub(super) const RELEASE: &str =
    concat!("UPDATE backfill SET state = 'pending', token = NULL, heartbeat_at = $3", ours!());

/// $1 path
pub(super) const FILE: &str =
    "SELECT size, mtime_ns, inode, kind, thread_id FROM backfill_file WHERE path = $1";
/// $1 path, $2 size, $3 mtime, $4 inode, $5 kind, $6 thread, $7 line, $8 reason
pub(super) const PUT_FILE: &str = "INSERT INTO backfill_file(path, size, mtime_ns, inode, kind, thread_id, line, reason) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (path) DO UPDATE SET size = excluded.size, \
     mtime_ns = excluded.mtime_ns, inode = excluded.inode, kind = excluded.kind, thread_id = excluded.thread_id, \
     line = excluded.line, reason = excluded.reason";
pub(super) const FORGET_FILE: &str = "DELETE FROM backfill_file WHERE path = $1";
/// $1 kind, $2 after this path, $3 below this one, $4 limit
pub(super) const FILES_OF_KIND: &str = "SELECT path, line, reason FROM backfill_file WHERE kind = $1 AND path > $2 AND path < $3 ORDER BY path LIMIT $4";
/// $1 after this path, $2 below this one, $3 limit
pub(super) const FILES: &str =
    "SELECT path FROM backfill_file WHERE path > $1 AND path < $2 ORDER BY path LIMIT $3";

/// $1, $2 after this path and thread, $3 below this path, $4 limit
pub(super) const ROWS_OF_FILES: &str = "SELECT id, rollout_path, rollout_size, rollout_mtime_ns, rollout_inode FROM thread \
     WHERE rollout_path >= $1 AND (rollout_path, id) > ($1, $2) AND rollout_path < $3 \
     ORDER BY rollout_path, id LIMIT $4";

/// $1 thread, $2 its file: a row that got another file meanwhile stays.
pub(super) const SWEEP: &str = "DELETE FROM thread WHERE id = $1 AND rollout_path = $2";

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, StatementStatus, ToSql};

    use super::*;

    fn filled(rows: i64) -> Connection {
        let connection = Connection::open_in_memory().expect("a database");
        for schema in [
            include_str!("../../../migrations_state/V1__thread.sql"),
            include_str!("../../../migrations_state/V2__spawn_edge.sql"),
            include_str!("../../../migrations_state/V3__memory.sql"),
            include_str!("../../../migrations_state/V4__thread_search.sql"),
            include_str!("../../../migrations_state/V5__backfill.sql"),
        ] {
            connection.execute_batch(schema).expect("the schema");
        }
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)";
        let threads = "INSERT INTO thread (id, created_at, updated_at, recency_at, rollout_path) \
             SELECT printf('%08x-0000-7000-8000-%012x', i, i), i, i, i, printf('/a/%08d', i) FROM n";
        let files = "INSERT INTO backfill_file SELECT printf('/a/%08d', i), 1, 1, i, iif(i % 2, 'bad', 'ends'), \
             iif(i % 2, NULL, 'x'), NULL, iif(i % 2, 'bad', NULL) FROM n";
        for fill in [threads, files] {
            let (insert, select) = fill.split_once("SELECT").expect("a select");
            connection.execute(&format!("{insert} {numbers} SELECT{select}"), [rows]).expect("rows");
        }
        connection
    }

    /// Steps of the virtual machine for a page from the middle.
    fn cost(connection: &Connection, text: &str, params: &[&dyn ToSql]) -> i32 {
        let mut statement = connection.prepare(text).expect(text);
        let mut rows = statement.query(params).expect(text);
        while rows.next().expect(text).is_some() {}
        drop(rows);
        assert_eq!(statement.get_status(StatementStatus::FullscanStep), 0, "{text}");
        statement.get_status(StatementStatus::VmStep)
    }

    #[test]
    fn a_page_costs_the_same_among_ten_times_as_many() {
        let costs = [2_000, 20_000].map(|rows| {
            let connection = filled(rows);
            let (from, below, limit) = (format!("/a/{:08}", rows / 2), "/a0", 100);
            [
                cost(&connection, FILES_OF_KIND, &[&"bad", &from, &below, &limit]),
                cost(&connection, FILES, &[&from, &below, &limit]),
                cost(&connection, ROWS_OF_FILES, &[&from, &"", &below, &limit]),
                cost(&connection, FILE, &[&from]),
            ]
        });
        for (few, many) in costs[0].iter().zip(costs[1]) {
            assert!(many <= few + few / 10, "{costs:?}");
        }
    }
}
