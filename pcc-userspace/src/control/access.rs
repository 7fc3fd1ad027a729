//! Who may ask.
//!
//! Who may connect at all is judged by the kernel, which looks at the owner and mode of the socket and knows all groups of
//! who connects; a look at them here would come later, and know less. So whoever is connected may read. Changes are root's,
//! by the user that the kernel names for the other end.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::unistd::{Gid, Group};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Request;
use crate::problem::Problem;

/// Its members may read.
pub const GROUP: &str = "pcc";

/// Owning group and mode of the socket: for [`GROUP`] if there is one, else for root alone.
pub fn ownership(group: Option<Gid>) -> (Option<u32>, u32) {
    group.map_or((None, 0o600), |group| (Some(group.as_raw()), 0o660))
}

/// The group in the system's database.
pub fn group() -> Option<Gid> {
    Group::from_name(GROUP)
        .inspect_err(|error| tracing::warn!("looking for group `{GROUP}`: {error}"))
        .ok()
        .flatten()
        .map(|group| group.gid)
}

/// A socket at `path`, where nothing is yet, for root and `group`; the kernel lets `backlog` connections wait. It does not block.
///
/// # Errors
/// There is something already, no folder, or no right to give it to the group.
pub fn listen(path: &Path, group: Option<Gid>, backlog: i32) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let open = || -> io::Result<()> {
        // Before it listens nobody gets in, whatever the mode of a new file.
        let (owner, mode) = ownership(group);
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        if owner.is_some() {
            chown(path, None, owner)?;
        }
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok(rustix::net::listen(&socket, backlog)?)
    };
    open().inspect_err(|_| drop(fs::remove_file(path)))?;
    Ok(socket.into())
}

/// What user `uid`, who is connected, may ask.
///
/// # Errors
/// Not this.
pub fn permit(uid: u32, request: &Request) -> Result<(), Problem> {
    if request.changes() && uid != 0 {
        return Err(Problem::new(
            "permission denied: only root may change anything",
            format!("use root, for example by `sudo`; members of group `{GROUP}` may read"),
        ));
    }
    Ok(())
}

/// The answer to those who may not connect.
pub fn forbidden(path: &Path) -> Problem {
    let message = format!("permission denied: `{}`", path.display());
    if group().is_some() {
        let join = format!("`usermod --append --groups {GROUP} USER`, and log in again");
        Problem::new(message, format!("join the group `{GROUP}`, whose members may read, or use root: {join}"))
    } else {
        let create = format!("`groupadd --system {GROUP}` before its next start lets members of that group read");
        Problem::new(message, format!("use root; {create}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: [&str; 2] = [r#"{"request":"status"}"#, r#"{"request":"events"}"#];
    const CHANGING: [&str; 4] = [
        r#"{"request":"uplink","uplink":"a","change":{"weight":3},"persist":false}"#,
        r#"{"request":"reload"}"#,
        r#"{"request":"reload","try_seconds":3}"#,
        r#"{"request":"confirm"}"#,
    ];

    #[test]
    fn everybody_reads_and_only_root_changes() {
        let permitted = |uid, text| permit(uid, &serde_json::from_str(text).unwrap()).is_ok();
        for text in READING {
            assert!(permitted(0, text) && permitted(1000, text), "{text}");
        }
        for text in CHANGING {
            assert!(permitted(0, text) && !permitted(1000, text) && !permitted(u32::MAX, text), "{text}");
        }
    }

    #[test]
    fn without_the_group_only_root_connects() {
        assert_eq!(ownership(None), (None, 0o600));
        assert_eq!(ownership(Some(Gid::from_raw(77))), (Some(77), 0o660));
    }
}
