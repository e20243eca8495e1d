//! Layer records: one JSON object a layer, one a line, base layer first; layer-record(5) is their specification.
//!
//! A record is an OCI descriptor with more members. A tool reads the members that it knows, adds its own and passes all
//! others on as they were written, byte for byte.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::digest::{ChainId, DiffId, Digest};
use crate::limits;

/// What is known of one layer. Every member may be missing: each tool says which it needs.
#[derive(Clone, Debug, Default)]
pub struct LayerRecord {
    /// Media type of the blob as stored (image-spec, media-types.md, or Docker's own).
    pub media_type: Option<String>,
    /// Digest of the blob as stored.
    pub digest: Option<Digest>,
    /// Bytes of the blob as stored.
    pub size: Option<u64>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<DiffId>,
    /// Bytes of the uncompressed tar.
    pub diff_size: Option<u64>,
    /// Entries of the tar, extension headers not counted.
    pub entries: Option<u64>,
    /// ChainID of the stack up to and with this layer.
    pub chain_id: Option<ChainId>,
    /// ChainID of the stack below; none for the base layer.
    pub parent: Option<ChainId>,
    /// Absolute reference of the image that holds the blob.
    pub image: Option<OsString>,
    /// Absolute directory of the unpacked layer in overlay form.
    pub path: Option<OsString>,
    /// The configuration's history entry of this layer, verbatim.
    pub history: Option<Box<RawValue>>,
    /// All other members, in their order, verbatim.
    pub rest: Vec<(String, Box<RawValue>)>,
}

impl PartialEq for LayerRecord {
    /// Two records are equal where they print the same line.
    fn eq(&self, other: &Self) -> bool {
        matches!((serde_json::to_string(self), serde_json::to_string(other)), (Ok(a), Ok(b)) if a == b)
    }
}

impl Serialize for LayerRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        member(&mut map, "mediaType", &self.media_type)?;
        member(&mut map, "digest", &self.digest)?;
        member(&mut map, "size", &self.size)?;
        member(&mut map, "diffId", &self.diff_id)?;
        member(&mut map, "diffSize", &self.diff_size)?;
        member(&mut map, "entries", &self.entries)?;
        member(&mut map, "chainId", &self.chain_id)?;
        member(&mut map, "parent", &self.parent)?;
        name_member(&mut map, "image", &self.image)?;
        name_member(&mut map, "path", &self.path)?;
        member(&mut map, "history", &self.history)?;
        for (key, value) in &self.rest {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

fn member<M: SerializeMap, T: Serialize>(map: &mut M, key: &str, value: &Option<T>) -> Result<(), M::Error> {
    value.as_ref().map_or(Ok(()), |value| map.serialize_entry(key, value))
}

/// Writes a name that may be no UTF-8: then as `<key>Raw` in base64, as tar-split does.
pub(crate) fn name_member<M: SerializeMap>(map: &mut M, key: &str, value: &Option<OsString>) -> Result<(), M::Error> {
    let Some(value) = value else { return Ok(()) };
    match value.to_str() {
        Some(text) => map.serialize_entry(key, text),
        None => map.serialize_entry(&format!("{key}Raw"), &to_base64(value)),
    }
}

/// Returns bytes as records hold those that are no UTF-8.
pub(crate) fn to_base64(name: &OsStr) -> String {
    base64::engine::general_purpose::STANDARD.encode(name.as_bytes())
}

fn from_base64(text: &str) -> Result<OsString, base64::DecodeError> {
    base64::engine::general_purpose::STANDARD.decode(text).map(OsString::from_vec)
}

impl<'de> Deserialize<'de> for LayerRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = LayerRecord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LayerRecord, A::Error> {
        let mut record = LayerRecord::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "mediaType" => set(&mut record.media_type, &key, map.next_value()?)?,
                "digest" => set(&mut record.digest, &key, map.next_value()?)?,
                "size" => set(&mut record.size, &key, map.next_value()?)?,
                "diffId" => set(&mut record.diff_id, &key, map.next_value()?)?,
                "diffSize" => set(&mut record.diff_size, &key, map.next_value()?)?,
                "entries" => set(&mut record.entries, &key, map.next_value()?)?,
                "chainId" => set(&mut record.chain_id, &key, map.next_value()?)?,
                "parent" => set(&mut record.parent, &key, map.next_value()?)?,
                "image" => set(&mut record.image, &key, map.next_value::<String>()?.into())?,
                "path" => set(&mut record.path, &key, map.next_value::<String>()?.into())?,
                "imageRaw" => set(&mut record.image, &key, raw_name(map.next_value()?)?)?,
                "pathRaw" => set(&mut record.path, &key, raw_name(map.next_value()?)?)?,
                "history" => set(&mut record.history, &key, map.next_value()?)?,
                _ if record.rest.iter().any(|(known, _)| *known == key) => return Err(twice(&key)),
                _ => record.rest.push((key, map.next_value()?)),
            }
        }
        Ok(record)
    }
}

fn set<T, E: de::Error>(member: &mut Option<T>, key: &str, value: T) -> Result<(), E> {
    if member.replace(value).is_some() { Err(twice(key)) } else { Ok(()) }
}

fn twice<E: de::Error>(key: &str) -> E {
    E::custom(format_args!("member `{}` stands twice", key.escape_debug()))
}

fn raw_name<E: de::Error>(text: String) -> Result<OsString, E> {
    from_base64(&text).map_err(E::custom)
}

impl LayerRecord {
    /// Parses one line.
    ///
    /// # Errors
    /// What is no JSON object, a member of the wrong type, or a member twice.
    pub fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).context("not a layer record")
    }

    /// Returns the member that a tool cannot do without.
    ///
    /// # Errors
    /// `member` is missing; `name` is how the message names it.
    pub fn require<'a, T>(member: &'a Option<T>, name: &str) -> Result<&'a T> {
        member.as_ref().with_context(|| format!("not a layer record: missing member `{name}`"))
    }

    /// Says whether the blob is not the layer's tar, which is lost, but one that is written anew from its files. No digest is
    /// known of it, and the DiffID is that of the lost one.
    pub fn is_rebuilt(&self) -> bool {
        self.member("rebuilt").unwrap_or_default()
    }

    /// Marks the record of a blob for which [`LayerRecord::is_rebuilt`] holds.
    ///
    /// # Errors
    /// None that a caller could meet.
    pub fn set_rebuilt(&mut self) -> Result<()> {
        self.set_member("rebuilt", &true)
    }

    /// Adds a member that the other tools pass on, or changes it.
    ///
    /// # Errors
    /// A value that JSON does not have.
    pub fn set_member(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let value = serde_json::value::to_raw_value(value)?;
        match self.rest.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.rest.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Returns a member that was set with [`LayerRecord::set_member`]; `None` where it is missing or means something else.
    pub fn member<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let (_, value) = self.rest.iter().find(|(key, _)| key == name)?;
        serde_json::from_str(value.get()).ok()
    }
}

/// Lines of at most [`limits::RECORD_LINE`] bytes, with their numbers from 1; empty ones are passed over.
pub struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// Returns the number of the line returned last.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the next line that is not empty, without its newline, or `None` at the end.
    ///
    /// # Errors
    /// Whatever reading gives, a line that is too long, and a line that is no UTF-8.
    pub fn next_line(&mut self) -> Result<Option<String>> {
        loop {
            let mut line = Vec::new();
            let read = self.input.by_ref().take(limits::RECORD_LINE + 1).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if line.last() == Some(&b'\n') {
                line.pop();
            } else if line.len() as u64 > limits::RECORD_LINE {
                bail!("line {} is longer than {} bytes", self.number, limits::RECORD_LINE);
            }
            if !line.trim_ascii().is_empty() {
                return String::from_utf8(line).map(Some).with_context(|| format!("line {} is no UTF-8", self.number));
            }
        }
    }
}

/// Reads the records of `input`, one a line; each error begins with the line's number.
pub fn read_records(input: impl BufRead) -> impl Iterator<Item = Result<LayerRecord>> {
    let mut lines = Lines::new(input);
    std::iter::from_fn(move || match lines.next_line() {
        Ok(None) => None,
        Ok(Some(line)) => Some(LayerRecord::parse(&line).with_context(|| format!("line {}", lines.number()))),
        Err(err) => Some(Err(err)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_members_pass_through_verbatim_and_in_order() {
        let line = r#"{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"z":1.50e3,"a":{"k": [1, 2]}}"#;
        assert_eq!(serde_json::to_string(&LayerRecord::parse(line).unwrap()).unwrap(), line);
    }

    #[test]
    fn names_that_are_no_utf8_go_as_base64() {
        let record = LayerRecord { path: Some(OsString::from_vec(b"/caf\xe9".to_vec())), ..Default::default() };
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(line, r#"{"pathRaw":"L2NhZuk="}"#);
        assert_eq!(LayerRecord::parse(&line).unwrap(), record);
    }

    #[test]
    fn what_is_no_record_is_refused_with_the_reason() {
        for (line, want) in [
            ("[]", "expected an object"),
            ("{", "EOF"),
            (r#"{"size":-1}"#, "invalid value"),
            (r#"{"size":1,"size":2}"#, "member `size` stands twice"),
            (r#"{"x":1,"x":2}"#, "member `x` stands twice"),
            (r#"{"path":"/a","pathRaw":"L2I="}"#, "stands twice"),
            (r#"{"diffId":"md5:1"}"#, "not a digest"),
        ] {
            let err = format!("{:#}", LayerRecord::parse(line).unwrap_err());
            assert!(err.starts_with("not a layer record: ") && err.contains(want), "{line}: {err}");
        }
    }

    #[test]
    fn errors_name_the_line_and_empty_lines_count() {
        let mut records = read_records(&b"{}\n\n{\"size\":\"x\"}\n"[..]);
        assert!(records.next().unwrap().is_ok());
        let err = format!("{:#}", records.next().unwrap().unwrap_err());
        assert!(err.starts_with("line 3: not a layer record"), "{err}");
        assert!(records.next().is_none());
    }

    #[test]
    fn a_line_that_never_ends_is_refused() {
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        assert!(read_records(endless).next().unwrap().unwrap_err().to_string().contains("longer than"));
    }
}
