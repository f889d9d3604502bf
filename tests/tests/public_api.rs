//! Checks of the listings of the public API in `docs/api/`, which CI compares with the code: the auto traits of every type, and the crates whose
//! types are in the API.

#![allow(missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The listing of each library, by its name.
fn listings() -> BTreeMap<String, String> {
    let files = fs::read_dir(repository().join("docs/api")).unwrap().map(|file| file.unwrap().path());
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
}

/// The path of the type that a line declares.
fn declared_type(line: &str) -> Option<&str> {
    let line = line.strip_prefix("#[non_exhaustive] ").unwrap_or(line);
    let rest = ["pub struct ", "pub enum ", "pub union "].iter().find_map(|keyword| line.strip_prefix(keyword))?;
    rest.split(['<', '(', ' ']).next()
}

/// The auto traits in the lines after the declaration of a type.
fn auto_traits<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let implementations = lines
        .take_while(|line| {
            declared_type(line).is_none() && !line.starts_with("pub mod ") && !line.starts_with("pub trait ")
        })
        .filter(|line| line.starts_with("impl"));
    implementations
        .filter_map(|line| {
            let (before, _) = line.split_once(" for ")?;
            ["Send", "Sync", "Unpin"].into_iter().find(|name| before.ends_with(&format!(" core::marker::{name}")))
        })
        .collect()
}

/// A server shares all values between its threads, and a body or a future that is not `Unpin` cannot be polled without pinning it.
#[test]
fn every_public_type_is_send_sync_and_unpin() {
    // A driver's source may be bound to its thread, and a builder is not shared.
    const EXCEPTIONS: [(&str, &str); 1] = [("llm_metrics_gpu::GpuCollectorBuilder", "Sync")];
    let mut checked = 0;
    for (library, listing) in listings() {
        let lines: Vec<_> = listing.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(path) = declared_type(line) else { continue };
            let found = auto_traits(lines[index + 1..].iter().copied());
            let missing = ["Send", "Sync", "Unpin"].into_iter().filter(|name| !found.contains(name));
            let missing: Vec<_> = missing.filter(|name| !EXCEPTIONS.contains(&(path, name))).collect();
            assert!(missing.is_empty(), "{library}: {path} is not {missing:?}");
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

/// `allowed_external_types` in a library's manifest, as `cargo check-external-types` reads it: `path` or `crate::*`.
fn allowed() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(repository())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter_map(|package| {
            let types = package["metadata"]["cargo_check_external_types"]["allowed_external_types"].as_array()?;
            let types = types.iter().map(|path| path.as_str().unwrap().to_owned()).collect();
            Some((package["name"].as_str().unwrap().to_owned(), types))
        })
        .collect()
}

/// The paths in a line that begin neither with a word of the language nor with the library itself.
fn foreign_paths<'a>(line: &'a str, library: &str) -> impl Iterator<Item = &'a str> {
    let own = library.replace('-', "_");
    let paths = line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).filter(|word| word.contains("::"));
    // A path that begins with `::` is the rest of a path after type parameters, such as `ResponseBody<B>::poll_frame`.
    paths.filter(|path| !path.starts_with("::")).map(|path| path.trim_matches(':')).filter(move |path| {
        let root = path.split("::").next().unwrap_or_default();
        let is_type_parameter = root.starts_with(char::is_uppercase);
        // Code that pin-project-lite generates names the fields of types of this workspace.
        let is_generated = root == "pin_project_lite";
        !is_type_parameter && !is_generated && !["core", "alloc", "std", "f64", own.as_str()].contains(&root)
    })
}

fn is_allowed(path: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|one| match one.strip_suffix("::*") {
        Some(root) => path.strip_prefix(root).is_some_and(|rest| rest.starts_with("::")),
        None => path == one || path.strip_prefix(one.as_str()).is_some_and(|rest| rest.starts_with("::")),
    })
}

/// If a crate whose types are in an API has a new major version, that API needs one, too.
#[test]
fn types_of_other_crates_are_in_an_api_only_if_its_manifest_allows_them() {
    let allowed = allowed();
    for (library, listing) in listings() {
        let allowed = allowed.get(&library).unwrap_or_else(|| panic!("{library} has no allowed_external_types"));
        let found: BTreeSet<_> = listing.lines().flat_map(|line| foreign_paths(line, &library)).collect();
        let refused: Vec<_> = found.iter().filter(|path| !is_allowed(path, allowed)).collect();
        assert!(refused.is_empty(), "{library}: not in allowed_external_types: {refused:#?}");
        let unused: Vec<_> =
            allowed.iter().filter(|one| !found.iter().any(|path| is_allowed(path, &[(*one).clone()]))).collect();
        assert!(unused.is_empty(), "{library}: nothing of these is in its API: {unused:?}");
    }
}
