//! The numbered rules: their page is the list of them, each has a test, and nothing cites one that is not there.

use crate::tidy::{read, rust_files};

const PAGE: &str = "src/guide/rules.md";

/// How a link to a rule begins, after its number.
const LINK: &str = "](crate::guide::rules#";

/// The numbers on the page, in its order.
fn rules() -> Vec<String> {
    let page = read(PAGE);
    let entries = page.lines().filter_map(|line| line.strip_prefix("- <a id=\""));
    let numbers = entries.map(|entry| {
        let (anchor, rest) = entry.split_once("\"></a>**").expect("an anchor stands before its number");
        let (number, _) = rest.split_once("** ").expect("a text follows a number");
        assert_eq!(anchor, number.to_lowercase(), "{PAGE}: the anchor of {number}");
        number.to_owned()
    });
    numbers.collect()
}

/// Returns whether this has the form of a rule's number.
fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_uppercase());
    word.len() == digits.len() + 1
        && matches!(digits.len(), 1 | 2)
        && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// The numbers that a text cites.
fn cited(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && !"_%".contains(c));
    words.filter(|word| is_number(word)).map(str::to_owned)
}

/// The numbers that the names of a file's tests begin with, as in `t1_t2_t3_the_same_as_a_sorted_list`.
fn carried(file: &str) -> Vec<String> {
    let text = read(file);
    let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.strip_suffix("() {"));
    let numbers = names.flat_map(|name| {
        let words = name.split('_').filter(|word| *word != "and").map(str::to_uppercase);
        words.take_while(|word| is_number(word)).collect::<Vec<_>>()
    });
    numbers.collect()
}

#[test]
fn guide_every_rule_stands_once_and_has_a_test_that_carries_its_number() {
    let tests: Vec<String> =
        ["src", "tests"].into_iter().flat_map(rust_files).flat_map(|file| carried(&file)).collect();
    let rules = rules();
    assert!(!rules.is_empty());
    for rule in &rules {
        assert_eq!(rules.iter().filter(|other| *other == rule).count(), 1, "{rule} stands more than once in {PAGE}");
        assert!(tests.contains(rule), "{PAGE} has {rule}, and no test has its number in front of its name");
    }
}

#[test]
fn guide_every_rule_that_is_cited_stands_on_the_page() {
    let rules = rules();
    for file in ["src", "examples", "tests", "benches"].into_iter().flat_map(rust_files) {
        let text = read(&file);
        let comments = || text.lines().filter_map(|line| line.split_once("//").map(|(_, comment)| comment));
        for number in comments().flat_map(cited).chain(carried(&file)) {
            assert!(rules.contains(&number), "{file} cites {number}, which {PAGE} does not have");
        }
        for link in comments().flat_map(|comment| comment.match_indices(LINK).map(|(at, _)| comment.split_at(at))) {
            let number = link.0.rsplit('[').next().unwrap_or_default();
            let anchor = link.1[LINK.len()..].split(')').next().unwrap_or_default();
            assert_eq!(anchor, number.to_lowercase(), "{file}: where the link of {number} leads");
        }
    }
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "examples/README.md"] {
        for number in cited(&read(page)) {
            assert!(rules.contains(&number), "{page} cites {number}, which {PAGE} does not have");
        }
    }
}
