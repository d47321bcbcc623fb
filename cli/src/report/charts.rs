//! Pictures of numbers, drawn as SVG inside the page. Each says in words what it shows.
//!
//! They are as wide as a phone in its own units, so that letters are of a size that can be read there; on a desk they grow
//! a little.

use std::fmt::Write;

use super::html::Text;

const WIDTH: f64 = 360.0;
/// Of the names beside bars.
const NAMES: f64 = 122.0;
/// Of the numbers after them.
const NUMBERS: f64 = 78.0;
const ROW: f64 = 22.0;
/// Longer names end in an ellipsis; the whole one shows when it is pointed at.
const LONGEST_NAME: usize = 17;

/// One bar: what it is of, its two parts, and what is written after it.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    /// Drawn paler, after the value.
    pub(super) more: f64,
    pub(super) label: String,
}

/// Bars from left to right, one a line. `limits` are lines across, with their names.
pub(super) fn bars(says: &str, bars: &[Bar], limits: &[(f64, &str)]) -> String {
    let most = bars.iter().map(|bar| bar.value + bar.more).chain(limits.iter().map(|limit| limit.0));
    let most = most.fold(0.0_f64, f64::max).max(f64::MIN_POSITIVE);
    let room = WIDTH - NAMES - NUMBERS;
    let scale = |value: f64| value / most * room;
    let height = ROW * (bars.len() as f64 + if limits.is_empty() { 0.0 } else { 1.0 }) + 4.0;
    let mut svg = begin(says, height);
    // Writing to a String cannot fail, here and below. Lines across come first: names and numbers lie above them.
    let bottom = ROW * bars.len() as f64;
    for (value, name) in limits {
        let x = NAMES + scale(*value);
        let _ = writeln!(
            svg,
            "<line class=\"limit\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" />\
             <text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{}\">{}</text>",
            bottom + 15.0,
            if x > WIDTH - NUMBERS - 1.0 { "end" } else { "middle" },
            Text(name),
        );
    }
    for (at, bar) in bars.iter().enumerate() {
        let top = ROW * at as f64;
        let (value, more) = (scale(bar.value), scale(bar.more));
        let _ = writeln!(
            svg,
            "<g><title>{}: {}</title><text x=\"0\" y=\"{:.1}\">{}</text>\
             <rect class=\"bar\" x=\"{NAMES}\" y=\"{:.1}\" width=\"{value:.1}\" height=\"14\" />\
             <rect class=\"index\" x=\"{:.1}\" y=\"{:.1}\" width=\"{more:.1}\" height=\"14\" />\
             <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            Text(&bar.name),
            Text(&bar.label),
            top + 15.0,
            Text(&short(&bar.name)),
            top + 4.0,
            NAMES + value,
            top + 4.0,
            NAMES + value + more + 6.0,
            top + 15.0,
            Text(&bar.label),
        );
    }
    svg + "</svg>\n"
}

/// One line of a chart over time: its name, and points of seconds and value.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Lines over time, from 0 up; the ends of both axes are written beside them, the names below.
pub(super) fn lines(says: &str, lines: &[Line], from: &str, to: &str, highest: &str) -> String {
    const HEIGHT: f64 = 160.0;
    const LEFT: f64 = 62.0;
    const NAMES_IN_A_ROW: usize = 2;
    let all = || lines.iter().flat_map(|line| &line.points);
    let begin_at = all().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let end_at = all().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max);
    let span = (end_at - begin_at).max(1.0);
    let most = all().map(|point| point.1).fold(0.0_f64, f64::max).max(1.0);
    let place = |(at, value): &(f64, f64)| {
        let x = LEFT + (at - begin_at) / span * (WIDTH - LEFT - 8.0);
        (x, 8.0 + (1.0 - value / most) * HEIGHT)
    };
    let bottom = HEIGHT + 8.0;
    let names = lines.len().div_ceil(NAMES_IN_A_ROW) as f64;
    let mut svg = begin(says, bottom + 24.0 + ROW * names);
    let _ = writeln!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{WIDTH}\" y2=\"{bottom}\" />\
         <line class=\"axis\" x1=\"{LEFT}\" y1=\"8\" x2=\"{LEFT}\" y2=\"{bottom}\" />\
         <text class=\"soft\" x=\"{:.0}\" y=\"16\" text-anchor=\"end\">{}</text>\
         <text class=\"soft\" x=\"{:.0}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\
         <text class=\"soft\" x=\"{LEFT}\" y=\"{:.0}\">{}</text>\
         <text class=\"soft\" x=\"{WIDTH}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
        LEFT - 6.0,
        Text(highest),
        LEFT - 6.0,
        bottom + 16.0,
        Text(from),
        bottom + 16.0,
        Text(to),
    );
    for (at, line) in lines.iter().enumerate() {
        let colour = at % 6;
        let points: Vec<_> = line.points.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (column, row) = (at % NAMES_IN_A_ROW, at / NAMES_IN_A_ROW);
        let (x, y) = (LEFT + 150.0 * column as f64, bottom + 36.0 + ROW * row as f64);
        let _ = writeln!(
            svg,
            "<g><title>{}</title><polyline style=\"stroke: var(--c{colour})\" points=\"{}\" />\
             <rect style=\"fill: var(--c{colour})\" x=\"{x:.0}\" y=\"{:.0}\" width=\"10\" height=\"10\" />\
             <text x=\"{:.0}\" y=\"{y:.0}\">{}</text></g>",
            Text(&line.name),
            points.join(" "),
            y - 9.0,
            x + 16.0,
            Text(&short(&line.name)),
        );
    }
    svg + "</svg>\n"
}

/// Columns side by side, each with its name below and its number above.
pub(super) fn columns(says: &str, columns: &[(String, u64)]) -> String {
    const HEIGHT: f64 = 120.0;
    let most = columns.iter().map(|column| column.1).max().unwrap_or(1).max(1) as f64;
    let width = (WIDTH / columns.len().max(1) as f64).min(64.0);
    // Where columns are narrower than their words, some of them go without.
    let every = (48.0 / width).ceil().max(1.0) as usize;
    let mut svg = begin(says, HEIGHT + 40.0);
    for (at, (name, count)) in columns.iter().enumerate() {
        let height = *count as f64 / most * HEIGHT;
        let (x, y) = (width * at as f64, 18.0 + HEIGHT - height);
        let middle = x + width / 2.0;
        let is_named = at % every == 0;
        let above = if is_named { compact(*count) } else { String::new() };
        let below = if is_named { name.as_str() } else { "" };
        let _ = writeln!(
            svg,
            "<g><title>{}: {count}</title>\
             <rect class=\"bar\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" />\
             <text class=\"soft\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></g>",
            Text(name),
            x + 2.0,
            width - 4.0,
            y - 4.0,
            above,
            HEIGHT + 34.0,
            Text(below),
        );
    }
    svg + "</svg>\n"
}

fn begin(says: &str, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{0}\">\n<title>{0}</title>\n",
        Text(says)
    )
}

fn short(name: &str) -> String {
    crate::table::fit(name, LONGEST_NAME)
}

/// A number in at most five letters.
pub(super) fn compact(count: u64) -> String {
    match count {
        ..10_000 => count.to_string(),
        10_000..10_000_000 => format!("{}k", count / 1_000),
        10_000_000..10_000_000_000 => format!("{}M", count / 1_000_000),
        _ => format!("{}G", count / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_of_nothing_and_of_very_much_stay_in_the_picture() {
        let bar = |value| Bar { name: "t".to_owned(), value, more: 0.0, label: String::new() };
        let svg = bars("x", &[bar(0.0), bar(1e18), bar(1.0)], &[(1e17, "limit")]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.contains("width=\"160.0\""), "the largest has all the room: {svg}");
        let empty = lines("x", &[], "", "", "");
        assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
        assert!(!columns("x", &[]).contains("NaN"));
    }

    #[test]
    fn columns_that_are_narrow_go_without_words() {
        let many: Vec<_> = (0..28).map(|at| (format!("n{at}"), at)).collect();
        let svg = columns("x", &many);
        let named = svg.matches("text-anchor=\"middle\">n").count();
        assert!((4..=10).contains(&named), "{named}: {svg}");
        assert_eq!(svg.matches("<title>n").count(), 28, "each tells when it is pointed at");
    }

    #[test]
    fn a_number_has_at_most_five_letters() {
        for (number, text) in [(9_999, "9999"), (12_345, "12k"), (9_999_999, "9999k"), (12_000_000, "12M")] {
            assert_eq!(compact(number), text);
        }
    }
}
