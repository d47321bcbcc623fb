//! What stands below the help of a command, for as many columns as there are.
//!
//! Invariants, tested below: no line of prose is wrapped a second time; an example stays on one line as long as it fits
//! alone, and what is said about it stands below it where both do not fit. The manual has its own lines (`man`).

use clap::Command;
use textwrap::{Options, WordSeparator, WordSplitter};
use unicode_width::UnicodeWidthStr;

/// More columns than this are not used: nobody follows such lines.
pub(crate) const WIDEST: usize = 110;
/// As clap has it where nobody says how wide the lines are.
const UNKNOWN: usize = 100;
/// What is said about an example, where it stands below it.
const BELOW: &str = "      ";

/// The columns of this process's terminal, else of `COLUMNS`.
pub(crate) fn columns() -> usize {
    let terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let said = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    terminal.or_else(said).filter(|columns| *columns > 0).unwrap_or(UNKNOWN).min(WIDEST)
}

/// A command and all of its own, with help of so many columns.
pub(crate) fn fitted(command: Command, columns: usize) -> Command {
    let below = command.get_after_help().map(|text| fit(&text.to_string(), columns));
    let command = command.term_width(columns).mut_subcommands(|part| fitted(part, columns));
    match below {
        Some(text) => command.after_help(text),
        None => command,
    }
}

/// Indented lines are examples, others make paragraphs, which end with an empty line.
fn fit(text: &str, columns: usize) -> String {
    let options = options(columns);
    let (mut lines, mut prose) = (Vec::new(), String::new());
    let end = |prose: &mut String, lines: &mut Vec<String>| {
        lines.extend(textwrap::wrap(&std::mem::take(prose), &options).into_iter().map(String::from));
    };
    for line in text.lines() {
        if line.is_empty() || line.starts_with(' ') || line == "Examples:" {
            if !prose.is_empty() {
                end(&mut prose, &mut lines);
            }
            lines.extend(example(line, columns));
        } else {
            if !prose.is_empty() {
                prose.push(' ');
            }
            prose.push_str(line);
        }
    }
    if !prose.is_empty() {
        end(&mut prose, &mut lines);
    }
    lines.join("\n")
}

/// Words and options stay whole.
fn options(columns: usize) -> Options<'static> {
    Options::new(columns)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false)
}

/// An example with what is said about it, three spaces or more apart.
fn example(line: &str, columns: usize) -> Vec<String> {
    let indent = line.len() - line.trim_start().len();
    match line[indent..].split_once("   ") {
        Some((typed, said)) if line.width() > columns => {
            let below = options(columns).initial_indent(BELOW).subsequent_indent(BELOW);
            let said = textwrap::wrap(said.trim_start(), below).into_iter().map(String::from);
            [format!("{}{typed}", &line[..indent])].into_iter().chain(said).collect()
        }
        _ => vec![line.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Examples:\n  rowhouse import codex        the threads of Codex\n  rowhouse doctor\n\nOne two three four\nfive --six-seven.\n\nEight.";

    #[test]
    fn a_paragraph_is_filled_once_and_an_example_keeps_its_line() {
        assert_eq!(
            fit(TEXT, 60),
            "Examples:\n  rowhouse import codex        the threads of Codex\n  rowhouse doctor\n\nOne two three four five --six-seven.\n\nEight."
        );
        assert_eq!(
            fit(TEXT, 30),
            "Examples:\n  rowhouse import codex\n      the threads of Codex\n  rowhouse doctor\n\nOne two three four five\n--six-seven.\n\nEight."
        );
    }

    #[test]
    fn no_command_has_a_line_of_prose_that_is_wrapped_again() {
        fn check(command: &Command, columns: usize) {
            let said = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in said.lines().filter(|line| !line.starts_with("  rowhouse")) {
                assert!(line.width() <= columns, "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(|part| check(part, columns));
        }
        for columns in [60, 80, WIDEST] {
            check(&fitted(crate::arguments::command(), columns), columns);
        }
    }
}
