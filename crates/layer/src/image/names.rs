//! Names of images: whether what was asked for is one of an image's tags.

/// Says whether `asked`, a tag or `name:tag`, means the image that is tagged `tag`.
///
/// A tag may be written as Docker prints it or in full (`docker.io/library/alpine:3.10`), a name without a tag means
/// `latest`, and a tag alone matches whatever the name.
pub(super) fn matches(asked: &str, tag: &str) -> bool {
    let (name, version) = split(tag);
    asked == tag || full(asked) == full(tag) || (!name.is_empty() && asked == version)
}

/// Splits `name:tag`; the name is empty in a tag alone. A port (`host:5000/name`) is part of the name.
fn split(text: &str) -> (&str, &str) {
    match text.rsplit_once(':') {
        Some((name, version)) if !version.contains('/') => (name, version),
        _ => ("", text),
    }
}

/// Writes a name in full, with registry, `library/` and tag.
fn full(text: &str) -> String {
    let (name, version) = match split(text) {
        ("", name) => (name, "latest"),
        both => both,
    };
    let name = match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some(("docker.io" | "index.docker.io", rest)) if !rest.contains('/') => format!("docker.io/library/{rest}"),
        Some(("index.docker.io", rest)) => format!("docker.io/{rest}"),
        Some((host, _)) if host == "localhost" || host.contains(['.', ':']) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    };
    format!("{name}:{version}")
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn short_and_full_names_mean_the_same() {
        for (asked, tag, want) in [
            ("alpine:3.10", "alpine:3.10", true),
            ("alpine:3.10", "docker.io/library/alpine:3.10", true),
            ("docker.io/library/alpine:3.10", "alpine:3.10", true),
            ("docker.io/alpine:3.10", "alpine:3.10", true),
            ("alpine", "alpine:latest", true),
            ("me/a:1", "docker.io/me/a:1", true),
            ("me/a:1", "index.docker.io/me/a:1", true),
            ("3.10", "alpine:3.10", true),
            ("latest", "latest", true),
            ("host:5000/a", "host:5000/a:latest", true),
            ("alpine:3.1", "alpine:3.10", false),
            ("alpine", "alpine:3.10", false),
            ("a:1", "me/a:1", false),
            ("localhost/a:1", "a:1", false),
            ("5000/a", "host:5000/a", false),
        ] {
            assert_eq!(matches(asked, tag), want, "{asked} {tag}");
        }
    }
}
