//! Bob Jenkins' hash `hashlittle` of lookup3.c, May 2006, public domain, written down from its definition.

/// The hash of `key`, bytes in their order, with `seed` as the initial value.
pub fn lookup3(key: &[u8], seed: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(key.len() as u32).wrapping_add(seed);
    let [mut a, mut b, mut c] = [start; 3];
    let mut rest = key;
    while rest.len() > 12 {
        a = a.wrapping_add(word(&rest[0..4]));
        b = b.wrapping_add(word(&rest[4..8]));
        c = c.wrapping_add(word(&rest[8..12]));
        a = a.wrapping_sub(c);
        a ^= c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a);
        b ^= a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b);
        c ^= b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c);
        a ^= c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a);
        b ^= a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b);
        c ^= b.rotate_left(4);
        b = b.wrapping_add(a);
        rest = &rest[12..];
    }
    if rest.is_empty() {
        return c;
    }
    let mut last = [0; 12];
    last[..rest.len()].copy_from_slice(rest);
    a = a.wrapping_add(word(&last[0..4]));
    b = b.wrapping_add(word(&last[4..8]));
    c = c.wrapping_add(word(&last[8..12]));
    for (to, from, bits) in [(2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24)] {
        let mut state = [a, b, c];
        state[to] = (state[to] ^ state[from]).wrapping_sub(state[from].rotate_left(bits));
        [a, b, c] = state;
    }
    c
}

/// Four bytes as a little-endian word.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

#[test]
fn hashes_are_those_that_jenkins_published() {
    assert_eq!(lookup3(b"", 0), 0xdead_beef);
    assert_eq!(lookup3(b"", 0xdead_beef), 0xbd5b_7dde);
    assert_eq!(lookup3(b"Four score and seven years ago", 0), 0x1777_0551);
    assert_eq!(lookup3(b"Four score and seven years ago", 1), 0xcd62_8161);
}
