//! Who has which address. Documentation and benchmarking ranges only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The server that every ISP has.
pub const SERVER4: Ipv4Addr = server4(9);
/// The server that every ISP has.
pub const SERVER6: Ipv6Addr = server6(9);
/// The port of every identity server but the client's.
pub const PORT: u16 = 7;
/// The port of the identity server on the client, and the one that the router forwards to it.
pub const FORWARDED_PORT: u16 = 8080;

/// The client on `lan`.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The client on `lan`.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 2);
/// The router on `lan`.
pub const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The router on `lan`.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);

/// The client on `lan2`.
pub const CLIENT2_4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The client on `lan2`.
pub const CLIENT2_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 2);
/// The router on `lan2`.
pub const ROUTER2_4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The router on `lan2`.
pub const ROUTER2_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);

/// The router on `site`, the device towards the inner router.
pub const SITE4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 129);
/// The router on `site`, the device towards the inner router.
pub const SITE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xe, 0, 0, 0, 0, 1);
/// The inner router on `site`.
pub const INNER_GATEWAY4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 130);
/// The inner router on `site`.
pub const INNER_GATEWAY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xe, 0, 0, 0, 0, 2);
/// The server in `198.19.0.0/24`, behind the inner router.
pub const INNER4: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 9);
/// The server in `2001:db8:f::/64`, behind the inner router.
pub const INNER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 9);

/// How many server addresses, from 1, answer UDP. All of 1 to 254 answer TCP and echo.
pub const UDP_SERVERS: u8 = 64;

/// Server `host` (1 to 254) of every ISP.
pub const fn server4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, host)
}

/// Server `host` (1 to 254) of every ISP.
pub const fn server6(host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, host as u16)
}

/// Both ends of one uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The router's address, network `/24`.
    pub router4: Ipv4Addr,
    /// The ISP's address.
    pub gateway4: Ipv4Addr,
    /// The router's address, network `/64`.
    pub router6: Ipv6Addr,
    /// The ISP's address.
    pub gateway6: Ipv6Addr,
}

impl Link {
    /// Uplink `number`, in a network of its own or in the one that all ISPs hand out.
    pub(super) fn new(number: u32, same_gateway: bool) -> Self {
        let (network, host) = if same_gateway { (1, 1 + number) } else { (number, 2) };
        Self::within(network, host)
    }

    /// Uplink `number` after its addresses changed `times` times, 1 to 15 of them.
    pub(super) fn after_changes(number: u32, times: u32) -> Self {
        Self::within(number + 16 * times, 2)
    }

    fn within(network: u32, host: u32) -> Self {
        let v4 = |host: u32| Ipv4Addr::from(0xc612_0000 | network << 8 | host);
        let v6 = |host: u32| Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(network) << 80 | u128::from(host));
        Self { router4: v4(host), gateway4: v4(1), router6: v6(host), gateway6: v6(1) }
    }

    /// What all its addresses begin with.
    pub fn prefixes(&self) -> [String; 2] {
        let [.., third, _] = self.router4.octets();
        [format!("198.18.{third}."), format!("2001:db8:{:x}:", self.router6.segments()[2])]
    }

    /// The router's address of the family of `like`.
    pub fn router(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.router4.into() } else { self.router6.into() }
    }
}
