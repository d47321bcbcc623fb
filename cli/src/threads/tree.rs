//! `rowhouse threads tree`: who started whom.

use std::collections::HashMap;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use rowhouse::stores::spawn_edges::{SpawnEdge, SpawnStatus};
use rowhouse::stores::{ThreadRow, Threads};
use rowhouse::{Error, ErrorKind, Home};
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::{NARROWEST_TITLE, short};
use crate::open;
use crate::output::{self, DIM, GOOD, Output};
use crate::table::{age, fit, rfc3339, time};

/// Levels whose lines are drawn; further down only the nearest ones are.
const LEVELS: usize = 16;

#[derive(Args)]
pub(super) struct TreeArguments {
    /// The thread; the beginning or the end of its id is enough
    #[arg(value_name = "ID")]
    id: String,
}

/// A thread and what is below it: each thread behind the one that started it, and all of its own behind it.
#[derive(Serialize)]
struct Tree {
    id: String,
    title: Option<String>,
    descendants: Vec<Node>,
    /// There are more than are shown.
    truncated: bool,
}

#[derive(Serialize)]
struct Node {
    id: String,
    parent_id: String,
    depth: u32,
    status: SpawnStatus,
    #[serde(serialize_with = "rfc3339")]
    started_at: i64,
    /// The user's name for it, else its title; also `None` when it has no row.
    title: Option<String>,
    /// No child of the same thread comes behind it.
    #[serde(skip)]
    last: bool,
}

pub(super) fn run(home: &Home, arguments: &TreeArguments, output: &Output) -> Result<()> {
    let runtime = open::state(home)?;
    let threads = runtime.threads();
    let id = threads.find_id(&arguments.id)?;
    let root = threads.get(&id)?;
    let found = runtime.spawn_edges().descendants(&id, None)?;
    if root.is_none() && found.edges.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "there is no such thread")
            .advise("look for it with: rowhouse threads list")
            .into());
    }
    let tree = Tree {
        descendants: nodes(&id, found.edges, &threads)?,
        id,
        title: root.and_then(title),
        truncated: found.truncated,
    };
    if output.is_json() {
        return output.document(&tree);
    }
    output.text(&drawn(&tree, output::width()))?;
    if tree.truncated {
        output::warn("there are more threads below it than are shown");
    }
    Ok(())
}

fn title(thread: ThreadRow) -> Option<String> {
    thread.name.or(thread.title).or(thread.preview)
}

/// The edges, breadth first, as nodes, depth first. Without recursion: a chain may be as long as a walk.
fn nodes(root: &str, edges: Vec<SpawnEdge>, threads: &Threads) -> rowhouse::Result<Vec<Node>> {
    let ids: Vec<_> = edges.iter().map(|edge| edge.child_id.as_str()).collect();
    let mut titles: HashMap<String, Option<String>> = HashMap::new();
    for thread in threads.get_all(&ids)?.into_iter().flatten() {
        titles.insert(thread.id.clone(), title(thread));
    }
    let mut children: HashMap<String, Vec<SpawnEdge>> = HashMap::new();
    for edge in edges {
        children.entry(edge.parent_id.clone()).or_default().push(edge);
    }
    let mut nodes = Vec::new();
    let mut next = Vec::new();
    let enter =
        |id: &str, children: &mut HashMap<String, Vec<SpawnEdge>>, next: &mut Vec<(SpawnEdge, bool)>| {
            let of_it = children.remove(id).unwrap_or_default();
            next.extend(of_it.into_iter().rev().enumerate().map(|(number, edge)| (edge, number == 0)));
        };
    enter(root, &mut children, &mut next);
    while let Some((edge, last)) = next.pop() {
        enter(&edge.child_id, &mut children, &mut next);
        nodes.push(Node {
            title: titles.remove(&edge.child_id).flatten(),
            id: edge.child_id,
            parent_id: edge.parent_id,
            depth: edge.depth,
            status: edge.status,
            started_at: edge.created_at,
            last,
        });
    }
    Ok(nodes)
}

/// A line per thread: lines of the tree, title, status, age, id. Titles are cut to `width` columns; nothing is without one.
fn drawn(tree: &Tree, width: Option<usize>) -> String {
    let now = Timestamp::now();
    let shown = |id: &str| if width.is_some() { short(id) } else { id.to_owned() };
    let untitled = |title: &Option<String>| title.clone().unwrap_or_else(|| "(untitled)".to_owned());
    let cut = |text: &str, taken: usize| match width {
        Some(width) => fit(text, width.saturating_sub(taken).max(NARROWEST_TITLE)),
        None => fit(text, usize::MAX),
    };
    let id = shown(&tree.id);
    let mut text = format!("{}  {DIM}{id}{DIM:#}\n", cut(&untitled(&tree.title), id.width() + 2));
    // For each level above the line, whether another child comes below.
    let mut lines: Vec<bool> = Vec::new();
    for node in &tree.descendants {
        lines.truncate(node.depth.saturating_sub(1) as usize);
        let hidden = lines.len().saturating_sub(LEVELS);
        let mut stem = if hidden > 0 { "…  ".to_owned() } else { String::new() };
        stem.extend(lines[hidden..].iter().map(|more| if *more { "│  " } else { "   " }));
        stem += if node.last { "└─ " } else { "├─ " };
        lines.push(!node.last);
        let (style, status) = match node.status {
            SpawnStatus::Open => (GOOD, "open"),
            SpawnStatus::Closed => (DIM, "closed"),
        };
        let (age, id) = (age(time(node.started_at), now), shown(&node.id));
        let taken = [stem.as_str(), status, &age, &id].map(UnicodeWidthStr::width).iter().sum::<usize>() + 6;
        let title = cut(&untitled(&node.title), taken);
        text.extend([
            format!("{DIM}{stem}{DIM:#}{title}  "),
            format!("{style}{status}{style:#}  {age}  {DIM}{id}{DIM:#}\n"),
        ]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32, depth: u32, last: bool) -> Node {
        Node {
            id: format!("0193a1b2-0000-7000-8000-0000{number:08}"),
            parent_id: String::new(),
            depth,
            status: if number.is_multiple_of(2) { SpawnStatus::Open } else { SpawnStatus::Closed },
            started_at: 0,
            title: Some(format!("Look into part {number} of a problem that takes many words to tell")),
            last,
        }
    }

    fn plain(tree: &Tree, width: Option<usize>) -> String {
        anstream::adapter::strip_str(&drawn(tree, width)).to_string()
    }

    fn tree(descendants: Vec<Node>) -> Tree {
        Tree { id: node(0, 0, true).id, title: Some("The whole".to_owned()), descendants, truncated: false }
    }

    #[test]
    fn lines_lead_from_each_thread_to_those_it_started() {
        let tree = tree(vec![
            node(1, 1, false),
            node(2, 2, true),
            node(3, 3, true),
            node(4, 1, true),
            node(5, 2, true),
        ]);
        let text = plain(&tree, Some(80));
        let stems: Vec<_> = text.lines().map(|line| line.split("Look").next().unwrap_or_default()).collect();
        assert_eq!(stems, ["The whole  00000000", "├─ ", "│  └─ ", "│     └─ ", "└─ ", "   └─ "], "{text}");
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        assert!(text.contains("…  closed") && text.contains("00000003"), "{text}");
        let piped = plain(&tree, None);
        assert!(piped.contains("to tell  open") && piped.contains(&tree.descendants[1].id), "{piped}");
    }

    #[test]
    fn a_long_chain_stays_readable() {
        let chain = tree((1..=10_000).map(|depth| node(depth, depth, true)).collect());
        let text = plain(&chain, Some(120));
        assert_eq!(text.lines().count(), 10_001);
        assert!(text.lines().all(|line| line.width() <= 120));
    }
}
