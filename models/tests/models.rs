//! Every model, tried as this build can.

macro_rules! models {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                rowhouse_models::check(rowhouse_models::models::$name);
            }
        )*
    };
}

models! {
    callers_that_borrow
    deadlines
    deadlines_in_a_storm
    full_queue
    close_while_callers_wait
    close_a_full_queue
    impatient_caller
    reserved_gate
    one_callers_order
    backlog
    tickets
    awaited_tickets
    polled_then_waited_for
    panicking_jobs
    panicking_drops
    panicking_wakers
    unwinding_lenders
    dying_writer
    discarded_captures
}
