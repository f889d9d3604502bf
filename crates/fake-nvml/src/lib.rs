//! A replacement of `libnvidia-ml.so.1` for tests: the same symbols, with a state that a test or a person writes as JSON.
//!
//! A program loads it through the C ABI of NVIDIA's library, so tests use the real `nvml-wrapper` and its FFI. The structs
//! are defined here after `nvml.h`, and not shared with the bindings under test: so a wrong layout on either side makes a
//! test fail.
//!
//! A state comes from `FAKE_NVML_PROFILE` (a name in `profiles/`), from `FAKE_NVML_STATE` (a JSON file), or from
//! `fake_nvml_set_state`. XIDs come from `fake_nvml_push_xid`, or from the file that `FAKE_NVML_XIDS` names. Each *file* that is
//! loaded has a separate state: copy the library to have two.
//!
//! Misuse that is undefined behaviour in the real library (a handle that was freed, a call after shutdown, two GPM samples
//! less than 100 ms apart) is recorded as a violation, which tests can read.

mod abi;
mod control;
mod device;
mod fields;
mod live;
mod state;
mod system;
