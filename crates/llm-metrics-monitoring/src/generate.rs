//! All that is generated, as files, and how they get to their place.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{promql::Names, recording::Recording, rule_file, slo::Slo};

/// A generated file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct File {
    /// Where it belongs, below the folder that is generated.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl File {
    pub(crate) fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

/// Why nothing was generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// An expression that is wrong with these settings.
    #[error("{what}: {}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Expression {
        /// The rule, alert or panel.
        what: String,
        /// What is wrong with it.
        faults: Vec<crate::promql::Fault>,
    },
    /// What could not be spelled as YAML.
    #[error("this cannot be written as YAML: {message}")]
    Yaml {
        /// Why.
        message: String,
    },
    /// A file or folder that could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Everything for these settings.
///
/// # Errors
/// When an expression is wrong with them.
pub fn files(slo: &Slo, names: &Names) -> Result<Vec<File>, GenerateError> {
    let recording = Recording::new(slo);
    Ok(vec![File::new("rules/recording.rules.yml", rule_file::recording(&recording, names)?)])
}

/// Puts files below `folder`, which need not exist. Files of the same names are replaced, others are left alone.
///
/// Everything is written beside the folder first and then moved, so that no file is ever there in part.
///
/// # Errors
/// When something cannot be written. Then nothing was replaced, unless it failed while moving.
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
    for file in files {
        let target = folder.join(&file.path);
        let parent = target.parent().unwrap_or(&target);
        fs::create_dir_all(parent).map_err(at(parent))?;
        fs::rename(staging.path().join(&file.path), &target).map_err(at(&target))?;
    }
    Ok(())
}

/// The files that are missing below `folder`, or differ.
#[must_use]
pub fn drift(files: &[File], folder: &Path) -> Vec<PathBuf> {
    let same = |file: &&File| fs::read_to_string(folder.join(&file.path)).is_ok_and(|text| text == file.text);
    files.iter().filter(|file| !same(file)).map(|file| file.path.clone()).collect()
}
