//! Names that people type, and which ones they may have meant.

use crate::problem::Problem;

/// So many names are proposed at most.
const PROPOSALS: usize = 3;

/// There is no `what` called `name` among `known`.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> Problem {
    let list = if known.is_empty() { "there is none".to_owned() } else { format!("there are: {}", known.join(", ")) };
    Problem::new(format!("no {what} `{name}`"), hint(name, known, &list))
}

/// `otherwise`, behind the question whether one of `known` was meant that is spelt almost like `name`.
pub fn hint(name: &str, known: &[&str], otherwise: &str) -> String {
    let near: Vec<_> = near(name, known).iter().map(|name| format!("`{name}`")).collect();
    match near.as_slice() {
        [] => otherwise.to_owned(),
        near => format!("did you mean {}? {otherwise}", near.join(" or ")),
    }
}

/// Those of `known` that fewest typing mistakes make of `name`: one in three letters at most.
fn near<'a>(name: &str, known: &[&'a str]) -> Vec<&'a str> {
    let mistakes = |known: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase());
    let allowed = (name.chars().count() / 3).max(1);
    let is_near = |known: &str| mistakes(known) <= allowed && mistakes(known) < known.chars().count();
    let mut near: Vec<&str> = known.iter().copied().filter(|known| is_near(known)).collect();
    near.sort_by_key(|known| mistakes(known));
    near.dedup();
    let fewest = near.first().map(|known| mistakes(known));
    near.retain(|known| Some(mistakes(known)) == fewest);
    near.truncate(PROPOSALS);
    near
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_nearest_name_is_proposed_and_all_are_listed() {
        let problem = unknown("uplink", "fibr", &["fibre", "cable"]);
        assert_eq!(problem.message, "no uplink `fibr`");
        assert_eq!(problem.hint, "did you mean `fibre`? there are: fibre, cable");
        assert_eq!(unknown("uplink", "moon", &["fibre", "cable"]).hint, "there are: fibre, cable");
        assert_eq!(
            unknown("uplink", "eth9", &["eth0", "eth1"]).hint,
            "did you mean `eth0` or `eth1`? there are: eth0, eth1"
        );
        assert_eq!(unknown("uplink", "FIBRE", &["fibre"]).hint, "did you mean `fibre`? there are: fibre");
        assert_eq!(unknown("uplink", "b", &["a"]).hint, "there are: a", "nothing of it is left");
        assert_eq!(unknown("uplink", "a", &[]).hint, "there is none");
    }

    proptest! {
        #[test]
        fn one_wrong_letter_is_forgiven(name in "[a-z]{4,12}", at in 0_usize..4, letter in "[A-Z]") {
            let mut wrong = name.clone();
            wrong.replace_range(at..=at, &letter.to_lowercase());
            prop_assert_eq!(near(&wrong, &["0123456789", &name]), [name.as_str()]);
        }

        #[test]
        fn any_name_is_borne(name in ".{0,20}", known in prop::collection::vec(".{0,20}", 0..5)) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            prop_assert!(near(&name, &known).len() <= PROPOSALS);
        }
    }
}
