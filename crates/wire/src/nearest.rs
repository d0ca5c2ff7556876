//! A name that does not exist: which of the existing ones was meant.

/// The candidates that lie near `text`, the nearest first, `most` at most. Near is: at most a third of the letters differ
/// (Damerau-Levenshtein, so that two swapped letters count once), case and `_` or `-` aside; or one begins with the other.
#[must_use]
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let wanted = folded(text);
    let mut near: Vec<(usize, &str)> = Vec::new();
    for candidate in candidates {
        let folded = folded(candidate);
        let distance = strsim::damerau_levenshtein(&wanted, &folded);
        let begins = wanted.len() >= 3 && (folded.starts_with(&wanted) || wanted.starts_with(&folded) && folded.len() >= 3);
        if begins || distance <= (wanted.chars().count().max(3) / 3) {
            near.push((distance, candidate));
        }
    }
    near.sort();
    near.truncate(most);
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

/// `; did you mean "a" or "b"?`, or nothing where nothing is near.
#[must_use]
pub fn did_you_mean<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let near: Vec<String> = nearest(text, candidates, 3).into_iter().map(|name| format!("{name:?}")).collect();
    match near.as_slice() {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

fn folded(text: &str) -> String {
    text.chars().filter(|letter| !matches!(letter, '_' | '-')).take(100).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first_and_far_ones_not_at_all() {
        let names = ["orders-db", "orders-cache", "billing-db", "sessions"];
        assert_eq!(nearest("order-db", names, 3), ["orders-db"]);
        assert_eq!(nearest("orders", names, 3), ["orders-db", "orders-cache"]);
        assert_eq!(nearest("oredrs-db", names, 3), ["orders-db"]);
        assert!(nearest("payments", names, 3).is_empty());
        assert!(nearest("", names, 3).is_empty());
        assert_eq!(did_you_mean("data_directroy", ["dataDirectory", "database"]), "; did you mean \"dataDirectory\"?");
    }
}
