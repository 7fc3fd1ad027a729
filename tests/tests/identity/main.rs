//! Nobody outside can tell whether packets took a shortcut: the same random packets, sound and broken, go through a router
//! without shortcuts, one with those of tc, and one with those of XDP, and what comes out is the same.

#![expect(clippy::unwrap_used, reason = "all of it is tests, of which the lint knows only the functions")]

mod compare;
mod frame;
mod generate;
mod run;
mod world;
