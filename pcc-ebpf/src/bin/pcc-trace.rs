//! The programs of `pcc trace`: they see each packet of a device and report those that somebody asked for.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel {
    use aya_ebpf::bindings::TC_ACT_UNSPEC;
    use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
    use aya_ebpf::helpers::bpf_ktime_get_ns;
    use aya_ebpf::macros::{btf_map, classifier};
    use aya_ebpf::programs::TcContext;
    use pcc_ebpf::abi::FlowKey;
    use pcc_ebpf::packet::{Packet, parse};
    use pcc_ebpf::trace::{Direction, Filter, Report};

    #[btf_map(name = "filter")]
    static FILTER: Array<Filter, 1> = Array::new();
    #[btf_map(name = "devices")]
    static DEVICES: HashMap<u32, u32, 256> = HashMap::new();
    /// Connections that were asked for, as translation leaves them: their answers.
    #[btf_map(name = "answers")]
    static ANSWERS: LruHashMap<FlowKey, u32, 16_384> = LruHashMap::new();
    #[btf_map(name = "reports")]
    static REPORTS: RingBuf<Report, { 1 << 20 }> = RingBuf::new();
    #[btf_map(name = "lost")]
    static LOST: PerCpuArray<u64, 1> = PerCpuArray::new();

    /// Nothing else in the kernel uses this field of a packet that was not classified by DSMARK; it stays with the packet on its
    /// way through the router, whatever becomes of the addresses.
    const WANTED: u32 = 0x7cc;

    #[classifier]
    pub fn pcc_trace_in(ctx: TcContext) -> i32 {
        see(&ctx, Direction::In);
        TC_ACT_UNSPEC
    }

    #[classifier]
    pub fn pcc_trace_out(ctx: TcContext) -> i32 {
        see(&ctx, Direction::Out);
        TC_ACT_UNSPEC
    }

    #[inline(always)]
    fn see(ctx: &TcContext, direction: Direction) -> Option<()> {
        let skb = ctx.skb.skb;
        // SAFETY: the context is valid for the whole program.
        let (ifindex, mark, ether_type, tag) =
            unsafe { ((*skb).ifindex, (*skb).mark, (*skb).protocol, (*skb).tc_index) };
        // SAFETY: the value is copied before anything else happens.
        let header_length = unsafe { DEVICES.get(&ifindex).copied() }?;
        let headers = parse(&Bytes(ctx), header_length, u16::from_be(ether_type as u16)).ok()?;
        let key = headers.key;
        let asked_for = FILTER.get(0)?.matches(&key);
        // SAFETY: only whether it is there counts.
        if !asked_for && tag != WANTED && unsafe { ANSWERS.get(&key) }.is_none() {
            return None;
        }
        // SAFETY: the context is valid, and this field may be written.
        unsafe { (*skb).tc_index = WANTED };
        if !asked_for && matches!(direction, Direction::Out) {
            let _ = ANSWERS.insert(&key.reversed(), &1, 0);
        }
        let report = Report {
            // SAFETY: a plain helper call.
            time: unsafe { bpf_ktime_get_ns() },
            key,
            ifindex,
            direction: direction as u32,
            mark,
            length: ctx.len(),
            tcp_flags: headers.details.tcp_flags,
            rest: 0,
        };
        if let Some(mut room) = REPORTS.reserve(0) {
            room.write(report);
            room.submit(0);
        } else if let Some(lost) = LOST.get_ptr_mut(0) {
            // SAFETY: an array's element stays, and belongs to this processor.
            unsafe { *lost += 1 };
        }
        None
    }

    /// A packet wherever its bytes are.
    struct Bytes<'a>(&'a TcContext);

    impl Packet for Bytes<'_> {
        #[inline(always)]
        fn byte(&self, offset: usize) -> Option<u8> {
            self.0.load(offset).ok()
        }
        #[inline(always)]
        fn half(&self, offset: usize) -> Option<u16> {
            self.0.load(offset).ok()
        }
        #[inline(always)]
        fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
            self.0.load(offset).ok()
        }
    }

    pcc_ebpf::kernel_object!();
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
