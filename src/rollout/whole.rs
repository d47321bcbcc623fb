//! What stands between the two ends of a transcript, without keeping it.
//!
//! Of each kind of line that says something about the thread the one that counts is kept, and of messages the first.
//! A line longer than 4 MiB is passed over.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::first_message::FirstMessage;
use super::records::Line;
use super::windows::WIDEST;
use crate::error::{Error, Result};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// The lines that count, in their order.
#[derive(Default)]
pub(super) struct Middle {
    pub(super) lines: Vec<u8>,
    /// Lines that are no record.
    pub(super) bad_lines: u64,
    /// What reading cost.
    pub(super) bytes_read: u64,
}

#[derive(Default)]
struct Kept {
    event: Option<(u64, Vec<u8>)>,
    item: Option<(u64, Vec<u8>)>,
    turn: Option<(u64, Vec<u8>)>,
    tokens: Option<(u64, Vec<u8>)>,
    user: Option<(u64, Vec<u8>)>,
    bad_lines: u64,
}

/// Reads whole lines: the range begins and ends between two.
///
/// # Errors
/// Those of `go_on`, which is asked before every MiB; the operating system's.
pub(super) fn read(file: &File, gap: Range<u64>, go_on: &mut dyn FnMut() -> Result<()>) -> Result<Middle> {
    let mut kept = Kept::default();
    let mut line: Vec<u8> = Vec::new();
    // Of a line that is too long the rest is passed over.
    let mut too_long = false;
    let mut piece = vec![0; PIECE];
    let mut at = gap.start;
    while at < gap.end {
        go_on()?;
        let wanted = PIECE.min(usize::try_from(gap.end - at).unwrap_or(PIECE));
        let read = match file.read_at(&mut piece[..wanted], at) {
            // It became shorter.
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(
                    Error::new(crate::ErrorKind::Io, "the transcript cannot be read").caused_by(error)
                );
            }
        };
        for part in piece[..read].split_inclusive(|byte| *byte == b'\n') {
            let begins_at = at;
            at += part.len() as u64;
            too_long |= line.len() + part.len() > WIDEST as usize;
            if !too_long {
                line.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                if !too_long {
                    kept.look_at(begins_at, &line);
                }
                line.clear();
                too_long = false;
            }
        }
    }
    let bytes_read = at - gap.start;
    Ok(Middle { bad_lines: kept.bad_lines, lines: kept.in_order(), bytes_read })
}

impl Kept {
    fn look_at(&mut self, at: u64, text: &[u8]) {
        if text.trim_ascii().is_empty() {
            return;
        }
        let Ok(line) = serde_json::from_slice::<Line<'_>>(text) else {
            self.bad_lines += 1;
            return;
        };
        let first = |place: &mut Option<(u64, Vec<u8>)>| {
            place.get_or_insert_with(|| (at, text.to_vec()));
        };
        let last = |place: &mut Option<(u64, Vec<u8>)>| *place = Some((at, text.to_vec()));
        match line.kind.as_ref() {
            "turn_context" => last(&mut self.turn),
            "thread_metadata" => last(&mut self.user),
            "response_item"
                if self.item.is_none()
                    && line.payload_kind() == "message"
                    && FirstMessage::of_item(line.read()).is_some() =>
            {
                first(&mut self.item);
            }
            "event_msg" => match line.payload_kind().as_ref() {
                "user_message" if FirstMessage::of_event(line.read()).is_some() => first(&mut self.event),
                "token_count" if line.payload().contains("total_tokens") => last(&mut self.tokens),
                _ => {}
            },
            _ => {}
        }
    }

    fn in_order(self) -> Vec<u8> {
        let mut all: Vec<_> =
            [self.event, self.item, self.turn, self.tokens, self.user].into_iter().flatten().collect();
        all.sort_unstable_by_key(|(at, _)| *at);
        all.into_iter().flat_map(|(_, text)| text).collect()
    }
}
