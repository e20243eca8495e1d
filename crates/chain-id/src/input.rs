//! What `chain-id` reads: told by its first bytes, and refused by what it looks like.

use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail, ensure};
use layer::change::Escaped;
use layer::digest::DiffId;
use layer::limits;
use layer::record::{LayerRecord, Lines};
use serde::Deserialize;

/// The part of an image configuration that names the layers (image-spec, config.md, "rootfs").
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    r#type: String,
    diff_ids: Vec<DiffId>,
}

/// One image of `docker inspect`.
#[derive(Deserialize)]
struct Inspected {
    #[serde(rename = "RootFS")]
    root_fs: InspectedRootFs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedRootFs {
    r#type: String,
    // `docker inspect` leaves the member out for an image without layers.
    #[serde(default)]
    layers: Vec<DiffId>,
}

/// Reads an input and calls `each` with a record for each layer and whether it begins a new stack.
///
/// # Errors
/// What reading and `each` give, and what is none of the forms; nothing at all is none of them.
pub(crate) fn read(mut input: impl BufRead, mut each: impl FnMut(LayerRecord, bool) -> Result<()>) -> Result<()> {
    match first_byte(&mut input)? {
        None => bail!("is empty, expected DiffIDs, layer records, an image configuration or `docker inspect` output"),
        Some(b'{') => read_object(input, each),
        Some(b'[') => {
            let images: Vec<Inspected> = parse(&read_document(input, Vec::new())?, "`docker inspect` output")?;
            ensure!(!images.is_empty(), "is an empty array, expected the images of `docker inspect`");
            for image in images {
                each_diff_id(image.root_fs.r#type, image.root_fs.layers, &mut each)?;
            }
            Ok(())
        }
        // What is sniffed has one line to be told by; a tar or a compressed blob has NULs in it soon.
        Some(_) if input.fill_buf().context("cannot read")?.iter().take(512).any(|&byte| byte == 0) => {
            bail!("looks like binary data, expected text (image-inspect(1) and layer-hash(1) read images and layers)")
        }
        Some(_) => read_lines(input, |line| {
            let diff_id: DiffId = line.trim().parse().map_err(|err| looks_like(line.as_bytes(), err))?;
            each(LayerRecord { diff_id: Some(diff_id), ..LayerRecord::default() }, false)
        }),
    }
}

/// Returns the first byte that is no white space, without taking it.
fn first_byte(input: &mut impl BufRead) -> Result<Option<u8>> {
    loop {
        let bytes = input.fill_buf().context("cannot read")?;
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            _ if bytes.is_empty() => return Ok(None),
            Some(byte) => return Ok(Some(*byte)),
            None => {
                let blank = bytes.len();
                input.consume(blank);
            }
        }
    }
}

/// Reads an object: the first of many lines of records, or a document over any number of lines.
fn read_object(mut input: impl BufRead, mut each: impl FnMut(LayerRecord, bool) -> Result<()>) -> Result<()> {
    let mut first = Vec::new();
    input.by_ref().take(limits::RECORD_LINE).read_until(b'\n', &mut first).context("cannot read")?;
    let record = str::from_utf8(&first).ok().and_then(|line| LayerRecord::parse(line).ok());
    if record.is_some_and(|record| record.diff_id.is_some() || record.digest.is_some()) {
        let lines = first.chain(input);
        return read_lines(lines, |line| each(LayerRecord::parse(line)?, false));
    }
    let document = read_document(input, first)?;
    let keys: Keys = parse(&document, "an image configuration")?;
    match keys {
        Keys { rootfs: Some(_), root_fs: Some(_), .. } => bail!("has both `rootfs` and `RootFS`, expected one"),
        Keys { rootfs: Some(_), .. } => {
            let Config { rootfs } = parse(&document, "an image configuration")?;
            each_diff_id(rootfs.r#type, rootfs.diff_ids, &mut each)
        }
        Keys { root_fs: Some(_), .. } => {
            let Inspected { root_fs } = parse(&document, "`docker inspect` output")?;
            each_diff_id(root_fs.r#type, root_fs.layers, &mut each)
        }
        Keys { layers: Some(_), .. } => {
            bail!("looks like an image manifest, which has no DiffIDs: give its configuration")
        }
        Keys { manifests: Some(_), .. } => {
            bail!("looks like an image index, which has no DiffIDs: give an image's configuration")
        }
        _ => bail!("has neither `diffId`, as a layer record, nor `rootfs`, as an image configuration"),
    }
}

/// The members by which a document is told; their values are looked at later.
#[derive(Deserialize)]
struct Keys {
    rootfs: Option<serde::de::IgnoredAny>,
    #[serde(rename = "RootFS")]
    root_fs: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

fn each_diff_id(
    kind: String,
    diff_ids: Vec<DiffId>,
    each: &mut impl FnMut(LayerRecord, bool) -> Result<()>,
) -> Result<()> {
    ensure!(kind == "layers", "the root filesystem is of type `{}`, expected `layers`", Escaped(kind.as_bytes()));
    for (index, diff_id) in diff_ids.into_iter().enumerate() {
        each(LayerRecord { diff_id: Some(diff_id), ..LayerRecord::default() }, index == 0)?;
    }
    Ok(())
}

fn read_lines(input: impl BufRead, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut lines = Lines::new(input);
    while let Some(line) = lines.next_line()? {
        each(&line).with_context(|| format!("line {}", lines.number()))?;
    }
    Ok(())
}

fn read_document(input: impl Read, mut document: Vec<u8>) -> Result<Vec<u8>> {
    input.take(limits::JSON_DOCUMENT + 1).read_to_end(&mut document).context("cannot read")?;
    ensure!(document.len() as u64 <= limits::JSON_DOCUMENT, "is longer than {} bytes", limits::JSON_DOCUMENT);
    Ok(document)
}

fn parse<'a, T: Deserialize<'a>>(document: &'a [u8], what: &str) -> Result<T> {
    serde_json::from_slice(document).with_context(|| format!("is not {what}"))
}

/// Says what a line that is no DiffID looks like.
fn looks_like(line: &[u8], err: layer::digest::ParseError) -> anyhow::Error {
    let hex = line.trim_ascii();
    if hex.len() == 64 && hex.iter().all(u8::is_ascii_hexdigit) {
        anyhow::anyhow!("`{}` has no algorithm, expected `sha256:` before it", Escaped(hex))
    } else {
        err.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4f72b9807785afee48bb";
    const B: &str = "sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d";

    fn read_all(text: &str) -> Result<Vec<(String, bool)>> {
        let mut found = Vec::new();
        read(text.as_bytes(), |record, begins| {
            let diff_id = LayerRecord::require(&record.diff_id, "diffId")?;
            found.push((diff_id.to_string(), begins));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn every_form_gives_the_same_diff_ids() {
        for text in [
            format!("{A}\n{B}\n"),
            format!("\n  {A}\r\n\n{B}"),
            format!("{{\"diffId\":\"{A}\"}}\n{{\"size\":1,\"diffId\":\"{B}\"}}\n"),
            format!("{{\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{A}\",\"{B}\"]}}}}"),
            format!(
                "{{\n \"os\": \"linux\",\n \"rootfs\": {{\"type\":\"layers\",\n\"diff_ids\":[\"{A}\",\"{B}\"]}}}}\n"
            ),
            format!("[{{\"Id\":\"x\",\"RootFS\":{{\"Type\":\"layers\",\"Layers\":[\"{A}\",\"{B}\"]}}}}]"),
            format!("{{\"RootFS\":{{\"Type\":\"layers\",\"Layers\":[\"{A}\",\"{B}\"]}}}}"),
        ] {
            let diff_ids: Vec<_> = read_all(&text).unwrap().into_iter().map(|(diff_id, _)| diff_id).collect();
            assert_eq!(diff_ids, [A, B], "{text}");
        }
    }

    #[test]
    fn each_inspected_image_is_a_stack_of_its_own() {
        let image = format!("{{\"RootFS\":{{\"Type\":\"layers\",\"Layers\":[\"{A}\"]}}}}");
        let empty = "{\"RootFS\":{\"Type\":\"layers\"}}";
        let found = read_all(&format!("[{image},{empty},{image}]")).unwrap();
        assert_eq!(found, [(A.to_owned(), true), (A.to_owned(), true)]);
    }

    #[test]
    fn what_is_none_of_them_is_refused_by_what_it_looks_like() {
        for (text, want) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("hello\n", "line 1: `hello` is not a digest"),
            (&A[7..], "has no algorithm"),
            (&format!("{A}\nsha256:00"), "line 2: "),
            ("{}", "has neither `diffId`"),
            ("{\"layers\":[]}", "looks like an image manifest"),
            ("{\"manifests\":[]}", "looks like an image index"),
            ("{\"rootfs\":null}", "has neither"),
            ("{\"rootfs\":{\"type\":\"tar\",\"diff_ids\":[]}}", "is of type `tar`"),
            ("{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[null]}}", "is not an image configuration"),
            ("{\"rootfs\":{},\"RootFS\":{}}", "has both"),
            ("{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[],\"diff_ids\":[]}}", "duplicate field"),
            ("{} {}", "is not an image configuration"),
            ("\x1f\u{8b}\x08\0\0", "looks like binary data"),
            ("[]", "is an empty array"),
            ("[1]", "is not `docker inspect` output"),
            ("null", "line 1: `null` is not a digest"),
            (&format!("{{\"diffId\":\"{A}\"}}\n{{\"size\":1}}\n"), "missing member `diffId`"),
        ] {
            let err = format!("{:#}", read_all(text).unwrap_err());
            assert!(err.contains(want), "{text}: {err}");
        }
    }
}
