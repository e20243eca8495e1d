//! An image's configuration (image-spec, config.md): what these tools have to understand of it.
//!
//! Only that is parsed. The document itself is kept as its bytes, since its digest is the ImageID, and parts that go on to
//! stdout are kept as they were written.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::list::List;
use super::platform::Platform;
use crate::digest::DiffId;

/// What is known from a configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// DiffIDs of the layers, base first.
    pub diff_ids: Vec<DiffId>,
    /// The history's entries, oldest first.
    pub history: Vec<HistoryEntry>,
    /// What the image runs on, where it says so.
    pub platform: Option<Platform>,
    /// When it was made, as it is written there.
    pub created: Option<String>,
    /// The member `config`: what a container runs with. On one line, as [`HistoryEntry::raw`].
    pub config: Option<Box<RawValue>>,
}

/// One entry of the history.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    /// The entry as it is written there, but for blanks and newlines between its parts: it goes into lines.
    pub raw: Box<RawValue>,
    /// It changed only the configuration and made no layer.
    pub empty_layer: bool,
}

#[derive(Deserialize)]
struct Document {
    rootfs: Option<RootFs>,
    history: Option<List<Box<RawValue>>>,
    created: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    config: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Option<List<DiffId>>,
}

impl Config {
    /// Parses a configuration.
    ///
    /// # Errors
    /// What is no JSON object with `rootfs.type` `layers`, DiffIDs that are no digests, and members of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::parse_or(bytes, None)
    }

    /// Parses a configuration that may lack `rootfs` where the DiffIDs are known from elsewhere: `oras push` makes images
    /// without it, of plain tars, whose digests they are.
    ///
    /// # Errors
    /// What [`Config::parse`] gives.
    pub(super) fn parse_or(bytes: &[u8], diff_ids: Option<Vec<DiffId>>) -> Result<Self> {
        let document: Document = serde_json::from_slice(bytes).context("not an image configuration")?;
        let diff_ids = match (document.rootfs, diff_ids) {
            (Some(RootFs { kind, diff_ids }), _) => {
                ensure!(kind == "layers", "not an image configuration: `rootfs.type` is `{kind}`, expected `layers`");
                diff_ids.unwrap_or_default().0
            }
            (None, diff_ids) => diff_ids.context("not an image configuration: missing field `rootfs`")?,
        };
        let history = document.history.unwrap_or_default().0;
        let empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        // Docker wrote no `os` once; it meant Linux.
        let platform = empty(document.architecture).map(|architecture| Platform {
            os: empty(document.os).unwrap_or_else(|| "linux".to_owned()),
            architecture,
            variant: empty(document.variant),
            os_version: empty(document.os_version),
        });
        Ok(Self {
            diff_ids,
            history: history.into_iter().map(HistoryEntry::parse).collect::<Result<_>>()?,
            platform,
            created: empty(document.created),
            config: document.config.as_deref().map(one_line).transpose()?,
        })
    }

    /// Returns for each history entry the layer that it made, counted from the base, or `None` for an entry that made none.
    ///
    /// Entries and layers belong together in their order, which says nothing where their numbers differ, as builders write
    /// that keep no history or a short one: then `None` for all.
    pub fn layers_of_history(&self) -> Vec<Option<usize>> {
        let made = self.history.iter().filter(|entry| !entry.empty_layer).count();
        if made != self.diff_ids.len() {
            return vec![None; self.history.len()];
        }
        let mut next = 0..;
        self.history.iter().map(|entry| if entry.empty_layer { None } else { next.next() }).collect()
    }
}

impl HistoryEntry {
    fn parse(raw: Box<RawValue>) -> Result<Self> {
        #[derive(Deserialize)]
        struct Entry {
            empty_layer: Option<bool>,
        }
        let entry: Entry = serde_json::from_str(raw.get()).context("not an image configuration: history")?;
        Ok(Self { raw: one_line(&raw)?, empty_layer: entry.empty_layer.unwrap_or_default() })
    }
}

/// Leaves out the white space between the tokens of a value; numbers and strings stay as they are written.
fn one_line(raw: &RawValue) -> Result<Box<RawValue>> {
    let mut text = String::with_capacity(raw.get().len());
    let (mut string, mut escaped) = (false, false);
    for c in raw.get().chars() {
        if string || !c.is_ascii_whitespace() {
            text.push(c);
        }
        string ^= c == '"' && !escaped;
        escaped = string && c == '\\' && !escaped;
    }
    Ok(RawValue::from_string(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn config(history: &str, layers: usize) -> Config {
        let diff_ids: Vec<_> = (0..layers).map(|n| Digest::of(&[n as u8])).collect();
        let diff_ids = serde_json::to_string(&diff_ids).unwrap();
        let text = format!(
            r#"{{"architecture":"arm","variant":"v6","rootfs":{{"type":"layers","diff_ids":{diff_ids}}},"history":{history}}}"#
        );
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn layers_and_history_are_paired_where_their_numbers_agree() {
        for (history, layers, want) in [
            (r#"[{"created_by":"a"},{"empty_layer":true},{"empty_layer":false}]"#, 2, vec![Some(0), None, Some(1)]),
            ("[{}]", 2, vec![None]),
            ("[{},{}]", 1, vec![None, None]),
            ("null", 1, vec![]),
            ("[]", 0, vec![]),
        ] {
            assert_eq!(config(history, layers).layers_of_history(), want, "{history}");
        }
    }

    #[test]
    fn history_is_kept_as_it_was_written_on_one_line() {
        let config = config("[ {\"created_by\" :\n\"a \\u0026 \\\\\\\" \", \"x\": [1.50,\t2 ] } ]", 1);
        assert_eq!(config.history[0].raw.get(), r#"{"created_by":"a \u0026 \\\" ","x":[1.50,2]}"#);
        assert_eq!(config.platform.unwrap().to_string(), "linux/arm/v6");
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_the_reason() {
        for (text, want) in [
            ("", "EOF"),
            ("null", "invalid type: null"),
            ("{}", "missing field `rootfs`"),
            (r#"{"rootfs":{"type":"tarballs"}}"#, "`rootfs.type` is `tarballs`"),
            (r#"{"rootfs":{"diff_ids":[]}}"#, "missing field `type`"),
            (r#"{"rootfs":{"type":"layers","diff_ids":["md5:1"]}}"#, "not a digest"),
            (r#"{"rootfs":{"type":"layers","diff_ids":"x"}}"#, "expected a list"),
            (r#"{"rootfs":{"type":"layers"},"rootfs":{"type":"layers"}}"#, "duplicate field"),
            (r#"{"rootfs":{"type":"layers"},"history":[1]}"#, "history: "),
            (r#"{"rootfs":{"type":"layers"}} x"#, "trailing characters"),
        ] {
            let err = format!("{:#}", Config::parse(text.as_bytes()).unwrap_err());
            assert!(err.starts_with("not an image configuration: ") && err.contains(want), "{text}: {err}");
        }
    }
}
