//! A damaged transcript costs what is damaged: it never stops a reader, and what it held never reaches a message.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(feature = "agent")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rowhouse::ErrorKind;
use rowhouse::rollout::read_metadata;

const ID: &str = "019cd19f-aa40-7e58-b1d3-64c0f29be004";

fn example() -> Vec<u8> {
    let name = format!("examples/transcripts/sessions/2026/03/09/rollout-2026-03-09T07-30-00-{ID}.jsonl");
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("the example")
}

fn file(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(format!("rollout-2026-03-09T07-30-00-{ID}.jsonl"));
    std::fs::write(&path, text).expect("a file");
    (dir, path)
}

#[test]
fn cut_anywhere_behind_its_first_line_it_is_still_that_thread() {
    let whole = example();
    let first = whole.iter().position(|byte| *byte == b'\n').expect("a line");
    for end in (0..=whole.len()).step_by(7) {
        let (_dir, path) = file(&whole[..end]);
        match read_metadata(&path) {
            Ok(facts) => {
                assert!(end >= first);
                assert_eq!((facts.thread.id.as_str(), facts.bad_lines), (ID, 0));
                assert!(facts.thread.updated_at >= facts.thread.created_at);
            }
            Err(error) => {
                assert!(end < first, "cut at {end}");
                assert_eq!(error.kind(), ErrorKind::Invalid);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_place_are_read_or_refused(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let mut text = example();
        for (place, byte) in places {
            let place = place.index(text.len());
            text[place] = byte;
        }
        let (_dir, path) = file(&text);
        match read_metadata(&path) {
            Ok(facts) => prop_assert_eq!(facts.thread.id.len(), ID.len()),
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Invalid);
                prop_assert!(!error.to_string().contains("ledger"));
            }
        }
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..4_000)) {
        let (_dir, path) = file(&noise);
        prop_assert_eq!(read_metadata(&path).expect_err("noise").kind(), ErrorKind::Invalid);
    }
}
