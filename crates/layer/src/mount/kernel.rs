//! Mounting through the kernel's mount API of file descriptors (Linux 5.2), and with mount(2) where overlayfs does not take
//! its directories one by one yet (before Linux 6.7).
//!
//! Either way the overlay is made detached and attached when it is whole.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Error, Result, bail, ensure};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::command::option_text;
use super::mountinfo::Mount;
use super::undo::{Made, SOURCE, Undo};
use super::{MAX_LOWERS, OverlayMount, Writable};

/// Bytes of one value that fsconfig(2) takes.
const MAX_STRING: usize = 255;

/// Bytes of options that mount(2) takes, less the NUL. It cuts off the rest and succeeds all the same.
pub(super) const MAX_OPTIONS: usize = 4095;

impl OverlayMount {
    /// Checks what the kernel would refuse with less to say.
    ///
    /// # Errors
    /// No lower directory, or too many.
    pub fn check(&self) -> Result<()> {
        let count = self.lowers.len();
        ensure!(count > 0, "there are no layers to mount");
        ensure!(count <= MAX_LOWERS, "there are {count} layers, overlayfs takes at most {MAX_LOWERS}");
        Ok(())
    }

    /// Options that keep an upperdir what it looks like and a layer from reaching where it was not put: no directory of the
    /// upperdir stands for one elsewhere (`redirect_dir`), no file is without its data (`metacopy`), and such marks in a
    /// layer are not believed.
    pub(super) fn options(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> + use<> {
        let always = [("redirect_dir", Some("nofollow")), ("metacopy", Some("off"))];
        let writable = self.writable.is_some().then_some(("index", Some("off")));
        always.into_iter().chain(writable).chain(self.user_xattr.then_some(("userxattr", None)))
    }

    /// Says whether it needs an empty directory below its only layer: a read-only overlay has two or more.
    pub(super) fn needs_filler(&self) -> bool {
        self.writable.is_none() && self.lowers.len() == 1
    }
}

/// Mounts `overlay` on the directory `target`, whose path is canonical.
///
/// # Errors
/// Whatever the kernel refuses; nothing is mounted then.
pub(super) fn mount(overlay: &OverlayMount, target: &Path, made: Made) -> Result<()> {
    let appends = appends_lowers().map_err(|errno| refused(errno, "cannot mount overlay"))?;
    mount_by(if appends { build } else { build_at }, overlay, target, made)
}

/// Makes an overlay, detached; `lowers` are top first. It may use `target` for a moment.
type Build = fn(overlay: &OverlayMount, lowers: &[&Path], made: Made, target: &Path) -> Result<OwnedFd>;

fn mount_by(build: Build, overlay: &OverlayMount, target: &Path, made: Made) -> Result<()> {
    overlay.check()?;
    let mut filler = Undo::default();
    if overlay.needs_filler() {
        mount_tmpfs(target)?;
        filler.unmount(target);
    }
    // Overlayfs wants the top one first.
    let mut lowers: Vec<&Path> = overlay.lowers.iter().rev().map(|lower| lower.path.as_path()).collect();
    lowers.extend(overlay.needs_filler().then_some(target));
    let mount = build(overlay, &lowers, made, target)?;
    // The overlay has a hold of its own on the empty directory.
    filler.run()?;
    attach(&mount, target)?;
    let mut undo = Undo::default();
    undo.unmount(target);
    verify(overlay, lowers.len(), target)?;
    undo.disarm();
    Ok(())
}

/// Mounts an empty tmpfs that only this user may enter.
pub(super) fn mount_tmpfs(target: &Path) -> Result<()> {
    let mount = || {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", SOURCE)?;
        fsconfig_set_string(&fs, "mode", "0700")?;
        fsconfig_create(&fs)?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    attach(&mount().map_err(|errno| refused(errno, "cannot mount tmpfs"))?, target)
}

fn attach(mount: &OwnedFd, target: &Path) -> Result<()> {
    move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| refused(errno, "cannot attach the mount"))
}

/// Compares what is mounted with what was asked for: mount(2) may cut off layers and succeed.
fn verify(overlay: &OverlayMount, lowers: usize, target: &Path) -> Result<()> {
    let mount = Mount::find(target).context("cannot find the mount again")?;
    let shown = mount.lowers().len();
    ensure!(shown == lowers, "the kernel mounted {shown} of {lowers} layers");
    ensure!(mount.option("upperdir").is_some() == overlay.writable.is_some(), "the kernel left out the upperdir");
    Ok(())
}

/// Says whether this kernel's overlayfs takes `lowerdir+`. Where it does, it looks at the directory at once; where the
/// option is unknown, it is refused, or taken by a kernel that looks at options only in the end.
fn appends_lowers() -> Result<bool, Errno> {
    match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(fs) => Ok(fsconfig_set_string(&fs, "lowerdir+", "/proc/self/fd/none") == Err(Errno::NOENT)),
        Err(Errno::NOSYS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Makes the overlay, detached, from directories given one by one.
fn build(overlay: &OverlayMount, lowers: &[&Path], made: Made, _: &Path) -> Result<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| refused(errno, "cannot mount overlay"))?;
    let set = |key: &str, dir: &Path| {
        set_dir(&fs, key, dir).map_err(|errno| said(&fs, errno, format_args!("cannot use `{}`", dir.display())))
    };
    for lower in lowers {
        set("lowerdir+", lower)?;
    }
    if let Some(Writable { upper, work }) = &overlay.writable {
        set("upperdir", upper)?;
        set("workdir", work)?;
    }
    let attributes =
        if overlay.writable.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let finish = || {
        fsconfig_set_string(&fs, "source", made.to_string())?;
        for (key, value) in overlay.options() {
            match value {
                Some(value) => fsconfig_set_string(&fs, key, value)?,
                None => fsconfig_set_flag(&fs, key)?,
            }
        }
        fsconfig_create(&fs)?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    finish().map_err(|errno| said(&fs, errno, "cannot mount overlay"))
}

/// Gives overlayfs a directory. By its path where that says the same to overlayfs, which takes backslashes away from
/// an upperdir and workdir; else as a descriptor (Linux 6.13), and mountinfo shows the path all the same.
fn set_dir(fs: &OwnedFd, key: &str, dir: &Path) -> Result<(), Errno> {
    let name = dir.as_os_str().as_bytes();
    if name.len() <= MAX_STRING && (key == "lowerdir+" || !name.contains(&b'\\')) {
        return fsconfig_set_string(fs, key, name);
    }
    let fd = open_dir(dir)?;
    match fsconfig_set_fd(fs, key, &fd) {
        Err(Errno::INVAL) => fsconfig_set_string(fs, key, fd_name(&fd)),
        result => result,
    }
}

fn open_dir(dir: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn fd_name(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Makes the overlay with mount(2) at `target`, and takes it off there.
fn build_at(overlay: &OverlayMount, lowers: &[&Path], made: Made, target: &Path) -> Result<OwnedFd> {
    let mut fds = Vec::new();
    let mut options = option_text(overlay, lowers);
    if options.len() > MAX_OPTIONS {
        // Short, at the price that mountinfo shows these names.
        let open = |dir: &&Path| open_dir(dir).with_context(|| format!("cannot use `{}`", dir.display()));
        fds = lowers.iter().map(open).collect::<Result<_>>()?;
        let names: Vec<String> = fds.iter().map(fd_name).collect();
        options = option_text(overlay, &names.iter().map(Path::new).collect::<Vec<_>>());
    }
    if options.len() > MAX_OPTIONS {
        let bytes = options.len();
        bail!(
            "the options take {bytes} bytes, mount(2) takes {MAX_OPTIONS} (Linux 6.7 takes up to {MAX_LOWERS} layers)"
        );
    }
    let options = CString::new(options).context("the path of a directory holds a NUL byte")?;
    let flags = if overlay.writable.is_none() { MountFlags::RDONLY } else { MountFlags::empty() };
    rustix::mount::mount(made.to_string(), target, "overlay", flags, options.as_c_str())
        .map_err(|errno| refused(errno, "cannot mount overlay"))?;
    drop(fds);
    let clone = open_tree(CWD, target, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    let unmounted = rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    let clone = clone.map_err(|errno| refused(errno, "cannot mount overlay"))?;
    unmounted.context("cannot unmount")?;
    Ok(clone)
}

/// Makes an error of what the kernel wrote about it into the mount's descriptor, and of the bare number.
fn said(fs: &OwnedFd, errno: Errno, what: impl fmt::Display) -> Error {
    let mut messages = String::new();
    let mut message = [0; 1024];
    // Each read gives one message, `e overlay: TEXT`, until there is none.
    while let Ok(length @ 1..) = rustix::io::read(fs, &mut message) {
        let text = String::from_utf8_lossy(&message[..length]);
        messages += &format!(": {}", text.get(2..).unwrap_or_default().trim_end());
    }
    if messages.is_empty() {
        return refused(errno, what);
    }
    Error::new(errno).context(format!("{what}{messages}"))
}

fn refused(errno: Errno, what: impl fmt::Display) -> Error {
    let hint = match errno {
        Errno::PERM => " (needs CAP_SYS_ADMIN; try `unshare -rm`, or `-- CMD`)",
        Errno::NODEV => " (does the kernel have overlayfs? try `modprobe overlay`)",
        Errno::LOOP => " (two of the directories are the same, or one lies in another)",
        Errno::INVAL => " (the kernel's log may say why)",
        _ => "",
    };
    Error::new(errno).context(format!("{what}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    use crate::mount::{Lower, overlay_at};

    /// Runs `test` with a directory and in a mount namespace that ends with it; without privileges, not at all.
    fn in_namespace(test: impl FnOnce(&Path) + Send + 'static) {
        let run = || {
            use nix::sched::{CloneFlags, unshare};
            use rustix::mount::{MountPropagationFlags, mount_change};
            let dir = tempfile::tempdir().unwrap();
            if unshare(CloneFlags::CLONE_NEWNS).is_ok() {
                mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
                test(&fs::canonicalize(dir.path()).unwrap());
            }
        };
        std::thread::spawn(run).join().unwrap();
    }

    fn layers(dir: &Path, names: impl IntoIterator<Item = String>) -> Vec<Lower> {
        let make = |(number, name): (usize, String)| {
            let path = dir.join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("top"), number.to_string()).unwrap();
            fs::write(path.join(format!("only-{number}")), "").unwrap();
            path.into()
        };
        names.into_iter().enumerate().map(make).collect()
    }

    fn check(build: Build, dir: &Path, overlay: &OverlayMount) {
        let target = dir.join("target");
        fs::create_dir(&target).unwrap();
        mount_by(build, overlay, &target, Made::default()).unwrap();
        assert_eq!(fs::read_to_string(target.join("top")).unwrap(), (overlay.lowers.len() - 1).to_string());
        let entries = fs::read_dir(&target).unwrap().count();
        assert_eq!(entries, overlay.lowers.len() + 1);
        assert_eq!(overlay_at(&target).unwrap(), *overlay);
        rustix::mount::unmount(&target, UnmountFlags::NOFOLLOW).unwrap();
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
        fs::remove_dir(&target).unwrap();
    }

    #[test]
    fn both_ways_mount_the_same() {
        in_namespace(|dir| {
            let odd = [r"a:b,c\d", "x y\nz", "\"quoted\"", r"\", "plain"].map(str::to_owned);
            let lowers = layers(dir, odd);
            for count in [1, 2, 5] {
                for (number, build) in [build as Build, build_at].into_iter().enumerate() {
                    let [upper, work] = ["upper", "work"].map(|name| dir.join(format!("{name}-{count}-{number}")));
                    fs::create_dir(&upper).unwrap();
                    fs::create_dir(&work).unwrap();
                    for writable in [None, Some(Writable { upper, work })] {
                        let lowers = lowers[..count].to_vec();
                        check(build, dir, &OverlayMount { lowers, writable, user_xattr: false });
                    }
                }
            }
        });
    }

    #[test]
    fn mount_2_takes_more_than_a_page_of_paths_as_descriptors_and_refuses_what_is_longer_still() {
        in_namespace(|dir| {
            let target = dir.join("target");
            fs::create_dir(&target).unwrap();
            let lowers = layers(dir, (0..400).map(|number| format!("{number:0>100}")));
            let mut overlay = OverlayMount { lowers, writable: None, user_xattr: false };
            let err = mount_by(build_at, &overlay, &target, Made::default()).unwrap_err().to_string();
            assert!(err.contains("bytes, mount(2) takes 4095"), "{err}");
            overlay.lowers.truncate(150);
            mount_by(build_at, &overlay, &target, Made::default()).unwrap();
            assert_eq!(fs::read_dir(&target).unwrap().count(), 151);
            let err = overlay_at(&target).unwrap_err().to_string();
            assert!(err.contains("does not show which directory"), "{err}");
            rustix::mount::unmount(&target, UnmountFlags::NOFOLLOW).unwrap();
        });
    }

    #[test]
    fn a_refusal_names_the_directory_or_the_reason() {
        in_namespace(|dir| {
            let file = dir.join("file");
            fs::write(&file, "").unwrap();
            let layer = layers(dir, ["layer".to_owned()]);
            let both = |path: &Path| vec![layer[0].clone(), PathBuf::from(path).into()];
            let target = dir.join("target");
            fs::create_dir(&target).unwrap();
            for (lowers, want) in [
                (both(&dir.join("missing")), "missing`: No such file or directory"),
                (both(&file), "/file is not a directory: Invalid argument"),
                (both(&layer[0].path), "two of the directories are the same"),
                (vec![], "there are no layers"),
            ] {
                let overlay = OverlayMount { lowers, writable: None, user_xattr: false };
                let err = format!("{:#}", mount(&overlay, &target, Made::default()).unwrap_err());
                assert!(err.contains(want), "{err}");
                assert!(Mount::find(&target).is_err());
            }
        });
    }
}
