//! Progress bars: on a terminal only, and only for what takes longer than half a second.

use std::io::{self, IsTerminal, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long something may take before it gets a bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// Redraws a second.
const RATE: u8 = 10;

/// The bars of one run, one line for each thing in flight. Clones share the lines.
#[derive(Clone)]
pub struct Progress {
    lines: Option<MultiProgress>,
}

impl Progress {
    /// Draws on stderr where that is a terminal and `quiet` is not set; otherwise nothing ever.
    pub fn new(quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        let target = || MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(RATE));
        Self { lines: shown.then(target) }
    }

    /// Returns `input`, with the bytes read from it shown under `label`, against `total` where that is known.
    pub fn reader<R: Read + Send>(&self, input: R, label: &str, total: Option<u64>) -> impl Read + Send + use<R> {
        Watched { stream: input, bar: self.bar(label, total) }
    }

    /// Returns `out`, with the bytes written to it shown under `label`.
    pub fn writer<W: Write>(&self, out: W, label: &str) -> impl Write + use<W> {
        Watched { stream: out, bar: self.bar(label, None) }
    }

    fn bar(&self, label: &str, total: Option<u64>) -> Option<Bar> {
        self.lines.as_ref().map(|lines| Bar::new(lines.clone(), label.to_owned(), total))
    }
}

/// A stream with the bar of what has passed through it.
struct Watched<S> {
    stream: S,
    bar: Option<Bar>,
}

impl<S> Watched<S> {
    fn advance(&self, bytes: usize) -> usize {
        if let Some(bar) = &self.bar {
            bar.advance(bytes as u64);
        }
        bytes
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buf)?;
        Ok(self.advance(read))
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        Ok(self.advance(written))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// One line; gone from the terminal when it is dropped.
struct Bar {
    lines: MultiProgress,
    label: String,
    total: Option<u64>,
    since: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    done: u64,
    drawn: Option<ProgressBar>,
}

impl Bar {
    fn new(lines: MultiProgress, label: String, total: Option<u64>) -> Self {
        Self { lines, label, total, since: Instant::now(), state: Arc::default() }
    }

    fn advance(&self, bytes: u64) {
        let Ok(mut state) = self.state.lock() else { return };
        state.done += bytes;
        if state.drawn.is_none() && self.since.elapsed() >= PATIENCE {
            state.drawn = Some(self.lines.add(self.line()));
        }
        if let Some(line) = &state.drawn {
            line.set_position(state.done);
        }
    }

    fn line(&self) -> ProgressBar {
        let (bar, template) = match self.total {
            Some(total) => {
                (ProgressBar::new(total), "{prefix} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}")
            }
            None => (ProgressBar::no_length(), "{prefix} {spinner} {bytes} {bytes_per_sec} {elapsed}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.with_style(style.progress_chars("=> ")).with_prefix(self.label.clone()).with_elapsed(self.since.elapsed())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Ok(state) = self.state.lock()
            && let Some(line) = &state.drawn
        {
            line.finish_and_clear();
            self.lines.remove(line);
        }
    }
}
