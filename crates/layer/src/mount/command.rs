//! An overlay as a mount(8) command.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, ensure};

use super::kernel::MAX_OPTIONS;
use super::undo::SOURCE;
use super::{OverlayMount, Writable};

impl OverlayMount {
    /// Returns the mount(8) command that mounts the same on `target`, quoted for sh, without a newline; a read-only overlay
    /// of one layer as a bind mount. It is bytes, as the names in it are.
    ///
    /// # Errors
    /// No or too many layers; more options than mount(8) can pass to the kernel, which would cut them off unsaid; a double
    /// quote, which mount(8) takes for one of its own.
    pub fn command(&self, target: &Path) -> Result<Vec<u8>> {
        self.check()?;
        let mut words: Vec<&[u8]> = vec![b"mount"];
        let options;
        if let (true, [lower]) = (self.needs_filler(), self.lowers.as_slice()) {
            words.extend([b"-o".as_slice(), b"bind,ro", b"--", lower.path.as_os_str().as_bytes()]);
        } else {
            let lowers: Vec<&Path> = self.lowers.iter().rev().map(|lower| lower.path.as_path()).collect();
            options = option_text(self, &lowers);
            let bytes = options.len();
            ensure!(
                bytes <= MAX_OPTIONS,
                "the options take {bytes} bytes, mount(2) takes {MAX_OPTIONS} (mount without --print)"
            );
            ensure!(!options.contains(&b'"'), "mount(8) takes no names with a double quote (mount without --print)");
            words.extend([b"-t".as_slice(), b"overlay", b"-o", &options, b"--", SOURCE.as_bytes()]);
        }
        words.push(target.as_os_str().as_bytes());
        Ok(words.into_iter().map(quote).collect::<Vec<_>>().join(&b' '))
    }
}

/// Returns the options as mount(2) takes them; `lowers` are top first.
pub(super) fn option_text(overlay: &OverlayMount, lowers: &[&Path]) -> Vec<u8> {
    let mut options = Vec::new();
    if overlay.writable.is_none() {
        options.push(b"ro".to_vec());
    }
    let names: Vec<Vec<u8>> = lowers.iter().copied().map(escape).collect();
    options.push([b"lowerdir=".to_vec(), names.join(&b':')].concat());
    if let Some(Writable { upper, work }) = &overlay.writable {
        options.push([b"upperdir=".to_vec(), escape(upper)].concat());
        options.push([b"workdir=".to_vec(), escape(work)].concat());
    }
    let pair = |(key, value): (&str, Option<&str>)| value.map_or(key.to_owned(), |value| format!("{key}={value}"));
    options.extend(overlay.options().map(pair).map(String::into_bytes));
    options.join(&b',')
}

/// Puts a backslash before what would end a name among the options.
fn escape(path: &Path) -> Vec<u8> {
    let name = path.as_os_str().as_bytes();
    let mut escaped = Vec::with_capacity(name.len());
    for &byte in name {
        if matches!(byte, b'\\' | b':' | b',') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    // mount(8) takes a comma after any backslash, escaped itself or not, for a part of the name.
    if name.last() == Some(&b'\\') {
        escaped.push(b'/');
    }
    escaped
}

/// Quotes a word for sh where it needs it.
fn quote(word: &[u8]) -> Vec<u8> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_/.,:=+@%^-".contains(b);
    if !word.is_empty() && word.iter().all(plain) {
        return word.to_vec();
    }
    let inner = word.split(|&b| b == b'\'').collect::<Vec<_>>().join(&br"'\''"[..]);
    [b"'".as_slice(), &inner, b"'"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(lowers: &[&str], writable: Option<(&str, &str)>) -> OverlayMount {
        OverlayMount {
            lowers: lowers.iter().map(|path| std::path::PathBuf::from(path).into()).collect(),
            writable: writable.map(|(upper, work)| Writable { upper: upper.into(), work: work.into() }),
            user_xattr: false,
        }
    }

    fn command(lowers: &[&str], writable: Option<(&str, &str)>) -> String {
        String::from_utf8(overlay(lowers, writable).command(Path::new("/m")).unwrap()).unwrap()
    }

    #[test]
    fn commands_have_the_top_layer_first() {
        for (lowers, writable, want) in [
            (
                &["/a", "/b"][..],
                None,
                "mount -t overlay -o ro,lowerdir=/b:/a,redirect_dir=nofollow,metacopy=off -- ovl-mount /m",
            ),
            (&["/a"], None, "mount -o bind,ro -- /a /m"),
            (
                &["/a"],
                Some(("/u", "/w")),
                "mount -t overlay -o lowerdir=/a,upperdir=/u,workdir=/w,redirect_dir=nofollow,metacopy=off,index=off -- ovl-mount /m",
            ),
        ] {
            assert_eq!(command(lowers, writable), want);
        }
    }

    #[test]
    fn names_are_escaped_for_overlayfs_and_quoted_for_sh() {
        let text = command(&["/a b", "/c:d,e", "/f'g", r"/h\"], None);
        assert!(text.contains(r"'ro,lowerdir=/h\\/:/f'\''g:/c\:d\,e:/a b,redirect"), "{text}");
    }

    #[test]
    fn what_mount_would_cut_off_is_refused() {
        let long = format!("/{}", "x".repeat(4000));
        assert!(overlay(&["/a", &long, "/b"], None).command(Path::new("/m")).is_ok());
        let longer = format!("/{}", "x".repeat(4095));
        let err = overlay(&["/a", &longer], None).command(Path::new("/m")).unwrap_err().to_string();
        assert!(err.contains("mount(2) takes 4095"), "{err}");
        let err = overlay(&["/a", "/\""], None).command(Path::new("/m")).unwrap_err().to_string();
        assert!(err.contains("double quote"), "{err}");
        let err = overlay(&[], None).command(Path::new("/m")).unwrap_err().to_string();
        assert_eq!(err, "there are no layers to mount");
        let err = overlay(&["/a"; 501], None).command(Path::new("/m")).unwrap_err().to_string();
        assert_eq!(err, "there are 501 layers, overlayfs takes at most 500");
    }
}
