//! The fake driver, and a recorder whose series the tests can read.

#![allow(
    dead_code,
    unreachable_pub,
    unsafe_code,
    reason = "each test binary uses its part; controls are found by name"
)]

use std::{
    collections::BTreeMap,
    ffi::{CString, c_char},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use libloading::{Library, Symbol};
use llm_metrics_gpu::{catalog, source::NvmlSource};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use serde_json::{Value, json};

/// Builds the fake driver once, and returns its path. Also works if nothing was built before.
pub fn fake_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| built(&["-p", "fake-nvml"], "fake_nvml"))
}

/// Builds an example of this crate, and returns its path.
pub fn example(name: &str) -> PathBuf {
    built(&["-p", "llm-metrics-gpu", "--example", name], name)
}

fn built(what: &[&str], target: &str) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "-q", "--message-format=json"])
        .args(what)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut artifacts =
        messages.filter(|message| message["target"]["name"] == target && !message["filenames"].is_null());
    let artifact = artifacts.next().expect("cargo names what it built");
    let file = artifact["executable"].as_str().or_else(|| artifact["filenames"][0].as_str());
    PathBuf::from(file.expect("a file was built"))
}

const KERNEL_LOG: &str = "kmsg";

/// A separate driver: a copy of the library with its own state, so that tests can run in parallel.
pub struct Fake {
    library: Option<Library>,
    path: PathBuf,
}

impl Fake {
    pub fn profile(name: &str) -> Self {
        let fake = Self::without(&[]);
        fake.set_profile(name);
        fake
    }

    pub fn state(state: &Value) -> Self {
        let fake = Self::without(&[]);
        fake.set(state);
        fake
    }

    /// A driver without these symbols, like an older one: their names are overwritten in the copy.
    pub fn without(symbols: &[&str]) -> Self {
        static COPIES: AtomicUsize = AtomicUsize::new(0);
        let copy = COPIES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("fake-nvml-{}-{copy}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("libnvidia-ml.so.1");
        let mut bytes = fs::read(fake_library()).unwrap();
        for symbol in symbols {
            let name = [b"\0", symbol.as_bytes(), b"\0"].concat();
            let places: Vec<_> =
                bytes.windows(name.len()).enumerate().filter(|(_, w)| *w == name).map(|(at, _)| at + 1).collect();
            assert!(!places.is_empty(), "{symbol} is not a symbol");
            places.into_iter().for_each(|at| bytes[at] = b'X');
        }
        fs::write(&path, bytes).unwrap();
        fs::write(folder.join(KERNEL_LOG), "").unwrap();
        // SAFETY: it is our own library, whose initialisers have no effect.
        let library = unsafe { Library::new(&path) }.unwrap();
        Self { library: Some(library), path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A source that reads this driver, and a file of this test instead of the kernel log.
    pub fn source(&self) -> NvmlSource {
        NvmlSource::new().library_path(&self.path).kernel_log_path(self.kernel_log())
    }

    pub fn kernel_log(&self) -> PathBuf {
        self.path.with_file_name(KERNEL_LOG)
    }

    /// Writes the kernel module's log line for an XID of the GPU at this address (`0000:01:00`).
    pub fn log_xid(&self, address: &str, xid: u64) {
        let line = format!("4,1513,99112233,-;NVRM: Xid (PCI:{address}): {xid}, pid='<unknown>', name=<unknown>\n");
        let mut log = fs::OpenOptions::new().append(true).open(self.kernel_log()).unwrap();
        log.write_all(line.as_bytes()).unwrap();
    }

    pub fn set_profile(&self, name: &str) {
        self.text_call("fake_nvml_set_profile", name);
    }

    pub fn set(&self, state: &Value) {
        self.text_call("fake_nvml_set_state", &state.to_string());
    }

    pub fn push_xid(&self, device: u32, xid: u64) {
        // SAFETY: the function has that type.
        unsafe { self.symbol::<unsafe extern "C" fn(u32, u64) -> u32>("fake_nvml_push_xid")(device, xid) };
    }

    pub fn push_sample(&self, device: u32, timestamp: u64, percent: u32) {
        // SAFETY: the function has that type.
        unsafe {
            self.symbol::<unsafe extern "C" fn(u32, u64, u32) -> u32>("fake_nvml_push_sample")(
                device, timestamp, percent,
            );
        }
    }

    /// How often a function was called; with an empty name, all functions together.
    pub fn calls(&self, function: &str) -> u64 {
        let name = CString::new(function).unwrap();
        // SAFETY: the function has that type.
        unsafe { self.symbol::<unsafe extern "C" fn(*const c_char) -> u64>("fake_nvml_calls")(name.as_ptr()) }
    }

    pub fn reset_calls(&self) {
        // SAFETY: the function has that type.
        unsafe { self.symbol::<unsafe extern "C" fn() -> u32>("fake_nvml_reset_calls")() };
    }

    pub fn number(&self, function: &str) -> u64 {
        // SAFETY: the function has that type.
        unsafe { self.symbol::<unsafe extern "C" fn() -> u64>(function)() }
    }

    pub fn violations(&self) -> String {
        let mut buffer = vec![0_u8; 4096];
        // SAFETY: the function has that type, and the buffer that length.
        unsafe {
            self.symbol::<unsafe extern "C" fn(*mut c_char, u32) -> u32>("fake_nvml_violations")(
                buffer.as_mut_ptr().cast(),
                4096,
            );
        }
        String::from_utf8_lossy(&buffer).trim_end_matches('\0').to_owned()
    }

    fn text_call(&self, function: &str, text: &str) {
        let text = CString::new(text).unwrap();
        // SAFETY: the function has that type.
        let code = unsafe { self.symbol::<unsafe extern "C" fn(*const c_char) -> u32>(function)(text.as_ptr()) };
        assert_eq!(code, 0, "{function} refused {text:?}");
    }

    fn symbol<T>(&self, name: &str) -> Symbol<'_, T> {
        // SAFETY: the callers name the type that the function has.
        unsafe { self.library.as_ref().expect("open").get(name.as_bytes()) }.unwrap()
    }
}

impl Fake {
    /// For a thread that is still in a call to the library.
    pub fn leave_open(mut self) {
        std::mem::forget(self.library.take());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.path.parent().unwrap());
    }
}

/// A state with these devices and a current driver.
pub fn machine(devices: &[Value]) -> Value {
    json!({ "driver_version": "590.48.01", "cuda_version": 13010, "devices": devices })
}

/// A device that supports only a few calls; `extra` is merged into it.
pub fn device(uuid: &str, extra: Value) -> Value {
    let mut device = json!({
        "uuid": uuid, "name": "Fake", "bus_id": "00000000:01:00.0", "utilization": [50, 20],
        "memory": { "total": 1000, "reserved": 100, "used": 300 },
    });
    for (key, value) in extra.as_object().unwrap() {
        device[key] = value.clone();
    }
    device
}

/// The text of `/metrics`.
pub struct Page {
    handle: PrometheusHandle,
}

/// A recorder, and the page that it renders.
pub fn page() -> (PrometheusRecorder, Page) {
    let builder = PrometheusBuilder::new();
    let name = catalog::TICK.name.to_owned();
    let recorder = builder.set_buckets_for_metric(Matcher::Full(name), catalog::TICK_BUCKETS).unwrap().build_recorder();
    let handle = recorder.handle();
    (recorder, Page { handle })
}

impl Page {
    pub fn text(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    pub fn samples(&self) -> BTreeMap<String, f64> {
        let text = self.text();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(key, v)| (key.to_owned(), v.parse().unwrap())).collect()
    }

    /// The value of the one series with this name and all these labels, each written as `name="value"` or as the value alone. Panics for a name or a
    /// label that neither the catalogue nor a test (`qwen_`, `region`) has.
    pub fn value(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let ours = name.strip_prefix("qwen_").unwrap_or(name);
        let row = catalog::all().find(|row| ours.strip_prefix(row.name).is_some_and(is_suffix));
        let row = row.unwrap_or_else(|| panic!("the catalogue has no {name}"));
        for (label, value) in labels.iter().filter_map(|label| label.split_once('=')) {
            match row.label(label) {
                Some(declared) => {
                    assert!(declared.allows(value.trim_matches('"')), "{value} is never a value of {declared:?}");
                }
                None => assert_eq!(label, "region", "{name} has no such label"),
            }
        }
        let matches = |key: &str| {
            let (found, rest) = key.split_once('{').unwrap_or((key, ""));
            found == name && labels.iter().all(|label| rest.contains(label))
        };
        let found: Vec<_> = self.samples().into_iter().filter(|(key, _)| matches(key)).collect();
        assert!(found.len() <= 1, "{name} {labels:?} is not one series: {found:?}");
        found.first().map(|(_, value)| *value)
    }

    /// Waits until `condition` is true, for as long as a busy machine may take.
    pub fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            assert!(began.elapsed() < Duration::from_secs(60), "never: {what}\n{}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether this is a valid end of a series name: nothing, or the suffix of a histogram's series.
fn is_suffix(end: &str) -> bool {
    ["", "_bucket", "_count", "_sum"].contains(&end)
}

/// The lines that this thread logs during `work`, without their times.
pub fn logged(work: impl FnOnce()) -> Vec<String> {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().without_time().with_target(false).with_writer(move || writer.clone());
    tracing::subscriber::with_default(subscriber.finish(), work);
    let bytes = log.0.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&bytes).lines().map(|line| line.trim().to_owned()).collect()
}
