//! Whose Unix socket is this? A client that asks the wrong process for its secrets gets wrong secrets.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{access, Access};

/// Where the packaged daemon listens.
const DEFAULT_SOCKET: &str = "/run/jarvis-secretsd/secretsd.sock";

/// Returns why the socket at `path` isn't to be trusted, or None when it is (rule 7).
///
/// Trusted are sockets of root and of the caller's own user. A daemon with a user of its own is vouched for by root: its
/// socket lies in a folder of that same user, into which nobody else writes, and every folder above is root's (or the
/// caller's) and closed to others. So systemd makes `/run/jarvis-secretsd`.
pub(crate) fn doubt(path: &Path) -> Option<String> {
    match examine(path) {
        Ok(doubt) => doubt,
        Err(error) => Some(format!("{}: {}", path.display(), error.kind())),
    }
}

fn examine(path: &Path) -> std::io::Result<Option<String>> {
    let own = rustix::process::geteuid().as_raw();
    let trusted = |metadata: &Metadata| metadata.uid() == 0 || metadata.uid() == own;
    let open_to_others = |metadata: &Metadata| metadata.mode() & 0o022 != 0;
    let real = path.canonicalize()?;
    let socket = real.metadata()?;
    if !socket.file_type().is_socket() {
        return Ok(Some(format!("{} is not a socket", path.display())));
    }
    if trusted(&socket) {
        return Ok(None);
    }
    let uid = socket.uid();
    let mut folders = real.ancestors().skip(1);
    let Some(folder) = folders.next() else {
        return Ok(Some(format!("{} lies in no folder", path.display())));
    };
    let closest = folder.metadata()?;
    if closest.uid() != uid || open_to_others(&closest) {
        return Ok(Some(format!(
            "{} belongs to uid {uid}, neither root nor you, in a folder that isn't closed",
            path.display()
        )));
    }
    for above in folders {
        let above = above.metadata()?;
        if !trusted(&above) || open_to_others(&above) {
            return Ok(Some(format!(
                "{} belongs to uid {uid} below a folder that others than root may change",
                path.display()
            )));
        }
    }
    Ok(None)
}

/// Returns the packaged daemon's socket where there is one that this process may use and can trust.
pub(crate) fn usable_default() -> Option<PathBuf> {
    let path = Path::new(DEFAULT_SOCKET);
    let usable = access(path, Access::READ_OK | Access::WRITE_OK).is_ok() && doubt(path).is_none();
    usable.then(|| path.to_owned())
}
