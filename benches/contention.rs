//! The smallest units of contention, for watching a change: one write by 1 and 8 callers, one submitted write, one
//! read. The full comparison on a disk is `rowhouse bench contention`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[path = "../cli/src/bench/workloads/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the command measures more than this, and has the tests")]
mod workloads;

use workloads::callers::insert_for;
use workloads::subjects::{Kind, connect, open_library};
use workloads::{Synchronous, bulk, reads};

const SUBMITTED: u64 = 1_000;
const CALLS: Duration = Duration::from_millis(200);

fn writes(criterion: &mut Criterion) {
    let folder = folder();
    let mut group = criterion.benchmark_group("write");
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        for kind in [Kind::Rowhouse, Kind::Pool, Kind::Raw] {
            for callers in [1, 8] {
                if kind == Kind::Raw && callers > 1 {
                    continue;
                }
                let name = format!("{}/{}/{callers}", kind.as_str(), synchronous.as_str());
                let subject = kind.open(&folder.path().join(&name), "bench", synchronous).expect("it opens");
                group.bench_function(BenchmarkId::from_parameter(&name), |bencher| {
                    bencher.iter_custom(|wanted| {
                        // The time of one commit, from a run of its own: criterion's count is a weight here.
                        let run = insert_for(&subject, callers, CALLS).expect("every write is acknowledged");
                        Duration::from_secs_f64(run.seconds / run.ops as f64).mul_f64(wanted as f64)
                    });
                });
            }
        }
    }
    group.finish();
}

fn submit(criterion: &mut Criterion) {
    let folder = folder();
    let library = open_library(folder.path(), "bench", Synchronous::Full).expect("it opens");
    let mut group = criterion.benchmark_group("submit");
    group.throughput(Throughput::Elements(SUBMITTED));
    group.bench_function("1000", |bencher| {
        bencher.iter(|| bulk::submit(&library.database, SUBMITTED).expect("every write is acknowledged"));
    });
    group.finish();
}

fn read_point(criterion: &mut Criterion) {
    let folder = folder();
    let library = open_library(folder.path(), "bench", Synchronous::Full).expect("it opens");
    let mut connection = connect(&folder.path().join("raw.db"), Synchronous::Full).expect("it opens");
    reads::fill(&library.database, Some(&mut connection)).expect("the rows are there");
    let mut group = criterion.benchmark_group("read_point");
    let mut keys = reads::Keys::default();
    group.bench_function("rowhouse", |bencher| {
        bencher.iter(|| reads::through_library(&library.database, keys.next()).expect("the row is there"));
    });
    group.bench_function("raw", |bencher| {
        bencher.iter(|| reads::through_connection(&connection, keys.next()).expect("the row is there"));
    });
    group.finish();
}

/// Beside the build, which is on a disk; the system's temporary folder may be memory.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

criterion_group! {
    name = contention;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = writes, submit, read_point
}
criterion_main!(contention);
