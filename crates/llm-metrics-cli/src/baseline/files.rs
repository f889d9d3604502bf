//! Writing files and printing.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use crate::Failure;

/// A closed standard output is not an error: the files are written.
pub(super) fn print(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Checks that a file can be written, before an hour of measuring instead of after it.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let wrong = |error: io::Error| Failure::Usage(Failure::of(path, error));
    if path.is_dir() {
        return Err(Failure::Usage(format!("{}: it is a folder", path.display())));
    }
    if is_special(path) {
        return Ok(());
    }
    fs::create_dir_all(folder(path)).map_err(wrong)?;
    tempfile::NamedTempFile::new_in(folder(path)).map(drop).map_err(wrong)
}

/// Replaces the whole file, or leaves it unchanged. If it is not a regular file, such as `/dev/null` or a pipe, writes to it. If it is a symbolic
/// link, replaces its target.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let wrong = |error: io::Error| Failure::Usage(Failure::of(path, error));
    if is_special(path) {
        return fs::write(path, text).map_err(wrong);
    }
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    fs::create_dir_all(folder(path)).map_err(wrong)?;
    let mut file = tempfile::Builder::new().permissions(permissions()).tempfile_in(folder(path)).map_err(wrong)?;
    file.write_all(text.as_bytes()).map_err(wrong)?;
    file.persist(path).map_err(|error| wrong(error.error))?;
    Ok(())
}

/// A device, a pipe or a socket: replacing it with a file would do harm.
pub(super) fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// The mode of a new file, to which the umask applies.
fn permissions() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o666)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
