//! Checks that did not hold: the errors for which tools exit with status 1, and all others with 2.

use std::fmt;

/// A check that did not hold: something is not what it was said to be. Tools that meet it exit with status 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What was checked, as the message names it: `digest`, `DiffID`, `size`.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, expected {}", self.what, self.found, self.expected)
    }
}

impl std::error::Error for Mismatch {}

/// Compares a value that was `found` with the one that was `expected`; `what` names it in the message.
///
/// # Errors
/// [`Mismatch`] where they differ.
pub fn check<T: PartialEq + fmt::Display>(what: &'static str, found: &T, expected: &T) -> Result<(), Mismatch> {
    if found == expected {
        return Ok(());
    }
    Err(Mismatch { what, found: found.to_string(), expected: expected.to_string() })
}

/// What was asked for is not there: a tag, a platform, a path in an image. Tools that meet it exit with status 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent(pub String);

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Absent {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_says_found_and_expected() {
        assert_eq!(check("size", &3, &3), Ok(()));
        assert_eq!(check("size", &3, &4).unwrap_err().to_string(), "size is 3, expected 4");
    }
}
