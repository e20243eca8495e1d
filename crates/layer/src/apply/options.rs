//! What of an entry's metadata is kept, and as what.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::overlay::Namespace;

/// How the entries of a layer become files.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whose the files are.
    pub owner: Owner,
    /// Leave extended attributes out.
    pub no_xattrs: bool,
    /// Under which names overlayfs finds its attributes.
    pub namespace: Namespace,
}

/// Whose the files are.
#[derive(Clone, Debug, Default)]
pub enum Owner {
    /// The layer's numbers.
    #[default]
    Same,
    /// The layer's numbers after these maps.
    Mapped {
        /// For users.
        uids: IdMap,
        /// For groups.
        gids: IdMap,
    },
    /// Whoever runs the tool.
    Caller,
}

impl Owner {
    /// Returns the owner and group of a file that the layer gives to `uid` and `gid`, or `None` where the kernel decides.
    pub(super) fn map(&self, uid: u32, gid: u32) -> Result<Option<(u32, u32)>> {
        Ok(match self {
            Owner::Same => Some((uid, gid)),
            Owner::Mapped { uids, gids } => Some((
                uids.map(uid).with_context(|| format!("uid {uid} is in no `--uid-map`"))?,
                gids.map(gid).with_context(|| format!("gid {gid} is in no `--gid-map`"))?,
            )),
            Owner::Caller => None,
        })
    }
}

/// A map of user or group IDs, as user_namespaces(7) has it. Without ranges it changes nothing.
#[derive(Clone, Debug, Default)]
pub struct IdMap(Vec<IdRange>);

impl IdMap {
    /// Makes a map of `ranges`.
    ///
    /// # Errors
    /// Two ranges that share an ID of the layer.
    pub fn new(ranges: Vec<IdRange>) -> Result<Self> {
        for (i, a) in ranges.iter().enumerate() {
            let apart =
                |b: &IdRange| a.container + (a.count - 1) < b.container || b.container + (b.count - 1) < a.container;
            ensure!(ranges[..i].iter().all(apart), "ID {} is mapped twice", a.container);
        }
        Ok(Self(ranges))
    }

    fn map(&self, id: u32) -> Option<u32> {
        if self.0.is_empty() {
            return Some(id);
        }
        let within = |range: &IdRange| id.checked_sub(range.container).filter(|&offset| offset < range.count);
        self.0.iter().find_map(|range| Some(range.host + within(range)?))
    }
}

/// `C:H[:N]`: the N IDs from C on in the layer are those from H on here; N is 1 unless given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    container: u32,
    host: u32,
    count: u32,
}

impl FromStr for IdRange {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("`{text}` is no map of IDs, expected C:H or C:H:N");
        let number = |text: &str| text.parse::<u32>().ok().with_context(wrong);
        let (container, host, count) = match text.split(':').collect::<Vec<_>>()[..] {
            [c, h] => (number(c)?, number(h)?, 1),
            [c, h, n] => (number(c)?, number(h)?, number(n)?),
            _ => bail!(wrong()),
        };
        // The last ID of all means `leave it` to chown.
        let fits = |first: u32| count > 0 && first.checked_add(count).is_some();
        ensure!(fits(container) && fits(host), "`{text}` has no IDs, or more than there are");
        Ok(Self { container, host, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[&str]) -> Result<IdMap> {
        IdMap::new(ranges.iter().map(|text| text.parse()).collect::<Result<_>>()?)
    }

    #[test]
    fn ids_are_mapped_by_range() {
        let ids = map(&["0:1000", "1:100000:65536"]).unwrap();
        for (id, want) in [(0, Some(1000)), (1, Some(100_000)), (65_536, Some(165_535)), (65_537, None)] {
            assert_eq!(ids.map(id), want, "{id}");
        }
        assert_eq!(IdMap::default().map(7), Some(7));
        let owner = Owner::Mapped { uids: ids, gids: IdMap::default() };
        assert_eq!(owner.map(0, 5).unwrap(), Some((1000, 5)));
        assert!(owner.map(70_000, 0).unwrap_err().to_string().contains("uid 70000 is in no `--uid-map`"));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for text in ["", "1", "1:2:3:4", "a:1", "-1:2", "0:0:0", "4294967295:0", "0:4294967290:10"] {
            assert!(text.parse::<IdRange>().is_err(), "{text:?}");
        }
        assert!(map(&["0:5:10", "9:100"]).unwrap_err().to_string().contains("ID 9 is mapped twice"));
    }
}
