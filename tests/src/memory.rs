//! An allocator that counts the allocations of each thread, and the allocated bytes of the process.
//!
//! A test enables it with `#[global_allocator]`.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicIsize, Ordering},
    },
};

/// The allocator.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "it is made in a constant of its user")]
pub struct Counting;

/// The bytes that are allocated in the process now.
pub static LIVE: AtomicIsize = AtomicIsize::new(0);
/// The maximum of that number.
pub static PEAK: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    /// The number of allocations of this thread.
    pub static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// The bytes that this thread has allocated, minus those that it has freed.
    pub static HELD: Cell<isize> = const { Cell::new(0) };
}

/// Only one test at a time may measure the memory of the process.
pub fn alone() -> impl Drop {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(allocations: u64, bytes: isize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
    // A thread that is ending no longer has counters.
    let _ = ALLOCATIONS.try_with(|all| all.set(all.get() + allocations));
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as isize - layout.size() as isize);
        unsafe { System.realloc(memory, layout, size) }
    }
}
