//! A stand-in for `libnvidia-ml.so.1`: the same symbols, backed by a state that a test or a person writes as JSON.
//!
//! What a program links is the C ABI of NVIDIA's library, so the whole path through `nvml-wrapper` and its FFI is the real
//! one. The structs are written down here from `nvml.h`, not shared with the bindings under test: a layout that is wrong
//! on either side shows.
//!
//! A state comes from `FAKE_NVML_PROFILE` (a name in `profiles/`), from `FAKE_NVML_STATE` (a JSON file), or from
//! `fake_nvml_set_state`. XIDs come from `fake_nvml_push_xid`, or from the file that `FAKE_NVML_XIDS` names. Each *file* that is
//! loaded has a state of its own: copy the library to have two.
//!
//! What misuse the real library answers with undefined behaviour (a handle that was freed, a call after shutdown, two GPM
//! samples less than 100 ms apart) is noted as a violation, for tests to find.

mod abi;
mod control;
mod device;
mod fields;
mod live;
mod state;
mod system;
