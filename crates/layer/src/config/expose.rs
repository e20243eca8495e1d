//! Ports as EXPOSE writes them: `80`, `90/udp`, `100-101`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};

/// Returns the ports that `spec` names, in the configuration's form `80/tcp`.
///
/// A host's address and port before it (`127.0.0.1:8080:80`) are checked and left out, as Docker does: they have no place
/// in an image.
///
/// # Errors
/// What is no port, no rising range, or no protocol of tcp, udp and sctp.
pub(super) fn ports(spec: &str) -> Result<Vec<String>> {
    let (address, protocol) = spec.split_once('/').unwrap_or((spec, ""));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    let known = matches!(protocol.as_str(), "tcp" | "udp" | "sctp");
    ensure!(known, "`{spec}` has the protocol `{protocol}`, expected tcp, udp or sctp");
    let (host, port) = address.rsplit_once(':').unwrap_or(("", address));
    let wrong = || format!("`{spec}` is not a port (`80`, `53/udp`, `8000-8010`)");
    let ports = range(port).with_context(wrong)?;
    let (ip, host_port) = host.rsplit_once(':').unwrap_or(("", host));
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    ensure!(ip.is_empty() || ip.parse::<IpAddr>().is_ok(), wrong());
    let fits = |host: RangeInclusive<u16>| ports.len() == 1 || host.len() == ports.len();
    ensure!(host_port.is_empty() || range(host_port).is_some_and(fits), wrong());
    Ok(ports.map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (first, last) = (digits(first) && digits(last)).then_some((first.parse().ok()?, last.parse().ok()?))?;
    (first <= last).then_some(first..=last)
}
