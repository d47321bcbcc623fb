//! Several hosts over one server: their processes, what those were told, and whether it is so.
#![allow(unreachable_pub)]

pub mod check;
pub mod clock;
pub mod work;
