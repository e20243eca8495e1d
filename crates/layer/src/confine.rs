//! A process that gives up what it does not need: by Landlock, the kernel sees to it that a bug in what reads a stranger's
//! input reaches no further than the tool has to.
//!
//! It is a second wall: nothing relies on it, and where the kernel has none, all works without. The threads that run already
//! stay as they are, so a tool confines itself before it starts any that reads input.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{FileType, Mode, OFlags};

/// The latest rights that this module knows; kernels that know fewer enforce those.
const KNOWN: ABI = ABI::V6;

/// What a process wants to keep, before it gives up the rest: files below directories, the network, signals to others.
#[derive(Debug, Default)]
pub struct Confinement {
    rules: Vec<(OwnedFd, BitFlags<AccessFs>)>,
    reads_anywhere: bool,
}

/// Whether a process is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confined {
    /// The kernel enforces all that was asked for.
    Fully,
    /// It is too old for some of it.
    Partly,
    /// It has no Landlock, or too old a one.
    Not,
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Confined::Fully => "confined by Landlock",
            Confined::Partly => "confined by Landlock, as far as this kernel can",
            Confined::Not => "not confined (this kernel has no Landlock for it)",
        })
    }
}

impl Confinement {
    /// Keeps nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps what a tool needs that only reads: all files may be read, and those that it spools be written.
    pub fn reader() -> Self {
        Self::new().reads_anywhere().spool()
    }

    /// Keeps the right to read any file: which will be asked for is not known yet.
    pub fn reads_anywhere(mut self) -> Self {
        self.reads_anywhere = true;
        self
    }

    /// Keeps the right to read the file or directory at `path`, which the user named.
    ///
    /// # Errors
    /// What opening gives.
    pub fn reads(mut self, path: &Path) -> Result<Self> {
        let fd = open(path)?;
        self.rules.push((fd, AccessFs::ReadFile | AccessFs::ReadDir));
        Ok(self)
    }

    /// Keeps the right to make unlinked files in `TMPDIR`. One that is missing will be named when it is needed.
    pub fn spool(mut self) -> Self {
        let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile;
        self.rules.extend(open(&std::env::temp_dir()).ok().map(|fd| (fd, access)));
        self
    }

    /// Keeps all rights below the directory `dir`.
    ///
    /// # Errors
    /// What duplicating the descriptor gives.
    pub fn writes(self, dir: BorrowedFd<'_>) -> Result<Self> {
        self.keep(dir, AccessFs::from_all(KNOWN) & !BitFlags::from(AccessFs::Execute))
    }

    /// Keeps the rights to rename a directory within the directory `dir`, and to remove it. There is no right to rename that
    /// one alone: empty directories may be made and removed below `dir`.
    ///
    /// # Errors
    /// What duplicating the descriptor gives.
    pub fn renames(self, dir: BorrowedFd<'_>) -> Result<Self> {
        self.keep(dir, AccessFs::MakeDir | AccessFs::RemoveDir)
    }

    fn keep(mut self, dir: BorrowedFd<'_>, access: BitFlags<AccessFs>) -> Result<Self> {
        self.rules.push((dir.try_clone_to_owned().context("cannot duplicate a descriptor")?, access));
        Ok(self)
    }

    /// Gives up all else, for this thread and those that it starts.
    pub fn enforce(self) -> Confined {
        // What fails here would have been a second wall only.
        match self.restrict() {
            Ok(RulesetStatus::FullyEnforced) => Confined::Fully,
            Ok(RulesetStatus::PartiallyEnforced) => Confined::Partly,
            Ok(RulesetStatus::NotEnforced) | Err(_) => Confined::Not,
        }
    }

    fn restrict(self) -> Result<RulesetStatus, RulesetError> {
        let reads = AccessFs::ReadFile | AccessFs::ReadDir;
        let given_up = if self.reads_anywhere { AccessFs::from_all(KNOWN) & !reads } else { AccessFs::from_all(KNOWN) };
        // A kernel that does not know this right denies all links and renames between directories.
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let ruleset = ruleset.handle_access(AccessFs::Refer)?.set_compatibility(CompatLevel::BestEffort);
        let ruleset = ruleset.handle_access(given_up)?.handle_access(AccessNet::from_all(KNOWN))?;
        let mut ruleset = ruleset.scope(Scope::from_all(KNOWN))?.create()?;
        for (fd, access) in &self.rules {
            let access = if is_dir(fd) { *access } else { *access & AccessFs::from_file(KNOWN) } & given_up;
            if !access.is_empty() {
                ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
            }
        }
        Ok(ruleset.restrict_self()?.ruleset)
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("cannot open")
}

fn is_dir(fd: impl AsFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    /// Runs `test` in a thread that nothing follows: what it gives up stays given up.
    fn confined(confinement: Confinement, test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let run = || {
                if confinement.enforce() != Confined::Not {
                    test();
                }
            };
            scope.spawn(run);
        });
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        for path in [&inside, &outside] {
            fs::create_dir_all(path.join("d")).unwrap();
            fs::write(path.join("file"), "x").unwrap();
        }
        let target = File::open(&inside).unwrap();
        confined(Confinement::new().writes(target.as_fd()).unwrap(), || {
            fs::write(inside.join("file"), "y").unwrap();
            fs::hard_link(inside.join("file"), inside.join("d/link")).unwrap();
            fs::remove_dir_all(inside.join("d")).unwrap();
            assert!(fs::read(outside.join("file")).is_err());
            assert!(fs::write(outside.join("file"), "y").is_err());
            assert!(fs::remove_dir(outside.join("d")).is_err());
            assert!(fs::rename(outside.join("file"), inside.join("d")).is_err());
        });
        let parent = File::open(dir.path()).unwrap();
        let kept = Confinement::new().reads(&outside).unwrap().renames(parent.as_fd()).unwrap();
        confined(kept, || {
            assert_eq!(fs::read(outside.join("file")).unwrap(), b"x");
            assert!(fs::read(inside.join("file")).is_err());
            assert!(fs::write(outside.join("new"), "").is_err());
            fs::rename(&inside, dir.path().join("other")).unwrap();
        });
        confined(Confinement::new().reads_anywhere(), || {
            assert_eq!(fs::read(outside.join("file")).unwrap(), b"x");
            assert!(fs::write(outside.join("file"), "y").is_err());
            assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err());
        });
    }

    #[test]
    fn a_reader_can_spool() {
        confined(Confinement::reader(), || {
            use std::io::Write;
            tempfile::tempfile().unwrap().write_all(b"x").unwrap();
        });
    }
}
