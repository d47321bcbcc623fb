//! What became of a damaged database, for people and for whoever fills in what was lost.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::OnDamage;
use crate::salvage::Report;

/// A damaged database that was set aside, and what is in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DamageReport {
    /// The domain's name.
    pub database: String,
    /// What was found.
    pub found: String,
    /// When it was set aside, in RFC 3339.
    pub at: String,
    /// The folder in the home's `quarantine/` where its files are, byte for byte as they were found.
    pub evidence: PathBuf,
    /// What is in its place.
    pub action: OnDamage,
    /// Rows kept and lost, by table; empty when nothing was salvaged.
    pub tables: Vec<KeptRows>,
    /// Virtual tables whose rows are not in the new database, because a salvage does not read them: all but full-text indexes
    /// (FTS5) that have their texts, or another table's.
    #[serde(default)]
    pub not_read: Vec<String>,
    /// Of what was only in the write-ahead log nothing could be read.
    pub log_lost: bool,
}

/// What was kept of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeptRows {
    /// Its name; of a full-text index that keeps its texts itself that of its table of texts, `<name>_content`.
    pub table: String,
    /// Rows that are in the new database.
    pub kept: u64,
    /// Rows that are not, as far as that can be told.
    pub lost: u64,
}

impl DamageReport {
    /// Rows that are in the new database.
    pub fn kept(&self) -> u64 {
        self.tables.iter().map(|table| table.kept).sum()
    }

    /// Rows that are not, as far as that can be told.
    pub fn lost(&self) -> u64 {
        self.tables.iter().map(|table| table.lost).sum()
    }
}

impl std::fmt::Display for DamageReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (found, evidence) = (&self.found, self.evidence.display());
        match self.action {
            OnDamage::Salvage => {
                write!(
                    f,
                    "{found}: its files were moved to {evidence}, and a new database holds the {} rows that could be \
                     read",
                    self.kept()
                )?;
                match self.lost() {
                    0 if self.log_lost => {}
                    0 if self.kept() == 0 => f.write_str("; what else was in it cannot be told")?,
                    0 => f.write_str("; none is known to be lost")?,
                    lost => write!(f, "; about {lost} are lost")?,
                }
                if self.log_lost {
                    f.write_str("; what was only in its log is lost")?;
                }
                match &self.not_read[..] {
                    [] => Ok(()),
                    names => write!(f, "; the rows of {} are not in it", names.join(", ")),
                }
            }
            OnDamage::Fresh | OnDamage::Refuse => {
                write!(f, "{found}: the file was moved to {evidence}, and a new one made")
            }
        }
    }
}

/// The tables of a salvage that hold somebody's rows.
pub(crate) fn tables(report: &Report, skip: &[&str]) -> Vec<KeptRows> {
    let of_users = |name: &str| !name.starts_with("sqlite_") && !skip.contains(&name);
    let tables = report.tables.iter().filter(|table| of_users(&table.name));
    tables
        .map(|found| KeptRows { table: found.name.clone(), kept: found.kept, lost: found.lost_estimate })
        .collect()
}
