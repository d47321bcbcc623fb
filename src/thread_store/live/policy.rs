//! Which items of a running session become history.

use crate::rollout::Item;
use crate::rollout::records::Line;

/// Events that only say how far something is; what they lead to is an item of its own.
const PROGRESS: [&str; 4] = ["background_event", "mcp_startup_update", "stream_error", "web_search_begin"];

/// Decides which items are kept.
#[derive(Clone, Copy, Debug, Default)]
pub enum PersistencePolicy {
    /// Everything but progress: pieces of an answer that is still coming (`event_msg` whose type ends in `_delta`), and
    /// events that only say how far something is. What an answer became is an item of its own.
    #[default]
    WithoutProgress,
    /// Everything.
    All,
    /// What this function says.
    Custom(fn(&Item) -> bool),
}

impl PersistencePolicy {
    /// Whether this item is kept.
    pub fn keeps(self, item: &Item) -> bool {
        match self {
            Self::All => true,
            Self::Custom(keeps) => keeps(item),
            Self::WithoutProgress => item.kind() != "event_msg" || !is_progress(item),
        }
    }
}

fn is_progress(item: &Item) -> bool {
    // What names no type is kept: nobody knows what it is worth.
    serde_json::from_str::<Line<'_>>(item.text()).is_ok_and(|line| {
        let kind = line.payload_kind();
        kind.ends_with("_delta") || PROGRESS.contains(&kind.as_ref())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_of_an_answer_are_not_kept_and_what_is_unknown_is() {
        let item = |kind, payload| Item::new(kind, &payload).expect("an item");
        let policy = PersistencePolicy::default();
        for kind in ["agent_message_delta", "exec_command_output_delta", "background_event"] {
            let piece = item("event_msg", json!({"type": kind, "delta": "so"}));
            assert!(!policy.keeps(&piece), "{kind}");
            assert!(PersistencePolicy::All.keeps(&piece));
        }
        for kept in [
            item("event_msg", json!({"type": "agent_message", "message": "so"})),
            item("event_msg", json!({"type": "later"})),
            item("event_msg", json!(7)),
            item("response_item", json!({"type": "message_delta"})),
        ] {
            assert!(policy.keeps(&kept), "{kept:?}");
        }
        assert!(!PersistencePolicy::Custom(|_| false).keeps(&item("event_msg", json!(7))));
    }
}
