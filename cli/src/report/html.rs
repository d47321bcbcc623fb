//! Texts in markup, and the page around the sections.

use std::fmt::{self, Display, Write};

/// A text that stays one whatever it holds, in an element or between quotes.
pub(super) struct Text<'t>(pub(super) &'t str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Neither XML nor HTML has a place for these, nor for letters that turn the line around.
                letter if letter.is_control() => f.write_char(' ')?,
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => {
                    f.write_char('\u{fffd}')?;
                }
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// A table whose cells are texts; the columns of these numbers are numbers. On a phone each row is a card, whose cells say
/// what they are: so each knows the name of its column.
pub(super) fn table(header: &[&str], numbers: &[usize], rows: &[Vec<String>]) -> String {
    let mut text = String::from("<div class=\"wide\"><table>\n<thead><tr>");
    let class = |at: usize| if numbers.contains(&at) { " class=\"n\"" } else { " class=\"long\"" };
    // Writing to a String cannot fail, here and below.
    for (at, name) in header.iter().enumerate() {
        let _ = write!(text, "<th{}>{}</th>", class(at), Text(name));
    }
    text += "</tr></thead>\n<tbody>\n";
    for row in rows {
        text += "<tr>";
        for (at, cell) in row.iter().enumerate() {
            let name = Text(header.get(at).copied().unwrap_or_default());
            let _ = write!(text, "<td{} data-name=\"{name}\">{}</td>", class(at), Text(cell));
        }
        text += "</tr>\n";
    }
    text + "</tbody></table></div>\n"
}

/// A part of the page.
pub(super) fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{body}</section>\n", Text(title))
}

/// The whole page. It may load nothing and run nothing, and says so itself.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\" />
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />
<meta name=\"color-scheme\" content=\"light dark\" />
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\" />
<title>{}</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
",
        Text(title)
    )
}

const STYLE: &str = "\
:root { --back: #ffffff; --front: #1c2024; --soft: #60646c; --line: #d9d9e0; --bar: #3e63dd; --ok: #18794e;
  --warning: #ab6400; --fail: #ce2c31; --c0: #3e63dd; --c1: #e5484d; --c2: #30a46c; --c3: #d5730b; --c4: #8e4ec6;
  --c5: #0d8394; }
@media (prefers-color-scheme: dark) { :root { --back: #111113; --front: #edeef0; --soft: #b0b4ba; --line: #363a3f;
  --bar: #849dff; --ok: #3dd68c; --warning: #ffca16; --fail: #ff9592; --c0: #849dff; --c1: #ff9592; --c2: #3dd68c;
  --c3: #ffa057; --c4: #d19dff; --c5: #4ccce6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--front); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 1rem 0 0.25rem; overflow-wrap: anywhere; }
p, li { overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.ok { color: var(--ok); } .warning { color: var(--warning); } .fail { color: var(--fail); }
ul.findings { list-style: none; padding: 0; }
ul.findings li { border-left: 4px solid; padding: 0.25rem 0.75rem; margin: 0.5rem 0; }
ul.findings li span { color: var(--front); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap;
  max-width: 24rem; overflow: hidden; text-overflow: ellipsis; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
@media (max-width: 44rem) { thead { display: none; } table, tbody, tr, td { display: block; max-width: none; }
  tr { display: grid; grid-template-columns: 1fr 1fr; column-gap: 1.5rem; border: 1px solid var(--line);
    border-radius: 6px; margin: 0.5rem 0; padding: 0.25rem 0.75rem; }
  td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: 0.1rem 0; text-align: right;
    white-space: normal; overflow-wrap: anywhere; }
  td::before { content: attr(data-name); color: var(--soft); white-space: nowrap; }
  td:first-child, td.long { grid-column: 1 / -1; } td:first-child { font-weight: 600; } }
svg { display: block; width: 100%; max-width: 30rem; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--front); paint-order: stroke; stroke: var(--back); stroke-width: 3px; }
svg .soft { fill: var(--soft); }
svg .bar { fill: var(--bar); } svg .index { fill: var(--bar); opacity: 0.5; }
svg .axis { stroke: var(--line); } svg .limit { stroke: var(--warning); stroke-dasharray: 4 3; }
svg polyline { fill: none; stroke-width: 2; }
@media print { section { break-inside: avoid; } }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_a_text() {
        let hostile = "</td><script>alert('x')</script>&\"\u{0}\u{1b}\u{202e}";
        let expected = "&lt;/td&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;  \u{fffd}";
        assert_eq!(Text(hostile).to_string(), expected);
    }
}
