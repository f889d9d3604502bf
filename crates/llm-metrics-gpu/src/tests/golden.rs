//! The whole page of each profile equals the reviewed one. `BLESS=1` writes it again.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{by_hand, support::Fake};
use crate::catalog;

const PROFILES: [&str; 13] = [
    "a100",
    "b200",
    "gb10",
    "h100",
    "h100-mig",
    "h200",
    "l40s",
    "old-driver",
    "rtx4090",
    "t4",
    "two-mixed",
    "vgpu",
    "wsl",
];

#[test]
fn the_page_of_each_profile_is_as_it_was() {
    for profile in PROFILES {
        let mut page = String::new();
        by_hand(&Fake::profile(profile), |hand| {
            hand.ticks(12);
            page = without_times(&hand.page.text());
        });
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{profile}.txt"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &page).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(page == golden, "{profile} differs from {}:\n{}", path.display(), difference(&golden, &page));
    }
}

/// Authors of rules and dashboards rely on the catalogue's label values.
#[test]
fn every_label_value_of_the_pages_is_in_the_catalogue() {
    let mut checked = 0;
    for page in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).unwrap() {
        let page = fs::read_to_string(page.unwrap().path()).unwrap();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, rest)) = line.split_once('{') else { continue };
            let Some(row) = catalog::all().find(|row| row.name == name) else { continue };
            for pair in rest.split('}').next().unwrap().split(',') {
                let (label, value) = pair.split_once('=').unwrap();
                let declared = row.label(label).unwrap();
                assert!(declared.allows(value.trim_matches('"')), "{line}");
                checked += usize::from(!declared.values.is_empty());
            }
        }
    }
    assert!(checked > 100);
}

#[test]
fn promtool_accepts_the_page() {
    if Command::new("promtool").arg("--version").output().is_err() {
        let required = std::env::var("LLM_METRICS_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "promtool is required and not installed");
        println!("skipped: promtool is not installed");
        return;
    }
    for profile in PROFILES {
        by_hand(&Fake::profile(profile), |hand| {
            hand.ticks(12);
            let mut promtool = Command::new("promtool");
            promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = promtool.spawn().unwrap();
            child.stdin.take().unwrap().write_all(hand.page.text().as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{profile}: {}", String::from_utf8_lossy(&said));
        });
    }
}

/// The page in a fixed order, without the values that depend on the time or on the speed of the machine.
fn without_times(page: &str) -> String {
    let vary = |line: &&str| {
        !line.starts_with("gpu_collector_tick_seconds") && !line.starts_with("gpu_collector_last_success")
    };
    let mut families: Vec<Vec<&str>> = Vec::new();
    for line in page.lines().filter(vary).filter(|line| !line.is_empty()) {
        if line.starts_with("# HELP") || families.is_empty() {
            families.push(Vec::new());
        }
        families.last_mut().unwrap().push(line);
    }
    families.sort();
    for family in &mut families {
        let samples = family.iter().position(|line| !line.starts_with('#')).unwrap_or(family.len());
        family[samples..].sort_unstable();
    }
    families.iter().flatten().map(|line| format!("{line}\n")).collect()
}

fn difference(before: &str, after: &str) -> String {
    let gone =
        before.lines().filter(|line| !after.lines().any(|other| other == *line)).map(|line| format!("- {line}\n"));
    let new =
        after.lines().filter(|line| !before.lines().any(|other| other == *line)).map(|line| format!("+ {line}\n"));
    gone.chain(new).collect()
}
