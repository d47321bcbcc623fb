//! Full-text search over name, title and preview.
//!
//! Invariants:
//! - A person's text is words, never syntax: each word is a phrase in quotes.
//! - Every word has to be found, in any of the three texts; the last one as the beginning of a word.
//! - A search looks at the [`SEARCHED_HITS`] newest hits at most, and says when there were more.
//!
//! A file is asked in FTS5's language, a server in its own: the same words, each a phrase, the last one open at its end. Which
//! comes first by rank differs a little between them: a server does not count how rare a word is.
//!
//! Letters of scripts without spaces stand apart in the index and in the question, so a word of any length is a phrase of
//! letters, and is found anywhere in a text. An index of three-letter pieces (FTS5's `trigram`) would not find the
//! two-letter words that most of Chinese and Japanese are made of; it took twice the space, and twice the time to write.
//!
//! Tests: `tests/threads_search.rs`, `tests/threads_cost.rs`.

use super::cursor::{Cursor, Scope};
use super::filter::{Filter, Fnv, filter_methods};
use super::query::{Direction, Sort, check_page_size};
use super::row::ThreadRow;
use super::script::apart;
use super::{list, sql};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Session, Value};
use crate::stores::database::StoreSession;

/// How many hits one search looks at, those of the threads that were created last.
pub const SEARCHED_HITS: usize = 10_000;
/// The most letters of a search.
pub const LONGEST_SEARCH: usize = 1_000;
/// The most words of a search. A letter of a script without spaces is a word of its own, and so is each part of `a.b-c`:
/// FTS5 keeps a place in the index for each, and a thousand take it seconds.
const MOST_WORDS: usize = 64;

/// In which order a search answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchOrder {
    /// The best match first (BM25): rare words count more than common ones, a name more than a title, a title more than a
    /// preview. One page, without a cursor: ranks move with every write. How rare a word is takes a look at all its hits in
    /// the index, so this costs more the more threads have the words, also beyond [`SEARCHED_HITS`].
    #[default]
    Rank,
    /// The last used first, page by page. Each page looks at the newest [`SEARCHED_HITS`] anew: where there are more, threads
    /// that come while a caller pages push the oldest hits out, and the last pages lack them.
    Recency,
}

/// What to search for. Default: live threads, by rank, 50 on a page.
///
/// Upper and lower case and accents are the same; quotes, operators and punctuation are no more than spaces.
///
/// ```
/// use rowhouse::stores::threads::{SearchOrder, ThreadSearch};
/// let search = ThreadSearch::text("flaky test").by(SearchOrder::Recency).cwd("/home/ada/ledger").limit(20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadSearch {
    text: String,
    order: SearchOrder,
    pub(super) filter: Filter,
    limit: u32,
    cursor: Option<String>,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SearchPage {
    /// The threads, in the order asked for.
    pub threads: Vec<ThreadRow>,
    /// Where the next page of the same search starts; `None` at the end, and always by rank.
    pub next_cursor: Option<String>,
    /// True while threads that are older than the index are being brought into it, and while transcripts are being indexed:
    /// some may not be found yet.
    pub partial: bool,
    /// True when there are more than [`SEARCHED_HITS`] hits, live and archived; only the newest were looked at.
    pub truncated: bool,
}

/// A search that was checked.
pub(super) struct Question {
    /// In FTS5's language.
    phrases: String,
    /// For a server: JSON, a list of words.
    words: String,
    scope: Scope,
    start: Cursor,
}

impl ThreadSearch {
    filter_methods!();

    /// Threads with all the words of this text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            order: SearchOrder::default(),
            filter: Filter::default(),
            limit: 50,
            cursor: None,
        }
    }

    /// Answers in this order. Default [`SearchOrder::Rank`].
    #[must_use]
    pub fn by(mut self, order: SearchOrder) -> Self {
        self.order = order;
        self
    }

    /// Threads on a page, 1 to 500; checked when searching. Default 50.
    #[must_use]
    pub fn limit(mut self, threads: u32) -> Self {
        self.limit = threads;
        self
    }

    /// Goes on where a page of the same search, by recency, ended.
    #[must_use]
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// # Errors
    /// `Invalid`.
    pub(super) fn question(&self) -> Result<Question> {
        check_page_size(self.limit)?;
        self.filter.check()?;
        if self.order == SearchOrder::Rank && self.cursor.is_some() {
            return Err(Error::new(ErrorKind::Invalid, "a search by rank has one page")
                .advise("ask for more threads at once, or search by recency"));
        }
        let phrases = phrases(&self.text)?;
        let mut hash = Fnv::default();
        self.filter.hash_into(&mut hash);
        hash.add_all([&phrases].into_iter());
        let scope = Scope { sort: Sort::Recency, direction: Direction::Descending, filters: hash.finish() };
        let start = Cursor::start_of(scope, self.cursor.as_deref())?;
        let words = self.text.split_whitespace().collect::<serde_json::Value>().to_string();
        Ok(Question { phrases, words, scope, start })
    }

    pub(super) fn page(&self, at: &StoreSession<'_>, question: &Question) -> Result<SearchPage> {
        let (asked, texts) = if at.is_on_server() {
            (&question.words, &sql::SEARCH_ON_SERVER)
        } else {
            (&question.phrases, &sql::SEARCH_IN_FILE)
        };
        let words = || Value::from(asked.as_str());
        let wanted = self.limit as usize;
        let mut params = vec![words(), (SEARCHED_HITS as i64).into(), (wanted as i64 + 1).into()];
        params.push(list::ids_below(at, &self.filter)?.unwrap_or(Value::Null));
        params.extend(self.filter.row_params());
        params.push(self.filter.folder_param());
        let text = match self.order {
            SearchOrder::Rank => texts.by_rank(self.filter.archived),
            SearchOrder::Recency => {
                params.extend([question.start.value.into(), question.start.id.as_str().into()]);
                texts.by_recency(self.filter.archived)
            }
        };
        let mut threads = list::sorted_rows(at, text, &params)?;
        let more = threads.len() > wanted;
        threads.truncate(wanted);
        let next_cursor = threads
            .last()
            .filter(|_| more && self.order == SearchOrder::Recency)
            .map(|last| Cursor::after(question.scope, last).to_string());
        let truncated = !at.query(texts.has_more, &[words(), (SEARCHED_HITS as i64).into()])?.is_empty();
        Ok(SearchPage { threads, next_cursor, partial: false, truncated })
    }
}

/// The question in FTS5's language: a phrase per word, the last one open at its end.
///
/// # Errors
/// `Invalid`.
fn phrases(text: &str) -> Result<String> {
    let refused = |message: String| {
        Err(Error::new(ErrorKind::Invalid, message)
            .advise("search for a few words of the name or the first message"))
    };
    if text.chars().count() > LONGEST_SEARCH {
        return refused(format!("a search has at most {LONGEST_SEARCH} letters"));
    }
    if text.contains('\0') {
        return refused("a search has no NUL in it".to_owned());
    }
    let words: Vec<_> = text.split_whitespace().map(apart).collect();
    match words.iter().map(|word| tokens(word)).sum() {
        0 => refused("a search needs a word".to_owned()),
        1..=MOST_WORDS => {
            let phrases: Vec<_> =
                words.iter().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
            Ok(phrases.join(" ") + " *")
        }
        _ => refused(format!(
            "a search has at most {MOST_WORDS} words; of languages without spaces each letter is one"
        )),
    }
}

/// How many words FTS5 sees in one that has its letters apart, at least one.
fn tokens(word: &str) -> usize {
    let parts = word.split(|letter: char| !letter.is_alphanumeric()).filter(|part| !part.is_empty());
    parts.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_a_phrase_and_the_last_one_is_open() {
        for (text, phrases) in [
            ("fix", "\"fix\" *"),
            ("  fix\tthe  par ", "\"fix\" \"the\" \"par\" *"),
            ("a OR b*", "\"a\" \"OR\" \"b*\" *"),
            ("name:\"x\" -y", "\"name:\"\"x\"\"\" \"-y\" *"),
            ("修复 rust語", "\" 修  复 \" \"rust 語 \" *"),
        ] {
            assert_eq!(super::phrases(text).expect(text), phrases);
        }
    }

    #[test]
    fn what_is_no_search_is_refused() {
        for text in
            ["", " \t\n", "a\0b", &"a".repeat(1_001), &"a ".repeat(65), &"語".repeat(65), &"a.".repeat(65)]
        {
            let error = phrases(text).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.advice().is_some());
        }
        for text in ["a ".repeat(64), "語".repeat(64), "a.".repeat(64), "! ".repeat(64)] {
            phrases(&text).expect("as many words as there may be");
        }
    }
}
