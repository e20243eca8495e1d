//! Lists in documents, bounded in length.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::limits;

/// A list of at most [`limits::LIST`] elements; longer ones are refused while they are parsed.
#[derive(Clone, Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData)).map(List)
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            if list.len() == limits::LIST {
                return Err(de::Error::custom(format_args!("a list of more than {} elements", limits::LIST)));
            }
            list.push(element);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_refused() {
        let text = |len: usize| format!("[{}0]", "0,".repeat(len - 1));
        let parse = |len| serde_json::from_str::<List<u8>>(&text(len));
        assert_eq!(parse(limits::LIST).unwrap().0.len(), limits::LIST);
        assert!(parse(limits::LIST + 1).unwrap_err().to_string().contains("more than 65536 elements"));
        assert!(serde_json::from_str::<List<u8>>("{}").unwrap_err().to_string().contains("expected a list"));
    }
}
