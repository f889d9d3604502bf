//! Reads XIDs that NVML does not deliver from the kernel log.
//!
//! The kernel module writes `NVRM: Xid (PCI:0000:83:00): 79, …` for each of them. A process without permission to read
//! `/dev/kmsg`, as in most containers and for many users, does not get these XIDs.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

const KERNEL_LOG: &str = "/dev/kmsg";
/// The maximum length of a record of the kernel log.
const RECORD: usize = 8192;
/// The maximum number of records per read, so that a kernel that logs without end does not block the thread.
const RECORDS: usize = 1024;

/// The reader. It outlives sessions, so that records that are written between two of them are not missed.
#[derive(Debug)]
pub(super) struct KernelLog {
    path: PathBuf,
    enabled: bool,
    file: Option<File>,
    tried: bool,
    /// The beginning of a line that is not complete yet.
    partial: Vec<u8>,
    found: VecDeque<Line>,
    /// The indices of GPUs by bus address, including GPUs that are gone.
    indices: BTreeMap<Address, u32>,
}

/// Domain, bus, device.
type Address = (u32, u32, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    address: Address,
    xid: u64,
}

impl Default for KernelLog {
    fn default() -> Self {
        Self::at(KERNEL_LOG)
    }
}

/// Has the same settings, and is not open.
impl Clone for KernelLog {
    fn clone(&self) -> Self {
        Self { enabled: self.enabled, ..Self::at(self.path.clone()) }
    }
}

impl KernelLog {
    pub(super) fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            enabled: cfg!(target_os = "linux"),
            file: None,
            tried: false,
            partial: Vec::new(),
            found: VecDeque::new(),
            indices: BTreeMap::new(),
        }
    }

    pub(super) fn read_from(&mut self, path: impl Into<PathBuf>) {
        *self = Self { enabled: self.enabled, ..Self::at(path) };
    }

    pub(super) const fn enable(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// Begins to listen, unless it was tried before. What was written before that is history.
    pub(super) fn open(&mut self) {
        if !self.enabled || std::mem::replace(&mut self.tried, true) {
            return;
        }
        match open(&self.path).and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file)) {
            Ok(file) => self.file = Some(file),
            Err(error) => tracing::info!(
                %error,
                path = %self.path.display(),
                "the kernel's log cannot be read: XIDs 79, 119 and 120, which the driver does not report in another way, are not counted"
            ),
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Sets the address of a GPU on the PCI bus.
    pub(super) fn place(&mut self, index: u32, pci_bus_id: &str) {
        if let Some(address) = address(pci_bus_id) {
            self.indices.insert(address, index);
        }
    }

    /// The next XID in the log of a known GPU: the index of the GPU, and the XID.
    pub(super) fn next(&mut self) -> Option<(u32, u64)> {
        if self.found.is_empty() {
            self.read();
        }
        while let Some(line) = self.found.pop_front() {
            match self.indices.get(&line.address) {
                Some(index) => return Some((*index, line.xid)),
                None => {
                    let (domain, bus, device) = line.address;
                    let address = format!("{domain:04x}:{bus:02x}:{device:02x}");
                    tracing::warn!(
                        address,
                        xid = line.xid,
                        "the driver reported an error of a GPU that does not answer"
                    );
                }
            }
        }
        None
    }

    fn read(&mut self) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = read_records(file, &mut self.partial, &mut self.found) {
            tracing::warn!(%error, "the kernel's log cannot be read any more: XIDs 79, 119 and 120 are not counted");
            self.file = None;
        }
    }
}

/// Reads all available records, but at most [`RECORDS`].
fn read_records(mut log: impl Read, partial: &mut Vec<u8>, found: &mut VecDeque<Line>) -> io::Result<()> {
    let mut buffer = [0; RECORD];
    for _ in 0..RECORDS {
        match log.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                partial.extend_from_slice(&buffer[..length]);
                take_lines(partial, found);
            }
            // The record was overwritten before it was read, or a signal arrived: the next record can be read.
            Err(error) if is_transient(&error) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted)
}

/// Removes the complete lines from `partial` and parses them. An incomplete line that is longer than a record can be is dropped.
fn take_lines(partial: &mut Vec<u8>, found: &mut VecDeque<Line>) {
    let end = partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = partial[..end].split(|byte| *byte == b'\n');
    found.extend(lines.filter_map(|line| parse(&String::from_utf8_lossy(line))));
    partial.drain(..end);
    if partial.len() > RECORD {
        partial.clear();
    }
}

/// `6,1234,5678,-;NVRM: Xid (PCI:0000:83:00): 79, …`. Older drivers omit `PCI:`; with MIG, an instance follows the address.
/// Users can write to the log, too: only lines of the kernel (facility 0) count.
fn parse(line: &str) -> Option<Line> {
    let (head, text) = line.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let rest = text.strip_prefix("NVRM: Xid (")?;
    let (place, rest) = rest.split_once("): ")?;
    let place = place.strip_prefix("PCI:").unwrap_or(place);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let line = Line { address: address(place.split(' ').next()?)?, xid: rest[..digits].parse().ok()? };
    (priority < 8).then_some(line)
}

/// Parses `00000000:83:00.0`, as in NVML, or `0000:83:00`, as in the log.
fn address(text: &str) -> Option<Address> {
    let mut parts = text.split(['.', ' ']).next()?.split(':').map(|part| u32::from_str_radix(part, 16));
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        (Ok(domain), Ok(bus), Ok(device), None) => Some((domain, bus, device)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const FELL_OFF: &str = "4,1513,99112233,-;NVRM: Xid (PCI:0000:83:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n";

    fn written(text: &str) -> Vec<(u32, u64)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(FELL_OFF.as_bytes()).unwrap();
        let mut log = KernelLog::at(file.path());
        log.place(3, "00000000:83:00.0");
        log.place(5, "00000001:C1:00.0");
        log.open();
        assert_eq!(log.next(), None, "what was there before is history");
        file.write_all(text.as_bytes()).unwrap();
        std::iter::from_fn(|| log.next()).collect()
    }

    #[test]
    fn lines_of_the_kernel_module_are_assigned_to_gpus() {
        assert_eq!(written(FELL_OFF), [(3, 79)]);
        assert_eq!(
            written("4,1,2,-;NVRM: Xid (0001:c1:00): 119, Timeout after 45s of waiting for RPC response\n"),
            [(5, 119)]
        );
        assert_eq!(written("4,1,2,-;NVRM: Xid (PCI:0000:83:00 GPU-I:05): 120, pid=1\n"), [(3, 120)]);
        assert_eq!(
            written("4,1,2,c;NVRM: Xid (PCI:0000:83:00): 48\n SUBSYSTEM=pci\n DEVICE=+pci:0000:83:00.0\n"),
            [(3, 48)]
        );
        assert_eq!(written(&FELL_OFF.repeat(3)), [(3, 79); 3]);
    }

    #[test]
    fn other_lines_are_ignored() {
        for line in [
            "4,1,2,-;NVRM: Xid (PCI:0000:84:00): 79, of a GPU that is not known\n",
            "4,1,2,-;NVRM: GPU at PCI:0000:83:00: GPU-5d8f3a52\n",
            "4,1,2,-;NVRM: Xid (PCI:0000:83:00): , nothing\n",
            "4,1,2,-;NVRM: Xid (PCI:0000:83): 79\n",
            "4,1,2,-;NVRM: Xid (PCI:): 79\n",
            "4,1,2,-;it said NVRM: Xid (PCI:0000:83:00): 79\n",
            "NVRM: Xid (PCI:0000:83:00): 79\n",
            "\n;\n,;\n4;NVRM: Xid (",
            "4,1,2,-;NVRM: Xid (PCI:0000:83:00): 99999999999999999999999\n",
        ] {
            assert_eq!(written(line), [], "{line}");
        }
    }

    #[test]
    fn lines_that_a_user_wrote_into_the_log_are_ignored() {
        for (priority, count) in [("7", 1), ("8", 0), ("12", 0)] {
            assert_eq!(
                written(&FELL_OFF.replacen('4', priority, 1)).len(),
                count,
                "priority {priority}: facility 1 from 8 on"
            );
        }
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_one_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut log = KernelLog::at(file.path());
        log.place(3, "00000000:83:00.0");
        log.open();
        let (first, second) = FELL_OFF.split_at(40);
        file.write_all(first.as_bytes()).unwrap();
        assert_eq!(log.next(), None);
        file.write_all(second.as_bytes()).unwrap();
        assert_eq!(log.next(), Some((3, 79)));
    }

    #[test]
    fn whole_lines_are_taken_and_the_rest_stays_unless_it_is_longer_than_a_line_can_be() {
        let mut found = VecDeque::new();
        let mut partial = b"4,1,2,-;NVRM: Xid (PCI:0000:83:00): 79\n4,1".to_vec();
        take_lines(&mut partial, &mut found);
        assert_eq!(found, [Line { address: (0, 0x83, 0), xid: 79 }]);
        assert_eq!(partial, b"4,1");
        for (length, left) in [(RECORD, RECORD), (RECORD + 1, 0), (RECORD + 2, 0)] {
            let mut partial = vec![b'x'; length];
            take_lines(&mut partial, &mut found);
            assert_eq!(partial.len(), left);
        }
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut log = KernelLog::at(file.path());
        log.place(3, "00000000:83:00.0");
        log.open();
        for _ in 0..100 {
            file.write_all(&[b'x'; RECORD]).unwrap();
            assert_eq!(log.next(), None);
            assert!(log.partial.len() <= 2 * RECORD);
        }
        file.write_all(b"\n").unwrap();
        file.write_all(FELL_OFF.as_bytes()).unwrap();
        assert_eq!(log.next(), Some((3, 79)), "and what follows is read");
    }

    /// Returns the results of reading `/dev/kmsg` one by one; then "would block".
    struct Answers<I>(I, usize);

    impl<I: Iterator<Item = Result<&'static str, ErrorKind>>> Read for Answers<I> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            let text = self.0.next().unwrap_or(Err(ErrorKind::WouldBlock)).map_err(io::Error::from)?;
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Ok(text.len())
        }
    }

    #[test]
    fn records_that_were_overwritten_and_signals_do_not_end_the_log_and_other_errors_do() {
        let (mut partial, mut found) = (Vec::new(), VecDeque::new());
        let overwritten = Err(ErrorKind::BrokenPipe);
        let (signal, no_more) = (Err(ErrorKind::Interrupted), Err(ErrorKind::WouldBlock));
        let answers = [overwritten, Ok(FELL_OFF), signal, Ok(FELL_OFF), no_more, Ok(FELL_OFF)];
        let mut log = Answers(answers.into_iter(), 0);
        assert!(read_records(&mut log, &mut partial, &mut found).is_ok());
        assert_eq!((found.len(), log.1), (2, 5), "up to the end");
        let mut log = Answers([Err(ErrorKind::Other), Ok(FELL_OFF)].into_iter(), 0);
        assert!(read_records(&mut log, &mut partial, &mut found).is_err());
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_kernel_that_logs_without_end_does_not_keep_the_thread() {
        let (mut partial, mut found) = (Vec::new(), VecDeque::new());
        let mut log = Answers(std::iter::repeat(Ok("6,1,2,-;usb 1-1: new device\n")), 0);
        assert!(read_records(&mut log, &mut partial, &mut found).is_ok());
        assert_eq!(log.1, RECORDS);
    }

    #[test]
    fn a_log_without_permission_or_turned_off_is_not_read() {
        let mut log = KernelLog::at("/nowhere/kmsg");
        log.open();
        assert!(!log.is_open() && log.next().is_none());
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut log = KernelLog::at(file.path());
        log.enable(false);
        log.open();
        assert!(!log.is_open() && !log.clone().enabled);
    }
}
