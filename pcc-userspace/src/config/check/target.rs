//! The grammar of what a health check asks: words, addresses, and URLs whose hosts are addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::Uri;
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::file::{PageDraft, TargetDraft};
use super::super::{Page, Target};
use crate::host::Family;
use crate::problem::Problem;

const FORMS: &str = "`gateway`, `neighbour`, an address to ping, `tcp://192.0.2.9:443`, `http://192.0.2.9/`, \
                     `https://192.0.2.9/`, `dns://192.0.2.9/example.org`, or `carrier` alone";
const ONE_FOR_EACH: &str = "probes do not ask DNS: `{ url = \"https://example.org/\", address = \"192.0.2.9\" }`, and at \
                            most one address of each family";
/// RFC 1035 section 2.3.4.
const LABEL_LENGTH: usize = 63;
const NAME_LENGTH: usize = 253;

/// What `draft` asks: one target, or one for each address that its table has. The problem does not say where it is.
pub(super) fn parse(draft: &TargetDraft) -> Result<Vec<Target>, Problem> {
    match draft {
        TargetDraft::Word(text) => match text.as_str() {
            "gateway" => Ok(vec![Target::Gateway]),
            "neighbour" => Ok(vec![Target::Neighbour]),
            "carrier" => Err(Problem::new("`carrier` does not go with other targets", "it is always looked at")),
            _ if text.contains("://") => url(&PageDraft { url: text.clone(), ..PageDraft::default() }),
            _ => Ok(vec![Target::Ping(host(text)?)]),
        },
        TargetDraft::Page(draft) => url(draft),
    }
}

fn url(draft: &PageDraft) -> Result<Vec<Target>, Problem> {
    let text = &draft.url;
    let uri: Uri = text.parse().map_err(|error| {
        Problem::new(
            format!("`{text}` is no URL: {error}"),
            "an IPv6 address is in brackets: `tcp://[2001:db8::9]:443`",
        )
    })?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(Problem::new(format!("`{text}` is no target"), FORMS));
    };
    let scheme = Scheme::ALL.into_iter().find(|(name, _)| *name == scheme).map(|(_, scheme)| scheme);
    let scheme = scheme.ok_or_else(|| Problem::new(format!("`{text}` is of no kind that can be asked"), FORMS))?;
    if authority.as_str().contains('@') || text.contains('#') {
        return Err(Problem::new(format!("`{text}` has a user or a fragment"), "leave them out"));
    }
    let port = port(text, authority.as_str(), authority.host(), scheme)?;
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    if scheme == Scheme::Tcp && path != "/" {
        return Err(Problem::new(format!("`{text}` has a path"), "TCP knows none: `tcp://192.0.2.9:443`"));
    }
    if !matches!(scheme, Scheme::Http | Scheme::Https) && (draft.status.is_some() || draft.body.is_some()) {
        return Err(Problem::new("`status` and `body` are those of a page", "they go with `http://` and `https://`"));
    }
    let target = |address: IpAddr| {
        let address = SocketAddr::new(address, port);
        Ok(match scheme {
            Scheme::Tcp => Target::Tcp(address),
            Scheme::Dns => Target::Dns(address, question(text, &path)?),
            Scheme::Http | Scheme::Https => Target::Http(Page {
                tls: scheme == Scheme::Https,
                host: name.to_owned(),
                address,
                path: path.clone(),
                status: status(draft.status)?,
                body: body(draft.body.as_deref())?,
            }),
        })
    };
    addresses(text, name, draft)?.into_iter().map(target).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Tcp,
    Http,
    Https,
    Dns,
}

impl Scheme {
    const ALL: [(&str, Self); 4] =
        [("tcp", Self::Tcp), ("http", Self::Http), ("https", Self::Https), ("dns", Self::Dns)];

    fn port(self) -> Option<u16> {
        match self {
            Self::Tcp => None,
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Dns => Some(53),
        }
    }
}

fn port(text: &str, authority: &str, host: &str, scheme: Scheme) -> Result<u16, Problem> {
    let given = authority.strip_prefix(host).filter(|rest| !rest.is_empty());
    let port = match given {
        Some(rest) => rest.strip_prefix(':').and_then(|digits| digits.parse().ok()),
        None => scheme.port(),
    };
    port.filter(|port| *port != 0).ok_or_else(|| {
        let what = if given.is_some() { "no port from 1 to 65535" } else { "no port" };
        Problem::new(format!("`{text}` has {what}"), "`tcp://192.0.2.9:443` has port 443")
    })
}

/// Where the server called `name` is: `name` itself, or the addresses of the table.
fn addresses(text: &str, name: &str, draft: &PageDraft) -> Result<Vec<IpAddr>, Problem> {
    let given = draft.address.as_ref().map_or(&[][..], |words| words.as_slice());
    if name.parse::<IpAddr>().is_ok() {
        if draft.address.is_some() {
            return Err(Problem::new(format!("`{text}` has an address already"), "leave `address` out"));
        }
        return Ok(vec![host(name)?]);
    }
    if ServerName::try_from(name).is_err() {
        return Err(Problem::new(format!("`{text}` has no host"), FORMS));
    }
    if given.is_empty() {
        return Err(Problem::new(format!("`{text}` needs an `address`"), ONE_FOR_EACH));
    }
    let found = given.iter().map(|word| host(word)).collect::<Result<Vec<_>, _>>()?;
    for family in Family::BOTH {
        if found.iter().filter(|address| Family::of(**address) == family).count() > 1 {
            return Err(Problem::new(format!("`{text}` has several addresses of {family}"), ONE_FOR_EACH));
        }
    }
    Ok(found)
}

fn host(text: &str) -> Result<IpAddr, Problem> {
    let address = text.parse().map_err(|_| Problem::new(format!("`{text}` is no IP address"), FORMS))?;
    if is_host(address) {
        return Ok(address);
    }
    let what = format!("`{address}` is not the address of another host");
    Err(Problem::new(what, "a unicast address is needed"))
}

/// The address may be that of another host.
pub(super) fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => {
            !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.to_ipv4_mapped().is_some())
        }
    }
}

/// The name to ask for, from `/example.org`.
fn question(text: &str, path: &str) -> Result<String, Problem> {
    let name = path.trim_start_matches('/').trim_end_matches('.');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let label = |label: &str| (1..=LABEL_LENGTH).contains(&label.len()) && label.bytes().all(plain);
    if name.len() <= NAME_LENGTH && name.split('.').all(label) {
        return Ok(name.to_owned());
    }
    Err(Problem::new(
        format!("`{text}` has no name to ask for"),
        "`dns://192.0.2.9/example.org` asks for `example.org`",
    ))
}

fn status(number: Option<i64>) -> Result<Option<u16>, Problem> {
    let Some(number) = number else { return Ok(None) };
    let status = u16::try_from(number).ok().filter(|status| (200..=599).contains(status));
    status.map(Some).ok_or_else(|| Problem::new(format!("`{number}` is no HTTP status"), "`status` is 200 to 599"))
}

fn body(text: Option<&str>) -> Result<Option<String>, Problem> {
    if text == Some("") {
        return Err(Problem::new("`body` is empty", "a part of the page, or leave it out"));
    }
    Ok(text.map(str::to_owned))
}

/// As it is written in the configuration; of a page its URL.
impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => out.write_str("gateway"),
            Self::Neighbour => out.write_str("neighbour"),
            Self::Ping(address) => write!(out, "{address}"),
            Self::Tcp(address) => write!(out, "tcp://{address}"),
            Self::Dns(server, name) => write!(out, "dns://{server}/{name}"),
            Self::Http(page) => {
                write!(out, "{}://{}{}", if page.tls { "https" } else { "http" }, page.authority(), page.path)
            }
        }
    }
}

impl Page {
    /// The server as in a URL: an IPv6 address in brackets, the port if it is not that of the scheme.
    pub fn authority(&self) -> String {
        let host = if self.host.parse::<Ipv6Addr>().is_ok() { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.address.port()) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests;
