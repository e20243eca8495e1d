//! A layer's tar without its tar-split: another tar of the same files. Its digest is not the DiffID.

use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail};

use super::{Form, Layer, Store};
use crate::archive::TarSink;
use crate::diff;

impl Store {
    /// Opens a tar that is written from the layer's files while it is read.
    ///
    /// # Errors
    /// A directory that is missing; a driver that keeps whiteouts by their names, of which a file's may be one.
    pub fn open_rebuilt(&self, layer: &Layer) -> Result<Box<dyn Read + Send>> {
        let dir = self.layer_dir(layer)?;
        let (below, whole) = match self.driver.form() {
            Form::Overlay => {
                let lowers = self.driver.lowers(&self.root, &layer.cache_id)?;
                (lowers.iter().map(|lower| self.driver_dir(lower)).collect::<Result<Vec<_>>>()?, false)
            }
            Form::Tree => {
                let parent = layer.parent.map(|parent| self.layer(parent)).transpose()?.flatten();
                let dir = parent.map(|parent| self.layer_dir(&parent)).transpose()?;
                (dir.into_iter().collect(), true)
            }
            Form::Literal => bail!("has no tar-split, and layers of {} cannot be made anew without it", self.driver),
        };
        let (out, pipe) = io::pipe().context("cannot make a pipe")?;
        let write = move || write(dir, below, whole, TarSink::new(io::BufWriter::with_capacity(64 << 10, pipe)));
        let writer = thread::Builder::new().name("layer-rebuild".to_owned()).spawn(write);
        Ok(Box::new(Rebuilt { out, writer: Some(writer.context("cannot start a thread")?) }))
    }
}

fn write(
    dir: OwnedFd,
    mut below: Vec<OwnedFd>,
    whole: bool,
    mut sink: TarSink<io::BufWriter<io::PipeWriter>>,
) -> Result<()> {
    // Sockets cannot be in a layer; the daemon would have put none there.
    match (whole, below.pop()) {
        (true, Some(below)) => diff::compare(below, dir, &mut sink)?,
        (_, last) => {
            below.extend(last);
            diff::walk_upper(dir, below, &mut sink)?
        }
    };
    sink.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(())
}

/// The reading end, which at the end asks whether the writer came to its own.
struct Rebuilt {
    out: PipeReader,
    writer: Option<JoinHandle<Result<()>>>,
}

impl Read for Rebuilt {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.out.read(buf)?;
        if read == 0
            && !buf.is_empty()
            && let Some(writer) = self.writer.take()
        {
            let done = writer.join().unwrap_or_else(|_| Err(anyhow!("the thread that writes the tar panicked")));
            done.map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
        }
        Ok(read)
    }
}
