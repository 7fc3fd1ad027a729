//! The contract between the kernel programs and the controller, and the pure packet logic that both run.
//!
//! # Vocabulary
//!
//! These words, and no others, are used in code, messages and documents:
//!
//! | word | meaning |
//! | --- | --- |
//! | *uplink* | a device that leads to an ISP, with a small stable id (1..) |
//! | *flow* | one direction of a connection as the LAN side sees it: addresses, ports, protocol |
//! | *hash fields* | the header fields that PCC hashes ([`classify::HashFields`]) |
//! | *bucket* | one slot of the table that a hash selects; it names an uplink ([`abi::BUCKETS`] per family) |
//! | *mark* | our masked bits of the packet mark and of the conntrack mark ([`abi::MarkLayout`]) |
//! | *tentative* | a mark chosen without knowing conntrack; conntrack's mark overrules it |
//! | *generation* | a number of each uplink; raising it makes every cached decision for that uplink stale |
//! | *policy* | how the connections that a rule decides choose among its uplinks ([`abi::Policy`]) |
//! | *sticky* | connections that share some fields keep to one uplink ([`abi::Sticky`]) |
//! | *verdict* | what the classifier says about one packet: [`classify::Recall`], then [`policy::Choice`] |
//! | *question*, *answer* | the first packets of a connection, out and back ([`peer`]) |
//! | *peer* | a remote address as one uplink reaches it ([`abi::Peer`]) |
//! | *pulse* | questions and answers of an uplink ([`abi::Pulse`]) |
//! | *shortcut* | what the stack does to the packets of one direction of a connection, done without it ([`abi::Shortcut`]) |
//! | *arrival*, *departure* | a packet before and after the stack, of which a shortcut is learned ([`shortcut`]) |
//! | *candidate* | a packet that could take a shortcut ([`candidate`]) |
//! | *lease* | how long a shortcut holds before a packet must go through the stack again ([`abi::Epoch`]) |
//! | *epoch* | a generation of the shortcuts of an uplink, and their lease ([`abi::Epoch`]) |
//! | *rule*, *chain*, *connection mark*, *packet mark*, *routing mark* | RouterOS's own words, where its rules decide |
//! | *step* | a test or an action of compiled rules ([`abi::Step`]) |
//! | *walk* | a packet's way through the steps ([`mangle::Walk`]) |
//! | *set* | addresses under a number, which steps ask for ([`abi::Op::SourceSet`]) |
//!
//! # A packet's way
//!
//! LAN → uplink: tc ingress of the LAN device parses the packet, looks up the flow cache and, on a miss, hashes the packet
//! into a bucket. It writes our bits of `skb->mark`, nothing else. netfilter prerouting lets the mark of an existing
//! connection win; routing rules turn the mark into a table; netfilter postrouting stores the uplink that the
//! connection really leaves by in its conntrack mark. tc egress of the uplink counts.
//!
//! Uplink → LAN: tc ingress of the uplink marks the packet with that uplink, so that reverse-path filters and answers agree;
//! tc egress of the LAN device sees answers after NAT was undone, marked by conntrack, and confirms or corrects the
//! flow cache.
//!
//! Before all that, tc ingress, or XDP, looks for a shortcut; a packet that has one leaves at once. One that has none and could
//! is noted, and what it became is learned at egress.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(not(target_arch = "bpf"), forbid(unsafe_op_in_unsafe_fn))]

pub mod abi;
pub mod candidate;
pub mod classify;
pub mod flow;
pub mod mangle;
pub mod own;
pub mod packet;
pub mod peer;
pub mod policy;
pub mod shortcut;
pub mod trace;
pub mod traffic;

/// What each object for the kernel has besides programs and maps: its licence, and an end for panics, which no program has.
#[macro_export]
macro_rules! kernel_object {
    () => {
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo) -> ! {
            loop {}
        }

        /// GPL-compatible, as some helpers demand.
        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
    };
}
