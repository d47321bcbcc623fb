//! The statements, in the part of SQL that both engines know.

macro_rules! columns {
    () => {
        "key_id, account_user_id, client_id, created_at, updated_at"
    };
}

/// $1 key.
pub(super) const GET: &str = concat!("SELECT ", columns!(), " FROM binding WHERE key_id = $1");

/// $1 key, $2 account, $3 client, $4 now.
pub(super) const INSERT: &str = concat!("INSERT INTO binding(", columns!(), ") VALUES ($1, $2, $3, $4, $4)");

/// $1 key.
pub(super) const DELETE: &str = concat!("DELETE FROM binding WHERE key_id = $1 RETURNING ", columns!());

/// $1 the last key of the page before, $2 rows.
pub(super) const PAGE: &str =
    concat!("SELECT ", columns!(), " FROM binding WHERE key_id > $1 ORDER BY key_id LIMIT $2");
