use rowhouse::{Domain, ErrorKind, Home, Migration, Runtime};
use std::time::Duration;

const M: &[Migration] = &[Migration { name: "V1__t", sql: "CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT, v TEXT)" }];

#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let rt = Runtime::builder(Home::at(dir.path().join("h"))).domain(Domain::new("cache").migrations(M)).open().unwrap();
    let db = rt.database("cache").unwrap();
    for i in 0..10 { db.write(move |tx| tx.execute("INSERT INTO t VALUES (?1,'k','v')", [i])).unwrap(); }
    std::thread::scope(|s| {
        for t in 0..16 {
            let db = db.clone();
            s.spawn(move || for i in 0..100 { db.write(|tx| tx.execute("INSERT INTO t VALUES (?1,'k','v')", [1000 + t * 1000 + i])).unwrap(); });
        }
    });
    let n: i64 = db.read(|at| at.row("SELECT count(*) FROM t", [], |r| r.get(0))).unwrap();
    assert_eq!(n, 1610);
    let tickets: Vec<_> = (0..1000).map(|i| db.submit(move |tx| tx.execute("INSERT INTO t VALUES (?1,'k','v')", [100_000 + i])).unwrap()).collect();
    for t in tickets { t.wait().unwrap(); }
    let seen = db.changes().unwrap();
    db.write(|tx| tx.execute("DELETE FROM t WHERE id = 1", [])).unwrap();
    assert!(db.wait_for_change(seen, Duration::from_secs(5)).unwrap() > seen);
    let e = db.write(|tx| tx.execute("COMMIT", [])).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    let e = db.write(|_| -> rowhouse::Result<()> { panic!("x") }).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Panicked, "{e}");
    println!("{:?} {:?}", db.stats(), db.health());
    println!("{:?}", rt.close(Duration::from_secs(1)));
}
