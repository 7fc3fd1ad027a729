//! How our bits of the packet mark and of the conntrack mark are used: by uplinks, and by RouterOS's rules.

/// How our bits of the packet mark and of the conntrack mark are used.
///
/// From the top of the mask down: one bit that is always set ("ours": a mark of pcc never equals a small number
/// that a script matches as a whole mark), one bit *confirmed*, one bit *missed*, and the uplink id in the rest.
/// The conntrack mark holds "ours" and the id; its two middle bits stay 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkLayout {
    mask: u32,
}

impl MarkLayout {
    /// Bits 0–7. They are the only byte that none of Tailscale (`0xff0000`), mwan3 (`0x3f00`), kube-proxy (`0xc000`),
    /// Cilium (`0xf00`) and Calico (`0xffff0000`) claims by default.
    pub const DEFAULT: Self = Self { mask: 0xff };

    /// A layout in `mask`: 4 to 9 adjacent bits. `None` for anything else.
    pub const fn new(mask: u32) -> Option<Self> {
        let width = mask.count_ones();
        if width < 4 || width > 9 || (mask >> mask.trailing_zeros()).trailing_ones() != width {
            return None;
        }
        Some(Self { mask })
    }

    /// All bits that are ours.
    pub const fn mask(self) -> u32 {
        self.mask
    }

    /// Position of the lowest bit of the id.
    pub const fn shift(self) -> u32 {
        self.mask.trailing_zeros()
    }

    /// Bits of the uplink id after shifting; also the largest id.
    pub const fn max_id(self) -> u32 {
        (1 << (self.mask.count_ones() - 3)) - 1
    }

    /// The bit that every mark of ours has.
    pub const fn ours(self) -> u32 {
        1 << (31 - self.mask.leading_zeros())
    }

    /// Packet mark only: the uplink was restored from the connection.
    pub const fn confirmed(self) -> u32 {
        self.ours() >> 1
    }

    /// Packet mark only: the flow cache had no usable entry for this packet.
    pub const fn missed(self) -> u32 {
        self.ours() >> 2
    }

    /// The mark of uplink `id` (1 to [`Self::max_id`]) without the two flags: what rules and conntrack hold.
    pub const fn of(self, id: u32) -> u32 {
        self.ours() | ((id & self.max_id()) << self.shift())
    }

    /// The bits that say which uplink: "ours" and the id. Routing rules and conntrack match under this mask.
    pub const fn id_mask(self) -> u32 {
        self.of(self.max_id())
    }

    /// The uplink that `mark` names, if it is one of ours.
    pub const fn uplink(self, mark: u32) -> Option<u32> {
        let id = (mark >> self.shift()) & self.max_id();
        if mark & self.ours() == 0 || id == 0 { None } else { Some(id) }
    }
}

/// A group of adjacent bits that holds a number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Position of the lowest bit.
    pub shift: u32,
    /// The largest number, one less than a power of two; 0 for a field without bits.
    pub most: u32,
}

impl Field {
    /// The number that `mark` holds.
    #[inline(always)]
    pub const fn get(self, mark: u32) -> u32 {
        mark >> (self.shift & 31) & self.most
    }

    /// The bits of a mark that hold `number`.
    #[inline(always)]
    pub const fn of(self, number: u32) -> u32 {
        (number & self.most) << (self.shift & 31)
    }

    /// All its bits.
    #[inline(always)]
    pub const fn mask(self) -> u32 {
        self.of(self.most)
    }
}

/// How our bits are used where RouterOS rules decide. Numbers run from 1; 0 is "no mark".
///
/// | from the top | packet mark | conntrack mark |
/// | --- | --- | --- |
/// | 1 bit | *ours*: pcc has seen the packet | *ours*: pcc has seen the connection |
/// | then | *tentative*, packet mark | routing mark of the answers |
/// | then | connection mark | connection mark |
/// | lowest | routing mark | routing mark of the original direction |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkFields {
    mask: u32,
    /// The connection mark, in both.
    pub connection: Field,
    /// The routing mark, in the packet mark; in the conntrack mark that of the original direction.
    pub routing: Field,
    /// The packet mark, in the packet mark.
    pub packet: Field,
    /// The routing mark of the answers, in the conntrack mark.
    pub reply: Field,
}

impl MarkFields {
    /// Fields for so many connection marks, routing marks and packet marks in `mask`, adjacent bits; without a mask in
    /// as many of the lowest bits as it takes. The error is the number of bits that it takes.
    pub const fn fit(mask: Option<u32>, connections: u32, routings: u32, packets: u32) -> Result<Self, u32> {
        const fn bits(numbers: u32) -> u32 {
            u32::BITS - numbers.leading_zeros()
        }
        const fn field(shift: u32, bits: u32) -> Field {
            Field { shift, most: (1 << bits) - 1 }
        }
        let (c, r, p) = (bits(connections), bits(routings), bits(packets));
        let upper = if 1 + p > r { 1 + p } else { r };
        let width = 1 + upper + c + r;
        if width > 31 {
            return Err(width);
        }
        let mask = match mask {
            Some(mask) => mask,
            None => (1 << width) - 1,
        };
        let adjacent = mask != 0 && (mask >> mask.trailing_zeros()).trailing_ones() == mask.count_ones();
        if !adjacent || mask.count_ones() < width {
            return Err(width);
        }
        let low = mask.trailing_zeros();
        Ok(Self {
            mask,
            routing: field(low, r),
            connection: field(low + r, c),
            packet: field(low + r + c, p),
            reply: field(low + r + c, r),
        })
    }

    /// All bits that are ours.
    pub const fn mask(self) -> u32 {
        self.mask
    }

    /// The bit of every packet and connection that pcc has seen.
    pub const fn ours(self) -> u32 {
        1 << (31 - self.mask.leading_zeros())
    }

    /// Packet mark only: what conntrack knows overrules the marks, because they rest on a guess about it.
    pub const fn tentative(self) -> u32 {
        self.ours() >> 1
    }
}
