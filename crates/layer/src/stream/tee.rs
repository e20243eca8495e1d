//! A stream that is copied while it is read.

use std::io::{self, Read, Write};

/// A reader that copies all that is read from it to a writer.
pub struct Tee<R, W> {
    input: R,
    copy: W,
}

impl<R: Read, W: Write> Tee<R, W> {
    /// Copies what is read from `input` to `copy`.
    pub fn new(input: R, copy: W) -> Self {
        Self { input, copy }
    }
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buf)?;
        self.copy.write_all(&buf[..read])?;
        if read == 0 {
            self.copy.flush()?;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tee_copies_all_that_was_read() {
        let mut copy = Vec::new();
        let mut read = Vec::new();
        Tee::new(&b"layer"[..], &mut copy).read_to_end(&mut read).unwrap();
        assert_eq!(copy, b"layer");
    }
}
