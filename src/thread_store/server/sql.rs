//! The statements of the store. `$1` is the thread where nothing else is said.

/// What is known of a history, and who writes it.
pub(super) const HISTORY: &str = "SELECT h.items, h.writer_token, h.writer_found, w.writer_id, w.host, w.boot_id, \
        w.namespace, w.pid, w.start_time, w.program, w.until \
     FROM thread_history AS h LEFT JOIN thread_writer AS w ON w.writer_id = h.writer_id WHERE h.thread_id = $1";

/// $2 items, $3 writer, $4 token, $5 items that count as found
pub(super) const BEGIN: &str = "INSERT INTO thread_history(thread_id, items, writer_id, writer_token, writer_found) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (thread_id) DO NOTHING";
/// $2 token, $3 items there are, $4 items there will be
pub(super) const ADVANCE: &str =
    "UPDATE thread_history SET items = $4 WHERE thread_id = $1 AND writer_token = $2 AND items = $3";
/// $2 writer, $3 token
pub(super) const TAKE: &str = "UPDATE thread_history \
     SET writer_id = $2, writer_token = $3, writer_found = items, wanted_at = NULL WHERE thread_id = $1";
/// $2 token
pub(super) const GIVE_BACK: &str = "UPDATE thread_history \
     SET writer_id = NULL, writer_token = NULL, writer_found = NULL, wanted_at = NULL \
     WHERE thread_id = $1 AND writer_token = $2";
/// $2 now
pub(super) const ASK: &str = "UPDATE thread_history SET wanted_at = $2 WHERE thread_id = $1";
/// $1 since when, $2 writer
pub(super) const WANTED: &str =
    "SELECT thread_id FROM thread_history WHERE wanted_at > $1 AND writer_id = $2";

/// $1 to $8: the row
pub(super) const SIGN_OF_LIFE: &str = "INSERT INTO thread_writer(writer_id, host, boot_id, namespace, pid, start_time, \
        program, until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
     ON CONFLICT (writer_id) DO UPDATE SET until = excluded.until";
/// $1 before when they were gone
pub(super) const FORGET_WRITERS: &str = "DELETE FROM thread_writer WHERE until < $1";

/// Items from $2 on and before $3, at most $4 of them, and no more behind those that have $5 bytes together.
pub(super) const PAGE: &str = "SELECT seq, kind, item FROM ( \
        SELECT seq, kind, item, sum(length(item)) OVER (ORDER BY seq) - length(item) AS before FROM thread_item \
        WHERE thread_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq LIMIT $4) AS page \
     WHERE before < $5 ORDER BY seq";
/// The same from the end.
pub(super) const PAGE_BACKWARD: &str = "SELECT seq, kind, item FROM ( \
        SELECT seq, kind, item, sum(length(item)) OVER (ORDER BY seq DESC) - length(item) AS before FROM thread_item \
        WHERE thread_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq DESC LIMIT $4) AS page \
     WHERE before < $5 ORDER BY seq DESC";
/// $2 source, $3 before which of its items: behind the first item of a fork.
pub(super) const COPY: &str = "INSERT INTO thread_item(thread_id, seq, kind, item) \
     SELECT $1, row_number() OVER (ORDER BY seq), kind, item FROM thread_item \
     WHERE thread_id = $2 AND seq < $3 AND kind NOT IN ('session_meta', 'thread_metadata') ORDER BY seq";

pub(super) const HAS_ROW: &str = "SELECT 1 AS found FROM thread WHERE id = $1";
pub(super) const REMOVE: [&str; 2] =
    ["DELETE FROM thread_item WHERE thread_id = $1", "DELETE FROM thread_history WHERE thread_id = $1"];
/// $1 before when they came
pub(super) const OLD_TOMBSTONES: &str =
    "SELECT thread_id FROM tombstone WHERE deleted_at < $1 ORDER BY thread_id LIMIT 256";
