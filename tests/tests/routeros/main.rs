//! RouterOS configurations, run with real packets: what an outsider sees is what `routeros.md` and RouterOS promise.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod example;
mod hashing;
mod import;
mod inbound;
mod life;
mod recursive;
mod refusal;
mod scripts;
mod versions;
