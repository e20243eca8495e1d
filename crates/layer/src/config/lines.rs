//! From text to logical lines: continuations joined, comments left out, the instruction's name and options split off.

use anyhow::{Result, ensure};

/// Returns the logical lines of a Dockerfile fragment, without leading blanks.
///
/// A backslash before the end of a line joins the next to it, with that line's leading blanks; comment lines and empty ones
/// do not end such a line. A backslash behind a backslash joins nothing.
///
/// # Errors
/// A parser directive that changes the escape character: nothing here would follow it.
pub(super) fn logical(text: &str) -> Result<Vec<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_escape_directive(text)?;
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let blank = line.trim_start();
        if blank.is_empty() || blank.starts_with('#') {
            continue;
        }
        let line = if open.is_some() { line } else { blank };
        let mut joined = open.take().unwrap_or_default();
        match continued(line) {
            Some(part) => {
                joined.push_str(part);
                open = Some(joined);
            }
            None => {
                joined.push_str(line);
                lines.push(joined);
            }
        }
    }
    lines.extend(open);
    Ok(lines)
}

/// Returns the line without its continuation mark, or `None` where it has none.
fn continued(line: &str) -> Option<&str> {
    let part = line.trim_end_matches([' ', '\t']).strip_suffix('\\')?;
    (!part.ends_with('\\')).then_some(part)
}

/// Directives are the comments of the form `# key=value` before all other lines.
fn refuse_escape_directive(text: &str) -> Result<()> {
    for line in text.lines() {
        let directive = line.trim_start().strip_prefix('#').and_then(|rest| rest.split_once('='));
        let Some((key, value)) = directive else { break };
        let (key, value) = (key.trim(), value.trim());
        let escape = key.eq_ignore_ascii_case("escape");
        ensure!(!escape || value == "\\", "escape directive `{value}` is not supported, only `\\`");
        if !escape && !key.eq_ignore_ascii_case("syntax") {
            break;
        }
    }
    Ok(())
}

/// Blanks within a line, as the Dockerfile's parser counts them where it does not go by words.
pub(super) const BLANKS: [char; 5] = [' ', '\t', '\x0b', '\x0c', '\r'];

/// Splits a text at its first run of blanks; the second part is empty where there is none.
pub(super) fn split_blank(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(BLANKS).unwrap_or((text, ""));
    (first, rest.trim_start_matches(BLANKS))
}

/// Takes the options off the front of an instruction's arguments: words that begin with `--`, their quotes removed, without
/// these two dashes. A lone `--` ends them.
pub(super) fn options(mut rest: &str) -> (Vec<String>, &str) {
    let mut options = Vec::new();
    loop {
        rest = rest.trim_start();
        let Some(text) = rest.strip_prefix("--") else { return (options, rest) };
        let (option, length) = unquoted_word(text);
        rest = &text[length..];
        if length == 0 {
            return (options, rest.trim_start());
        }
        options.push(option);
    }
}

/// Returns the word that `text` begins with, without its quotes and escapes, and how many bytes of `text` it takes.
fn unquoted_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.extend(chars.next().map(|(_, c)| c)),
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('\'' | '"', None) => quote = Some(c),
            (c, None) if c.is_whitespace() => return (word, at),
            (c, None) => word.push(c),
        }
    }
    (word, text.len())
}
