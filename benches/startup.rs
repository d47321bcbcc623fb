//! A warm open of the four built-in databases, by the library and by hand. The full comparison, with many processes and
//! a held lock, is `rowhouse bench startup`.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

#[path = "../cli/src/bench/workloads/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the command measures more than this, and has the tests")]
mod workloads;

use workloads::opens::Opener;

fn open_warm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open_warm");
    for opener in [Opener::Rowhouse, Opener::Plain] {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        Opener::Rowhouse.time(home.path()).expect("it is created");
        group.bench_function(opener.as_str(), |bencher| {
            bencher.iter_custom(|opens| {
                (0..opens).map(|_| opener.time(home.path()).expect("it opens")).sum::<Duration>()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = startup;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = open_warm
}
criterion_main!(startup);
