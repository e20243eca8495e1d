//! Mounts as `/proc/self/mountinfo` shows them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::undo::Made;
use super::{OverlayMount, Writable};
use crate::check::Absent;

/// The mounts that this thread sees; each thread may be in a mount namespace of its own.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// One line of mountinfo (proc_pid_mountinfo(5)), its names unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount's number.
    pub id: u64,
    /// Where it is attached.
    pub target: PathBuf,
    /// The filesystem's type.
    pub fs_type: OsString,
    /// What was given as the thing to mount.
    pub source: OsString,
    /// The filesystem's own options, names and values apart, in their order; a value is as the filesystem wrote it.
    pub options: Vec<(OsString, OsString)>,
}

/// Returns the overlay that is mounted at exactly `target`, the topmost one there.
///
/// It knows every overlay, whoever mounted it. Data-only lower directories have no names of their own and are left out.
///
/// # Errors
/// Nothing or something else is mounted there, or the kernel shows no usable names of its directories, because it was
/// mounted by relative names or by file descriptors.
pub fn overlay_at(target: &Path) -> Result<OverlayMount> {
    Mount::find(target)?.overlay()
}

impl Mount {
    /// Returns the mount at exactly `target`, the topmost one there.
    ///
    /// # Errors
    /// `target` does not exist, or nothing is mounted there.
    pub fn find(target: &Path) -> Result<Self> {
        let path = fs::canonicalize(target).context("cannot open")?;
        // Several mounts may share a path; the kernel says which one the path leads to.
        let top =
            rustix::fs::statx(CWD, &path, AtFlags::empty(), StatxFlags::MNT_ID).context("cannot stat")?.stx_mnt_id;
        let found = all()?.into_iter().find(|mount| mount.id == top && mount.target == path);
        Ok(found.ok_or_else(|| Absent("nothing is mounted here".to_owned()))?)
    }

    /// Reads the directories of an overlay.
    ///
    /// # Errors
    /// Another filesystem, and names that are no absolute paths or file descriptors of a process.
    pub fn overlay(&self) -> Result<OverlayMount> {
        ensure!(self.fs_type == "overlay", "is no overlay but a mount of type {}", self.fs_type.display());
        // A read-only overlay of one layer has an empty second one, which was at the target itself.
        let filler = |path: &PathBuf| Made::parse(&self.source).is_some() && *path == self.target;
        let mut lowers = self.lowers();
        lowers.retain(|path| !filler(path));
        let [upper, work] = ["upperdir", "workdir"].map(|key| self.option(key).map(unescape_existing));
        for path in lowers.iter().chain(&upper).chain(&work) {
            let usable = path.is_absolute() && !path.starts_with("/proc/self/fd");
            ensure!(usable, "the kernel does not show which directory `{}` of the overlay is", path.display());
        }
        let writable = match (upper, work) {
            (Some(upper), Some(work)) => Some(Writable { upper, work }),
            _ => None,
        };
        let user_xattr = self.option("userxattr").is_some();
        Ok(OverlayMount { lowers: lowers.into_iter().map(Into::into).collect(), writable, user_xattr })
    }

    /// Returns the lower directories, base first, the empty one with them.
    pub(super) fn lowers(&self) -> Vec<PathBuf> {
        let mut lowers = Vec::new();
        for (key, value) in &self.options {
            match key.as_bytes() {
                b"lowerdir+" => lowers.push(value.into()),
                b"lowerdir" => lowers.extend(split_lowerdir(value.as_bytes())),
                _ => {}
            }
        }
        lowers.reverse();
        lowers
    }

    pub(super) fn option(&self, key: &str) -> Option<&OsString> {
        self.options.iter().find_map(|(name, value)| (name == key).then_some(value))
    }
}

/// Reads all mounts of this process's mount namespace.
pub(super) fn all() -> Result<Vec<Mount>> {
    let text = fs::read(MOUNTINFO).with_context(|| format!("{MOUNTINFO}: cannot read (is /proc mounted?)"))?;
    let lines = text.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| parse(line).with_context(|| format!("{MOUNTINFO}: cannot understand a line"))).collect()
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let target = PathBuf::from(unescape(fields.nth(3)?));
    // Optional fields end with a lone hyphen.
    fields.find(|field| *field == b"-")?;
    let fs_type = unescape(fields.next()?);
    let source = unescape(fields.next()?);
    let options = fields.next()?.split(|&b| b == b',').map(|option| {
        let equals = option.iter().position(|&b| b == b'=').unwrap_or(option.len());
        (unescape(&option[..equals]), unescape(option.get(equals + 1..).unwrap_or_default()))
    });
    Some(Mount { id, target, fs_type, source, options: options.collect() })
}

/// Undoes the kernel's `\ooo` for blanks, commas, backslashes and the like.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match octal(rest) {
            Some(byte) => (bytes.push(byte), rest = &rest[4..]).1,
            None => (bytes.push(first), rest = tail).1,
        }
    }
    OsString::from_vec(bytes)
}

fn octal(text: &[u8]) -> Option<u8> {
    let [b'\\', digits @ ..] = text.get(..4)? else { return None };
    let digits = std::str::from_utf8(digits).ok()?;
    if digits.bytes().all(|b| b.is_ascii_digit()) { u8::from_str_radix(digits, 8).ok() } else { None }
}

/// Splits the value of `lowerdir=` at its colons, top first; `\:` is a colon of a name. What follows `::` is data-only.
fn split_lowerdir(value: &[u8]) -> Vec<PathBuf> {
    let mut names = vec![Vec::new()];
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, names.last_mut()) {
            (b':', _) if bytes.peek() == Some(&b':') => break,
            (b':', _) => names.push(Vec::new()),
            (b'\\', Some(name)) => name.extend(bytes.next()),
            (_, Some(name)) => name.push(byte),
            (_, None) => {}
        }
    }
    names.into_iter().map(|name| OsString::from_vec(name).into()).collect()
}

/// Returns the path that upperdir or workdir stands for: the kernel shows it as it was given, with backslashes before
/// what mount(2) would misread, or as it is, where it was given as a descriptor. Which of them, only the directory tells.
fn unescape_existing(value: &OsString) -> PathBuf {
    let bytes = value.as_bytes();
    if !bytes.contains(&b'\\') || Path::new(value).is_dir() {
        return value.into();
    }
    let mut name = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' { name.extend(bytes.next()) } else { name.push(byte) }
    }
    OsString::from_vec(name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn an_overlay_of_the_new_mount_api_is_read() {
        let line = br"45 27 0:39 / /mnt\040x ro,relatime shared:7 master:1 - overlay ovl-mount:target rw,lowerdir+=/a:b\054c\134d\040e,lowerdir+=/b,upperdir=/u:\054x,workdir=/w,redirect_dir=nofollow,uuid=on";
        let mount = parse(line).unwrap();
        assert_eq!(mount.target, Path::new("/mnt x"));
        let overlay = mount.overlay().unwrap();
        assert_eq!(overlay.lowers, [PathBuf::from("/b").into(), PathBuf::from(r"/a:b,c\d e").into()]);
        assert_eq!(overlay.writable, Some(Writable { upper: "/u:,x".into(), work: "/w".into() }));
        assert!(!overlay.user_xattr);
    }

    #[test]
    fn an_overlay_of_mount_2_is_read() {
        let line = br"54 51 0:45 / /m rw - overlay overlay rw,lowerdir=/b:/u\134\134z:/u\134:\134\054x,upperdir=/no\134:such,workdir=/w,userxattr";
        let overlay = parse(line).unwrap().overlay().unwrap();
        let lowers: Vec<PathBuf> = overlay.lowers.into_iter().map(|lower| lower.path).collect();
        assert_eq!(lowers, paths(&["/u:,x", r"/u\z", "/b"]));
        assert_eq!(overlay.writable.unwrap().upper, Path::new("/no:such"));
        assert!(overlay.user_xattr);
    }

    #[test]
    fn data_only_directories_are_no_layers() {
        assert_eq!(split_lowerdir(b"/a:/b::/data::/more"), paths(&["/a", "/b"]));
    }

    #[test]
    fn the_empty_directory_of_a_single_layer_is_none_of_its_layers() {
        let line = b"45 27 0:39 / /m ro - overlay ovl-mount ro,lowerdir+=/l,lowerdir+=/m";
        assert_eq!(parse(line).unwrap().overlay().unwrap().lowers, [PathBuf::from("/l").into()]);
    }

    #[test]
    fn names_that_lead_nowhere_and_other_filesystems_are_refused() {
        for (line, want) in [
            ("45 27 0:39 / /m ro - overlay x ro,lowerdir=l/A:l/B", "does not show which directory `l/B`"),
            (
                "45 27 0:39 / /m ro - overlay x ro,lowerdir=/proc/self/fd/3:/a",
                "does not show which directory `/proc/self/fd/3`",
            ),
            ("45 27 0:39 / /m ro - ext4 /dev/vda rw", "is no overlay but a mount of type ext4"),
        ] {
            let err = parse(line.as_bytes()).unwrap().overlay().unwrap_err().to_string();
            assert!(err.contains(want), "{err}");
        }
        assert_eq!(parse(b"45 27 0:39"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn only_octal_escapes_are_undone() {
        for (text, want) in
            [(r"a\040b", "a b"), (r"\12", r"\12"), (r"\999", r"\999"), (r"\134\134", r"\\"), ("\\", "\\")]
        {
            assert_eq!(unescape(text.as_bytes()), want);
        }
    }

    #[test]
    fn the_root_is_found_and_a_plain_directory_is_not() {
        assert_eq!(Mount::find(Path::new("/proc")).unwrap().fs_type, "proc");
        let plain = tempfile::tempdir().unwrap();
        let err = Mount::find(plain.path()).unwrap_err();
        assert!(err.is::<Absent>(), "{err:#}");
    }
}
