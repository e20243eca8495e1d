//! The locks: against a daemon, and against another process like this one.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{self, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::root::Root;

/// A file that the daemon keeps locked as long as it runs, and waits for when it starts.
const DAEMONS: &str = "volumes/metadata.db";

/// The locks of a data root, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// The root itself: the daemon locks no directory, and nothing needs to be made for it.
    _root: OwnedFd,
    /// The daemon's file, where one has ever run.
    _daemon: Option<OwnedFd>,
}

impl Lock {
    /// Locks the data root; waits for other processes that hold it by this, and for none but these.
    ///
    /// # Errors
    /// A daemon that runs on the root.
    pub fn take(root: &Root) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A descriptor of its own: a lock goes when any copy of its descriptor is closed by name.
        let own = fs::openat(root.as_fd(), ".", flags, Mode::empty()).context("cannot open")?;
        rustix::io::retry_on_intr(|| fs::flock(&own, FlockOperation::LockExclusive)).context("cannot lock")?;
        let daemon = take_daemons(root).context(DAEMONS)?;
        Ok(Self { _root: own, _daemon: daemon })
    }
}

fn take_daemons(root: &Root) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::io::retry_on_intr(|| fs::openat2(root, DAEMONS, flags, Mode::empty(), resolve)) {
        Err(Errno::NOENT) => return Ok(None),
        file => file.context("cannot open")?,
    };
    match rustix::io::retry_on_intr(|| fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Err(Errno::WOULDBLOCK) => bail!("is locked: a Docker daemon runs on this data root (stop it first)"),
        locked => locked.context("cannot lock")?,
    }
    Ok(Some(file))
}
