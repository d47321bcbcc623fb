//! Letters of scripts that are written without spaces between words.
//!
//! The index has each of them apart (`migrations_state/V4__thread_search.sql`), and so must have what is searched for: a
//! test there holds the two together.

/// The same ranges as in the view `thread_words`.
const RANGES: [(char, char); 7] = [
    ('\u{0E00}', '\u{109F}'),   // Thai, Lao, Tibetan, Myanmar
    ('\u{1780}', '\u{17FF}'),   // Khmer
    ('\u{2E80}', '\u{9FFF}'),   // radicals, kana, Bopomofo, Chinese characters
    ('\u{AC00}', '\u{D7AF}'),   // Hangul
    ('\u{F900}', '\u{FAFF}'),   // compatibility ideographs
    ('\u{FF66}', '\u{FFDC}'),   // half-width kana and Hangul
    ('\u{20000}', '\u{3FFFF}'), // rarer Chinese characters
];

/// The text with a space at either side of each such letter.
pub(super) fn apart(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    for letter in text.chars() {
        if RANGES.iter().any(|(first, last)| (*first..=*last).contains(&letter)) {
            spaced.extend([' ', letter, ' ']);
        } else {
            spaced.push(letter);
        }
    }
    spaced
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;

    const THREAD: &str = include_str!("../../../migrations_state/V1__thread.sql");
    const SEARCH: &str = include_str!("../../../migrations_state/V4__thread_search.sql");
    const PUT: &str = "INSERT INTO thread (id, created_at, updated_at, recency_at, name, title, preview) \
        VALUES ('019cadf1-7a5e-7b04-8f21-000000000001', 1, 1, 1, ?1, ?1, ?1)";

    fn indexed(text: &str) -> String {
        let connection = Connection::open_in_memory().expect("a database");
        connection.execute_batch(THREAD).expect("the table");
        connection.execute_batch(SEARCH).expect("the index");
        connection.execute(PUT, [text]).expect("a thread");
        connection
            .query_row("SELECT name, title, preview FROM thread_text", [], |row| {
                let [name, title, preview]: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
                assert!(name == title && title == preview, "{name} {title} {preview}");
                Ok(name)
            })
            .expect("its texts")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_index_and_the_search_set_the_same_letters_apart(
            text in prop::collection::vec(
                prop_oneof![
                    any::<char>(),
                    (0..RANGES.len(), -1..=1_i32, any::<bool>()).prop_map(|(range, off, first)| {
                        let (low, high) = RANGES[range];
                        char::from_u32((if first { low } else { high } as u32).wrapping_add_signed(off)).unwrap_or('x')
                    }),
                ],
                0..60,
            ),
        ) {
            // SQLite's text functions end at a NUL, on both ways into and out of the index alike.
            let text: String = text.into_iter().filter(|letter| *letter != '\0').collect();
            prop_assert_eq!(indexed(&text), apart(&text));
        }
    }

    #[test]
    fn of_a_long_text_the_beginning_is_indexed() {
        let of = |letter: &str| indexed(&letter.repeat(501));
        assert_eq!(of("a"), "a".repeat(500));
        assert_eq!(of("語"), " 語 ".repeat(500));
    }
}
