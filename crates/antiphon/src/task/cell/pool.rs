//! Memory of tasks that have ended, kept for tasks of the same size.
//!
//! A loop makes the same few types of tasks over and over: their memory comes back last in, first out, while it is still in the
//! processor's cache, without the allocator.
//!
//! Invariant Q7: what is on a shelf was allocated with the shelf's layout, is referred to by nothing else, and begins with the
//! address of the next on that shelf.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;

/// So many bytes are kept at the most.
const KEPT_BYTES: usize = if cfg!(antiphon_unpooled) { 0 } else { 64 * 1024 };

/// The alignment of what is kept; others are rare.
const ALIGN: usize = align_of::<usize>();

/// A shelf for each size that is a multiple of the alignment, up to half a KiB.
const SHELVES: usize = 64;

/// Of one loop, and touched by its thread alone.
pub(crate) struct Pool {
    shelves: [Cell<Option<NonNull<Kept>>>; SHELVES],
    kept_bytes: Cell<usize>,
}

/// What memory on a shelf begins with.
struct Kept {
    next: Option<NonNull<Kept>>,
}

/// The shelf for memory of this layout.
const fn shelf(layout: Layout) -> Option<usize> {
    let shelf = layout.size() / ALIGN;
    let fits = layout.align() == ALIGN && 0 < shelf && shelf < SHELVES;
    if fits { Some(shelf) } else { None }
}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self { shelves: [const { Cell::new(None) }; SHELVES], kept_bytes: Cell::new(0) }
    }

    /// Memory for one `T`, which is not written.
    #[inline]
    pub(super) fn take<T>(&self) -> NonNull<T> {
        let layout = Layout::new::<T>();
        if let Some(shelf) = const { shelf(Layout::new::<T>()) }
            && let Some(kept) = self.shelves[shelf].get()
        {
            // SAFETY: it is on a shelf (Q7).
            self.shelves[shelf].set(unsafe { kept.as_ref() }.next);
            self.kept_bytes.set(self.kept_bytes.get() - layout.size());
            return kept.cast();
        }
        allocate(layout).cast()
    }

    /// Keeps memory, or gives it back to the allocator.
    ///
    /// # Safety
    /// [`take`](Self::take) of any pool made it for this layout, and nothing refers to it.
    #[inline]
    pub(super) unsafe fn put(&self, memory: NonNull<u8>, layout: Layout) {
        let kept_bytes = self.kept_bytes.get() + layout.size();
        match shelf(layout) {
            Some(shelf) if kept_bytes <= KEPT_BYTES => {
                let kept = memory.cast::<Kept>();
                // SAFETY: by the caller; it is as large as a pointer, and aligned as one.
                unsafe { kept.write(Kept { next: self.shelves[shelf].get() }) };
                self.shelves[shelf].set(Some(kept));
                self.kept_bytes.set(kept_bytes);
            }
            // SAFETY: by the caller.
            _ => unsafe { free(memory, layout) },
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (shelf, first) in self.shelves.iter().enumerate() {
            let mut next = first.take();
            while let Some(kept) = next {
                // SAFETY: it is on a shelf (Q7), and the last to look at it is this.
                unsafe {
                    next = kept.as_ref().next;
                    free(kept.cast(), Layout::from_size_align_unchecked(shelf * ALIGN, ALIGN));
                }
            }
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: a cell has a header, so its size is not zero.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Gives memory of [`Pool::take`] back to the allocator.
///
/// # Safety
/// As [`Pool::put`].
pub(super) unsafe fn free(memory: NonNull<u8>, layout: Layout) {
    // SAFETY: by the caller: `allocate` made it.
    unsafe { dealloc(memory.as_ptr(), layout) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts what was taken as a `T` back.
    fn put<T>(pool: &Pool, memory: NonNull<T>) {
        // SAFETY: tests put each once, with the type that it was taken as.
        unsafe { pool.put(memory.cast(), Layout::new::<T>()) };
    }

    #[test]
    fn memory_comes_back_for_the_same_size_last_in_first_out() {
        let pool = Pool::new();
        let (first, second, other) =
            (pool.take::<[u64; 9]>(), pool.take::<[u64; 9]>(), pool.take::<[u64; 10]>());
        put(&pool, first);
        put(&pool, second);
        put(&pool, other);
        let again = [pool.take::<[u64; 9]>(), pool.take::<[u64; 9]>()];
        if !cfg!(antiphon_unpooled) {
            assert_eq!(again, [second, first]);
            assert_eq!(pool.kept_bytes.get(), 80, "the other size");
        }
        again.into_iter().for_each(|memory| put(&pool, memory));
    }

    #[test]
    fn so_much_is_kept_and_not_more() {
        let pool = Pool::new();
        let taken: Vec<_> = (0..2 * KEPT_BYTES / 400 + 1).map(|_| pool.take::<[u64; 50]>()).collect();
        taken.into_iter().for_each(|memory| put(&pool, memory));
        assert!(pool.kept_bytes.get() <= KEPT_BYTES);
    }

    #[test]
    fn what_is_large_or_aligned_is_not_kept() {
        #[repr(align(64))]
        struct Aligned(#[expect(dead_code, reason = "it has a size")] [u64; 8]);
        let pool = Pool::new();
        put(&pool, pool.take::<Aligned>());
        put(&pool, pool.take::<[u64; SHELVES]>());
        assert_eq!(pool.kept_bytes.get(), 0);
    }
}
