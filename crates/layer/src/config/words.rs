//! The forms that arguments take: words, names with values, JSON arrays.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Deserializer, Value};

use super::lines::split_blank;

/// Splits a text into words at white space that is neither quoted nor escaped. Quotes and escapes stay: expanding the word
/// removes them.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                // A last backslash escapes nothing and is left out.
                let Some(next) = chars.next() else { break };
                word.extend([c, next]);
                continue;
            }
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Parses `name=value ...`, or the old form `name value`, where the value is all the rest of the line.
///
/// # Errors
/// No name, no value, and a word without `=` among words that have one.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let words = words(text);
    let first = words.first().context("needs a name and a value")?;
    if !first.contains('=') {
        let (name, value) = split_blank(text);
        ensure!(!value.is_empty(), "`{name}` has no value (`{name}=VALUE`)");
        return Ok(vec![(name.to_owned(), value.to_owned())]);
    }
    let mut pairs = Vec::new();
    for word in &words {
        let Some((name, value)) = word.split_once('=') else {
            bail!("`{word}` has no `=` (quote a value that holds blanks)")
        };
        ensure!(!name.is_empty(), "`{word}` has no name");
        pairs.push((name.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

/// Parses the exec form, a JSON array of strings; `None` for what is no JSON array and so is the shell form.
///
/// # Errors
/// An array of other things than strings, and text behind the array: Docker up to 20.10 drops that, later ones take the
/// whole for the shell form.
pub(super) fn exec_form(text: &str) -> Result<Option<Vec<String>>> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    let mut values = Deserializer::from_str(text).into_iter::<Vec<Value>>();
    let Some(Ok(array)) = values.next() else { return Ok(None) };
    let rest = text.get(values.byte_offset()..).unwrap_or_default().trim();
    ensure!(rest.is_empty(), "`{rest}` stands behind the JSON array");
    let string = |value| match value {
        Value::String(text) => Ok(text),
        other => bail!("`{other}` in the JSON array is no string"),
    };
    array.into_iter().map(string).collect::<Result<_>>().map(Some)
}
