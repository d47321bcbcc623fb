//! The picture: databases above, the processes of the chosen one below.

use bytesize::ByteSize;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState};

use super::view::{Database, Process, View};
use crate::stats::micros;
use crate::table::fit;

/// Widths of the columns of the databases; the sparkline has what is left.
const COLUMNS: [(&str, u16); 9] = [
    ("database", 14),
    ("queue", 6),
    ("commits/s", 10),
    ("jobs/s", 8),
    ("p99", 8),
    ("log", 10),
    ("lag", 8),
    ("size", 10),
    ("open by", 16),
];
/// Columns that are left out where there is no room, the least important first; digits are never cut.
const DROP: [&str; 7] = ["jobs/s", "log", "lag", "size", "queue", "open by", "p99"];
/// Of the processes: each column's name and width, and what is left out.
const PROCESS_COLUMNS: [(&str, u16); 8] = [
    ("pid", 8),
    ("program", 24),
    ("queue", 6),
    ("commits/s", 10),
    ("p99", 8),
    ("running job", 24),
    ("for", 8),
    ("", 8),
];
const PROCESS_DROP: [&str; 4] = ["queue", "p99", "program", "for"];
/// A sparkline that is narrower says nothing.
const NARROWEST: u16 = 8;
const HEADING: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// The numbers of the columns that fit side by side.
fn fitting(columns: &[(&str, u16)], drop: &[&str], width: u16) -> Vec<usize> {
    let mut shown: Vec<_> = (0..columns.len()).collect();
    let mut drop = drop.iter();
    while shown.iter().map(|column| columns[*column].1 + 1).sum::<u16>() > width + 1 {
        let Some(name) = drop.next() else { break };
        shown.retain(|column| columns[*column].0 != *name);
    }
    shown
}

pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let rows = u16::try_from(view.now.databases.len()).unwrap_or(u16::MAX).saturating_add(2);
    let [title, databases, processes, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Max(rows.max(3)),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let held = match view.silent {
        Some(waited) => format!("  no answer for {} s", waited.as_secs()),
        None if view.held => "  held".to_owned(),
        None => String::new(),
    };
    let count = view.now.processes;
    let who = if count == 1 { "1 process".to_owned() } else { format!("{count} processes") };
    let left = fit(&view.now.home, usize::from(title.width.saturating_sub(40)));
    frame.render_widget(Line::from(format!("rowhouse top  {left}  {who}{held}")).style(HEADING), title);
    frame.render_widget(Line::from(view.now.at.as_str()).alignment(Alignment::Right), title);
    draw_databases(frame, view, databases);
    draw_processes(frame, view, processes);
    frame.render_widget(Line::from("q quit   ↑↓ choose   space hold").style(DIM), keys);
}

fn draw_databases(frame: &mut Frame<'_>, view: &View, area: Rect) {
    if view.now.databases.is_empty() {
        frame.render_widget(Paragraph::new("no databases here yet"), area);
        return;
    }
    let shown = fitting(&COLUMNS, &DROP, area.width);
    let columns: Vec<_> = shown.iter().map(|column| COLUMNS[*column]).collect();
    let used: u16 = columns.iter().map(|(_, width)| width + 1).sum();
    let bars = area.width.saturating_sub(used);
    let bars = if bars < NARROWEST { 0 } else { bars };
    let header = columns.iter().map(|(name, _)| right_unless_text(name, (*name).to_owned()));
    let header = header.chain([Cell::from("commits/s over time")]);
    let row = |database: &Database| {
        let cells = cells(database);
        let cells = shown.iter().map(|column| right_unless_text(COLUMNS[*column].0, cells[*column].clone()));
        let style = if database.errors_per_s > Some(0.0) || database.processes.iter().any(|of| of.latched) {
            Style::new().fg(ratatui::style::Color::Yellow)
        } else {
            Style::new()
        };
        Row::new(
            cells.collect::<Vec<_>>().into_iter().chain([Cell::from(view.bars(&database.name, bars.into()))]),
        )
        .style(style)
    };
    let widths = columns.iter().map(|(_, width)| *width).chain([bars]).map(Constraint::Length);
    let table = Table::new(view.now.databases.iter().map(row), widths)
        .header(Row::new(header).style(HEADING))
        .row_highlight_style(CHOSEN)
        .column_spacing(1);
    let mut state = TableState::default().with_selected(view.chosen);
    frame.render_stateful_widget(table, area, &mut state);
}

fn cells(database: &Database) -> [String; 9] {
    let open = database.processes.len();
    let open_by = match (database.writer, open) {
        (Some(pid), _) => format!("{open}, {pid} writes"),
        (None, 0) => "nobody".to_owned(),
        (None, _) => open.to_string(),
    };
    [
        fit(&database.name, 14),
        database.queue.to_string(),
        rate(database.commits_per_s),
        rate(database.jobs_per_s),
        database.p99_us.map_or_else(dash, micros),
        ByteSize::b(database.wal_bytes).to_string(),
        if database.lag_pages == 0 { "0".to_owned() } else { format!("{} pg", database.lag_pages) },
        ByteSize::b(database.bytes).to_string(),
        open_by,
    ]
}

fn draw_processes(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let Some(database) = view.chosen() else { return };
    let block = Block::new().borders(Borders::TOP).title(format!(" {} ", fit(&database.name, 64)));
    if database.processes.is_empty() {
        frame.render_widget(Paragraph::new("nobody has it open").block(block), area);
        return;
    }
    let shown = fitting(&PROCESS_COLUMNS, &PROCESS_DROP, area.width);
    let names = shown.iter().map(|column| PROCESS_COLUMNS[*column].0);
    let header = Row::new(names.map(|name| right_unless_text(name, name.to_owned()))).style(HEADING);
    let row = |process: &Process| {
        let cells = [
            right_unless_text("pid", process.pid.to_string()),
            Cell::from(fit(&process.program, 24)),
            right_unless_text("queue", process.queue.to_string()),
            right_unless_text("commits/s", rate(process.commits_per_s)),
            right_unless_text("p99", process.p99_us.map_or_else(dash, micros)),
            Cell::from(process.job.as_deref().map_or_else(dash, |job| fit(job, 24))),
            right_unless_text(
                "for",
                process.running_ms.map_or_else(dash, |ms| micros(ms.saturating_mul(1000))),
            ),
            Cell::from(match (process.latched, process.writes) {
                (true, _) => "latched!",
                (_, true) => "writes",
                _ => "",
            }),
        ];
        Row::new(shown.iter().map(|column| cells[*column].clone()).collect::<Vec<_>>())
    };
    let widths = shown.iter().map(|column| Constraint::Length(PROCESS_COLUMNS[*column].1));
    let table = Table::new(database.processes.iter().map(row), widths).header(header).block(block);
    frame.render_widget(table.column_spacing(1), area);
}

fn right_unless_text(column: &str, cell: String) -> Cell<'static> {
    let is_text = matches!(column, "database" | "program" | "running job" | "open by" | "");
    Cell::from(Line::from(cell).alignment(if is_text { Alignment::Left } else { Alignment::Right }))
}

fn rate(rate: Option<f64>) -> String {
    match rate {
        None => dash(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::view::Found;
    use super::*;

    fn drawn(view: &View, columns: u16, lines: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("a terminal");
        terminal.draw(|frame| draw(frame, view)).expect("drawn");
        let mut text = terminal.backend().to_string().replace('"', "");
        text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        text
    }

    fn busy() -> Found {
        let process = |pid, writes: bool| Process {
            pid,
            program: "agent".to_owned(),
            queue: 2,
            commits_per_s: Some(400.0),
            p99_us: Some(1_500),
            job: writes.then(|| "index".to_owned()),
            running_ms: writes.then_some(12),
            writes,
            latched: false,
        };
        let state = Database {
            name: "state".to_owned(),
            queue: 3,
            commits_per_s: Some(812.0),
            jobs_per_s: Some(2_004.0),
            errors_per_s: Some(0.0),
            p99_us: Some(1_500),
            lag_pages: 12,
            wal_bytes: 2 << 20,
            bytes: 80 << 20,
            writer: Some(41),
            processes: vec![process(41, true), process(42, false)],
        };
        let logs = Database { name: "logs".to_owned(), ..Database::default() };
        Found {
            home: "/home/me/.local/state/rowhouse".to_owned(),
            at: "12:00:01".to_owned(),
            processes: 2,
            databases: vec![state, logs],
        }
    }

    #[test]
    fn the_picture_has_the_databases_and_the_processes_of_the_chosen_one() {
        let mut view = View::default();
        view.update(busy());
        let expected = "\
rowhouse top  /home/me/.local/state/rowhouse  2 processes                                                       12:00:01
database        queue  commits/s   jobs/s      p99        log      lag       size open by          commits/s over time
state               3        812     2004   1.5 ms    2.0 MiB    12 pg   80.0 MiB 2, 41 writes     █
logs                0          -        -        -        0 B        0        0 B nobody

 state ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────
     pid program                   queue  commits/s      p99 running job                   for
      41 agent                         2        400   1.5 ms index                     12.0 ms writes
      42 agent                         2        400   1.5 ms -                               -


q quit   ↑↓ choose   space hold";
        assert_eq!(drawn(&view, 120, 12), expected, "{}", drawn(&view, 120, 12));
        view.choose(1);
        assert!(drawn(&view, 120, 12).contains("nobody has it open"));
    }

    #[test]
    fn a_narrow_terminal_has_fewer_columns_and_whole_numbers() {
        let mut view = View::default();
        view.update(busy());
        for columns in [60, 40] {
            let text = drawn(&view, columns, 12);
            assert!(text.contains("state ") && text.contains(" 812"), "{text}");
            assert_eq!(text.contains("41 writes"), columns == 60, "{text}");
        }
        let text = drawn(&view, 60, 12);
        assert!(text.contains("1.5 ms") && text.contains("index"), "{text}");
    }

    #[test]
    fn it_fits_into_any_terminal_and_steers_none() {
        let mut view = View::default();
        assert!(drawn(&view, 80, 24).contains("no databases here yet"));
        let mut found = busy();
        found.databases[0].name = "\u{1b}[2Jevil\n日本語".repeat(20);
        found.databases[0].processes[0].program = "\u{7}\u{1b}]0;x".to_owned();
        found.home = "/x".repeat(500);
        view.update(found);
        for (columns, lines) in [(1, 1), (2, 3), (20, 4), (80, 24), (400, 100)] {
            let text = drawn(&view, columns, lines);
            assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'), "{text:?}");
        }
    }
}
