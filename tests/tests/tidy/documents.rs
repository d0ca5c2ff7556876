//! Documents: every relative link leads to a file, every page of the book stands in its summary, and what a document says to
//! type as `make …` is a target of the Makefile.

use crate::tree::{files, none, root, text};

fn documents() -> Vec<String> {
    files().into_iter().filter(|path| path.ends_with(".md")).collect()
}

/// Targets of `[text](target)` in a document, without code blocks.
fn links(source: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in source.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            links.extend(rest.split(')').next().map(str::to_owned));
        }
    }
    links
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut problems = Vec::new();
    for path in documents() {
        let folder = root().join(&path).parent().expect("a file is in a folder").to_owned();
        for link in links(&text(&path).expect("documents are text")) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") && !folder.join(target).exists() {
                problems.push(format!("{path}: {link}"));
            }
        }
    }
    none("links that lead nowhere", &problems);
}

#[test]
fn every_page_of_the_book_stands_in_its_summary() {
    let summary = text("docs/SUMMARY.md").expect("documents are text");
    let listed = links(&summary);
    let missing: Vec<_> = documents()
        .into_iter()
        .filter_map(|path| path.strip_prefix("docs/").map(str::to_owned))
        .filter(|page| page != "SUMMARY.md" && !listed.contains(page))
        .collect();
    none("pages that docs/SUMMARY.md does not list", &missing);
}

#[test]
fn what_documents_say_to_make_can_be_made() {
    let makefile = text("Makefile").expect("the Makefile is text");
    let mut problems = Vec::new();
    for path in documents() {
        let source = text(&path).expect("documents are text");
        for (at, _) in source.match_indices("`make ").chain(source.match_indices("\nmake ")) {
            let rest = &source[at + 6..];
            let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            if !target.is_empty() && !makefile.contains(&format!("\n{target}:")) {
                problems.push(format!("{path}: make {target}"));
            }
        }
    }
    none("documents name targets that the Makefile does not have", &problems);
}

/// Texts between backticks, outside of code blocks.
fn quoted(source: &str) -> Vec<String> {
    let mut in_code = false;
    let prose = source.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    });
    prose.flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_file_that_a_document_names_exists() {
    let mut problems = Vec::new();
    for path in documents() {
        for name in quoted(&text(&path).expect("documents are text")) {
            let ours = ["crates/", "proto/", "tests/", "tools/", "deploy/", "docs/"].iter().any(|folder| name.starts_with(folder));
            if ours && !name.contains(['*', ' ', '<', '…']) && !root().join(&name).exists() {
                problems.push(format!("{path}: {name}"));
            }
        }
    }
    none("documents name files that are not there", &problems);
}

#[test]
fn every_failpoint_of_the_spine_stands_in_the_code() {
    let sources: String =
        files().iter().filter(|path| path.starts_with("crates/") && path.ends_with(".rs")).filter_map(|path| text(path)).collect();
    let named = quoted(&text("ARCHITECTURE.md").expect("documents are text"));
    let named = named.iter().filter(|name| name.contains(".stop"));
    let missing: Vec<_> = named.filter(|name| !sources.contains(&format!("\"{name}\""))).cloned().collect();
    none("failpoints that no code passes", &missing);
}
