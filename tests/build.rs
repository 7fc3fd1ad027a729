//! Passes on where the build script of `pcc-userspace` left the bench's kernel programs.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(folder) = env::var("DEP_PCC_OBJECTS") {
        println!("cargo::rustc-env=TRAFFIC_OBJECT={folder}/pcc-traffic");
    }
}
