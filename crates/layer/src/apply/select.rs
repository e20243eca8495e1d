//! Some entries of a layer instead of all.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use anyhow::{Result, ensure};

use crate::change::{Body, Entry, LayerPath, Sink};

/// A pattern for paths, matched component by component from the root: `*` and `?` stand for any bytes or one byte but `/`,
/// `[a-z]` for one of a set, `[!a-z]` for one outside it, a component `**` for any number of components.
///
/// Written here, for the glob crates either match text only or bring a regular expression engine.
#[derive(Clone, Debug)]
pub struct Pattern(Vec<Vec<u8>>);

impl FromStr for Pattern {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
        let parts: Vec<_> = parts.map(|part| part.as_bytes().to_vec()).collect();
        ensure!(!parts.is_empty(), "`{text}` matches no path");
        ensure!(parts.iter().all(|part| part != b".."), "`{text}` has a component `..`, which no path has");
        Ok(Self(parts))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::change::Escaped(&self.0.join(&b'/')).fmt(f)
    }
}

impl Pattern {
    /// Says whether the pattern matches `path` or a directory above it.
    pub fn covers(&self, path: &LayerPath) -> bool {
        // Which components of the pattern may be next, as all that came before matched.
        let mut next = vec![false; self.0.len() + 1];
        next[0] = true;
        self.skip_any(&mut next);
        for name in path.components() {
            if next[self.0.len()] {
                return true;
            }
            next = self.step(&next, name);
        }
        next[self.0.len()]
    }

    fn step(&self, next: &[bool], name: &OsStr) -> Vec<bool> {
        let mut after = vec![false; next.len()];
        for (i, part) in self.0.iter().enumerate().filter(|(i, _)| next[*i]) {
            if part == b"**" {
                after[i] = true;
            } else if matches(part, name.as_bytes()) {
                after[i + 1] = true;
            }
        }
        self.skip_any(&mut after);
        after
    }

    /// `**` may stand for nothing.
    fn skip_any(&self, next: &mut [bool]) {
        for (i, part) in self.0.iter().enumerate() {
            next[i + 1] |= next[i] && part == b"**";
        }
    }
}

/// Matches one component; on a mismatch the last `*` takes one byte more, so time is at most the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if let Some(len) = one(&pattern[p..], name[n]) {
            p += len;
            n += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            (p, n) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// Matches one byte and returns how much of the pattern that took.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b'[' => match set(&pattern[1..], byte) {
            Some((len, true)) => Some(1 + len),
            Some((_, false)) => None,
            // Without an end it is no set.
            None => (byte == b'[').then_some(1),
        },
        literal => (literal == byte).then_some(1),
    }
}

/// Matches a set, whose `[` is past; returns its length and whether `byte` is in it.
fn set(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = pattern.first() == Some(&b'!');
    let start = usize::from(negated);
    // A `]` that comes first is one of the set.
    let end = start + 1 + pattern.get(start + 1..)?.iter().position(|&b| b == b']')?;
    let mut members = &pattern[start..end];
    let mut found = false;
    while let [first, rest @ ..] = members {
        if let [b'-', last, rest @ ..] = rest {
            found |= (*first..=*last).contains(&byte);
            members = rest;
        } else {
            found |= *first == byte;
            members = rest;
        }
    }
    Some((end + 1, found != negated))
}

/// Which entries are wanted: all, or those that a pattern covers, less those that another excludes.
#[derive(Clone, Debug, Default)]
pub struct Select {
    /// If there are any, only what one of them covers.
    pub paths: Vec<Pattern>,
    /// Nothing that one of them covers.
    pub excludes: Vec<Pattern>,
}

impl Select {
    /// Says whether all is wanted.
    pub fn is_all(&self) -> bool {
        self.paths.is_empty() && self.excludes.is_empty()
    }

    fn wants(&self, path: &LayerPath) -> bool {
        let covered = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.covers(path));
        (self.paths.is_empty() || covered(&self.paths)) && !covered(&self.excludes)
    }
}

/// A sink that hands on the changes that are wanted.
pub struct Selected<'a, S> {
    sink: &'a mut S,
    select: &'a Select,
}

impl<'a, S: Sink> Selected<'a, S> {
    /// Hands on to `sink` what `select` wants.
    pub fn new(sink: &'a mut S, select: &'a Select) -> Self {
        Self { sink, select }
    }
}

impl<S: Sink> Sink for Selected<'_, S> {
    fn put(&mut self, entry: &Entry, body: &mut dyn Body) -> Result<()> {
        if self.select.wants(&entry.path) { self.sink.put(entry, body) } else { Ok(()) }
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<()> {
        if self.select.wants(path) { self.sink.whiteout(path) } else { Ok(()) }
    }

    fn opaque(&mut self, path: &LayerPath) -> Result<()> {
        if self.select.wants(path) { self.sink.opaque(path) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_they_match_and_all_below() {
        for (pattern, path, want) in [
            ("etc", "etc", true),
            ("/etc/", "etc/passwd", true),
            ("etc", "usr/etc", false),
            ("etc", "etcx", false),
            ("etc/p*", "etc/passwd", true),
            ("etc/p*", "etc", false),
            ("*", "etc/passwd", true),
            ("*/p*", "etc/passwd", true),
            ("**/*.pyc", "a.pyc", true),
            ("**/*.pyc", "usr/lib/a.pyc", true),
            ("**/doc", "usr/share/doc/x/y", true),
            ("usr/**/doc", "usr/doc", true),
            ("usr/**/doc", "usr/share/man", false),
            ("**", "a/b", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[x", "[x", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            let covers = pattern.parse::<Pattern>().unwrap().covers(&LayerPath::parse(path.as_bytes()).unwrap());
            assert_eq!(covers, want, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_that_can_match_nothing_is_refused() {
        for text in ["", "/", "./.", "../etc", "a/../b"] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }
}
