//! Numbers with their words, and the library's words in those of the command line.

use crate::bench::count;

/// `1 goal`, `20,000 goals`.
pub(crate) fn number(many: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(many as f64), if many == 1 { one } else { more })
}

/// What a program can do and a person at a terminal cannot: ours, in the library's advice, and what stands in its place here.
const FOR_PROGRAMS: [(&str, &str); 9] = [
    ("; or run without keeping anything: Builder::ephemeral()", ""),
    (", or run without keeping anything: Builder::ephemeral()", ""),
    (
        "or run without keeping anything: Builder::ephemeral()",
        "see docs/operations.md, \"Where nothing may be written\"",
    ),
    ("call reopen() or start the program again", "start the program again"),
    ("call reopen()", "start the program again"),
    ("use it by Runtime::engine or the stores, or keep it here:", "keep it here:"),
    (", or raise Domain::max_write_rate", ""),
    (", or raise Domain::max_bytes", ""),
    ("from that program, with Runtime::backup or Builder::restore", "from that program"),
];

/// Words of the library, as a person at a terminal needs them.
pub(crate) fn for_a_person(text: &str) -> String {
    FOR_PROGRAMS.iter().fold(text.to_owned(), |text, (words, instead)| text.replace(words, instead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        assert_eq!(number(1, "memory", "memories"), "1 memory");
        assert_eq!(number(0, "memory", "memories"), "0 memories");
        assert_eq!(number(20_000, "row", "rows"), "20,000 rows");
    }
}
