//! An initial file system for a Linux kernel, made from the programs of this machine.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell;

/// A cpio archive in the "newc" format, written as it grows. Folders come by themselves; a path is written once.
pub struct Initramfs {
    out: BufWriter<File>,
    written: BTreeSet<PathBuf>,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

impl Initramfs {
    /// An archive in `file` with the usual links between `/usr` and the root.
    pub fn create(file: &Path) -> Result<Self> {
        let out = File::create(file).with_context(|| format!("creating {}", file.display()))?;
        let mut archive = Self { out: BufWriter::new(out), written: BTreeSet::new() };
        for name in ["bin", "sbin", "lib", "lib64"] {
            archive.link(&Path::new("/").join(name), &Path::new("usr").join(name))?;
        }
        Ok(archive)
    }

    /// A folder.
    pub fn folder(&mut self, path: &Path) -> Result<()> {
        self.entry(path, FOLDER, &[])
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        self.entry(path, LINK, target.as_os_str().as_bytes())
    }

    /// An executable file with these contents.
    pub fn script(&mut self, path: &Path, text: &str) -> Result<()> {
        self.entry(path, PROGRAM, text.as_bytes())
    }

    /// The host's `file` at `path`.
    pub fn file(&mut self, path: &Path, file: &Path) -> Result<()> {
        let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        self.entry(path, PROGRAM, &bytes)
    }

    /// The host's `program` at `path`, and the shared libraries that it loads where the host has them.
    pub fn program(&mut self, path: &Path, program: &Path) -> Result<()> {
        self.file(path, program)?;
        // `ldd` fails for a static program, which has none.
        let libraries = shell::output(Command::new("ldd").arg(program)).unwrap_or_default();
        for library in libraries.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/'))) {
            self.file(&without_links(Path::new(library))?, Path::new(library))?;
        }
        Ok(())
    }

    /// Everything below the host's `folder` that `wanted` says, at `path`.
    pub fn tree(&mut self, path: &Path, folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry?;
            let (from, to) = (entry.path(), path.join(entry.file_name()));
            if !wanted(&from) {
                continue;
            }
            if entry.file_type()?.is_dir() { self.tree(&to, &from, wanted)? } else { self.file(&to, &from)? }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<()> {
        self.raw(b"TRAILER!!!", 0, &[])?;
        self.out.flush().context("writing the initial file system")
    }

    fn entry(&mut self, path: &Path, mode: u32, contents: &[u8]) -> Result<()> {
        if self.written.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("/")) {
            self.folder(parent)?;
        }
        self.written.insert(path.to_owned());
        self.raw(path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes(), mode, contents)
    }

    fn raw(&mut self, name: &[u8], mode: u32, contents: &[u8]) -> Result<()> {
        let inode = self.written.len();
        let size = u32::try_from(contents.len()).context("a file of 4 GiB does not fit a cpio archive")?;
        let mut header = format!("070701{inode:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}", 0, 0, 1, 0);
        header.push_str(&"00000000".repeat(4));
        header.push_str(&format!("{:08x}{:08x}", name.len() + 1, 0));
        let padding = |length: usize| &[0; 3][..length.wrapping_neg() % 4];
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(name)?;
        self.out.write_all(&[0])?;
        self.out.write_all(padding(header.len() + name.len() + 1))?;
        self.out.write_all(contents)?;
        self.out.write_all(padding(contents.len()))?;
        Ok(())
    }
}

/// `path` with the links in its folder resolved: `/lib/x/y.so.1` is `/usr/lib/x/y.so.1`, under the name asked for.
fn without_links(path: &Path) -> Result<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path.to_owned()) };
    Ok(folder.canonicalize().with_context(|| format!("resolving {}", folder.display()))?.join(name))
}
