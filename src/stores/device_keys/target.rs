//! Where a signature may be sent: an audience, an origin and a path, compared letter by letter.
//!
//! An entry that could be met in two spellings would be an entry for more than it says, so only one spelling is taken.

use super::model::{LONGEST_NAME, check_name};
use crate::error::{Error, ErrorKind, Result};

/// The longest path, in bytes.
const LONGEST_PATH: usize = 2048;
/// Hosts of this machine, to which nothing travels that could be listened to.
const THIS_MACHINE: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// One entry of the allow list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    audience: String,
    origin: String,
    path: String,
}

impl Target {
    pub(super) fn new(audience: String, origin: String, path: String) -> Result<Self> {
        check_name("an audience", &audience)?;
        if !is_origin(&origin) {
            return Err(Error::new(ErrorKind::Invalid, "this is not an origin that may be allowed").advise(
                "https://host, https://host:port or wss://..., in lower case, without the usual port and without a slash \
                 at the end",
            ));
        }
        if !is_path(&path) {
            return Err(Error::new(ErrorKind::Invalid, "this is not a path that may be allowed").advise(
                "/ and segments of printable ASCII; no query, no fragment, no segment . or .., no %2e or backslash",
            ));
        }
        Ok(Self { audience, origin, path })
    }

    pub(super) fn is(&self, audience: &str, origin: &str, path: &str) -> bool {
        self.audience == audience && self.origin == origin && self.path == path
    }
}

fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    // A bracketed address holds colons of its own.
    let end = authority.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match authority[end..].split_once(':') {
        Some((rest, port)) => (&authority[..end + rest.len()], Some(port)),
        None => (authority, None),
    };
    let usual = match scheme {
        "https" | "wss" => "443",
        "http" | "ws" if THIS_MACHINE.contains(&host) => "80",
        _ => return false,
    };
    let is_port = |port: &str| {
        port != usual
            && !port.starts_with('0')
            && port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    };
    origin.len() <= LONGEST_NAME && is_host(host) && port.is_none_or(is_port)
}

/// A name or address as it stands in an origin: what is not ASCII is in its `xn--` form.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address =
            address.strip_suffix(']').and_then(|address| address.parse::<std::net::Ipv6Addr>().ok());
        return address.is_some_and(|address| format!("[{address}]") == host);
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    host.split('.').all(is_label)
}

fn is_path(path: &str) -> bool {
    path.len() <= LONGEST_PATH
        && path.starts_with('/')
        && path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\'))
        && !path.to_ascii_lowercase().contains("%2e")
        && path.split('/').all(|segment| !matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_spelling() {
        for good in [
            "https://example.org",
            "https://example.org:8443",
            "wss://a-b.example.org",
            "https://10.0.0.1",
            "https://[2001:db8::1]:8443",
            "http://localhost:3000",
            "http://127.0.0.1",
            "ws://[::1]:9000",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "https://",
            "example.org",
            "https://example.org/",
            "https://example.org/path",
            "https://EXAMPLE.org",
            "HTTPS://example.org",
            "https://example.org:443",
            "wss://example.org:443",
            "https://example.org:",
            "https://example.org:0443",
            "https://example.org:99999",
            "https://example.org:+8443",
            "https://user@example.org",
            "https://example.org?x",
            "https://example.org#x",
            "https://exa mple.org",
            "https://example.org\0",
            "https://example..org",
            "https://*.example.org",
            "https://bücher.example",
            "https://[2001:DB8::1]",
            "https://[::1",
            "http://example.org",
            "http://localhost.example.org",
            "http://127.0.0.1:80",
            "file:///etc/passwd",
            "javascript://x",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
        assert!(!is_origin(&format!("https://{}", "a".repeat(100_000))));
    }

    #[test]
    fn a_path_has_one_spelling() {
        for good in ["/", "/v1/connect", "/a//b", "/a/%20/b", "/.well-known/x"] {
            assert!(is_path(good), "{good}");
        }
        for bad in [
            "",
            "v1",
            "/a?b",
            "/a#b",
            "/a/../b",
            "/..",
            "/./a",
            "/%2E%2e/a",
            "/a b",
            "/\u{e4}",
            "/a\\b",
            "/\0",
        ] {
            assert!(!is_path(bad), "{bad}");
        }
        assert!(!is_path(&"/a".repeat(100_000)));
    }
}
