//! What an image runs on.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};

/// `os/architecture[/variant]`, in Go's names as the image-spec has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm` ...
    pub architecture: String,
    /// Of `arm`: `v6`, `v7`.
    pub variant: Option<String>,
}

impl Platform {
    /// Returns the platform that this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = go_architecture(std::env::consts::ARCH);
        Self { os: std::env::consts::OS.to_owned(), architecture: architecture.to_owned(), variant }
    }
}

/// Returns Go's name of an architecture and its variant; `uname -m` and Debian have others for some.
fn go_architecture(name: &str) -> (&str, Option<String>) {
    let variant = |v: &str| Some(v.to_owned());
    match name {
        "x86_64" | "x86-64" => ("amd64", None),
        "i386" | "i486" | "i586" | "i686" | "x86" => ("386", None),
        "aarch64" => ("arm64", None),
        "armhf" | "armv7l" => ("arm", variant("v7")),
        "armel" | "armv6l" => ("arm", variant("v6")),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    }
}

impl FromStr for Platform {
    type Err = anyhow::Error;

    /// Parses `os/architecture[/variant]`; an architecture's other names become Go's, as containerd does.
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let shaped = matches!(parts.len(), 2 | 3) && parts.iter().all(valid);
        ensure!(shaped, "`{}` is not a platform (`linux/amd64`, `linux/arm/v7`)", text.escape_debug());
        let (name, variant) = (parts[1].to_ascii_lowercase(), parts.get(2).map(|v| v.to_ascii_lowercase()));
        let (architecture, implied) = go_architecture(&name);
        // v8 is what arm64 means.
        let variant = variant.or(implied).filter(|v| !(architecture == "arm64" && (v == "v8" || v == "8")));
        Ok(Self { os: parts[0].to_ascii_lowercase(), architecture: architecture.to_owned(), variant })
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

    #[test]
    fn platforms_are_parsed_into_gos_names() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), want);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b"] {
            assert!(text.parse::<Platform>().unwrap_err().to_string().contains("is not a platform"), "{text}");
        }
    }
}
