//! Varints and records (<https://sqlite.org/fileformat.html#varint>, `#record_format`).
//!
//! Only what SQLite itself writes is read: varints and integers in their shortest form, a header that ends where it
//! says, contents that fill the payload to its last byte, text in UTF-8. A damaged byte in a length or a type breaks
//! one of these nearly always. Tests below.

use rusqlite::types::ValueRef;

/// The most columns a table can have (<https://sqlite.org/limits.html>, at compile time).
const MAX_COLUMNS: usize = 32_767;

/// A varint in its shortest form, and its length.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            let value = value << 8 | u64::from(byte);
            return (value >> 56 != 0).then_some((value, 9));
        }
        value = value << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return (at == 0 || value >> (7 * at) != 0).then_some((value, at + 1));
        }
    }
    None
}

/// A field's type, as the record's header tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serial {
    Null,
    /// An integer in so many bytes.
    Int(usize),
    Float,
    /// 0 or 1, without content.
    Bit(bool),
    Blob(usize),
    Text(usize),
}

impl Serial {
    fn of(code: u64) -> Option<Self> {
        Some(match code {
            // 10 and 11 are reserved; SQLite reads them as NULL, and only damage writes them.
            0 | 10 | 11 => Self::Null,
            1..=4 => Self::Int(code as usize),
            5 => Self::Int(6),
            6 => Self::Int(8),
            7 => Self::Float,
            8 | 9 => Self::Bit(code == 9),
            _ => {
                let length = usize::try_from((code - 12) / 2).ok()?;
                if code.is_multiple_of(2) { Self::Blob(length) } else { Self::Text(length) }
            }
        })
    }

    fn length(self) -> usize {
        match self {
            Self::Null | Self::Bit(_) => 0,
            Self::Int(length) | Self::Blob(length) | Self::Text(length) => length,
            Self::Float => 8,
        }
    }

    fn value(self, content: &[u8]) -> Option<ValueRef<'_>> {
        Some(match self {
            Self::Null => ValueRef::Null,
            Self::Bit(bit) => ValueRef::Integer(i64::from(bit)),
            Self::Int(length) => ValueRef::Integer(integer(content, length)?),
            Self::Float => {
                let number = f64::from_be_bytes(content.try_into().ok()?);
                // SQLite stores NULL instead.
                if number.is_nan() {
                    return None;
                }
                ValueRef::Real(number)
            }
            Self::Blob(_) => ValueRef::Blob(content),
            Self::Text(_) => ValueRef::Text(std::str::from_utf8(content).ok()?.as_bytes()),
        })
    }
}

/// A big-endian integer that needs all its bytes.
fn integer(content: &[u8], length: usize) -> Option<i64> {
    let sign = if content.first()? & 0x80 == 0 { 0 } else { 0xFF };
    let mut bytes = [sign; 8];
    bytes[8 - length..].copy_from_slice(content);
    let value = i64::from_be_bytes(bytes);
    let magnitude = if value < 0 { !value } else { value };
    let shorter = match length {
        1 => 0,
        6 => 4,
        8 => 6,
        length => length - 1,
    };
    // 0 and 1 in one byte are of old files.
    (shorter == 0 || magnitude >> (8 * shorter - 1) != 0).then_some(value)
}

/// The types that a payload's header names, and how long contents and header are together. The contents may still be
/// missing from `payload`, as they are in the part of a large row that lies on its leaf.
pub(super) fn header(payload: &[u8], serials: &mut Vec<Serial>) -> Option<(usize, u64)> {
    serials.clear();
    let (length, mut at) = varint(payload)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= payload.len())?;
    let mut end = length as u64;
    while at < length {
        let (code, taken) = varint(&payload[at..length])?;
        let serial = Serial::of(code)?;
        if serials.len() == MAX_COLUMNS {
            return None;
        }
        serials.push(serial);
        at += taken;
        end = end.checked_add(serial.length() as u64)?;
    }
    (at == length && !serials.is_empty()).then_some((length, end))
}

/// The fields of a whole payload.
pub(super) fn decode<'a>(payload: &'a [u8], serials: &mut Vec<Serial>) -> Option<Vec<ValueRef<'a>>> {
    let (mut at, end) = header(payload, serials)?;
    if end != payload.len() as u64 {
        return None;
    }
    serials
        .iter()
        .map(|serial| {
            let content = &payload[at..at + serial.length()];
            at += serial.length();
            serial.value(content)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_read_in_their_shortest_form_only() {
        assert_eq!(varint(&[0x00, 9]), Some((0, 1)));
        assert_eq!(varint(&[0x7F]), Some((127, 1)));
        assert_eq!(varint(&[0x81, 0x00]), Some((128, 2)));
        assert_eq!(varint(&[0xFF; 9]), Some((u64::MAX, 9)));
        assert_eq!(
            varint(&[0x80, 0xA0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
            None,
            "56 bits fit eight bytes"
        );
        assert_eq!(varint(&[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), Some((1 << 57, 9)));
        for bad in [&[][..], &[0x80], &[0x80, 0x01], &[0xFF; 8]] {
            assert_eq!(varint(bad), None, "{bad:?}");
        }
    }

    fn fields(payload: &[u8]) -> Option<Vec<ValueRef<'_>>> {
        decode(payload, &mut Vec::new())
    }

    #[test]
    fn a_record_is_read_field_by_field() {
        let payload = [9, 0, 1, 2, 7, 8, 9, 15, 16, 0xFB, 1, 0, 0x40, 4, 0, 0, 0, 0, 0, 0, b'a', 1, 2];
        assert_eq!(
            fields(&payload).expect("a record"),
            [
                ValueRef::Null,
                ValueRef::Integer(-5),
                ValueRef::Integer(256),
                ValueRef::Real(2.5),
                ValueRef::Integer(0),
                ValueRef::Integer(1),
                ValueRef::Text(b"a"),
                ValueRef::Blob(&[1, 2]),
            ]
        );
        for cut in 0..payload.len() {
            assert_eq!(fields(&payload[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn integers_come_back_whole_at_every_width() {
        for (code, length) in [(1u8, 1usize), (2, 2), (3, 3), (4, 4), (5, 6), (6, 8)] {
            let most = i64::MAX >> (64 - 8 * length);
            for value in [most, !most] {
                let mut payload = vec![2, code];
                payload.extend_from_slice(&value.to_be_bytes()[8 - length..]);
                assert_eq!(fields(&payload), Some(vec![ValueRef::Integer(value)]), "{value} in {length}");
            }
        }
    }

    #[test]
    fn what_sqlite_does_not_write_is_no_record() {
        let bad: [(&str, &[u8]); 8] = [
            ("an empty payload", &[]),
            ("a header of nothing", &[1]),
            ("a header longer than the payload", &[9, 1, 5]),
            ("a type cut by the header's end", &[2, 0x81, 0x00]),
            ("a byte left over", &[2, 1, 5, 5]),
            ("an integer longer than it needs", &[2, 2, 0, 5]),
            ("text that is not UTF-8", &[2, 15, 0xFF]),
            ("not a number", &[2, 7, 0x7F, 0xF8, 0, 0, 0, 0, 0, 1]),
        ];
        for (what, payload) in bad {
            assert_eq!(fields(payload), None, "{what}");
        }
        let endless = [10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(fields(&endless), None, "lengths are not believed");
    }
}
