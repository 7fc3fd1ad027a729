//! Kernel parameters below `/proc/sys`. Keys are written with slashes: `net/ipv4/ip_forward`.
//!
//! Keys below `net` mean the network namespace of the calling thread.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The value of `key` without its line end; `None` where the kernel has no such key.
pub fn read(key: &str) -> Result<Option<String>> {
    match fs::read_to_string(path(key)?) {
        Ok(value) => Ok(Some(value.trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading sysctl `{key}`")),
    }
}

/// Sets `key` to `value`.
pub fn write(key: &str, value: &str) -> Result<()> {
    fs::write(path(key)?, value).with_context(|| format!("setting sysctl `{key}` to `{value}`"))
}

/// The path of `key`, which may not lead out of `/proc/sys`.
fn path(key: &str) -> Result<PathBuf> {
    let inside = Path::new(key).components().all(|part| matches!(part, Component::Normal(_)));
    ensure!(inside && !key.is_empty(), "`{key}` is not the name of a sysctl");
    Ok(Path::new("/proc/sys").join(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_says_what_is_not() {
        assert!(read("kernel/ostype").unwrap().is_some_and(|value| value == "Linux"));
        assert_eq!(read("net/ipv4/no_such_key").unwrap(), None);
    }

    #[test]
    fn errors_name_the_key() {
        let error = write("kernel/ostype", "x").unwrap_err();
        assert_eq!(error.to_string(), "setting sysctl `kernel/ostype` to `x`");
        for outside in ["../passwd", "/etc/passwd", "net/../../x", ""] {
            assert!(write(outside, "x").unwrap_err().to_string().contains("is not the name"), "{outside}");
        }
    }
}
