//! What the tests of the whole share: the namespace lab.

pub mod exposition;
pub mod lab;
pub mod packet;
pub mod predict;
