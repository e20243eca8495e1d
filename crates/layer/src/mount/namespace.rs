//! A mount namespace for one command: only it sees what is mounted there.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::thread;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use rustix::mount::{MountPropagationFlags, mount_change};

/// Moves this process into a mount namespace of its own, out of which no mount spreads. Where that is not permitted, into a
/// user namespace as well, as root of it. The process must have one thread.
///
/// # Errors
/// The kernel permits neither.
pub fn enter() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Err(Errno::EPERM) => enter_user_namespace()?,
        result => result.context("cannot make a mount namespace")?,
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("cannot make mounts private")
}

fn enter_user_namespace() -> Result<()> {
    let [uid, gid] = [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .context("cannot make a mount namespace (needs CAP_SYS_ADMIN, or user namespaces)")?;
    // Without privileges outside, the kernel takes a map of groups only when they can no longer be dropped.
    for (file, text) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
    {
        fs::write(format!("/proc/self/{file}"), text).with_context(|| format!("/proc/self/{file}: cannot write"))?;
    }
    Ok(())
}

/// Says whether this process is in a user namespace other than the first, where `trusted.*` attributes are out of reach.
pub(super) fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.is_empty() && !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Runs a command and returns its status as sh would: 128 + N for signal N, 127 where it is not found, 126 where it
/// cannot be run; for these two, also why.
///
/// Meanwhile signals that ask to end go to the command, so that this process outlives it and can clean up.
pub fn run(command: &[OsString]) -> (u8, Option<anyhow::Error>) {
    let Some((program, arguments)) = command.split_first() else { return (0, None) };
    let result = Command::new(program).args(arguments).spawn();
    let result = result.and_then(|mut child| {
        pass_signals_to(child.id());
        child.wait()
    });
    match result {
        Ok(status) => (code(status), None),
        Err(err) => {
            let code = if err.kind() == ErrorKind::NotFound { 127 } else { 126 };
            (code, Some(anyhow::Error::new(err).context(format!("`{}`: cannot run", program.display()))))
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| signal.saturating_add(128));
    status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// The terminal sends SIGINT and SIGQUIT to the command itself.
fn pass_signals_to(child: u32) {
    let signals: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM].into_iter().collect();
    let Ok(child) = i32::try_from(child).map(Pid::from_raw) else { return };
    if signals.thread_block().is_ok() {
        thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                if matches!(signal, Signal::SIGHUP | Signal::SIGTERM) {
                    let _ = kill(child, signal);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_sh() {
        for (raw, want) in [(0, 0), (3 << 8, 3), (15, 143), (255 << 8, 255)] {
            assert_eq!(code(ExitStatus::from_raw(raw)), want);
        }
        assert_eq!(run(&["/no/such".into()]).0, 127);
        assert_eq!(run(&["/".into()]).0, 126);
    }
}
