//! pcc.
fn main() {}
