//! How a failure is told: to people as `error:` and `hint:`, to scripts as a document.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::agreement::Declined;
use crate::clean::Cleaner;
use crate::output::{self, BAD, HEADING, Output, ReaderGone};
use crate::words::for_a_person;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

#[derive(Serialize)]
struct Document<'e> {
    error: Told<'e>,
}

#[derive(Serialize)]
struct Told<'e> {
    kind: &'e str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'e, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<Cow<'e, str>>,
}

impl<'e> Told<'e> {
    fn of(error: &'e anyhow::Error) -> Self {
        let mut messages = Vec::new();
        for cause in error.chain() {
            let Some(ours) = cause.downcast_ref::<rowhouse::Error>() else {
                messages.push(cause.to_string());
                continue;
            };
            // What lies below one of ours may quote values: it stays there.
            messages.push(without_advice(ours));
            return Self {
                kind: ours.kind().as_str(),
                message: messages.join(": "),
                database: ours.database(),
                path: ours.path().map(Path::to_string_lossy),
                advice: ours.advice().map(for_a_person).map(Cow::from),
            };
        }
        let kind =
            if error.chain().any(<dyn std::error::Error>::is::<std::io::Error>) { "io" } else { "other" };
        Self { kind, message: messages.join(": "), database: None, path: None, advice: None }
    }

    /// Without secrets and the name of the user's folder.
    fn cleaned(self, cleaner: &Cleaner) -> Self {
        let clean = |text: Cow<str>| Cow::from(cleaner.text(&text));
        Self {
            message: cleaner.text(&self.message),
            path: self.path.map(clean),
            advice: self.advice.map(clean),
            ..self
        }
    }
}

/// The message ends in its advice, which has a line of its own here.
fn without_advice(error: &rowhouse::Error) -> String {
    let mut text = error.to_string();
    if let Some(advice) = error.advice()
        && let Some(head) = text.strip_suffix(advice)
    {
        text = head.trim_end_matches("; ").to_owned();
    }
    text
}

/// Tells why a command failed, and answers its exit code.
pub(crate) fn report(error: &anyhow::Error, output: &Output) -> ExitCode {
    if error.is::<ReaderGone>() {
        return ExitCode::SUCCESS;
    }
    if error.is::<Declined>() {
        output::line(&error.to_string());
        return ExitCode::from(FAILED);
    }
    tell(Told::of(error), output)
}

/// The same, fit for others' eyes.
pub(crate) fn report_cleaned(error: &anyhow::Error, output: &Output) -> ExitCode {
    tell(Told::of(error).cleaned(&Cleaner::new()), output)
}

fn tell(told: Told<'_>, output: &Output) -> ExitCode {
    if output.is_json() {
        // When this cannot be written either there is nobody left to tell.
        let _ = output.document(&Document { error: told });
    } else {
        let mut stderr = anstream::stderr();
        let _ = writeln!(stderr, "{BAD}error:{BAD:#} {}", told.message);
        if let Some(advice) = told.advice {
            let _ = writeln!(stderr, "{HEADING}hint:{HEADING:#} {advice}");
        }
    }
    ExitCode::from(FAILED)
}

/// Tells what was not understood on the command line, or prints the help that was asked for.
pub(crate) fn usage(refused: &clap::Error) -> ExitCode {
    let _ = refused.print();
    if !refused.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let message = refused.to_string();
        let message = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let told = Told {
            kind: "usage",
            message,
            database: None,
            path: None,
            advice: Some("see rowhouse help".into()),
        };
        let _ = Output::new(true).document(&Document { error: told });
    }
    ExitCode::from(MISUSED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use rowhouse::{Error, ErrorKind};

    #[test]
    fn the_advice_is_told_once_and_context_comes_first() {
        let ours = Error::new(ErrorKind::Busy, "locked").in_database("state", Path::new("/h/state.sqlite"));
        let error =
            Err::<(), _>(ours.advise("stop the other one")).context("while importing").expect_err("made");
        let told = Told::of(&error);
        assert_eq!(told.message, "while importing: state: locked (/h/state.sqlite)");
        assert_eq!((told.kind, told.advice.as_deref()), ("busy", Some("stop the other one")));
    }

    #[test]
    fn a_person_is_not_told_to_call_a_function() {
        let advice = |advice: &str| {
            let error = anyhow::Error::from(Error::new(ErrorKind::Latched, "no").advise(advice.to_owned()));
            Told::of(&error).advice.map(Cow::into_owned)
        };
        assert_eq!(
            advice("check the disk, then call reopen()").as_deref(),
            Some("check the disk, then start the program again")
        );
        let unwritten = advice("sudo chown -R ann: x; or run without keeping anything: Builder::ephemeral()");
        assert_eq!(unwritten.as_deref(), Some("sudo chown -R ann: x"));
    }

    #[test]
    fn a_source_that_may_quote_values_is_not_told() {
        let secret = std::io::Error::other("secret");
        let error = anyhow::Error::from(Error::new(ErrorKind::Io, "failed").caused_by(secret));
        assert_eq!(Told::of(&error).message, "failed");
    }
}
