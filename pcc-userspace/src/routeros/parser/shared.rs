//! Texts that come again and again in a script.

use std::rc::Rc;

/// Texts that are kept, by their hash.
const PLACES: usize = 256;
/// Bytes of a text beyond which it hardly comes again.
const LONGEST: usize = 32;

/// Keeps the last texts, so that the same text again takes no memory.
pub struct Shared(Vec<Option<Rc<str>>>);

impl Default for Shared {
    fn default() -> Self {
        Self(vec![None; PLACES])
    }
}

impl Shared {
    /// `text`, which others may share.
    pub fn text(&mut self, text: &str) -> Rc<str> {
        let hash = text.bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        match self.0.get_mut(hash % PLACES) {
            Some(Some(kept)) if **kept == *text => Rc::clone(kept),
            Some(place) if text.len() <= LONGEST => Rc::clone(place.insert(text.into())),
            _ => text.into(),
        }
    }
}
