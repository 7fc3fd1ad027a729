//! The tarball: what is in every package, for the prefix `/usr/local`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::contents::Contents;
use super::{Architecture, VERSION, sh};

/// Makes the tarball in `folder`.
pub fn tarball(folder: &Path, architecture: &Architecture, contents: &Contents) -> Result<PathBuf> {
    let name = format!("pcc-{VERSION}-{}", architecture.tarball);
    let tree = folder.join(&name);
    contents.write(&tree, Path::to_owned)?;
    sh(
        folder,
        &format!(
            "tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$SOURCE_DATE_EPOCH -c {name} \
             | gzip -9n > {name}.tar.gz && rm -r {name}"
        ),
    )?;
    Ok(folder.join(format!("{name}.tar.gz")))
}
