//! A job's label: what it is for, in a few bytes that are copied, not allocated.

/// Bytes of a label; longer ones are cut at a character.
const LABEL_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Label {
    bytes: [u8; LABEL_BYTES],
    len: u8,
}

impl Label {
    pub(crate) fn new(text: &str) -> Self {
        let len = text.floor_char_boundary(LABEL_BYTES);
        let mut bytes = [0; LABEL_BYTES];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self { bytes, len: len as u8 }
    }

    /// `None` for one that nobody gave.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok().filter(|text| !text.is_empty())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}
