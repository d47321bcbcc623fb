//! The `rowhouse` command: arguments in, the library's answers out.

mod agreement;
mod arguments;
mod backfill;
mod backup;
mod bench;
mod children;
mod clean;
mod completions;
mod config;
mod demo;
mod doctor;
mod failure;
mod goals;
mod help;
mod keys;
mod logs;
mod maintain;
mod man;
mod memories;
#[cfg(feature = "postgres")]
mod migrate_backend;
mod moment;
mod named_file;
mod on_server;
mod open;
mod output;
mod pager;
mod path;
mod portable;
mod progress;
mod repair;
mod report;
mod restore;
mod signals;
mod stats;
mod status;
mod support;
mod table;
mod threads;
#[cfg(feature = "tui")]
mod top;
mod waiting;
mod who;
mod words;

use std::process::ExitCode;

use anyhow::Result;

use arguments::{Arguments, Command};
use output::Output;

fn main() -> ExitCode {
    signals::handle();
    // Registered first, done last: what is open may read from a copy.
    let _copies = signals::at_end(rowhouse::remove_private_copies);
    // Of no person's concern, and so no part of the command line: neither help nor a completion knows it.
    if let Some(task) = children::task_of_this_process() {
        let done = children::work(&task).map(|()| ExitCode::SUCCESS);
        signals::end_if_asked();
        return done.unwrap_or_else(|error| failure::report(&error, &Output::new(false)));
    }
    let arguments = match Arguments::of_this_process() {
        Ok(arguments) => arguments,
        Err(refused) => return failure::usage(&refused),
    };
    let output = Output::new(arguments.json);
    let done = run(&arguments, &output);
    signals::end_if_asked();
    // A check that did not end in time has its copy still.
    rowhouse::remove_private_copies();
    done.unwrap_or_else(|error| failure::report(&error, &output))
}

fn run(arguments: &Arguments, output: &Output) -> Result<ExitCode> {
    match &arguments.command {
        // What it finds wrong is an answer, with an exit code of its own.
        Command::Doctor(doctor) => return Ok(doctor::run(arguments, doctor, output)),
        Command::Status(status) => status::run(&arguments.home()?, status, output),
        Command::Stats(stats) => stats::run(&arguments.home()?, stats, output),
        #[cfg(feature = "tui")]
        Command::Top(top) => top::run(&arguments.home()?, top, output),
        Command::Who(who) => who::run(arguments, who, output),
        Command::Path(path) => path::run(&arguments.home()?, path, output),
        Command::Import(import) => backfill::import(&arguments.home()?, import, output),
        Command::Export(export) => portable::export(&arguments.home()?, export, output),
        Command::Backfill(backfill) => backfill::backfill(&arguments.home()?, backfill, output),
        Command::Reindex(reindex) => backfill::reindex(&arguments.home()?, reindex, output),
        Command::Logs(logs) => logs::run(&arguments.home()?, logs, output),
        Command::Threads(threads) => threads::run(&arguments.home()?, threads, output),
        Command::Keys(keys) => keys::run(&arguments.home()?, keys, output),
        Command::Goals(goals) => goals::run(&arguments.home()?, goals, output),
        Command::Memories(memories) => memories::run(&arguments.home()?, memories, output),
        Command::Backup(backup) => backup::run(&arguments.home()?, backup, output),
        Command::Repair(repair) => repair::run(&arguments.home()?, repair, output),
        Command::Restore(restore) => restore::run(&arguments.home()?, restore, output),
        Command::Maintain(maintain) => maintain::maintain(&arguments.home()?, maintain, output),
        Command::Compact(compact) => maintain::compact(&arguments.home()?, compact, output),
        #[cfg(feature = "postgres")]
        Command::MigrateBackend(migrate) => migrate_backend::run(&arguments.home()?, migrate, output),
        Command::Demo(demo) => demo::run(demo, output),
        Command::Bench(bench) => bench::run(bench, output),
        Command::Config(config) => config::run(arguments.given(), config, output),
        Command::Report(report) => report::run(&arguments.home()?, report, output),
        Command::Support(support) => support::run(&arguments.home(), arguments.given(), support, output),
        Command::Completions(completions) => completions::run(completions, output),
        Command::Man(man) => man::run(man, output),
    }?;
    Ok(ExitCode::SUCCESS)
}
