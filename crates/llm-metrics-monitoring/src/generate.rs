//! Generates all files, and writes them.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

pub use crate::file::{File, GenerateError};
use crate::{
    alertmanager,
    alerts::{self, yaml},
    dashboard, kubernetes,
    promql::Names,
    recording::Recording,
    rule_file::{self, HEADER},
    runbook,
    slo::Slo,
};

/// All files for these settings.
///
/// # Errors
/// If a value of the settings or an expression is invalid.
pub fn files(slo: &Slo, names: &Names) -> Result<Vec<File>, GenerateError> {
    slo.validate().map_err(GenerateError::Settings)?;
    let names = &names.clone().by(slo.service.by.iter().cloned());
    let recording = Recording::new(slo);
    let mut rules = Vec::new();
    for (name, file) in rule_file::recording(&recording, names)? {
        rules.push((yaml::recording_file(name), file));
    }
    let (mut tests, mut runbooks) = (Vec::new(), Vec::new());
    let topics = alerts::topics(slo, &recording);
    let generated: BTreeSet<_> = topics.iter().flat_map(|topic| &topic.alerts).map(|alert| alert.name).collect();
    for topic in topics {
        rules.push((yaml::alert_file(&topic), yaml::rules(&topic, slo, names)?));
        let cases = yaml::tests(&topic, &recording, slo, names)?;
        tests.push(File::new(format!("rules/{}.test.yml", topic.name), cases));
        for alert in &topic.alerts {
            runbooks
                .push(File::new(format!("runbooks/{}.md", alert.name), runbook::page_among(alert, &generated, names)?));
        }
    }
    let mut files = vec![File::new("alertmanager/alertmanager.yml", alertmanager::config(&slo.service.by)?)];
    files.extend(kubernetes::files(rules.iter().map(|(_, file)| file), &recording, slo, names)?);
    for (name, file) in &rules {
        files.push(File::new(format!("rules/{name}"), rule_file::yaml(file)?));
    }
    files.extend(tests);
    files.extend(runbooks);
    files.extend(dashboard::files(slo, names)?);
    Ok(files)
}

/// Writes files below `folder`, which need not exist. Files of the same names are replaced, others are kept.
///
/// Everything is written next to the folder first and then moved, so that no file is ever incomplete.
///
/// # Errors
/// If a file cannot be written. Then nothing was replaced, unless moving failed.
pub fn write(files: &[File], folder: &Path) -> Result<(), GenerateError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| GenerateError::Io { path, source }
    };
    fs::create_dir_all(folder).map_err(at(folder))?;
    let staging = tempfile::Builder::new().prefix(".generated-").tempdir_in(folder).map_err(at(folder))?;
    for file in files {
        let path = staging.path().join(&file.path);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(at(parent))?;
        fs::write(&path, &file.text).map_err(at(&path))?;
    }
    // Conflicts are found before the first file is moved.
    for file in files {
        let target = folder.join(&file.path);
        let parent = target.parent().unwrap_or(&target);
        fs::create_dir_all(parent).map_err(at(parent))?;
        if target.is_dir() {
            return Err(at(&target)(io::ErrorKind::IsADirectory.into()));
        }
    }
    for file in files {
        let target = folder.join(&file.path);
        fs::rename(staging.path().join(&file.path), &target).map_err(at(&target))?;
    }
    Ok(())
}

/// The files that are missing below `folder`, differ, or are no longer generated.
#[must_use]
pub fn drift(files: &[File], folder: &Path) -> Vec<PathBuf> {
    let same = |file: &&File| fs::read_to_string(folder.join(&file.path)).is_ok_and(|text| text == file.text);
    let changed = files.iter().filter(|file| !same(file)).map(|file| file.path.clone());
    let parents: BTreeSet<_> = files.iter().filter_map(|file| file.path.parent()).collect();
    let there = parents.into_iter().flat_map(|parent| {
        let entries = fs::read_dir(folder.join(parent)).into_iter().flatten().flatten();
        entries.map(move |entry| parent.join(entry.file_name()))
    });
    let ours = |path: &PathBuf| fs::read_to_string(folder.join(path)).is_ok_and(|text| text.starts_with(HEADER));
    let stale = there.filter(|path| files.iter().all(|file| file.path != *path) && ours(path));
    changed.chain(stale).collect()
}
