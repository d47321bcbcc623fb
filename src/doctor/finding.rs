//! What one check found, before it is cleaned and becomes a row.

use std::path::Path;

use super::command::{Command, Shell};
use super::report::{Check, Detail, Fix, Status};
use crate::error::{Error, ErrorKind};
use crate::sqlite::holders::Holder;

/// Built by a check, in this order: status and sentence, details, evidence, the way out.
#[derive(Debug)]
pub(super) struct Finding {
    status: Status,
    summary: String,
    details: Vec<(&'static str, Detail)>,
    evidence: Vec<String>,
    remediation: Option<String>,
    /// With whether each changes something.
    fixes: Vec<(Command, bool)>,
}

impl Finding {
    fn new(status: Status, summary: impl Into<String>) -> Self {
        Self {
            status,
            summary: summary.into(),
            details: Vec::new(),
            evidence: Vec::new(),
            remediation: None,
            fixes: Vec::new(),
        }
    }

    pub(super) fn ok(summary: impl Into<String>) -> Self {
        Self::new(Status::Ok, summary)
    }

    pub(super) fn warning(summary: impl Into<String>) -> Self {
        Self::new(Status::Warning, summary)
    }

    pub(super) fn fail(summary: impl Into<String>) -> Self {
        Self::new(Status::Fail, summary)
    }

    /// Not done. The reason is for a reader who wonders.
    pub(super) fn skipped(reason: impl Into<String>) -> Self {
        Self::new(Status::Skipped, reason)
    }

    /// A failure that an error tells: its class, its file, its holder and its next step.
    pub(super) fn of_error(error: &Error) -> Self {
        let mut finding = Self::fail(error.message()).kind(error.kind());
        if let Some(path) = error.path() {
            finding = finding.detail("path", path.display().to_string());
        }
        if let Some(code) = error.sqlite_code() {
            finding = finding.detail("sqlite_code", code.to_string());
        }
        if let Some(holder) = error.holder() {
            finding = finding.holder(holder);
        }
        match error.advice() {
            Some(advice) => finding.remedy(advice),
            None => finding,
        }
    }

    /// A failure that is in nobody's way.
    pub(super) fn into_warning(self) -> Self {
        Self { status: Status::Warning, ..self }
    }

    pub(super) fn detail(mut self, name: &'static str, value: impl Into<Detail>) -> Self {
        debug_assert!(self.details.iter().all(|(known, _)| *known != name), "each detail once: {name}");
        self.details.push((name, value.into()));
        self
    }

    /// The class of the trouble, by the word that an error of a program has for it.
    pub(super) fn kind(self, kind: ErrorKind) -> Self {
        self.detail("kind", kind.as_str())
    }

    /// About this file, unless it is about another one already. Who has nothing to do needs no name of it.
    pub(super) fn about(self, path: &Path) -> Self {
        if !self.status.is_notable() || self.details.iter().any(|(name, _)| *name == "path") {
            return self;
        }
        self.detail("path", path.display().to_string())
    }

    pub(super) fn evidence(mut self, sentence: impl Into<String>) -> Self {
        self.evidence.push(sentence.into());
        self
    }

    pub(super) fn remedy(mut self, sentence: impl Into<String>) -> Self {
        self.remediation = Some(sentence.into());
        self
    }

    /// A command that only looks.
    pub(super) fn look(mut self, command: impl Into<Command>) -> Self {
        self.fixes.push((command.into(), false));
        self
    }

    /// A command that changes something.
    pub(super) fn fix(mut self, command: impl Into<Command>) -> Self {
        self.fixes.push((command.into(), true));
        self
    }

    /// Who is in the way, and how to let a stopped one go on. The first is a detail, others are evidence.
    pub(super) fn holder(self, holder: &Holder) -> Self {
        let finding = if self.details.iter().any(|(name, _)| *name == "holder") {
            self.evidence(format!("{holder} too"))
        } else {
            self.detail("holder", holder.to_string()).detail("pid", holder.pid)
        };
        if holder.stopped {
            finding.fix(Command::System("kill -CONT", holder.pid.to_string().into()))
        } else {
            finding
        }
    }

    /// The row: the only way to one, so nothing gets into it uncleaned.
    pub(super) fn into_check(self, id: &str, category: &'static str, shell: &Shell) -> Check {
        let clean = |text: String| shell.cleaner.text(&text);
        let details = self.details.into_iter().map(|(name, value)| match value {
            Detail::Text(text) => (name, Detail::Text(clean(text))),
            Detail::Number(_) | Detail::Flag(_) => (name, value),
        });
        let fixes = self.fixes.into_iter();
        let fixes =
            fixes.filter_map(|(command, writes)| Some(Fix { command: shell.line(&command)?, writes }));
        Check {
            id: clean(id.to_owned()),
            category,
            database: None,
            status: self.status,
            summary: clean(self.summary),
            details: details.collect(),
            evidence: self.evidence.iter().map(|told| clean(shell.sentence(told))).collect(),
            remediation: self.remediation.map(|told| clean(shell.sentence(&told))),
            fixes: fixes.collect(),
            duration_ms: 0,
        }
    }
}

/// True when an error says that the file is damaged: the only reason to speak of a repair.
pub(super) fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Corrupt
}
