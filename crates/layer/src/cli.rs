//! What every tool's `main` shares: how it ends, how it names its operands, how it prints.
//!
//! No other module prints. Messages are one line, `tool: operand: what failed: cause`, with control characters escaped;
//! data goes to stdout as JSON lines; layer-tools(7) lists the exit statuses.

mod progress;
mod record_file;
mod table;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Context, Error, Result, ensure};
use serde::Serialize;

use crate::change::Escaped;
use crate::check::Mismatch;

pub use crate::check::Absent;
pub use progress::Progress;
pub use record_file::RecordFile;
pub use table::{Table, bar, human_size};

/// How a run ended; the worse of two is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Done, and every check held.
    Success = 0,
    /// A check did not hold, two things differ, or what was asked for is not there.
    Different = 1,
    /// No answer: usage, input or system trouble.
    Trouble = 2,
}

impl Status {
    /// Returns the status that an error stands for.
    pub fn of(err: &Error) -> Status {
        if err.chain().any(|cause| cause.is::<Mismatch>() || cause.is::<Absent>()) {
            Status::Different
        } else {
            Status::Trouble
        }
    }
}

/// 128 + SIGPIPE: what a shell shows of a program that the signal ended.
const READER_GONE: u8 = 141;

static TOOL: OnceLock<&'static str> = OnceLock::new();

/// Runs a tool: calls `run` and turns what it returns into messages and the exit status.
///
/// The reader of stdout having gone ends the run silently with status 141, whichever call met it.
pub fn main(tool: &'static str, run: impl FnOnce() -> Result<Status>) -> ExitCode {
    TOOL.get_or_init(|| tool);
    match run() {
        Ok(status) => ExitCode::from(status as u8),
        Err(err) if reader_gone(&err) => ExitCode::from(READER_GONE),
        Err(err) => ExitCode::from(report(&err) as u8),
    }
}

/// An error of writing to stdout: a broken pipe is the end of the run only there.
#[derive(Debug)]
struct StdoutError(io::Error);

impl std::fmt::Display for StdoutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<stdout>: cannot write: {}", self.0)
    }
}

impl std::error::Error for StdoutError {}

fn reader_gone(err: &Error) -> bool {
    stdout_errors(err).any(|err| err.0.kind() == io::ErrorKind::BrokenPipe)
}

/// Returns the errors of stdout among the causes of `err`.
fn stdout_errors(err: &Error) -> impl Iterator<Item = &StdoutError> {
    err.chain().filter_map(|cause| {
        // One that passed through a library comes back wrapped in an io::Error.
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.downcast_ref().or_else(|| inner.and_then(|err| err.downcast_ref()))
    })
}

/// Prints an error as one line on stderr and returns its status.
pub fn report(err: &Error) -> Status {
    warn(&message(err));
    Status::of(err)
}

/// Returns what is said of an error. That stdout cannot be written to is no trouble of the operand at hand.
fn message(err: &Error) -> String {
    let stdout = stdout_errors(err).next();
    stdout.map_or_else(|| format!("{err:#}"), StdoutError::to_string)
}

/// Reports an error of one operand, so that the run can go on with the next.
///
/// # Errors
/// The error itself where it is one of stdout: then nothing that follows could be printed, and the run ends.
pub fn report_input(err: Error) -> Result<Status> {
    if stdout_errors(&err).next().is_some() { Err(err) } else { Ok(report(&err)) }
}

/// Prints a line on stderr, behind the tool's name, with control characters escaped. A stderr that cannot be written to
/// changes nothing.
pub fn warn(message: &str) {
    let tool = TOOL.get().copied().unwrap_or("layer-tools");
    // One write, so that lines of several processes do not mix.
    let line = format!("{tool}: {}\n", Escaped(message.as_bytes()));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Returns how messages name an operand: `<stdin>` for `-`.
pub fn name(operand: &Path) -> String {
    if operand == Path::new("-") { "<stdin>".to_owned() } else { operand.display().to_string() }
}

/// Opens an operand for reading; `-` is stdin.
///
/// # Errors
/// What opening gives, a directory, and a terminal on stdin, where only binary data is of use.
pub fn open(operand: &Path) -> Result<Box<dyn Read + Send>> {
    if operand == Path::new("-") {
        ensure!(!io::stdin().is_terminal(), "is a terminal (redirect a file or a pipe to it)");
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(operand).context("cannot open")?;
    ensure!(!file.metadata().context("cannot stat")?.is_dir(), "is a directory, expected a file");
    Ok(Box::new(file))
}

/// Returns stdout for text, which a terminal may show.
pub fn stdout() -> Stdout {
    Stdout(io::stdout())
}

/// Returns stdout for binary data.
///
/// # Errors
/// Stdout is a terminal.
pub fn binary_stdout() -> Result<Stdout> {
    ensure!(!io::stdout().is_terminal(), "<stdout> is a terminal (redirect it to a file or a pipe)");
    Ok(stdout())
}

/// Stdout, whose errors say so.
#[derive(Debug)]
pub struct Stdout(io::Stdout);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(stdout_error)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(stdout_error)
    }
}

fn stdout_error(err: io::Error) -> io::Error {
    if err.kind() == io::ErrorKind::Interrupted { err } else { io::Error::new(err.kind(), StdoutError(err)) }
}

/// Prints values as JSON, one a line.
///
/// Lines are gathered; [`Lines::flush`] sends them on. Whoever ends well has to call it: what Drop writes, it cannot
/// report.
pub struct Lines<W: Write> {
    out: BufWriter<W>,
}

impl Lines<Stdout> {
    /// Prints to stdout.
    pub fn stdout() -> Self {
        Lines::to(stdout())
    }
}

impl<W: Write> Lines<W> {
    /// Prints to `out`.
    pub fn to(out: W) -> Self {
        Self { out: BufWriter::with_capacity(64 << 10, out) }
    }

    /// Prints `value` and a newline.
    ///
    /// # Errors
    /// What writing gives.
    pub fn write(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Prints `text` and a newline.
    ///
    /// # Errors
    /// What writing gives.
    pub fn text(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// What writing gives.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Sends on what was printed so far.
    ///
    /// # Errors
    /// What writing gives.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_failed_check_is_1_and_all_other_trouble_2() {
        let mismatch = Mismatch { what: "size", found: "1".into(), expected: "2".into() };
        assert_eq!(Status::of(&Error::from(mismatch).context("layer.tar")), Status::Different);
        assert_eq!(Status::of(&Error::from(Absent("no tag".into())).context("x")), Status::Different);
        assert_eq!(Status::of(&anyhow!("no")), Status::Trouble);
        assert_eq!(Status::Different.max(Status::Success), Status::Different);
    }

    #[test]
    fn only_stdouts_broken_pipe_is_silent() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(reader_gone(&Error::from(stdout_error(pipe())).context("x")));
        assert!(!reader_gone(&Error::from(pipe())));
        assert!(!reader_gone(&Error::from(stdout_error(io::Error::other("full")))));
    }

    #[test]
    fn an_operand_is_not_blamed_for_stdout() {
        let full = || stdout_error(io::Error::from_raw_os_error(28));
        let said = "<stdout>: cannot write: No space left on device (os error 28)";
        assert_eq!(message(&Error::from(full()).context("layer.tar")), said);
        assert_eq!(message(&anyhow!("no").context("layer.tar")), "layer.tar: no");
    }
}
