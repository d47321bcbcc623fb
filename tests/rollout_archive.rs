//! Transcripts are archived, taken back, compressed, and thrown away without a byte of them changing.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(feature = "agent")]

mod rollouts;

use std::fs;
use std::time::Duration;

use rollouts::{AT_ONCE, ID, NAME, Place, item, numbers};
use rowhouse::ErrorKind;
use rowhouse::rollout::read_metadata;
use rowhouse::stores::threads::{Change, UserField};

fn place_with(lines: usize, bytes: usize) -> Place {
    let place = Place::new();
    let mut recorder = place.create();
    for n in 0..lines {
        let _ = recorder.append(&[item(n, bytes)]).expect("taken").written().expect("written");
    }
    place
}

fn archive(place: &Place) {
    place.resume().archive(5_000).expect("archived");
}

#[test]
fn an_archived_transcript_moves_there_and_back_and_says_so() {
    let place = place_with(3, 50);
    let mut recorder = place.resume();
    recorder.archive(5_000).expect("archived");
    assert_eq!(
        (recorder.path(), place.files()),
        (&*place.archived(), vec![format!("archived_sessions/{NAME}")])
    );
    recorder.archive(9_000).expect("it is");
    assert_eq!(read_metadata(recorder.path()).expect("facts").thread.archived_at, Change::Set(5_000));
    let _ =
        recorder.append(&[item(3, 50)]).expect("taken").written().expect("an archived one takes lines too");
    recorder.unarchive().expect("back");
    recorder.unarchive().expect("it is");
    assert_eq!(
        (recorder.path(), place.files()),
        (&*place.live(), vec![format!("sessions/2026/01/02/{NAME}")])
    );
    assert_eq!(read_metadata(recorder.path()).expect("facts").thread.archived_at, Change::Clear);
    assert_eq!(numbers(recorder.path()), [0, 1, 2, 3]);
}

#[test]
fn what_another_program_moved_back_is_no_more_archived() {
    let place = place_with(2, 50);
    archive(&place);
    fs::rename(place.archived(), place.live()).expect("moved");
    assert_eq!(read_metadata(&place.live()).expect("facts").thread.archived_at, Change::Clear);
    let mut recorder = place.resume();
    recorder.unarchive().expect("it is, and says so");
    let end = recorder.end();
    recorder.unarchive().expect("it said so");
    assert_eq!(recorder.end(), end);
    drop(recorder);
    let facts = read_metadata(&place.live()).expect("facts");
    assert_eq!(facts.said.archived_at, Change::Clear);
    assert!(facts.thread.user_set.contains(UserField::Archive));
}

#[test]
fn nothing_that_is_there_is_replaced() {
    let place = place_with(2, 50);
    fs::create_dir_all(place.path("archived_sessions")).expect("a folder");
    for taken in [place.archived(), place.archived().with_extension("jsonl.zst")] {
        fs::write(&taken, "somebody's").expect("written");
        let before = fs::read(place.live()).expect("bytes");
        let refused = place.resume().archive(5_000).expect_err("taken");
        assert_eq!((refused.kind(), refused.path()), (ErrorKind::Conflict, Some(&*taken)));
        assert_eq!(fs::read(place.live()).expect("bytes"), before);
        assert_eq!(fs::read_to_string(&taken).expect("text"), "somebody's");
        fs::remove_file(&taken).expect("removed");
    }
    assert_eq!(place.create().archive(5_000).expect_err("no file").kind(), ErrorKind::Invalid);
}

#[test]
fn the_trash_takes_all_of_a_thread_and_nothing_else() {
    let place = place_with(2, 50);
    archive(&place);
    let folder = place.live();
    let folder = folder.parent().expect("a folder");
    fs::copy(place.archived(), place.live()).expect("a second copy");
    fs::write(folder.join(format!("{NAME}.torn")), "torn\n").expect("written");
    fs::write(folder.join(format!(".{NAME}.zst.new")), "half").expect("written");
    // Another thread's, under a name that lies, and one that says nothing of threads.
    let other = NAME.replace("03-04-05", "08-08-08");
    let text = fs::read_to_string(place.live()).expect("text").replace(ID, &ID.replace('1', "2"));
    fs::write(folder.join(&other), text).expect("written");
    fs::write(folder.join("notes.txt"), "mine").expect("written");

    let lease = place.rollouts.lease(ID, AT_ONCE).expect("the lease");
    let moved = place.rollouts.trash(&lease).expect("moved");
    assert_eq!(moved.len(), 4, "{moved:?}");
    assert!(place.rollouts.trash(&lease).expect("nothing left").is_empty());
    assert_eq!(place.rollouts.locate(ID, None).expect_err("gone").kind(), ErrorKind::NotFound);
    assert_eq!(place.rollouts.empty_trash(ID).expect("removed"), 4);
    assert_eq!(place.rollouts.empty_trash(ID).expect("nothing left"), 0);
    let left = ["notes.txt", &other].map(|name| format!("sessions/2026/01/02/{name}"));
    assert_eq!(place.files(), left);
    assert_eq!(place.rollouts.empty_trash("../x").expect_err("no id").kind(), ErrorKind::Invalid);
}

#[cfg(not(feature = "zstd"))]
#[test]
fn compressed_transcripts_are_refused_with_the_way_out() {
    let place = place_with(2, 50);
    archive(&place);
    let compressed = place.archived().with_extension("jsonl.zst");
    fs::rename(place.archived(), &compressed).expect("renamed");
    let error = read_metadata(&compressed).expect_err("not built in");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.advice().is_some_and(|advice| advice.contains("zstd -d")));
    let error = place.rollouts.compress_archived(Duration::ZERO, 10).expect_err("not built in");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[cfg(feature = "zstd")]
mod compressed {
    use std::path::{Path, PathBuf};

    use rowhouse::rollout::{COMPRESSED_AFTER, Position, Reader, RolloutFacts, Stale, UserFacts};

    use super::*;

    fn age(path: &Path, days: u64) {
        let file = fs::File::options().write(true).open(path).expect("opens");
        let then = std::time::SystemTime::now() - Duration::from_hours(24 * days);
        file.set_modified(then).expect("aged");
    }

    fn compressed(place: &Place) -> PathBuf {
        place.archived().with_extension("jsonl.zst")
    }

    /// What a list shows, but for what belongs to the file itself.
    fn shown(path: &Path) -> RolloutFacts {
        let mut facts = read_metadata(path).expect("facts");
        facts.thread.stamp = None;
        facts.thread.rollout_path = None;
        facts.bytes_read = 0;
        facts
    }

    fn read(path: &Path, from: Position) -> Vec<(Option<u64>, u64, String)> {
        let mut reader = Reader::open_at(path, from).expect("opens");
        let mut lines = Vec::new();
        while let Some(line) = reader.next().expect("reads") {
            lines.push((line.number, line.offset, line.text.to_owned()));
        }
        lines
    }

    #[test]
    fn archived_transcripts_of_seven_days_are_compressed_and_read_the_same() {
        for (lines, bytes) in [(3, 50), (100, 600), (900, 1_000), (40, 30_000), (3, 100_000)] {
            let place = place_with(lines, bytes);
            let mut recorder = place.resume();
            let name = UserFacts { name: Change::Set("Ledger".to_owned()), ..UserFacts::default() };
            let _ = recorder.say(name).expect("taken").written().expect("written");
            recorder.archive(5_000).expect("archived");
            drop(recorder);
            let plain = fs::read(place.archived()).expect("bytes");
            let (facts, text) = (shown(&place.archived()), read(&place.archived(), Position::default()));

            age(&place.archived(), 6);
            let young = place.rollouts.compress_archived(COMPRESSED_AFTER, 10).expect("nothing to do");
            assert_eq!(young.compressed, 0);
            age(&place.archived(), 8);
            let report = place.rollouts.compress_archived(COMPRESSED_AFTER, 10).expect("compressed");
            assert_eq!((report.compressed, report.bytes_before), (1, plain.len() as u64));
            assert_eq!(report.bytes_after, fs::metadata(compressed(&place)).expect("there").len());
            assert!(report.problems.is_empty() && report.bytes_after < report.bytes_before);
            assert_eq!(place.files(), [format!("archived_sessions/{NAME}.zst")]);

            assert_eq!(shown(&compressed(&place)), facts, "{lines} lines of {bytes}");
            assert_eq!(read(&compressed(&place), Position::default()), text);
            let middle = Position { offset: text[lines / 2].1, line: lines as u64 / 2 };
            assert_eq!(read(&compressed(&place), middle), text[lines / 2..]);
            let mut back = Reader::backwards(&compressed(&place), None).expect("opens");
            for line in text.iter().rev() {
                assert_eq!(back.next().expect("reads").expect("a line").text, line.2);
            }
            assert_eq!(place.rollouts.locate(ID, None).expect("found").path, compressed(&place));

            let mut recorder = place.resume();
            assert_eq!(fs::read(recorder.path()).expect("bytes"), plain);
            assert_eq!(recorder.said().name, Change::Set("Ledger".to_owned()));
            recorder.unarchive().expect("back");
            assert_eq!(numbers(&place.live()), (0..lines).collect::<Vec<_>>());
            assert_eq!(place.files(), [format!("sessions/2026/01/02/{NAME}")]);
        }
    }

    #[test]
    fn the_examples_come_out_of_the_archive_byte_for_byte() {
        for path in rollouts::examples() {
            let place = Place::new();
            let mut text = fs::read(&path).expect("bytes");
            text.truncate(text.iter().rposition(|byte| *byte == b'\n').expect("a line") + 1);
            let archived = place.path("archived_sessions").join(path.file_name().expect("a name"));
            fs::create_dir_all(place.path("archived_sessions")).expect("a folder");
            fs::write(&archived, &text).expect("written");
            let before = shown(&archived);
            place.rollouts.compress(&archived).expect("compressed");
            assert_eq!(shown(&archived.with_extension("jsonl.zst")), before, "{}", path.display());
            let recorder = place.rollouts.resume(&before.thread.id, None, AT_ONCE).expect("resumed");
            assert_eq!(fs::read(recorder.path()).expect("bytes"), text, "{}", path.display());
        }
    }

    #[test]
    fn the_ends_of_a_large_compressed_transcript_cost_two_windows() {
        // Lines that do not compress.
        let place = Place::new();
        let mut recorder = place.create();
        let mut seed = 7_u64;
        for n in 0..1_000 {
            let noise: String = (0..1_000)
                .map(|_| {
                    seed =
                        seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    char::from(b' ' + 2 + (seed >> 58) as u8)
                })
                .collect();
            let payload = serde_json::json!({"type": "agent_message", "n": n, "message": noise});
            let item = rowhouse::rollout::Item::new("event_msg", &payload).expect("an item");
            let _ = recorder.append(&[item]).expect("taken").written().expect("written");
        }
        recorder.archive(5_000).expect("archived");
        drop(recorder);
        let plain = shown(&place.archived());
        place.rollouts.compress(&place.archived()).expect("compressed");
        let size = fs::metadata(compressed(&place)).expect("there").len();
        let facts = read_metadata(&compressed(&place)).expect("facts");
        assert!(size > 600_000 && facts.bytes_read < 400_000, "{} of {size}", facts.bytes_read);
        assert!(!facts.whole);
        assert_eq!(shown(&compressed(&place)), plain);
    }

    #[test]
    fn what_another_program_compressed_is_read_to_its_end() {
        for (lines, bytes) in [(3, 50), (2_000, 500)] {
            let place = place_with(lines, bytes);
            archive(&place);
            let plain = shown(&place.archived());
            let text = fs::read(place.archived()).expect("bytes");
            for (frames, part) in [(1, text.len()), (0, 50_000)] {
                let mut all = Vec::new();
                for piece in text.chunks(part) {
                    all.extend(zstd::encode_all(piece, 1).expect("compressed"));
                }
                fs::write(compressed(&place), all).expect("written");
                let facts = shown(&compressed(&place));
                assert_eq!(facts.thread, plain.thread, "{frames}");
                assert_eq!((facts.said, facts.bad_lines, facts.torn), (plain.said.clone(), 0, false));
            }
        }
    }

    #[test]
    fn a_damaged_one_is_told_and_stays() {
        let place = place_with(400, 500);
        archive(&place);
        place.rollouts.compress(&place.archived()).expect("compressed");
        let whole = fs::read(compressed(&place)).expect("bytes");
        let mut flipped = whole.clone();
        flipped[whole.len() / 3] ^= 0x55;
        for damaged in [whole[..whole.len() / 2].to_vec(), flipped, b"no zstd at all".to_vec(), Vec::new()] {
            fs::write(compressed(&place), &damaged).expect("written");
            let failed = || -> rowhouse::Result<()> {
                let mut reader = Reader::open(&compressed(&place))?;
                while reader.next()?.is_some() {}
                Ok(())
            };
            if !damaged.is_empty() {
                assert_eq!(failed().expect_err("damaged").kind(), ErrorKind::Corrupt);
            }
            assert!(place.rollouts.resume(ID, None, AT_ONCE).is_err());
            assert_eq!(fs::read(compressed(&place)).expect("bytes"), damaged);
            assert!(!place.archived().exists());
        }
    }

    /// By the clock of then it is from tomorrow.
    #[test]
    fn all_are_compressed_where_no_age_is_asked_for_also_after_the_clock_was_set_back() {
        let place = place_with(4, 500);
        archive(&place);
        let tomorrow = std::time::SystemTime::now() + Duration::from_hours(24);
        fs::File::options()
            .write(true)
            .open(place.archived())
            .and_then(|file| file.set_modified(tomorrow))
            .expect("aged");
        let compress = |age| place.rollouts.compress_archived(age, 1).expect("compressed").compressed;
        assert_eq!((compress(Duration::from_secs(1)), compress(Duration::ZERO)), (0, 1));
    }

    #[test]
    fn what_cannot_be_compressed_does_not_stop_the_rest() {
        let place = place_with(4, 500);
        archive(&place);
        let bad = place.path("archived_sessions").join(NAME.replace("2026-01-02", "2025-01-02"));
        fs::write(&bad, "noise\n").expect("written");
        age(&bad, 20);
        age(&place.archived(), 8);
        let report = place.rollouts.compress_archived(COMPRESSED_AFTER, 1).expect("compressed");
        assert_eq!((report.compressed, report.left, report.problems.len()), (1, 1, 1));
        assert!(!report.problems[0].contains("noise"), "{}", report.problems[0]);
        assert!(bad.exists() && compressed(&place).exists());
    }

    /// An older plain file was put back beside the compressed one, or the two have grown apart.
    #[test]
    fn a_compressed_one_that_says_more_is_not_replaced() {
        let place = place_with(4, 500);
        archive(&place);
        let plain = fs::read(place.archived()).expect("bytes");
        let longer = [&plain[..], format!("{}\n", item(4, 500).text()).as_bytes()].concat();
        let other = [&plain[..plain.len() - 400], &b"\n"[..]].concat();
        for text in [&longer[..], &other] {
            let more = zstd::encode_all(text, 1).expect("compressed");
            for bytes in [more.clone(), more[..more.len() - 9].to_vec()] {
                fs::write(compressed(&place), &bytes).expect("written");
                let refused = place.rollouts.compress(&place.archived()).expect_err("it says more");
                assert_eq!(
                    (refused.kind(), refused.path()),
                    (ErrorKind::Conflict, Some(&*compressed(&place)))
                );
                let report = place.rollouts.compress_archived(Duration::ZERO, 10).expect("a report");
                assert_eq!((report.compressed, report.left), (0, 1));
                assert_eq!(fs::read(compressed(&place)).expect("bytes"), bytes);
                assert_eq!(fs::read(place.archived()).expect("bytes"), plain);
            }
        }
        // One that says less is the older one.
        let first = plain.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        fs::write(compressed(&place), zstd::encode_all(&plain[..first], 1).expect("compressed"))
            .expect("written");
        place.rollouts.compress(&place.archived()).expect("compressed");
        assert_eq!(zstd::decode_all(&*fs::read(compressed(&place)).expect("it")).expect("text"), plain);
        assert!(!place.archived().exists());
    }

    #[test]
    fn of_two_copies_the_plain_one_counts() {
        let place = place_with(4, 500);
        archive(&place);
        let plain = fs::read(place.archived()).expect("bytes");
        place.rollouts.compress(&place.archived()).expect("compressed");
        fs::write(place.archived(), &plain).expect("a crash left both");
        assert_eq!(place.rollouts.locate(ID, None).expect("found").path, place.archived());
        let found = place.rollouts.locate(ID, Some(&compressed(&place))).expect("found");
        assert_eq!(
            (found.path, found.stale.map(|stale| stale.reason)),
            (place.archived(), Some(Stale::Compressed))
        );
        place.rollouts.compress(&place.archived()).expect("only the plain one had to go");
        assert_eq!(place.files(), [format!("archived_sessions/{NAME}.zst")]);

        fs::write(place.archived(), &plain).expect("a crash left both");
        let hint = compressed(&place);
        drop(place.rollouts.resume(ID, Some(&hint), AT_ONCE).expect("whatever the row says"));
        assert_eq!(
            place.files(),
            [format!("archived_sessions/{NAME}")],
            "the copy is no more than the plain one"
        );
        // A copy that says something else is nobody's to remove.
        fs::write(compressed(&place), zstd::encode_all(&b"other\n"[..], 1).expect("compressed"))
            .expect("written");
        drop(place.resume());
        assert!(compressed(&place).exists());
        let torn = [&plain[..], b"{\"torn"].concat();
        fs::write(place.archived(), torn).expect("written");
        assert_eq!(place.rollouts.compress(&place.archived()).expect_err("torn").kind(), ErrorKind::Invalid);
    }
}
