//! The models. Each is one execution: a few threads, joined, then an audit of what was committed.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize as Count, Ordering::Relaxed, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::engine::{Engine, Failure, Ledger, Told, Weather};
use crate::handoff::lanes::{Lane, Lanes, Queued, Refused};
use crate::harness::{Scope, burst, chance, never, past, scope, some_time, soon};
use crate::sync::{Arc, Condvar, Instant, Mutex, thread};

const CALM: Weather = Weather { loses: false, fails: false, holds: false, dies: false };
const LOSSES: Weather = Weather { loses: true, ..CALM };
const STORM: Weather = Weather { loses: true, fails: true, ..CALM };
const FLAPPING: Weather = Weather { holds: true, ..CALM };
const DEATH: Weather = Weather { loses: true, dies: true, ..CALM };

/// A place on the caller's own stack that its job writes to without any synchronization: only the hand-over orders it.
struct Own(UnsafeCell<u32>);

// SAFETY: written by the job, and read by its owner when the job cannot run any more; that is what is modelled.
unsafe impl Sync for Own {}

impl Own {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    /// One more run.
    fn bump(&self) {
        // SAFETY: see `Sync`.
        unsafe { *self.0.get() += 1 };
    }

    fn runs(&self) -> u32 {
        // SAFETY: see `Sync`.
        unsafe { *self.0.get() }
    }
}

/// What a caller learnt of the job with this number.
struct Report {
    number: u32,
    told: Told<u32>,
    /// How often it ran until its caller left, where the caller can know.
    runs: Option<u32>,
    /// The same, and what came after.
    trace: Arc<Trace>,
}

impl Report {
    fn new(number: u32, told: Told<u32>) -> Self {
        Self { number, told, runs: None, trace: Arc::default() }
    }
}

/// The runs of a job, in a place that outlives its caller.
#[derive(Default)]
struct Trace {
    runs: Count,
    inside: AtomicBool,
}

impl Trace {
    /// A run, in whose middle others get on.
    fn run(&self) {
        self.runs.fetch_add(1, SeqCst);
        self.inside.store(true, SeqCst);
        moment();
        self.inside.store(false, SeqCst);
    }
}

/// A moment in which the other threads get on.
fn moment() {
    thread::park_timeout(Duration::from_nanos(1));
}

/// One write of a job that borrows from this stack.
fn write(engine: &Engine, lane: Lane, deadline: Instant, number: u32) -> Report {
    let own = Own::new();
    let text = format!("job {number}");
    let trace = Arc::<Trace>::default();
    let told = engine.write(lane, deadline, |ledger: &Ledger| {
        trace.run();
        own.bump();
        assert!(text.starts_with("job"));
        ledger.add(number);
        Ok(number)
    });
    assert!(!trace.inside.load(SeqCst), "its caller has left while it runs");
    Report { number, told, runs: Some(own.runs()), trace }
}

/// What one thread does, and learns.
type Caller<'a> = dyn Fn(&Engine) -> Vec<Report> + Sync + 'a;

/// Runs the callers, closes when they are done, and holds what they learnt against what was committed.
fn run(engine: Engine, most: usize, callers: &[&Caller<'_>]) -> Vec<u32> {
    let reports = scope(|scope| {
        scope.spawn(|| engine.work(most));
        let callers: Vec<_> = callers.iter().map(|caller| scope.spawn(|| caller(&engine))).collect();
        let reports: Vec<_> =
            callers.into_iter().flat_map(|caller| caller.join().expect("it reports")).collect();
        engine.close();
        reports
    });
    let kept = engine.audit();
    for Report { number, told, runs, trace } in reports {
        let times = kept.iter().filter(|kept| **kept == number).count();
        match told {
            Told::Answer(Ok(answer)) => {
                assert_eq!((answer, times), (number, 1), "acknowledged, so committed once");
                assert_ne!(runs, Some(0), "acknowledged, so run");
            }
            Told::Answer(Err(_)) => assert_eq!(times, 0, "failed, so not committed"),
            Told::Unknown => assert!(times <= 1),
            Told::Withdrawn | Told::Refused(_) => {
                assert_eq!(times, 0, "withdrawn, so not committed");
                assert!(runs.is_none_or(|runs| runs == 0), "and not even run");
            }
        }
        assert!(
            runs.is_none_or(|runs| trace.runs.load(SeqCst) == runs as usize),
            "its caller has left, and it ran"
        );
    }
    kept
}

/// Callers without deadlines: each is answered, with its own answer, whatever befalls the batches.
pub fn callers_that_borrow() {
    let caller = |number| {
        move |engine: &Engine| {
            let report = write(engine, Lane::Normal, never(), number);
            assert_eq!(report.told, Told::Answer(Ok(number)));
            vec![report]
        }
    };
    assert_eq!(run(Engine::new(4, LOSSES), 2, &[&caller(1), &caller(2), &caller(3)]).len(), 3);
}

/// Deadlines that come at any moment: before, during and after a run, and between two runs of a batch.
pub fn deadlines() {
    let caller = |number| move |engine: &Engine| vec![write(engine, Lane::Background, soon(), number)];
    let late = |engine: &Engine| vec![write(engine, Lane::Background, past(), 3)];
    run(Engine::new(4, LOSSES), 3, &[&caller(1), &caller(2), &late]);
}

/// The same with batches that fail for good, in both lanes, and with the gate open.
pub fn deadlines_in_a_storm() {
    let caller = |number, lane| {
        move |engine: &Engine| {
            vec![write(engine, lane, some_time(), number), write(engine, lane, soon(), number + 10)]
        }
    };
    run(Engine::new(4, STORM), 2, &[&caller(1, Lane::Normal), &caller(2, Lane::Background)]);
}

/// A queue for one: who waits for room gets it, or is told at its deadline; nobody is forgotten.
pub fn full_queue() {
    let patient = |number| move |engine: &Engine| vec![write(engine, Lane::Background, never(), number)];
    let hasty = |number| move |engine: &Engine| vec![write(engine, Lane::Background, soon(), number)];
    let kept = run(Engine::new(1, CALM), 1, &[&patient(1), &patient(2), &patient(3), &hasty(4)]);
    assert!([1, 2, 3].iter().all(|number| kept.contains(number)));
}

/// Closing while callers wait for room, for their turn, for their answer.
pub fn close_while_callers_wait() {
    let caller = |number| {
        move |engine: &Engine| {
            let report = write(engine, Lane::Background, never(), number);
            assert!(matches!(
                report.told,
                Told::Answer(Ok(_) | Err(Failure::Closed)) | Told::Refused(Refused::Closed)
            ));
            vec![report]
        }
    };
    let closer = |engine: &Engine| {
        engine.close();
        Vec::new()
    };
    run(Engine::new(1, LOSSES), 1, &[&caller(1), &caller(2), &caller(3), &closer]);
}

/// A job that only waits in a queue.
#[derive(Debug, PartialEq)]
struct Plain;

impl Queued for Plain {
    fn lane(&self) -> Lane {
        Lane::Normal
    }

    fn may_go(&self) -> Option<usize> {
        None
    }
}

/// The same without a writer: closing wakes who waits for room.
pub fn close_a_full_queue() {
    let lanes = Lanes::new(1);
    lanes.push(Plain, never()).expect("room");
    scope(|scope| {
        let waits = scope.spawn(|| lanes.push(Plain, never()));
        scope.spawn(|| lanes.close());
        assert_eq!(waits.join().expect("it ends"), Err(Refused::Closed));
    });
}

/// A caller whose deadline passes during its run leaves at the end of that run, not of the batch.
pub fn impatient_caller() {
    let (left, leaves) = (Mutex::new(false), Condvar::new());
    let hasty = |engine: &Engine| {
        let report = write(engine, Lane::Background, soon(), 1);
        *left.lock() = true;
        leaves.notify_all();
        vec![report]
    };
    let patient = |engine: &Engine| {
        let told = engine.write(Lane::Background, never(), |ledger: &Ledger| {
            let mut left = left.lock();
            while !*left {
                leaves.wait_until(&mut left, never());
            }
            ledger.add(2);
            Ok(2)
        });
        vec![Report::new(2, told)]
    };
    run(Engine::new(4, CALM), 2, &[&hasty, &patient]);
}

/// A checkpoint that reserves the gate gets in, alone.
pub fn reserved_gate() {
    let inside = AtomicBool::new(false);
    let alone = || {
        assert!(!inside.swap(true, Relaxed), "one at a time is inside");
        moment();
        inside.store(false, Relaxed);
    };
    let caller = |number: u32| {
        move |engine: &Engine| {
            let told = engine.write(Lane::Normal, never(), |ledger: &Ledger| {
                alone();
                ledger.add(number);
                Ok(number)
            });
            vec![Report::new(number, told)]
        }
    };
    let checkpoint = |engine: &Engine| {
        for _ in 0..2 {
            let guard = engine.reserve();
            alone();
            drop(guard);
        }
        Vec::new()
    };
    run(Engine::new(4, CALM), 2, &[&caller(1), &caller(2), &checkpoint]);
}

/// The jobs of one caller are committed in the order in which it gave them, submitted and written ones.
pub fn one_callers_order() {
    let caller = |engine: &Engine| {
        let first = engine.submit(never(), owned(10)).expect("room");
        let second = write(engine, Lane::Normal, never(), 11);
        let third = engine.submit(never(), owned(12)).expect("room");
        let fourth = write(engine, Lane::Normal, never(), 13);
        vec![Report::new(10, first.wait()), second, Report::new(12, third.wait()), fourth]
    };
    let other = |engine: &Engine| {
        vec![write(engine, Lane::Normal, never(), 1), write(engine, Lane::Normal, never(), 2)]
    };
    let kept = run(Engine::new(4, LOSSES), 2, &[&caller, &other]);
    let of =
        |range: std::ops::Range<u32>| kept.iter().copied().filter(|n| range.contains(n)).collect::<Vec<_>>();
    assert_eq!(of(10..20), [10, 11, 12, 13]);
    assert_eq!(of(0..10), [1, 2]);
}

fn owned(number: u32) -> impl Fn(&Ledger) -> Result<u32, Failure> + Send + 'static {
    let text = format!("job {number}");
    move |ledger| {
        assert!(text.starts_with("job"));
        ledger.add(number);
        Ok(number)
    }
}

/// A backlog of two jobs: nobody waits for room, who is pushed out is told, and what is put back keeps its order and
/// counts once, whoever gives up on it meanwhile.
pub fn backlog() {
    let submits = |engine: &Engine| {
        let tickets =
            [10, 11, 12].map(|number| (number, engine.keep(never(), 2, owned(number)).expect("open")));
        let mut reports = Vec::new();
        for (number, mut ticket) in tickets {
            let told = ticket.wait_for_ever();
            assert!(matches!(told, Told::Answer(Ok(_) | Err(Failure::PushedOut))));
            reports.push(Report::new(number, told));
        }
        reports
    };
    let hasty = |engine: &Engine| {
        let ticket = engine.keep(some_time(), 2, owned(2)).expect("open");
        let _ = chance(2) && ticket.cancel();
        vec![Report::new(2, ticket.wait())]
    };
    let writes = |engine: &Engine| vec![write(engine, Lane::Normal, soon(), 3)];
    let kept = run(Engine::new(1, FLAPPING), 2, &[&submits, &hasty, &writes]);
    let order: Vec<_> = kept.into_iter().filter(|n| *n >= 10).collect();
    assert!(order.is_sorted(), "{order:?}");
}

/// Tickets, waited for in each way, one after the other and with the job's own deadline.
pub fn tickets() {
    let waits = |engine: &Engine| {
        let told = match engine.submit(some_time(), owned(1)) {
            Ok(ticket) => ticket.wait(),
            Err(refused) => Told::Refused(refused),
        };
        vec![Report::new(1, told)]
    };
    let looks = |engine: &Engine| {
        let mut ticket = engine.submit(never(), owned(2)).expect("room");
        let told = ticket.wait_for(Duration::from_nanos(2)).unwrap_or_else(|| ticket.wait_for_ever());
        assert_eq!(told, Told::Answer(Ok(2)));
        vec![Report::new(2, told)]
    };
    let cancels = |engine: &Engine| {
        let ticket = engine.submit(never(), owned(3)).expect("room");
        let cancelled = ticket.cancel();
        let told = ticket.wait();
        assert_eq!(told, if cancelled { Told::Withdrawn } else { Told::Answer(Ok(3)) });
        vec![Report::new(3, told)]
    };
    run(Engine::new(4, LOSSES), 2, &[&waits, &looks, &cancels]);
}

/// Unparks whoever awaits, and says that it was this that did.
struct Unpark {
    waiting: thread::Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.woken.store(true, SeqCst);
        self.waiting.unpark();
    }
}

/// Awaits as an executor does: polls again only when the waker that it gave was used.
fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let unpark = std::sync::Arc::new(Unpark { waiting: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(unpark.clone());
    loop {
        if let Poll::Ready(value) = poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        while !unpark.woken.swap(false, SeqCst) {
            thread::park();
        }
    }
}

/// Tickets that are awaited.
pub fn awaited_tickets() {
    let awaits = |number| {
        move |engine: &Engine| {
            let mut ticket = engine.submit(never(), owned(number)).expect("room");
            let told = block_on(|context| ticket.poll(context));
            assert_eq!(told, Told::Answer(Ok(number)));
            vec![Report::new(number, told)]
        }
    };
    // Drops it: the job runs all the same.
    let forgets = |engine: &Engine| {
        drop(engine.submit(never(), owned(3)).expect("room"));
        Vec::new()
    };
    let kept = run(Engine::new(4, LOSSES), 2, &[&awaits(1), &awaits(2), &forgets]);
    assert!(kept.contains(&3));
}

/// Polled, then waited for in vain: the waker that was given still hears of the answer.
pub fn polled_then_waited_for() {
    let waits = |engine: &Engine| {
        let mut ticket = engine.submit(never(), owned(1)).expect("room");
        let mut first = true;
        let told = block_on(|context| {
            let polled = ticket.poll(context);
            if polled.is_ready() || !std::mem::take(&mut first) {
                return polled;
            }
            ticket.wait_for(Duration::from_nanos(1)).map_or(Poll::Pending, Poll::Ready)
        });
        assert_eq!(told, Told::Answer(Ok(1)));
        vec![Report::new(1, told)]
    };
    run(Engine::new(4, CALM), 2, &[&waits]);
}

/// Jobs that fail or panic, beside one that must not notice.
pub fn panicking_jobs() {
    let fails = |engine: &Engine| {
        let told = engine.write(Lane::Normal, never(), |ledger: &Ledger| {
            ledger.add(1);
            Err(Failure::Own)
        });
        assert_eq!(told, Told::Answer(Err(Failure::Own)));
        vec![Report::new(1, told)]
    };
    let panics = |engine: &Engine| {
        let own = Own::new();
        let told = engine.write(Lane::Normal, never(), |ledger: &Ledger| -> Result<u32, Failure> {
            own.bump();
            ledger.add(2);
            burst()
        });
        assert_eq!(told, Told::Answer(Err(Failure::Panicked)));
        assert!(own.runs() > 0);
        vec![Report::new(2, told)]
    };
    let neighbour = |engine: &Engine| {
        let report = write(engine, Lane::Normal, never(), 3);
        assert_eq!(report.told, Told::Answer(Ok(3)));
        vec![report]
    };
    assert_eq!(run(Engine::new(4, LOSSES), 3, &[&fails, &panics, &neighbour]), [3]);
}

/// Panics when it is dropped, unless that has happened.
struct Bomb<'a>(&'a AtomicBool);

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        if !self.0.swap(true, Relaxed) {
            burst();
        }
    }
}

/// A bomb that owns its fuse.
struct Grenade(Arc<AtomicBool>);

impl Drop for Grenade {
    fn drop(&mut self) {
        drop(Bomb(&self.0));
    }
}

/// Whatever panics while the writer drops it, what a closure captured or an answer that is not wanted any more, takes
/// nobody else along.
pub fn panicking_drops() {
    let capture = |engine: &Engine| {
        let fuse = Arc::new(AtomicBool::new(false));
        let grenade = Grenade(fuse.clone());
        let ticket = engine.submit(never(), move |ledger: &Ledger| {
            let _ = &grenade;
            ledger.add(1);
            Ok(1)
        });
        let told = ticket.expect("room").wait();
        assert!(matches!(told, Told::Answer(Ok(1) | Err(Failure::Fatal))));
        vec![Report::new(1, told)]
    };
    let answer = |engine: &Engine| {
        let fuse = Arc::new(AtomicBool::new(false));
        let told = engine.queue(Lane::Normal, never(), |ledger: &Ledger| {
            ledger.add(2);
            Ok(Grenade(fuse.clone()))
        });
        // This thread drops the last one.
        fuse.store(true, Relaxed);
        assert!(matches!(told, Told::Answer(Ok(_) | Err(Failure::Fatal))));
        Vec::new()
    };
    let neighbour = |engine: &Engine| {
        let report = write(engine, Lane::Background, never(), 3);
        assert!(matches!(report.told, Told::Answer(Ok(3) | Err(Failure::Fatal))));
        vec![report]
    };
    run(Engine::new(4, STORM), 3, &[&capture, &answer, &neighbour]);
}

/// A waker that panics.
struct BadWaker;

impl Wake for BadWaker {
    fn wake(self: std::sync::Arc<Self>) {
        burst()
    }
}

/// A waker that panics takes nobody else along.
pub fn panicking_wakers() {
    let polls = |engine: &Engine| {
        let mut ticket = engine.submit(never(), owned(1)).expect("room");
        let waker = Waker::from(std::sync::Arc::new(BadWaker));
        if let Poll::Ready(told) = ticket.poll(&mut Context::from_waker(&waker)) {
            return vec![Report::new(1, told)];
        }
        Vec::new()
    };
    let neighbour = |engine: &Engine| {
        let report = write(engine, Lane::Background, never(), 3);
        assert_eq!(report.told, Told::Answer(Ok(3)));
        vec![report]
    };
    let mut kept = run(Engine::new(4, CALM), 3, &[&polls, &neighbour]);
    kept.sort_unstable();
    assert_eq!(kept, [1, 3]);
}

/// A lender that panics after its job was queued leaves only when the job is done for.
pub fn unwinding_lenders() {
    let bursts = |engine: &Engine| {
        let own = Own::new();
        let text = String::from("mine");
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            engine.queue_and_burst(never(), |_: &Ledger| {
                own.bump();
                assert_eq!(text, "mine");
                Ok(())
            })
        }));
        assert!(unwound.is_err());
        drop(text);
        assert!(own.runs() < 10);
        Vec::new()
    };
    let neighbour = |engine: &Engine| {
        let report = write(engine, Lane::Background, never(), 3);
        assert_eq!(report.told, Told::Answer(Ok(3)));
        vec![report]
    };
    run(Engine::new(4, LOSSES), 2, &[&bursts, &neighbour]);
}

/// The writer dies in the middle of a batch: everybody is told, nobody's closure is run after that.
pub fn dying_writer() {
    let caller = |number| {
        move |engine: &Engine| {
            let report = write(engine, Lane::Background, never(), number);
            assert!(matches!(
                report.told,
                Told::Answer(Ok(_) | Err(Failure::Abandoned | Failure::Closed))
                    | Told::Refused(Refused::Closed)
            ));
            vec![report]
        }
    };
    let hasty = |engine: &Engine| vec![write(engine, Lane::Background, soon(), 2)];
    let awaits = |engine: &Engine| {
        let told = match engine.submit(never(), owned(3)) {
            Ok(mut ticket) => block_on(|context| ticket.poll(context)),
            Err(refused) => Told::Refused(refused),
        };
        vec![Report::new(3, told)]
    };
    run(Engine::new(4, DEATH), 3, &[&caller(1), &hasty, &awaits]);
}

/// What a job captured goes when the job is over, with the thread that settled it, not with the ticket.
pub fn discarded_captures() {
    let held = Arc::new(Count::new(0));
    let engine = Engine::new(4, LOSSES);
    let ticket = scope(|scope: &Scope<'_, '_>| {
        let writer = scope.spawn(|| engine.work(2));
        let job = {
            let held = held.clone();
            move |ledger: &Ledger| {
                held.fetch_add(1, Relaxed);
                ledger.add(1);
                Ok(1)
            }
        };
        let mut ticket = engine.submit(never(), job).expect("room");
        let cancelled = chance(2) && ticket.cancel();
        let told = ticket.wait_for_ever();
        assert_eq!(told, if cancelled { Told::Withdrawn } else { Told::Answer(Ok(1)) });
        engine.close();
        writer.join().expect("it lives");
        ticket
    });
    assert_eq!(Arc::strong_count(&held), 1, "the writer dropped what the job captured");
    drop(ticket);
    engine.audit();
}
