//! Platforms: `os/arch[/variant]`, as Go names them (image-spec, image-index.md, "platform").

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::{Deserialize, Serialize};

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system: `linux`, `windows`.
    pub os: String,
    /// Architecture of the processor: `amd64`, `arm64`.
    pub architecture: String,
    /// Variant of the architecture: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Version of the operating system; Windows images differ in it.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

impl Platform {
    /// Returns the platform of the machine that this runs on.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        Self::new(std::env::consts::OS, architecture, None)
    }

    fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, implied) = match architecture {
            "x86_64" => ("amd64", None),
            "x86" | "i386" => ("386", None),
            "aarch64" => ("arm64", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        let variant = variant.or(implied).map(str::to_owned);
        let os = if os == "macos" { "darwin" } else { os };
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant, os_version: None }
    }

    /// Says whether an image for `other` is what was asked for with this platform.
    ///
    /// Without a variant, arm means v7, arm64 v8 and amd64 v1, on both sides, as containerd reads them. The version of the
    /// operating system counts only where one was asked for.
    pub fn matches(&self, other: &Platform) -> bool {
        let version = self.os_version.is_none() || self.os_version == other.os_version;
        version
            && self.os == other.os
            && self.architecture == other.architecture
            && self.full_variant() == other.full_variant()
    }

    fn full_variant(&self) -> &str {
        match (self.architecture.as_str(), self.variant.as_deref().unwrap_or_default()) {
            ("arm", "") => "v7",
            ("arm64", "" | "8") => "v8",
            ("amd64", "") => "v1",
            (_, variant) => variant,
        }
    }

    /// Says whether it stands for "no platform": BuildKit marks attestation manifests so.
    pub(super) fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            _ if parts.iter().any(|part| part.is_empty()) => bail!("`{text}`: expected `os/arch` or `os/arch/variant`"),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => bail!("`{text}`: expected `os/arch` or `os/arch/variant`"),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_printed_is_parsed_and_aliases_are_go_names() {
        for text in ["linux/amd64", "linux/arm/v6", "windows/amd64"] {
            assert_eq!(platform(text).to_string(), text);
        }
        for (text, want) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(platform(text).to_string(), want);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux//v7"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn variants_that_go_without_saying_match() {
        for (asked, has, want) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v1", true),
            ("linux/amd64", "linux/amd64/v3", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm", "linux/arm/v6", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/amd64", "linux/arm64", false),
        ] {
            assert_eq!(platform(asked).matches(&platform(has)), want, "{asked} {has}");
        }
    }
}
