//! What the checkers must find. Without a checker most of it would rarely go wrong, or wait for ever.

use rowhouse_models::{check, controls};

#[test]
fn sound() {
    check(controls::sound);
}

#[cfg(feature = "shuttle")]
mod under_shuttle {
    use super::{check, controls};

    #[test]
    #[should_panic(expected = "the lender has left")]
    fn leaving_a_run_is_found() {
        check(controls::leaves_a_run);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn waking_nobody_is_found() {
        check(controls::wakes_nobody);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn impatience_unsaid_is_found() {
        check(controls::says_nothing);
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn overtaking_is_found() {
        check(controls::overtakes_itself);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn waiting_after_looking_is_found() {
        check(controls::looks_then_waits);
    }
}

/// `scripts/miri.sh --control` runs it, and expects that Miri reports undefined behaviour.
#[cfg(miri)]
#[test]
#[ignore = "undefined behaviour, to be found"]
fn leaving_a_run() {
    check(controls::leaves_a_run);
}
