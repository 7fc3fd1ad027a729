//! Checks of the kernel object that the compiler does not make.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// Refuses an object without BTF or with code that can panic: it links, but the kernel does not load it.
pub fn check(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("parsing {}", path.display()))?;
    let sections: Vec<&str> = file.sections().filter_map(|section| section.name().ok()).collect();
    let symbols: Vec<&str> = file.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    let faults = faults(&sections, &symbols);
    if !faults.is_empty() {
        bail!("{}: {}", path.display(), faults.join("; "));
    }
    Ok(())
}

fn faults(sections: &[&str], symbols: &[&str]) -> Vec<String> {
    let without_btf = [".BTF", ".BTF.ext"]
        .into_iter()
        .filter(|name| !sections.contains(name))
        .map(|name| format!("section `{name}` is missing, so `bpftool` could not print maps by field"));
    // An index or a division that is not proven safe leaves a call into such a section, whose symbol may be stripped.
    let panicking_sections = sections
        .iter()
        .filter(|name| name.starts_with(".text.unlikely"))
        .map(|name| format!("section `{name}` holds a panic path"));
    let panicking_symbols = symbols
        .iter()
        .filter(|name| ["panic", "rust_begin_unwind"].iter().any(|word| name.contains(word)))
        .map(|name| format!("symbol `{name}` is a panic path"));
    without_btf.chain(panicking_sections).chain(panicking_symbols).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_object_has_no_faults() {
        assert!(faults(&[".text", "classifier", ".BTF", ".BTF.ext"], &["pcc_lan_in", "memcpy"]).is_empty());
    }

    #[test]
    fn each_fault_is_named() {
        let found = faults(&[".BTF", ".text.unlikely."], &["_ZN4core9panicking18panic_bounds_checkE"]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("`.BTF.ext`"));
        assert!(found[1].contains("`.text.unlikely.`"));
        assert!(found[2].contains("panic_bounds_check"));
    }
}
