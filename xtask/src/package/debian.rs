//! The Debian package: what is in every package, below `/usr`, with what Debian wants besides. `dpkg-deb` makes it of a
//! folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contents::{self, Contents, DOCUMENTATION};
use super::{Architecture, VERSION, sh, source_date};
use crate::shell;

const CONTROL: &str = include_str!("debian/control");
const COPYRIGHT: &str = include_str!("debian/copyright");
const CHANGELOG: &str = include_str!("debian/changelog");
const OVERRIDES: &str = include_str!("debian/lintian-overrides");
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("debian/postinst")),
    ("prerm", include_str!("debian/prerm")),
    ("postrm", include_str!("debian/postrm")),
];

/// Makes the package in `folder`; `revision` counts packages of the same version.
pub fn package(folder: &Path, architecture: &Architecture, contents: &Contents, revision: u32) -> Result<PathBuf> {
    let version = format!("{VERSION}-{revision}");
    let name = format!("pcc_{version}_{}", architecture.debian);
    let tree = folder.join(&name);
    contents.write(&tree, |path| Path::new("usr").join(place(path)))?;
    let documentation = tree.join("usr").join(DOCUMENTATION);
    let within = |text: &str| {
        text.replace("@VERSION@", &version)
            .replace("@ARCHITECTURE@", architecture.debian)
            .replace("@MAINTAINER@", &maintainer())
    };
    let licence = fs::read_to_string(documentation.join("LICENSE-MIT")).context("reading the licence")?;
    contents::write(
        &documentation.join("copyright"),
        0o644,
        COPYRIGHT.replace("@MIT@", &paragraph(&licence)).as_bytes(),
    )?;
    let changelog = within(CHANGELOG).replace("@DATE@", &rfc_5322(&source_date())?);
    contents::write(&documentation.join("changelog.Debian"), 0o644, changelog.as_bytes())?;
    contents::write(&tree.join("usr/share/lintian/overrides/pcc"), 0o644, OVERRIDES.as_bytes())?;
    let control = tree.join("DEBIAN");
    for (script, text) in SCRIPTS {
        contents::write(&control.join(script), 0o755, text.as_bytes())?;
    }
    contents::write(&control.join("conffiles"), 0o644, b"/etc/pcc/pcc.toml\n")?;
    contents::write(&control.join("control"), 0o644, within(CONTROL).as_bytes())?;
    // `copyright` has the licences, and `changelog` is Debian's name of it.
    let script = format!(
        "cd {name}
        mkdir -p etc/pcc
        mv usr/{DOCUMENTATION}/pcc.toml etc/pcc
        rm usr/{DOCUMENTATION}/LICENSE*
        mv usr/{DOCUMENTATION}/CHANGELOG.md usr/{DOCUMENTATION}/changelog
        gzip -9n usr/share/man/man1/* usr/{DOCUMENTATION}/changelog*
        sed -i \"s/@SIZE@/$(du --summarize --apparent-size --block-size=1K --exclude=DEBIAN . | cut -f1)/\" DEBIAN/control
        find etc usr -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums
        cd ..
        dpkg-deb --root-owner-group --build {name} .
        rm -r {name}"
    );
    sh(folder, &script)?;
    Ok(folder.join(format!("{name}.deb")))
}

/// Lets lintian look at a package.
pub fn lint(package: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning"]);
    // Those of Debian itself, which wants a bug that asked for the package.
    lintian.args(["--suppress-tags", "initial-upload-closes-no-bugs,no-homepage-field"]);
    shell::run_quietly(lintian.arg(package))
}

/// Where Debian's zsh looks is not where others do.
fn place(path: &Path) -> PathBuf {
    path.strip_prefix("share/zsh/site-functions")
        .map_or_else(|_| path.to_owned(), |name| Path::new("share/zsh/vendor-completions").join(name))
}

/// As Debian's own tools find out who makes a package.
fn maintainer() -> String {
    let said = |name: &str, otherwise: &str| env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    format!("{} <{}>", said("DEBFULLNAME", "The pcc authors"), said("DEBEMAIL", "pcc@example.org"))
}

/// `text` within a field of a control file.
fn paragraph(text: &str) -> String {
    let lines: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") })
        .collect();
    lines.join("\n")
}

fn rfc_5322(seconds: &str) -> Result<String> {
    let date = shell::output(Command::new("date").args(["--utc", "--rfc-email", &format!("--date=@{seconds}")]));
    Ok(date.context("`date` failed")?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_in_a_field_is_a_dot() {
        assert_eq!(paragraph("One.\n\nTwo.\n"), " One.\n .\n Two.");
    }

    #[test]
    fn completions_of_zsh_are_where_debian_has_them() {
        assert_eq!(place(Path::new("share/zsh/site-functions/_pcc")), Path::new("share/zsh/vendor-completions/_pcc"));
        assert_eq!(place(Path::new("bin/pcc")), Path::new("bin/pcc"));
    }

    #[test]
    fn times_are_those_of_mail() {
        assert_eq!(rfc_5322("0").expect("`date` knows 1970"), "Thu, 01 Jan 1970 00:00:00 +0000");
    }
}
