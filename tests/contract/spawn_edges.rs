//! Spawn edges: one parent each, walks that are breadth first and end, and closing or opening what is below a thread.

use rowhouse::stores::spawn_edges::{SpawnEdges, SpawnStatus};
use rowhouse::{Domain, ErrorKind};

use crate::engines::{self, Alone};

fn open() -> (Alone, SpawnEdges) {
    let alone = engines::alone(Domain::state());
    let edges = alone.runtime.spawn_edges();
    (alone, edges)
}

fn id(number: u32) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{number:012x}")
}

/// 1 started 2 and 3, 2 started 4, 4 started 5.
fn family(edges: &SpawnEdges) {
    for (parent, child) in [(1, 2), (2, 4), (4, 5), (1, 3)] {
        assert!(edges.add(&id(parent), &id(child)).expect("new"));
    }
}

fn below(edges: &SpawnEdges, root: u32, status: Option<SpawnStatus>) -> Vec<(String, u32)> {
    let found = edges.descendants(&id(root), status).expect("a walk");
    assert!(!found.truncated);
    found.edges.into_iter().map(|edge| (edge.child_id, edge.depth)).collect()
}

#[test]
fn a_walk_is_breadth_first_and_says_how_deep() {
    let (_runtime, edges) = open();
    family(&edges);
    assert_eq!(below(&edges, 1, None), [(id(2), 1), (id(3), 1), (id(4), 2), (id(5), 3)]);
    assert_eq!(below(&edges, 5, None), []);
    let children: Vec<_> =
        edges.children(&id(1), None).expect("children").into_iter().map(|one| one.child_id).collect();
    assert_eq!(children, [id(2), id(3)]);
    assert_eq!(edges.parent(&id(4)).expect("read").expect("it has one").parent_id, id(2));
    assert_eq!(edges.parent(&id(1)).expect("read"), None);
}

#[test]
fn children_are_named_with_or_without_a_status() {
    let (_runtime, edges) = open();
    family(&edges);
    edges.set_status(&id(2), SpawnStatus::Closed, false).expect("closed");
    let children = |status| {
        let found = edges.children(&id(1), status).expect("children");
        found.into_iter().map(|edge| (edge.child_id, edge.status)).collect::<Vec<_>>()
    };
    let (closed, open) = ((id(2), SpawnStatus::Closed), (id(3), SpawnStatus::Open));
    assert_eq!(children(None), [closed.clone(), open.clone()]);
    assert_eq!(children(Some(SpawnStatus::Open)), [open]);
    assert_eq!(children(Some(SpawnStatus::Closed)), [closed]);
}

#[test]
fn a_walk_ends_on_a_cycle() {
    let (_runtime, edges) = open();
    family(&edges);
    edges.add(&id(5), &id(1)).expect("a cycle");
    assert_eq!(below(&edges, 1, None).len(), 4, "each thread once");
    assert_eq!(below(&edges, 4, None), [(id(5), 1), (id(1), 2), (id(2), 3), (id(3), 3)]);
    assert_eq!(edges.set_status(&id(1), SpawnStatus::Closed, true).expect("closed"), 5);
}

#[test]
fn a_thread_has_one_parent() {
    let (_runtime, edges) = open();
    assert!(edges.add(&id(1), &id(2)).expect("new"));
    edges.set_status(&id(2), SpawnStatus::Closed, false).expect("closed");
    assert!(!edges.add(&id(1), &id(2)).expect("the same"), "it stays as it is");
    assert_eq!(edges.parent(&id(2)).expect("read").expect("it has one").status, SpawnStatus::Closed);
    assert_eq!(edges.add(&id(3), &id(2)).expect_err("another").kind(), ErrorKind::Conflict);
    for (parent, child) in [(id(1), id(1)), ("nine".to_owned(), id(4)), (id(4), String::new())] {
        assert_eq!(edges.add(&parent, &child).expect_err("refused").kind(), ErrorKind::Invalid);
    }
}

#[test]
fn closing_can_close_what_is_below_and_resuming_can_open_it_again() {
    let (_runtime, edges) = open();
    family(&edges);
    assert_eq!(edges.set_status(&id(2), SpawnStatus::Closed, false).expect("closed"), 1);
    assert_eq!(below(&edges, 1, Some(SpawnStatus::Open)), [(id(3), 1)], "not through a closed edge");
    assert_eq!(below(&edges, 2, Some(SpawnStatus::Open)), [(id(4), 1), (id(5), 2)]);
    assert_eq!(
        edges.set_status(&id(2), SpawnStatus::Closed, true).expect("closed"),
        2,
        "those that were open"
    );
    assert_eq!(edges.set_descendants(&id(1), SpawnStatus::Open).expect("opened"), 3);
    assert_eq!(below(&edges, 1, Some(SpawnStatus::Open)).len(), 4);
    assert_eq!(edges.set_status(&id(9), SpawnStatus::Closed, true).expect("no such thread"), 0);
}
