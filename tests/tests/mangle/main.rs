//! RouterOS's mangle rules in the kernel, against an interpreter that was written from the description of RouterOS and
//! shares no code with the walk.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of it is tests, of which the lints know only the functions"
)]

mod bench;
mod bugs;
mod compare;
mod fields;
mod frame;
mod generate;
mod lookup3;
mod reference;
mod rules;
mod run;
mod script;
mod size;
mod world;
