//! What pcc promises about time, measured: `cargo xtask bench`.

fn main() {}
