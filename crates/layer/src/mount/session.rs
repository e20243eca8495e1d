//! A mount from what was asked for to what is there: directories are made, mounted, and taken back on failure.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::undo::{Made, Undo, is_own_dir};
use super::{Lower, MountRecord, OverlayMount, Writable, absolute, kernel, mountinfo, namespace};

/// Where the changes of an overlay shall go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upper {
    /// Nowhere: the overlay is read-only.
    ReadOnly,
    /// Into a tmpfs of the mount's own, gone with it.
    Scratch,
    /// Into a directory.
    Dir {
        /// The upperdir; it is created where it is missing.
        upper: PathBuf,
        /// The workdir; `.NAME.work` beside the upperdir where none is given.
        work: Option<PathBuf>,
    },
}

/// An overlay as it was asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The directory to mount on; it is created where it is missing.
    pub target: PathBuf,
    /// Layers, base first.
    pub lowers: Vec<Lower>,
    /// Where changes go.
    pub upper: Upper,
    /// Whether overlayfs' marks are in `user.overlay.*`. In a user namespace they always are.
    pub user_xattr: bool,
}

/// An overlay that is mounted. Dropped, it is unmounted, and what was made for it is removed, but for what
/// [`Mounted::keep`] and [`Mounted::close`] leave.
#[derive(Debug)]
pub struct Mounted {
    target: PathBuf,
    overlay: OverlayMount,
    undo: Undo,
    upper_undo: Undo,
}

impl Plan {
    /// Returns the mount(8) command that mounts the same, for sh.
    ///
    /// # Errors
    /// A command cannot do it: a tmpfs, more options than mount(8) passes on, no or too many layers.
    pub fn command(&self) -> Result<Vec<u8>> {
        let writable = match &self.upper {
            Upper::ReadOnly => None,
            Upper::Dir { upper, work } => Some(writable(upper, work.as_deref())?),
            Upper::Scratch => anyhow::bail!("a private tmpfs has no command"),
        };
        self.overlay(writable).command(&absolute(&self.target)?)
    }

    /// Mounts it.
    ///
    /// # Errors
    /// Whatever hinders; nothing stays mounted or created then.
    pub fn mount(&self) -> Result<Mounted> {
        self.overlay(None).check()?;
        let mut undo = Undo::default();
        let mut upper_undo = Undo::default();
        let mut made = Made::default();
        let target = absolute(&self.target)?;
        made.target = undo.create_dir(&target)?;
        let target = fs::canonicalize(&target).context("cannot open")?;
        let writable = match &self.upper {
            Upper::ReadOnly => None,
            Upper::Scratch => Some(self.scratch(&mut undo, &mut made)?),
            Upper::Dir { upper, work } => {
                let dirs = writable(upper, work.as_deref())?;
                ensure_unused(&dirs)?;
                self.create_upper(&dirs.upper, &mut upper_undo)?;
                made.work = create_work(&dirs.work, work.is_none(), &mut undo)?;
                Some(dirs)
            }
        };
        let overlay = self.overlay(writable);
        kernel::mount(&overlay, &target, made)?;
        undo.unmount(&target);
        Ok(Mounted { target, overlay, undo, upper_undo })
    }

    fn overlay(&self, writable: Option<Writable>) -> OverlayMount {
        let user_xattr = self.user_xattr || namespace::in_user_namespace();
        OverlayMount { lowers: self.lowers.clone(), writable, user_xattr }
    }

    /// Mounts a tmpfs with an upperdir and a workdir in a new directory of TMPDIR.
    fn scratch(&self, undo: &mut Undo, made: &mut Made) -> Result<Writable> {
        let tmp = std::env::temp_dir();
        let dir = tempfile::Builder::new().prefix("ovl-mount.").tempdir_in(&tmp);
        let dir = dir.with_context(|| format!("cannot create a directory in `{}`", tmp.display()))?.keep();
        undo.remove_dir(&dir);
        let dir = fs::canonicalize(&dir).with_context(|| format!("cannot open `{}`", dir.display()))?;
        kernel::mount_tmpfs(&dir)?;
        made.scratch = true;
        undo.unmount(&dir);
        let dirs = Writable { upper: dir.join("upper"), work: dir.join("work") };
        // They go with the tmpfs.
        let mut kept = Undo::default();
        self.create_upper(&dirs.upper, &mut kept)?;
        kept.create_dir(&dirs.work)?;
        kept.disarm();
        Ok(dirs)
    }

    /// Creates the upperdir where it is missing, with the metadata of the top layer's root: it is the root that is seen.
    fn create_upper(&self, upper: &Path, undo: &mut Undo) -> Result<()> {
        if undo.create_dir(upper)?
            && let Some(top) = self.lowers.last()
        {
            let from = fs::metadata(&top.path).with_context(|| format!("cannot use `{}`", top.path.display()))?;
            copy_metadata(&from, upper).with_context(|| format!("cannot set metadata of `{}`", upper.display()))?;
        }
        Ok(())
    }
}

fn copy_metadata(from: &fs::Metadata, to: &Path) -> Result<()> {
    // Without privileges, or where the owner has no number here, the directory stays this user's.
    if rustix::process::geteuid().is_root() && !namespace::in_user_namespace() {
        std::os::unix::fs::chown(to, Some(from.uid()), Some(from.gid()))?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(from.mode() & 0o7777))?;
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(from.atime(), from.atime_nsec()),
        last_modification: time(from.mtime(), from.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::empty())?)
}

fn writable(upper: &Path, work: Option<&Path>) -> Result<Writable> {
    let upper = absolute(upper)?;
    let work = match work {
        Some(work) => absolute(work)?,
        None => work_beside(&upper)?,
    };
    Ok(Writable { upper, work })
}

fn work_beside(upper: &Path) -> Result<PathBuf> {
    let name = upper.file_name().with_context(|| format!("`{}` has no name (give --work)", upper.display()))?;
    let mut work = OsString::from(".");
    work.push(name);
    work.push(".work");
    Ok(upper.with_file_name(work))
}

/// Creates the workdir where it is missing, and says whether it is ours to remove: the `default` one is, if only
/// because an earlier run was cut off.
fn create_work(work: &Path, default: bool, undo: &mut Undo) -> Result<bool> {
    let mut created = Undo::default();
    let made = created.create_dir(work)?;
    created.disarm();
    if default {
        ensure!(is_own_dir(work), "`{}` is not this user's own directory (give --work)", work.display());
    }
    if made || default {
        undo.remove_work(work);
    }
    Ok(made || default)
}

/// Refuses directories that an overlay works with: two on one upperdir damage it, and the kernel only warns.
fn ensure_unused(dirs: &Writable) -> Result<()> {
    for mount in mountinfo::all()? {
        let Some(used) = mount.overlay().ok().and_then(|overlay| overlay.writable) else { continue };
        for (dir, used) in [(&dirs.upper, &used.upper), (&dirs.work, &used.work)] {
            let place = mount.target.display();
            ensure!(!same_dir(dir, used), "`{}` is in use by the overlay on `{place}`", dir.display());
        }
    }
    Ok(())
}

fn same_dir(a: &Path, b: &Path) -> bool {
    let inode = |path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    a == b || matches!((inode(a), inode(b)), (Some(a), Some(b)) if a == b)
}

impl Mounted {
    /// Returns what tools print of it.
    pub fn record(&self) -> MountRecord<'_> {
        MountRecord { target: &self.target, mount: &self.overlay }
    }

    /// Leaves it mounted.
    pub fn keep(mut self) {
        self.undo.disarm();
        self.upper_undo.disarm();
    }

    /// Unmounts it and removes what was made for it; the upperdir stays.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn close(mut self) -> Result<()> {
        self.upper_undo.disarm();
        self.undo.run()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workdir_is_beside_the_upperdir_and_hidden() {
        assert_eq!(work_beside(Path::new("/a/edit")).unwrap(), Path::new("/a/.edit.work"));
        assert!(work_beside(Path::new("/")).unwrap_err().to_string().contains("give --work"));
    }

    #[test]
    fn a_failed_mount_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            target: dir.path().join("target"),
            lowers: vec![dir.path().join("missing").into()],
            upper: Upper::Dir { upper: dir.path().join("upper"), work: None },
            user_xattr: false,
        };
        let err = format!("{:#}", plan.mount().unwrap_err());
        assert!(err.contains("missing`: No such file"), "{err}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
