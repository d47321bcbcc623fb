//! `rowhouse man`: manual pages, made from the command line itself. Examples stand before the options, line by line.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Command};
use clap_mangen::Man;
use rowhouse::{Error, ErrorKind};
use serde::Serialize;

use crate::arguments;
use crate::named_file::Overwrite;
use crate::output::Output;
use crate::words::number;

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse man | man -l -
  rowhouse man threads list | man -l -
  rowhouse man --dir ~/.local/share/man/man1            (then: man rowhouse-threads-list)")]
pub(crate) struct ManArguments {
    /// The page of this command; default: the first page
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write all pages into this folder, which is created
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

/// One page.
#[derive(Serialize)]
struct Page {
    /// `rowhouse-threads-list`
    name: String,
    /// The command that it is about, as it is typed.
    command: String,
    /// True when this only holds other commands.
    is_group: bool,
    roff: String,
}

#[derive(Serialize)]
struct Written {
    dir: PathBuf,
    pages: Vec<String>,
}

#[derive(Serialize)]
struct Document {
    pages: Vec<Page>,
}

pub(crate) fn run(arguments: &ManArguments, output: &Output) -> Result<()> {
    let mut root = arguments::command();
    root.build();
    if let Some(dir) = &arguments.dir {
        return write(&root, dir, output);
    }
    if output.is_json() && arguments.command.is_empty() {
        return output.document(&Document { pages: pages(&root)? });
    }
    let command = arguments.command.iter().try_fold(&root, |command, name| {
        command.find_subcommand(name).filter(|found| is_shown(found)).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no command {name:?} of this kind"))
                .advise("`rowhouse help` lists them")
        })
    })?;
    let page = page(command)?;
    if output.is_json() {
        return output.document(&Document { pages: vec![page] });
    }
    output.bytes(page.roff.as_bytes())
}

fn write(root: &Command, dir: &Path, output: &Output) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|error| Error::io("create the folder", dir, error))?;
    let mut written = Written { dir: dir.to_owned(), pages: Vec::new() };
    for page in pages(root)? {
        let name = format!("{}.1", page.name);
        let path = dir.join(&name);
        let failed = |error| Error::io("write the page", &path, error);
        Overwrite::OWN.write(&path, |to| Ok(to.write_all(page.roff.as_bytes()).map_err(failed)?))?;
        // Manuals are for everybody.
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(failed)?;
        written.pages.push(name);
    }
    if output.is_json() {
        return output.document(&written);
    }
    output.text(&format!("{} in {}\n", number(written.pages.len() as u64, "page", "pages"), dir.display()))
}

/// The page of a command, then those of its own ones.
fn pages(command: &Command) -> Result<Vec<Page>> {
    let mut all = vec![page(command)?];
    for part in command.get_subcommands().filter(|part| is_shown(part)) {
        all.extend(pages(part)?);
    }
    Ok(all)
}

fn is_shown(command: &Command) -> bool {
    !command.is_hide_set() && command.get_name() != "help"
}

fn page(command: &Command) -> Result<Page> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let man = Man::new(command.clone());
    let mut roff = Vec::new();
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    man.render_synopsis_section(&mut roff)?;
    man.render_description_section(&mut roff)?;
    let mut roff = String::from_utf8(roff)?;
    if let Some(said) = command.get_after_help() {
        roff += &examples(&said.to_string());
    }
    let mut rest = Vec::new();
    man.render_options_section(&mut rest)?;
    let is_group = command.get_subcommands().any(is_shown);
    if is_group {
        man.render_subcommands_section(&mut rest)?;
    }
    roff += &String::from_utf8(rest)?;
    Ok(Page {
        name: name.to_owned(),
        command: command.get_bin_name().unwrap_or(name).to_owned(),
        is_group,
        roff,
    })
}

/// What stands below the help, with its line breaks: commands of more than a line would be no examples any more.
fn examples(text: &str) -> String {
    let body = text.strip_prefix("Examples:\n").unwrap_or(text);
    let mut roff = String::from(".SH EXAMPLES\n.nf\n");
    for line in body.lines() {
        // A dot or a quote at the beginning would be a request.
        if line.starts_with(['.', '\'']) {
            roff += "\\&";
        }
        roff += &line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
        roff += "\n";
    }
    roff + ".fi\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_the_lines_of_its_examples_and_what_troff_would_take_for_itself() {
        let text = examples("Examples:\n  a --b 'c'\n.dot\n\\n");
        assert_eq!(text, ".SH EXAMPLES\n.nf\n  a \\-\\-b \\(aqc\\(aq\n\\&.dot\n\\en\n.fi\n");
    }
}
