//! Compiled rules: steps, and the sets that they ask for.

/// Steps of one program; step 0 is its end.
pub const STEPS: u32 = 16_384;
/// Counters of `nth` matchers.
pub const NTH_COUNTERS: u32 = 256;

/// One step of compiled rules: a test or an action. Control only goes forward, so every walk ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// [`Op`].
    pub op: u32,
    /// Index of the step to go on with after an action, or if the test holds; above the step's own, or 0 for the end.
    pub then: u32,
    /// The same, if the test does not hold.
    pub otherwise: u32,
    /// First operand.
    pub low: u32,
    /// Second operand.
    pub high: u32,
    /// An address in network order, IPv4 mapped, or further operands.
    pub words: [u32; 4],
}

/// What a [`Step`] does. Operands that are not named are 0.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Test: the packet came in by device `low` ([`Device::number`]).
    Device = 1,
    /// Test: the first `low` bits of the source are those of `words`. An IPv4 prefix counts from bit 96.
    SourcePrefix,
    /// Test: the same for the destination.
    DestinationPrefix,
    /// Test: the source is in set `low`.
    SourceSet,
    /// Test: the destination is in set `low`.
    DestinationSet,
    /// Test: the protocol is `low`.
    Protocol,
    /// Test: the protocol has ports, and the source port is `low` to `high`.
    SourcePort,
    /// Test: the same for the destination port.
    DestinationPort,
    /// Test: the connection mark is `low`.
    ConnectionMark,
    /// Test: the packet mark is `low`.
    PacketMark,
    /// Test: the routing mark is `low`.
    RoutingMark,
    /// Test: the state of the connection is one of `low`, bits of [`state`].
    State,
    /// Test: PCC's hash of the fields `low` modulo `words[0]` (not 0) is `words[1]`.
    Pcc,
    /// Test: TCP, and the flags under the mask `low` are `high`.
    TcpFlags,
    /// Test: the IP packet has `low` to `high` bytes.
    Size,
    /// Test: ICMP or ICMPv6 of type `low`, code `words[0]` to `words[1]`.
    Icmp,
    /// Test: the DSCP is `low`.
    Dscp,
    /// Test: TTL or hop limit, before this router lowers it, is `low` to `high`.
    Ttl,
    /// Test: holds in `low` of 100 cases.
    Random,
    /// Test: of every `words[0]` packets that come here it is number `words[1]` (from 1). `low`: counter, below [`NTH_COUNTERS`].
    Nth,
    /// Action: the connection mark becomes `low`.
    MarkConnection,
    /// Action: the packet mark becomes `low`.
    MarkPacket,
    /// Action: the routing mark becomes `low`.
    MarkRouting,
    /// Nothing; goes on at `then`.
    Pass,
    /// Action: policy `low` decides.
    Policy,
}

/// States of a connection as bits of [`Op::State`].
pub mod state {
    /// Begins with this packet, or was not answered yet.
    pub const NEW: u32 = 1;
    /// Answered.
    pub const ESTABLISHED: u32 = 2;
}

/// Key of the IPv4 sets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member4 {
    /// Number of the set, big endian: a prefix begins with it.
    pub set: u32,
    /// Address in network order.
    pub address: u32,
}

/// Key of the IPv6 sets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member6 {
    /// Number of the set, big endian: a prefix begins with it.
    pub set: u32,
    /// Address in network order.
    pub address: [u32; 4],
}
