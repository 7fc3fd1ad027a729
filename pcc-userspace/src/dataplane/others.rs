//! Programs of others beside ours.

use aya::programs::{SchedClassifier, TcAttachType};

/// All our programs begin with it.
const OURS: &str = "pcc_";

/// The first program of somebody else that TCX runs on `device` at ingress, behind ours or where there is none of ours; and
/// the first one at egress. Kernels without TCX have none.
pub fn others(device: &str) -> [Option<String>; 2] {
    let names = |direction| {
        let programs = SchedClassifier::query_tcx(device, direction).map(|(_, programs)| programs).unwrap_or_default();
        programs.iter().map(|it| it.name_as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let egress = names(TcAttachType::Egress).into_iter().find(|name| !name.starts_with(OURS));
    [behind_ours(names(TcAttachType::Ingress)), egress]
}

/// The first of `names` that is not ours and does not run before all of ours.
fn behind_ours(names: Vec<String>) -> Option<String> {
    let ours = |name: &String| name.starts_with(OURS);
    let first = names.iter().position(ours).unwrap_or(0);
    names.into_iter().skip(first).find(|name| !ours(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_before_ours_sees_each_packet_anyway() {
        let behind = |names: &[&str]| behind_ours(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(behind(&[]), None);
        assert_eq!(behind(&["pcc_shortcut", "pcc_wan_in"]), None);
        assert_eq!(behind(&["firewall", "pcc_shortcut", "pcc_wan_in"]), None);
        assert_eq!(behind(&["a", "pcc_shortcut", "b"]), Some("b".into()));
        assert_eq!(behind(&["firewall"]), Some("firewall".into()), "ours will come before it");
    }
}
