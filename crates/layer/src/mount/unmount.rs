//! Taking away an overlay with all that was made for it, by what the kernel shows of it.

use std::path::Path;

use anyhow::{Error, Result, bail, ensure};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::mountinfo::Mount;
use super::undo::{Made, SOURCE, Undo};

/// What to do with a mount that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detach {
    /// Leave it.
    WhenFree,
    /// Take it out of sight at once; it lasts until its last user is gone.
    Now,
}

/// Unmounts the overlay that ovl-mount mounted at `target`, and removes what it made for it: the target, the workdir, a
/// tmpfs. An upperdir that was named stays, with the changes in it.
///
/// # Errors
/// Nothing is mounted there, or not by ovl-mount; the mount is in use; what was made cannot be removed.
pub fn unmount(target: &Path, detach: Detach) -> Result<()> {
    let mount = Mount::find(target)?;
    let Some(made) = Made::parse(&mount.source).filter(|_| mount.fs_type == "overlay") else {
        let (fs_type, source) = (mount.fs_type.display(), mount.source.display());
        bail!("was not mounted by ovl-mount but is a mount of type {fs_type} from `{source}` (use umount(8))");
    };
    // What is to be removed must be known before the mount is gone.
    let overlay = if made.work || made.scratch { Some(mount.overlay()?) } else { None };
    let writable = overlay.and_then(|overlay| overlay.writable);
    let scratch = match &writable {
        Some(dirs) if made.scratch => Some(Mount::find(dirs.upper.parent().unwrap_or(Path::new("/")))?),
        _ => None,
    };
    let mut undo = Undo::default();
    if made.target {
        undo.remove_dir(&mount.target);
    }
    if let Some(scratch) = &scratch {
        ensure!(scratch.fs_type == "tmpfs" && scratch.source == SOURCE, "its tmpfs is gone (use umount(8))");
        undo.remove_dir(&scratch.target);
        undo.unmount(&scratch.target);
    } else if let Some(dirs) = writable.as_ref().filter(|_| made.work) {
        undo.remove_work(&dirs.work);
    }
    if let Err(err) = take_off(&mount.target, detach) {
        undo.disarm();
        return Err(err);
    }
    undo.run()
}

fn take_off(target: &Path, detach: Detach) -> Result<()> {
    let flags = match detach {
        Detach::WhenFree => UnmountFlags::NOFOLLOW,
        Detach::Now => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    rustix::mount::unmount(target, flags).map_err(|errno| {
        let hint = match errno {
            Errno::BUSY => " (a process uses it, see `fuser -vm`; --lazy takes it out of sight now)",
            Errno::PERM => " (needs CAP_SYS_ADMIN)",
            _ => "",
        };
        Error::new(errno).context(format!("cannot unmount{hint}"))
    })
}
