//! The bench's own XDP programs: a generator, the least router, and sinks.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel {
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
    use aya_ebpf::btf_maps::Array;
    use aya_ebpf::helpers::bpf_redirect;
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;
    use pcc_ebpf::packet::ether;
    use pcc_ebpf::traffic::{HEADERS, Order, PORT, Place, Tuple, Turn};

    #[btf_map(name = "order")]
    static ORDER: Array<Order, 1> = Array::new();
    #[btf_map(name = "turn")]
    static TURN: Array<Turn, 1> = Array::new();
    #[btf_map(name = "arrived")]
    static ARRIVED: Array<u64, 4> = Array::new();

    /// The kernel gives frames back as the router left them: all headers are written.
    #[xdp]
    pub fn generate(ctx: XdpContext) -> u32 {
        let (Some(order), Some(turn)) = (ORDER.get(0), TURN.get_ptr_mut(0)) else { return XDP_ABORTED };
        let Some(frame) = Frame::of(&ctx) else { return XDP_ABORTED };
        // SAFETY: an array's element stays; the bench runs the generator on one processor.
        let turn = unsafe { &mut *turn };
        let flow = turn.flow;
        turn.flow = if flow + 1 >= order.end { order.first } else { flow + 1 };
        turn.sent += 1;
        for (place, word) in order.headers.iter().enumerate() {
            frame.write(place * 8, *word);
        }
        let tuple = Tuple::of(flow);
        let (header, datagram) = tuple.checksums(order);
        if order.six == 0 {
            frame.write(24, header.to_be());
            frame.write(29, tuple.client);
            frame.write(33, tuple.server);
            frame.write(34, tuple.port.to_be());
            frame.write(40, datagram.to_be());
        } else {
            frame.write(37, tuple.client);
            frame.write(53, tuple.server);
            frame.write(54, tuple.port.to_be());
            frame.write(60, datagram.to_be());
        }
        // SAFETY: a plain helper call.
        unsafe { bpf_redirect(order.device, 0) as u32 }
    }

    #[xdp]
    pub fn bare(ctx: XdpContext) -> u32 {
        let (Some(order), Some(frame)) = (ORDER.get(0), Frame::of(&ctx)) else { return XDP_PASS };
        if !frame.is_traffic() {
            return XDP_PASS;
        }
        let client: u8 = frame.read(if order.six == 0 { 29 } else { 37 });
        let (out, link) = if client & 1 == 0 { (order.out[0], &order.link[0]) } else { (order.out[1], &order.link[1]) };
        for (place, word) in link.iter().enumerate() {
            frame.write(place * 2, *word);
        }
        // SAFETY: a plain helper call.
        unsafe { bpf_redirect(out, 0) as u32 }
    }

    #[xdp]
    pub fn isp1(ctx: XdpContext) -> u32 {
        sink(&ctx, Place::Isp1)
    }

    #[xdp]
    pub fn isp2(ctx: XdpContext) -> u32 {
        sink(&ctx, Place::Isp2)
    }

    #[xdp]
    pub fn client(ctx: XdpContext) -> u32 {
        sink(&ctx, Place::Client)
    }

    #[xdp]
    pub fn lan(ctx: XdpContext) -> u32 {
        sink(&ctx, Place::Lan)
    }

    /// Ends traffic, or answers it; whatever else comes goes on.
    #[inline(always)]
    fn sink(ctx: &XdpContext, place: Place) -> u32 {
        let (Some(order), Some(frame)) = (ORDER.get(0), Frame::of(ctx)) else { return XDP_PASS };
        if !frame.is_traffic() {
            return XDP_PASS;
        }
        if let Some(arrived) = ARRIVED.get_ptr_mut(place as u32) {
            // SAFETY: an array's element stays; the bench keeps all traffic on one processor.
            unsafe { *arrived += 1 };
        }
        if order.echo == 0 || matches!(place, Place::Client | Place::Lan) {
            return XDP_DROP;
        }
        frame.turn_round();
        // `XDP_TX` of veth wakes the other end only where that has a program as well.
        // SAFETY: a plain helper call.
        unsafe { bpf_redirect(ctx.ingress_ifindex() as u32, 0) as u32 }
    }

    /// A frame whose first [`HEADERS`] bytes are there.
    #[derive(Clone, Copy)]
    struct Frame(usize);

    impl Frame {
        #[inline(always)]
        fn of(ctx: &XdpContext) -> Option<Self> {
            let start = ctx.data();
            if start + HEADERS > ctx.data_end() { None } else { Some(Self(start)) }
        }

        #[inline(always)]
        fn read<T: Copy>(self, offset: usize) -> T {
            // SAFETY: within the bytes that `of` asked for; this processor reads at any address.
            unsafe { *((self.0 + offset) as *const T) }
        }

        #[inline(always)]
        fn write<T>(self, offset: usize, value: T) {
            // SAFETY: as for `read`.
            unsafe { *((self.0 + offset) as *mut T) = value };
        }

        #[inline(always)]
        fn is_traffic(self) -> bool {
            let port = PORT.to_be();
            match u16::from_be(self.read(12)) {
                ether::IPV4 => self.read::<u16>(34) == port || self.read::<u16>(36) == port,
                ether::IPV6 => self.read::<u16>(54) == port || self.read::<u16>(56) == port,
                _ => false,
            }
        }

        #[inline(always)]
        fn swap<T: Copy>(self, one: usize, other: usize) {
            let (first, second) = (self.read::<T>(one), self.read::<T>(other));
            self.write(one, second);
            self.write(other, first);
        }

        /// Makes it its own answer; no checksum changes by that.
        #[inline(always)]
        fn turn_round(self) {
            for place in 0..3 {
                self.swap::<u16>(place * 2, 6 + place * 2);
            }
            if u16::from_be(self.read(12)) == ether::IPV4 {
                self.swap::<u32>(26, 30);
                self.swap::<u16>(34, 36);
            } else {
                for word in 0..4 {
                    self.swap::<u32>(22 + word * 4, 38 + word * 4);
                }
                self.swap::<u16>(54, 56);
            }
        }
    }

    pcc_ebpf::kernel_object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
