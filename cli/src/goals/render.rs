//! Goals for people.

use std::fmt::Write;

use jiff::Timestamp;
use rowhouse::stores::goals::GoalStatus;

use super::Row;
use crate::bench::count;
use crate::output::{self, BAD, GOOD, HEADING, WARNING};
use crate::table::{Table, age, fit, time};
use crate::threads::{short, tokens};
use crate::who::duration;

/// Columns of a bar.
const BAR: i64 = 5;
/// Where the objective stands.
const OBJECTIVE: usize = 1;

/// A line for each goal. Cut to `width` columns; nothing is cut without one.
pub(super) fn table(goals: &[Row], width: Option<usize>) -> String {
    let header = ["status", "objective", "tokens", "budget", "used", "time", "thread"];
    let mut table = Table::new(&header).right(&[2, 3, 5]).fit(width, OBJECTIVE, &[5, 3, 2, 4]);
    for goal in goals {
        table.row(&[
            goal.status.as_str().to_owned(),
            goal.objective.lines().map(str::trim).collect::<Vec<_>>().join(" "),
            tokens(goal.tokens_used),
            goal.token_budget.map_or_else(String::new, tokens),
            bar(goal),
            worked(goal).unwrap_or_default(),
            if width.is_some() { short(&goal.thread_id) } else { goal.thread_id.clone() },
        ]);
    }
    table.render().lines().map(painted).collect()
}

/// The status, at the head of its line, in its colour.
fn painted(line: &str) -> String {
    let status = line.split(' ').next().and_then(|word| word.parse().ok());
    let Some(status) = status else { return format!("{line}\n") };
    let (word, style) = (GoalStatus::as_str(status), style(status));
    format!("{style}{word}{style:#}{}\n", &line[word.len()..])
}

fn style(status: GoalStatus) -> anstyle::Style {
    match status {
        GoalStatus::Active => HEADING,
        GoalStatus::Complete => GOOD,
        GoalStatus::Paused => output::DIM,
        GoalStatus::Blocked => BAD,
        GoalStatus::UsageLimited | GoalStatus::BudgetLimited => WARNING,
    }
}

fn worked(goal: &Row) -> Option<String> {
    (goal.time_used_seconds > 0).then(|| duration(goal.time_used_seconds))
}

/// How much of its budget is used: nothing without one.
fn bar(goal: &Row) -> String {
    let Some(budget) = goal.token_budget.filter(|budget| *budget > 0) else { return String::new() };
    let part = |whole: i64| i128::from(goal.tokens_used) * i128::from(whole) / i128::from(budget);
    // Full only when it is used up; at least one block for anything used.
    let full = usize::try_from(part(BAR).clamp(i128::from(goal.tokens_used > 0), BAR.into())).unwrap_or(0);
    let percent = part(100).min(999);
    format!("{}{} {percent} %", "█".repeat(full), "░".repeat(BAR as usize - full))
}

/// One goal, line by line.
pub(super) fn one(goal: &Row) -> String {
    let style = style(goal.status);
    let now = Timestamp::now();
    let mut text = String::new();
    let mut line = |name: &str, said: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{HEADING}{name:<10}{HEADING:#}{said}");
    };
    line("thread", goal.thread_id.clone());
    line("goal", goal.goal_id.clone());
    line("status", format!("{style}{}{style:#}", goal.status.as_str()));
    let used = count(goal.tokens_used as f64);
    line(
        "tokens",
        match goal.token_budget {
            Some(budget) => format!("{used} of {}  {}", count(budget as f64), bar(goal)),
            None => format!("{used}, no budget"),
        },
    );
    line("time", worked(goal).unwrap_or_else(|| "none yet".to_owned()));
    line("set", age(time(goal.created_at), now));
    line("changed", age(time(goal.updated_at), now));
    for (number, part) in goal.objective.lines().enumerate() {
        line(if number == 0 { "objective" } else { "" }, fit(part, usize::MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(used: i64, budget: Option<i64>) -> Row {
        Row {
            thread_id: "019cadf1-7a5e-7b04-8f21-00000badcafe".to_owned(),
            goal_id: "019cadf1-7a5e-7b04-8f21-000000000002".to_owned(),
            objective: "Make the build green,\nand keep it so for a week of nights and days".to_owned(),
            status: GoalStatus::BudgetLimited,
            token_budget: budget,
            tokens_used: used,
            time_used_seconds: 300,
            created_at: 0,
            updated_at: 0,
        }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_bar_shows_what_is_used_and_is_full_only_at_the_end() {
        for (used, budget, shown) in [
            (0, Some(10), "░░░░░ 0 %"),
            (1, Some(1_000), "█░░░░ 0 %"),
            (999, Some(1_000), "████░ 99 %"),
            (1_000, Some(1_000), "█████ 100 %"),
            (i64::MAX, Some(1), "█████ 999 %"),
            (5, None, ""),
        ] {
            assert_eq!(bar(&goal(used, budget)), shown);
        }
    }

    #[test]
    fn a_terminal_gets_lines_that_fit_and_a_pipe_everything() {
        let goals = [goal(12_345, Some(50_000))];
        let text = plain(&table(&goals, Some(80)));
        assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 80), "{text}");
        assert!(text.contains('…') && text.contains("0badcafe") && text.contains("12k"), "{text}");
        let text = plain(&table(&goals, Some(56)));
        assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 56), "{text}");
        assert!(text.contains("0badcafe") && text.contains("24 %") && !text.contains("budget  "), "{text}");
        let text = plain(&table(&goals, None));
        assert!(text.contains("nights and days") && text.contains(&goals[0].thread_id), "{text}");
        assert_eq!(text.lines().count(), 2, "an objective is one line here: {text}");
    }

    #[test]
    fn one_goal_has_all_of_its_objective() {
        let text = plain(&one(&goal(12_345, Some(50_000))));
        assert!(text.contains("12,345 of 50,000") && text.contains("a week of nights and days"), "{text}");
        assert!(plain(&one(&goal(0, None))).contains("0, no budget"));
    }
}
