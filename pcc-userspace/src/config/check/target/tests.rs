use proptest::prelude::*;
use proptest::sample::select;

use super::super::super::file::Words;
use super::*;

fn word(text: &str) -> Result<Vec<Target>, Problem> {
    parse(&TargetDraft::Word(text.to_owned()))
}

fn draft(url: &str, addresses: &[&str]) -> PageDraft {
    let words = addresses.iter().map(|word| (*word).to_owned()).collect();
    let address = (!addresses.is_empty()).then_some(Words::Many(words));
    PageDraft { url: url.to_owned(), address, ..PageDraft::default() }
}

fn page(tls: bool, host: &str, address: &str, path: &str) -> Target {
    let (host, address, path) = (host.to_owned(), address.parse().unwrap(), path.to_owned());
    Target::Http(Page { tls, host, address, path, status: None, body: None })
}

#[test]
fn each_form_is_read() {
    for (text, wanted) in [
        ("gateway", Target::Gateway),
        ("neighbour", Target::Neighbour),
        ("192.0.2.9", Target::Ping("192.0.2.9".parse().unwrap())),
        ("tcp://192.0.2.9:443", Target::Tcp("192.0.2.9:443".parse().unwrap())),
        ("tcp://[2001:db8::9]:443", Target::Tcp("[2001:db8::9]:443".parse().unwrap())),
        ("http://192.0.2.9", page(false, "192.0.2.9", "192.0.2.9:80", "/")),
        ("http://192.0.2.9?x=1", page(false, "192.0.2.9", "192.0.2.9:80", "/?x=1")),
        ("https://[2001:db8::9]:8443/a?b", page(true, "2001:db8::9", "[2001:db8::9]:8443", "/a?b")),
        ("dns://192.0.2.9/example.org", Target::Dns("192.0.2.9:53".parse().unwrap(), "example.org".to_owned())),
        ("dns://192.0.2.9:54/org.", Target::Dns("192.0.2.9:54".parse().unwrap(), "org".to_owned())),
    ] {
        assert_eq!(word(text), Ok(vec![wanted]), "{text}");
    }
}

#[test]
fn a_name_is_asked_at_each_of_its_addresses() {
    let whole = PageDraft {
        status: Some(204),
        body: Some("ok".to_owned()),
        ..draft("https://example.org/x", &["203.0.113.9", "2001:db8::9"])
    };
    let wanted = ["203.0.113.9:443", "[2001:db8::9]:443"].map(|address| {
        let Target::Http(page) = page(true, "example.org", address, "/x") else { unreachable!() };
        Target::Http(Page { status: Some(204), body: Some("ok".to_owned()), ..page })
    });
    assert_eq!(parse(&TargetDraft::Page(whole)), Ok(wanted.to_vec()));
    let dns = parse(&TargetDraft::Page(draft("dns://ns.example/example.org", &["192.0.2.9"])));
    assert_eq!(dns, word("dns://192.0.2.9/example.org"));
}

#[test]
fn every_mistake_is_named() {
    for (text, wanted) in [
        ("gatway", "`gatway` is no IP address"),
        ("127.0.0.1", "`127.0.0.1` is not the address of another host"),
        ("tcp://127.0.0.1:1", "`127.0.0.1` is not the address of another host"),
        ("carrier", "`carrier` does not go with other targets"),
        ("ftp://192.0.2.9/", "`ftp://192.0.2.9/` is of no kind that can be asked"),
        ("tcp://2001:db8::9:443", "`tcp://2001:db8::9:443` is no URL: "),
        ("tcp://192.0.2.9", "`tcp://192.0.2.9` has no port"),
        ("tcp://192.0.2.9:0", "`tcp://192.0.2.9:0` has no port from 1 to 65535"),
        ("tcp://192.0.2.9:65536", "`tcp://192.0.2.9:65536` has no port from 1 to 65535"),
        ("tcp://192.0.2.9:443/x", "`tcp://192.0.2.9:443/x` has a path"),
        ("http://a@192.0.2.9/", "`http://a@192.0.2.9/` has a user or a fragment"),
        ("http://192.0.2.9/#a", "`http://192.0.2.9/#a` has a user or a fragment"),
        ("https://example.org/", "`https://example.org/` needs an `address`"),
        ("dns://192.0.2.9", "`dns://192.0.2.9` has no name to ask for"),
        ("dns://192.0.2.9/a..b", "`dns://192.0.2.9/a..b` has no name to ask for"),
    ] {
        let Problem { message, hint } = word(text).expect_err(text);
        assert!(message.starts_with(wanted) && !hint.is_empty(), "{message} is not {wanted}");
    }
    for (draft, wanted) in [
        (draft("https://192.0.2.9/", &["192.0.2.9"]), "`https://192.0.2.9/` has an address already"),
        (draft("https://example.org/", &["example.org"]), "`example.org` is no IP address"),
        (draft("https://a.b/", &["192.0.2.9", "192.0.2.8"]), "`https://a.b/` has several addresses of IPv4"),
        (PageDraft { status: Some(199), ..draft("http://192.0.2.9/", &[]) }, "`199` is no HTTP status"),
        (PageDraft { body: Some(String::new()), ..draft("http://192.0.2.9/", &[]) }, "`body` is empty"),
        (PageDraft { status: Some(200), ..draft("tcp://192.0.2.9:1", &[]) }, "`status` and `body` are those of a page"),
    ] {
        let Problem { message, .. } = parse(&TargetDraft::Page(draft)).expect_err(wanted);
        assert!(message.starts_with(wanted), "{message} is not {wanted}");
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(
        kind in 0..5, ipv6: bool, v4 in 1_u8..127, low: u64, port in 1_u16.., path in "(/[a-z0-9.%_~-]{0,9}){1,3}(\\?[a-z=&]{0,9})?",
        name in "[a-zA-Z0-9_-]{1,63}(\\.[a-z0-9]{1,9}){0,3}",
    ) {
        let address = if ipv6 {
            Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(low)).into()
        } else {
            IpAddr::from([v4, (low >> 8) as u8, low as u8, 9])
        };
        let socket = SocketAddr::new(address, port);
        let target = match kind {
            0 => Target::Ping(address),
            1 => Target::Tcp(socket),
            2 => Target::Dns(socket, name),
            tls => page(tls == 3, &address.to_string(), &socket.to_string(), &path),
        };
        prop_assert_eq!(word(&target.to_string()), Ok(vec![target]));
    }

    #[test]
    fn no_text_makes_it_panic(
        parts in prop::collection::vec(
            select(vec!["tcp", "http", "https", "dns", "://", ":", "/", "[", "]", "192.0.2.9", "2001:db8::9", "0", "80", "@", "#", "?",
                "example.org", ".", "%25", "\n", "é", " ", "\\"]),
            0..9,
        ),
        other in "\\PC{0,9}",
        address in prop::option::of("(192.0.2.9|::|\\PC{0,9})"),
        status in prop::option::of(any::<i64>()),
    ) {
        for text in [parts.concat(), format!("{}{other}", parts.concat()), format!("http://{other}/{other}")] {
            let mut draft = draft(&text, &address.as_deref().map_or_else(Vec::new, |address| vec![address]));
            draft.status = status;
            for target in [TargetDraft::Word(text.clone()), TargetDraft::Page(draft)] {
                match parse(&target) {
                    Ok(targets) => prop_assert!(!targets.is_empty()),
                    Err(Problem { message, hint }) => prop_assert!(!message.is_empty() && !hint.is_empty()),
                }
            }
        }
    }
}
