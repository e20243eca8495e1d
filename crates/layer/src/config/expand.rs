//! Removing quotes and replacing `$VAR` in a word, as a Dockerfile does.

use std::iter::Peekable;
use std::str::Chars;

use anyhow::{Context, Result, bail, ensure};

/// How deep substitutions nest, as in `${A:-${B:-c}}`.
const NESTING: usize = 64;

/// Returns `word` with quotes and escapes removed and variables replaced by their values in `env`, whose items are
/// `NAME=value`. A variable that is not set is empty.
///
/// # Errors
/// A quote or a brace that is not closed, a substitution other than `:-`, `:+`, `:?` and these without the colon, and
/// `${VAR:?message}` where VAR is not set.
pub(super) fn expand(word: &str, env: &[String]) -> Result<String> {
    let mut expander = Expander { chars: word.chars().peekable(), env, depth: 0 };
    expander.until(None).with_context(|| format!("cannot expand `{word}`"))
}

/// Returns the value of the first item of `env` that has this name.
fn lookup<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    let mut items = env.iter().map(|item| item.split_once('=').unwrap_or((item, "")));
    items.find(|(key, _)| *key == name).map(|(_, value)| value)
}

struct Expander<'a> {
    chars: Peekable<Chars<'a>>,
    env: &'a [String],
    depth: usize,
}

impl Expander<'_> {
    /// Expands up to and with the character `stop` outside of quotes, or to the end.
    fn until(&mut self, stop: Option<char>) -> Result<String> {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                c if Some(c) == stop => return Ok(out),
                '\'' => self.single_quoted(&mut out)?,
                '"' => self.double_quoted(&mut out)?,
                '$' => out += &self.dollar()?,
                // A last backslash escapes nothing and is left out.
                '\\' => out.extend(self.chars.next()),
                c => out.push(c),
            }
        }
        ensure!(stop.is_none(), "`}}` is missing");
        Ok(out)
    }

    /// Takes all up to the next single quote as it is.
    fn single_quoted(&mut self, out: &mut String) -> Result<()> {
        for c in self.chars.by_ref() {
            if c == '\'' {
                return Ok(());
            }
            out.push(c);
        }
        bail!("the closing `'` is missing");
    }

    /// Takes all up to the next double quote; only `$` is replaced, and a backslash escapes only `"`, `$` and itself.
    fn double_quoted(&mut self, out: &mut String) -> Result<()> {
        while let Some(c) = self.chars.next() {
            match c {
                '"' => return Ok(()),
                '$' => *out += &self.dollar()?,
                '\\' => out.push(self.chars.next_if(|c| matches!(c, '"' | '$' | '\\')).unwrap_or(c)),
                c => out.push(c),
            }
        }
        bail!("the closing `\"` is missing");
    }

    /// Returns what stands for the variable behind a dollar sign; for a dollar sign alone, itself.
    fn dollar(&mut self) -> Result<String> {
        if self.chars.next_if_eq(&'{').is_some() {
            return self.braces();
        }
        let name = self.variable();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(lookup(self.env, &name).unwrap_or_default().to_owned())
    }

    /// Returns what stands for `${NAME}` or `${NAME:-word}` and its kin.
    fn braces(&mut self) -> Result<String> {
        let name = self.variable();
        ensure!(!name.is_empty(), "`${{` is followed by no name");
        let value = lookup(self.env, &name).map(str::to_owned);
        let mut operator = self.chars.next().context("`}` is missing")?;
        if operator == '}' {
            return Ok(value.unwrap_or_default());
        }
        let colon = operator == ':';
        if colon {
            operator = self.chars.next().context("`}` is missing")?;
        }
        let shown = if colon { format!(":{operator}") } else { operator.to_string() };
        ensure!(matches!(operator, '-' | '+' | '?'), "`{shown}` is no substitution (`:-`, `:+` and `:?` are)");
        self.depth += 1;
        ensure!(self.depth <= NESTING, "substitutions nest more than {NESTING} deep");
        let word = self.until(Some('}'))?;
        self.depth -= 1;
        // With a colon, a variable that is set to nothing counts as not set.
        let value = value.filter(|value| !(colon && value.is_empty()));
        match (operator, value) {
            ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('+', Some(_)) => Ok(word),
            ('?', None) if word.is_empty() => bail!("`{name}` is not set"),
            ('?', None) => bail!("`{name}`: {word}"),
            (_, Some(value)) => Ok(value),
            (_, None) => Ok(String::new()),
        }
    }

    /// Takes a variable's name: letters, digits and `_`, or digits alone, or one of the shell's special characters, which
    /// are never set here.
    fn variable(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            Some(c) if c.is_numeric() => {
                while let Some(c) = self.chars.next_if(|c| c.is_numeric()) {
                    name.push(c);
                }
            }
            _ => {
                while let Some(c) = self.chars.next_if(|&c| c.is_alphanumeric() || c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }
}
