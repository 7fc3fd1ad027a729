//! What is in every package.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell;

/// Files by their places below the prefix, `/usr` or `/usr/local`.
#[derive(Clone)]
pub struct Contents {
    files: Vec<File>,
}

#[derive(Clone)]
struct File {
    path: PathBuf,
    mode: u32,
    bytes: Vec<u8>,
}

/// Where the program is below the prefix.
pub const PROGRAM: &str = "bin/pcc";
/// Where the documentation is.
pub const DOCUMENTATION: &str = "share/doc/pcc";

/// Shells, as `pcc completions` knows them, and where they look for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/pcc"),
    ("zsh", "share/zsh/site-functions/_pcc"),
    ("fish", "share/fish/vendor_completions.d/pcc.fish"),
];

/// Files of the workspace that stand beside the documentation of the program.
const DOCUMENTS: [&str; 4] = ["CHANGELOG.md", "LICENSE", "LICENSE-MIT", "LICENSE-GPL-2.0"];

/// Its pages, which refer to other files, and their places there.
const PAGES: [(&str, &str); 2] = [("README.md", "README.md"), ("pcc-userspace/docs/migration.md", "docs/migration.md")];

impl Contents {
    /// Collects the files of the workspace, and what `program`, which runs here, says of itself. Files come and go in
    /// `folder`.
    pub fn collect(folder: &Path, program: &Path) -> Result<Self> {
        let mut contents = Self::of_workspace()?;
        contents.add_file(PROGRAM.into(), 0o755, program)?;
        for (shell, path) in COMPLETIONS {
            let mut command = Command::new(program);
            let text = shell::output(command.args(["completions", shell]));
            contents.add(path.into(), 0o644, text.with_context(|| format!("`pcc completions {shell}` failed"))?.into());
        }
        let pages = folder.join("man");
        fs::create_dir(&pages).with_context(|| format!("creating {}", pages.display()))?;
        shell::run_quietly(Command::new(program).arg("man").arg(&pages))?;
        for page in files_in(&pages)? {
            contents.add_file(Path::new("share/man/man1").join(name(&page)?), 0o644, &page)?;
        }
        fs::remove_dir_all(&pages)?;
        contents.add(Path::new(DOCUMENTATION).join("dependencies.txt"), 0o644, dependencies()?.into());
        Ok(contents)
    }

    fn of_workspace() -> Result<Self> {
        let mut contents = Self { files: Vec::new() };
        let root = shell::workspace();
        for document in DOCUMENTS {
            contents.add_file(Path::new(DOCUMENTATION).join(document), 0o644, &root.join(document))?;
        }
        for (page, place) in PAGES {
            let file = root.join(page);
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            contents.add(Path::new(DOCUMENTATION).join(place), 0o644, installed(&text).into());
        }
        let userspace = root.join("pcc-userspace");
        for file in files_in(&userspace.join("examples"))? {
            contents.add_file(Path::new(DOCUMENTATION).join("examples").join(name(&file)?), 0o644, &file)?;
        }
        for file in files_in(&userspace.join("dist"))? {
            contents.add_file(place(&name(&file)?), 0o644, &file)?;
        }
        Ok(contents)
    }

    /// The same with another program.
    pub fn with_program(&self, program: &Path) -> Result<Self> {
        let mut contents = self.clone();
        contents.files.retain(|file| file.path != Path::new(PROGRAM));
        contents.add_file(PROGRAM.into(), 0o755, program)?;
        Ok(contents)
    }

    /// Writes everything to where `place` says, below `folder`.
    pub fn write(&self, folder: &Path, place: impl Fn(&Path) -> PathBuf) -> Result<()> {
        for file in &self.files {
            write(&folder.join(place(&file.path)), file.mode, &file.bytes)?;
        }
        Ok(())
    }

    fn add_file(&mut self, path: PathBuf, mode: u32, file: &Path) -> Result<()> {
        let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        self.add(path, mode, bytes);
        Ok(())
    }

    fn add(&mut self, path: PathBuf, mode: u32, bytes: Vec<u8>) {
        self.files.push(File { path, mode, bytes });
    }
}

/// Writes a file with this mode, and the folders that it needs.
pub fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, bytes)?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Where a file of `pcc-userspace/dist` belongs.
fn place(name: &str) -> PathBuf {
    match name {
        "pcc.service" => "lib/systemd/system/pcc.service".into(),
        "pcc.sysusers" => "lib/sysusers.d/pcc.conf".into(),
        "pcc.toml" => Path::new(DOCUMENTATION).join(name),
        _ => Path::new("share/pcc").join(name),
    }
}

/// A page with links to where the files are once installed, and without pictures, which stay in the sources.
fn installed(page: &str) -> String {
    let lines: Vec<&str> = page.lines().filter(|line| !line.starts_with("![")).collect();
    let text = lines.join("\n") + "\n";
    [
        ("pcc-userspace/dist/pcc.service", "../../../lib/systemd/system/pcc.service"),
        ("pcc-userspace/dist/", "../../pcc/"),
        ("pcc-userspace/", ""),
        ("../../README.md", "../README.md"),
    ]
    .iter()
    .fold(text, |text, (from, to)| text.replace(&format!("]({from}"), &format!("]({to}")))
}

/// In the order of their names.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> Result<String> {
    let name = file.file_name().and_then(|name| name.to_str());
    Ok(name.with_context(|| format!("{} has no name", file.display()))?.to_owned())
}

/// The crates in the program, with their licences, one a line.
fn dependencies() -> Result<String> {
    let mut command = shell::cargo();
    command.args(["tree", "--package", "pcc-userspace", "--edges", "normal", "--prefix", "none"]);
    command.args(["--target", super::X86_64.target, "--format", "{p}: {l}"]);
    let text = shell::output(&mut command).context("`cargo tree` failed")?;
    // Those of the workspace have a path behind the version.
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.contains("(/")).collect();
    lines.retain(|line| !line.ends_with("(*)"));
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_place_of_its_own_is_shared_data() {
        assert_eq!(place("pcc.service"), Path::new("lib/systemd/system/pcc.service"));
        assert_eq!(place("alerts.yml"), Path::new("share/pcc/alerts.yml"));
    }

    #[test]
    fn links_lead_to_installed_files() {
        let contents = Contents::of_workspace().expect("the workspace is there");
        let mut count = 0;
        for page in contents.files.iter().filter(|file| file.path.extension().is_some_and(|it| it == "md")) {
            let text = String::from_utf8_lossy(&page.bytes);
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.starts_with('#') || link.starts_with("https://") {
                    continue;
                }
                let mut path = page.path.parent().expect("it is in a folder").to_owned();
                for word in link.split('/') {
                    if word == ".." { assert!(path.pop(), "{link}") } else { path.push(word) }
                }
                assert!(contents.files.iter().any(|file| file.path == path), "{}: `{link}`", page.path.display());
                count += 1;
            }
        }
        assert!(count > 4, "{count} links");
    }

    #[test]
    fn dependencies_are_crates_of_others_once_each() {
        let text = dependencies().expect("`cargo tree` knows the workspace");
        let tokio: Vec<&str> = text.lines().filter(|line| line.starts_with("tokio v")).collect();
        assert_eq!(tokio.len(), 1, "{text}");
        assert!(tokio[0].ends_with(": MIT"), "{tokio:?}");
        assert!(!text.contains("pcc-ebpf"), "{text}");
    }
}
