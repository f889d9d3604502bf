//! The pages show the code of these files. `BLESS=1` updates the pages.

use std::{fs, path::Path};

const PAGES: [&str; 8] = [
    "batch.md",
    "clients.md",
    "engines.md",
    "existing-exporters.md",
    "frameworks.md",
    "new-users.md",
    "own-metrics.md",
    "testing.md",
];
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The line before a block of code: the file and the name of the part that the block shows.
const SHOWS: &str = "<!-- shows ";

#[test]
fn the_code_of_each_page_is_code_that_runs() {
    for page in PAGES {
        let path = Path::new(ROOT).join("docs").join(page);
        let text = fs::read_to_string(&path).unwrap();
        let written = with_code(&text);
        assert!(written.contains(SHOWS), "{page} shows no code");
        if std::env::var_os("BLESS").is_some() {
            fs::write(path, written).unwrap();
        } else {
            assert!(
                text == written,
                "docs/{page} has other code than what is tested: run this test with BLESS=1 in the environment"
            );
        }
    }
}

/// Every block of Rust in the pages is from a file.
#[test]
fn all_code_in_the_pages_comes_from_recipes() {
    for page in PAGES {
        let text = fs::read_to_string(Path::new(ROOT).join("docs").join(page)).unwrap();
        assert_eq!(text.matches("```rust").count(), text.matches(SHOWS).count(), "{page}");
    }
}

fn with_code(page: &str) -> String {
    let mut parts = page.split(SHOWS);
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (shown, rest) = part.split_once(" -->\n").expect("a comment of one line");
        let (_, rest) =
            rest.strip_prefix("```rust\n").and_then(|rest| rest.split_once("```\n")).expect("a block of Rust");
        let (file, name) = shown.split_once(' ').expect("a file and the name of a part");
        written += &format!("{SHOWS}{shown} -->\n```rust\n{}```\n{rest}", part_of(file, name));
    }
    written
}

/// The lines between `// docs: NAME` and `// end`, without their common indentation.
fn part_of(file: &str, name: &str) -> String {
    let text = fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (_, part) =
        text.split_once(&format!("// docs: {name}\n")).unwrap_or_else(|| panic!("{file} has no part {name}"));
    let (part, _) = part.split_once("// end\n").unwrap_or_else(|| panic!("{file}: {name} has no end"));
    let lines = || part.trim_end().lines();
    let indent = lines().filter(|line| !line.is_empty()).map(|line| line.len() - line.trim_start().len()).min();
    lines().map(|line| format!("{}\n", line.get(indent.unwrap_or_default()..).unwrap_or_default())).collect()
}

/// The versions in the tables are those of Cargo.lock.
#[test]
fn the_compatible_versions_are_those_that_are_tested() {
    let text = fs::read_to_string(Path::new(ROOT).join("docs/existing-exporters.md")).unwrap();
    let lock = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).unwrap();
    let (_, tables) = text.split_once("## Compatible versions\n").unwrap();
    let mut crates = 0;
    for row in tables.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (name, rest) = row.split_once("` | ").unwrap();
        let (version, _) = rest.split_once(" | ").unwrap();
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}.")), "{name} {version}");
        crates += 1;
    }
    assert_eq!(crates, 19);
}
