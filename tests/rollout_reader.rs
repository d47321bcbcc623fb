//! A transcript is read line by line, in both directions, while it grows, whatever is in it; and found where it is.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(feature = "agent")]

mod rollouts;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use rollouts::{AT_ONCE, ID, NAME, Place, examples, item};
use rowhouse::ErrorKind;
use rowhouse::rollout::{LONGEST_LINE, Position, Reader, Stale};

/// Lines that a reader shows, by another way: (number, offset, text).
fn by_hand(text: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let mut shown = Vec::new();
    let mut offset = 0;
    for (at, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if let Some(whole) = line.strip_suffix(b"\n") {
            let record = serde_json::from_slice::<serde_json::Value>(whole).ok();
            if record.is_some_and(|record| record.is_object() && record["type"].is_string()) {
                shown.push((at as u64 + 1, offset, whole.to_vec()));
            }
        }
        offset += line.len() as u64;
    }
    shown
}

fn forwards(reader: &mut Reader) -> Vec<(u64, u64, Vec<u8>)> {
    let mut shown = Vec::new();
    while let Some(line) = reader.next().expect("reads") {
        shown.push((line.number.expect("a number"), line.offset, line.text.as_bytes().to_vec()));
    }
    shown
}

fn backwards(path: &Path, before: Option<Position>) -> Vec<(Option<u64>, u64, Vec<u8>)> {
    let mut reader = Reader::backwards(path, before).expect("opens");
    let mut shown = Vec::new();
    while let Some(line) = reader.next().expect("reads") {
        shown.push((line.number, line.offset, line.text.as_bytes().to_vec()));
    }
    shown.reverse();
    shown
}

#[test]
fn the_examples_are_read_the_same_in_both_directions() {
    for path in examples() {
        let wanted = by_hand(&fs::read(&path).expect("bytes"));
        assert_eq!(forwards(&mut Reader::open(&path).expect("opens")), wanted, "{}", path.display());
        let back = backwards(&path, None);
        assert!(back.iter().all(|line| line.0.is_none()), "nobody counted");
        assert_eq!(back.len(), wanted.len());
        for (back, wanted) in back.iter().zip(&wanted) {
            assert_eq!((back.1, &back.2), (wanted.1, &wanted.2));
        }
    }
}

#[test]
fn bad_lines_are_counted_named_and_passed() {
    let place = Place::new();
    let path = place.path("a.jsonl");
    let good = item(1, 5).text().to_owned();
    fs::write(&path, format!("{good}\n{{bad\n\n[1]\n{good}\n{{\"type\":\"later\",\"x\":1}}\n{good}"))
        .expect("written");
    let mut reader = Reader::open(&path).expect("opens");
    let shown = forwards(&mut reader);
    assert_eq!(shown.iter().map(|line| line.0).collect::<Vec<_>>(), [1, 5, 6]);
    assert_eq!((reader.bad_lines(), reader.bad_line_numbers()), (2, &[2, 4][..]));
    assert_eq!(reader.torn_bytes(), good.len() as u64);
    let unfinished = reader.unfinished().expect("it only lacks its newline");
    assert_eq!((unfinished.text, unfinished.number), (good.as_str(), Some(7)));
    let mut back = Reader::backwards(&path, None).expect("opens");
    while back.next().expect("reads").is_some() {}
    assert_eq!(back.bad_lines(), 2);
}

/// The control: to read the file into a text takes as much memory as the file.
#[test]
fn a_line_without_end_is_passed_in_bounded_memory() {
    let place = Place::new();
    let path = place.path("a.jsonl");
    let mut file = fs::File::create(&path).expect("a file");
    let good = format!("{}\n", item(1, 5).text());
    file.write_all(good.as_bytes()).expect("written");
    // A hole of zeros, as a power cut leaves it: it takes no room.
    file.set_len((good.len() + LONGEST_LINE + (1 << 20)) as u64).expect("longer");
    let mut file = OpenOptions::new().append(true).open(&path).expect("opens");
    file.write_all(format!("\n{good}").as_bytes()).expect("written");
    let before = resident();
    let mut reader = Reader::open(&path).expect("opens");
    assert_eq!(forwards(&mut reader).iter().map(|line| line.0).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(reader.bad_line_numbers(), [2]);
    assert_eq!(backwards(&path, None).len(), 2);
    let more = resident().saturating_sub(before);
    assert!(more < 3 * LONGEST_LINE as u64, "{more} bytes more");
}

/// Bytes of memory this process has, at most so far.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("VmHWM");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_reader_goes_on_from_its_checkpoint_and_says_when_the_file_is_another() {
    let place = Place::new();
    let mut recorder = place.create();
    let _ = recorder.append(&[item(1, 50), item(2, 50)]).expect("taken");
    let mut reader = Reader::open(&place.live()).expect("opens");
    assert_eq!(forwards(&mut reader).len(), 3);
    let position = reader.position();
    assert_eq!(position, Position { offset: recorder.end(), line: 3 });
    let _ = recorder.append(&[item(3, 50)]).expect("taken");
    for mut reader in [reader, Reader::open_at(&place.live(), position).expect("opens")] {
        let more = forwards(&mut reader);
        assert_eq!(more.iter().map(|line| (line.0, line.1)).collect::<Vec<_>>(), [(4, position.offset)]);
    }
    let back = backwards(&place.live(), Some(position));
    assert_eq!(back.iter().map(|line| line.0).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);

    drop(recorder);
    fs::write(place.live(), "").expect("emptied");
    let mut reader = Reader::open_at(&place.live(), position).expect("opens");
    assert_eq!(reader.next().expect_err("shorter").kind(), ErrorKind::Replaced);
    assert_eq!(Reader::open(&place.path("none")).expect_err("none").kind(), ErrorKind::NotFound);
    assert_eq!(Reader::open(&place.path("sessions")).expect_err("a folder").kind(), ErrorKind::Invalid);
    std::os::unix::fs::symlink(place.live(), place.path("link.jsonl")).expect("a link");
    assert_eq!(Reader::open(&place.path("link.jsonl")).expect_err("a link").kind(), ErrorKind::Invalid);
}

#[test]
fn a_reader_beside_the_writer_sees_every_line_once_and_whole() {
    let place = Place::new();
    let mut recorder = place.create();
    let _ = recorder.append(&[item(0, 10)]).expect("taken");
    let path = place.live();
    let last = 1_500;
    let reading = std::thread::spawn(move || {
        let mut reader = Reader::open(&path).expect("opens");
        let mut next = 0;
        while next <= last {
            let Some(line) = reader.next().expect("reads") else { continue };
            if line.kind == "event_msg" {
                assert!(line.payload.contains(&format!("\"n\":{next},")), "line {next}");
                next += 1;
            }
        }
        assert_eq!(reader.bad_lines(), 0);
    });
    let mut n = 1;
    while n <= last {
        let items: Vec<_> = (n..=last.min(n + n % 4)).map(|n| item(n, (n * 7919) % 9_000)).collect();
        n += items.len();
        let _ = recorder.append(&items).expect("taken").written().expect("written");
    }
    reading.join().expect("every line");
}

/// Whoever resumes a transcript cuts its torn line off, and puts others in its place.
#[test]
fn a_line_begun_by_a_dead_writer_is_not_joined_with_the_next_ones() {
    for passed in [1, 30, 90] {
        let place = Place::new();
        let mut recorder = place.create();
        let _ = recorder.append(&[item(1, 50)]).expect("taken");
        drop(recorder);
        let mut file = OpenOptions::new().append(true).open(place.live()).expect("opens");
        file.write_all(&item(2, 200).text().as_bytes()[..passed]).expect("torn");
        let mut reader = Reader::open(&place.live()).expect("opens");
        assert_eq!(forwards(&mut reader).len(), 2);
        for _ in 0..2 {
            assert!(reader.next().expect("reads").is_none());
            assert_eq!((reader.torn_bytes(), reader.unfinished()), (passed as u64, None));
        }
        let mut recorder = place.resume();
        assert_eq!(recorder.torn().expect("torn").bytes, passed as u64);
        let _ = recorder.append(&[item(3, 400), item(4, 10)]).expect("taken").written().expect("written");
        let more: Vec<_> = forwards(&mut reader).into_iter().map(|line| line.2).collect();
        assert_eq!(more, [item(3, 400), item(4, 10)].map(|item| item.text().as_bytes().to_vec()));
        assert_eq!((reader.bad_lines(), reader.torn_bytes()), (0, 0));
        assert_eq!(reader.position(), Position { offset: recorder.end(), line: 4 });
    }
}

#[test]
fn a_path_is_believed_only_if_its_file_carries_the_threads_id() {
    let place = Place::new();
    let mut recorder = place.create();
    let _ = recorder.append(&[item(1, 5)]).expect("taken");
    drop(recorder);
    let locate = |hint: Option<&Path>| place.rollouts.locate(ID, hint).expect("found");
    assert_eq!(locate(Some(&place.live())).stale, None);
    assert_eq!((locate(None).path, locate(None).stale), (place.live(), None));

    let other = place.path("other.jsonl");
    let meta = fs::read_to_string(place.live()).expect("text").replace(ID, &ID.replace('1', "2"));
    fs::write(&other, meta).expect("written");
    fs::write(place.path("noise.jsonl"), "noise").expect("written");
    for (hint, reason) in [
        ("none.jsonl", Stale::Missing),
        ("other.jsonl", Stale::AnotherThread),
        ("noise.jsonl", Stale::Unreadable),
        ("sessions", Stale::Unreadable),
    ] {
        let found = locate(Some(&place.path(hint)));
        let stale = found.stale.expect("stale");
        assert_eq!((found.path, stale.path, stale.reason), (place.live(), place.path(hint), reason));
    }
    // A file whose name lies is not believed either.
    let liar = place.path("sessions/2026/01/02").join(NAME.replace("03-04-05", "09-09-09"));
    fs::copy(&other, &liar).expect("copied");
    assert_eq!(locate(None).path, place.live());
    fs::remove_file(place.live()).expect("removed");
    let gone = place.rollouts.locate(ID, Some(&place.live())).expect_err("gone");
    assert_eq!((gone.kind(), gone.path()), (ErrorKind::NotFound, Some(place.live().as_path())));
    assert_eq!(place.rollouts.locate("x", None).expect_err("no id").kind(), ErrorKind::Invalid);
}

/// A copied home brings the paths of the one it was copied from.
#[test]
fn a_copied_home_reads_its_own_transcripts() {
    let (place, original) = (Place::new(), Place::new());
    let _ = original.create().append(&[item(1, 5)]).expect("taken");
    let locate = || place.rollouts.locate(ID, Some(&original.live())).expect("found");
    assert_eq!((locate().path, locate().stale), (original.live(), None), "there is no other one");
    for inside in [place.archived(), place.live()] {
        fs::create_dir_all(inside.parent().expect("a folder")).expect("folders");
        fs::copy(original.live(), &inside).expect("copied");
        let found = locate();
        let stale = found.stale.expect("another one");
        assert_eq!((found.path, stale.path, stale.reason), (inside, original.live(), Stale::Elsewhere));
    }
    drop(place.rollouts.resume(ID, Some(&original.live()), AT_ONCE).expect("its own"));
    let link = place.path("link");
    std::os::unix::fs::symlink(place.path(""), &link).expect("a link");
    let same = link.join(place.live().strip_prefix(place.path("")).expect("below"));
    assert_eq!(place.rollouts.locate(ID, Some(&same)).expect("found").stale, None, "it leads here");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_a_failure(parts in prop::collection::vec(
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            Just(b"\n".to_vec()),
            prop_oneof![0_usize..500, 60_000_usize..70_000].prop_map(|size| format!("{}\n", item(size, size).text()).into_bytes()),
        ],
        0..12,
    )) {
        let place = Place::new();
        let path = place.path("a.jsonl");
        let text = parts.concat();
        fs::write(&path, &text).expect("written");
        let wanted = by_hand(&text);
        prop_assert_eq!(&forwards(&mut Reader::open(&path).expect("opens")), &wanted);
        let back: Vec<_> = backwards(&path, None).into_iter().map(|line| (line.1, line.2)).collect();
        prop_assert_eq!(back, wanted.into_iter().map(|line| (line.1, line.2)).collect::<Vec<_>>());
    }
}
