//! From the blob's bytes to the tar's: gzip of several members, zstd of several frames, or nothing to do.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::Compression;
use crate::limits;

/// Decodes `input`, which is stored as `compression`.
pub(crate) fn decoder<'a>(input: impl BufRead + 'a, compression: Compression) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(Gzip { member: Some(GzDecoder::new(input)) }),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(limits::ZSTD_WINDOW_LOG)?;
            Box::new(Named { decoder, format: "zstd" })
        }
    })
}

/// Gzip members one after the other, as pigz, bgzip and concatenation make them, and zeros behind the last one, as tapes
/// and block devices pad. Anything else behind a member is refused: gzip(1) ignores it with a warning, but here it would
/// be bytes that count for the digest and are seen by nobody.
struct Gzip<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buf).map_err(|err| named("gzip", err))?;
            if read > 0 || buf.is_empty() {
                return Ok(read);
            }
            let done = self.member.take();
            self.member = done.map(GzDecoder::into_inner).map(next_member).transpose()?.flatten();
        }
        Ok(0)
    }
}

/// Returns a decoder of the member that follows, or `None` where only zeros do.
fn next_member<R: BufRead>(mut input: R) -> io::Result<Option<GzDecoder<R>>> {
    let mut padded = false;
    loop {
        let rest = input.fill_buf()?;
        let zeros = rest.iter().take_while(|&&byte| byte == 0).count();
        match rest.get(zeros) {
            _ if rest.is_empty() => return Ok(None),
            Some(0x1f) if !padded && zeros == 0 => return Ok(Some(GzDecoder::new(input))),
            Some(_) => {
                return Err(invalid("gzip stream is followed by bytes that are neither a member nor zeros"));
            }
            None => input.consume(zeros),
        }
        padded = true;
    }
}

/// A decoder whose errors name the format.
struct Named<D> {
    decoder: D,
    format: &'static str,
}

impl<D: Read> Read for Named<D> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buf).map_err(|err| named(self.format, err))
    }
}

/// Says what was being decoded, in errors of the decoder; those of the input pass as they are. flate2 reports damage as
/// `InvalidInput` and zstd as `Other`; what this crate refuses is `InvalidData`.
fn named(format: &str, err: io::Error) -> io::Error {
    match err.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(err.kind(), format!("{format} stream is cut short")),
        io::ErrorKind::InvalidInput | io::ErrorKind::Other if err.raw_os_error().is_none() => {
            invalid(format!("{format} stream is damaged: {err}"))
        }
        _ => err,
    }
}

/// An error of the kind that this crate's own refusals have.
pub(super) fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}
