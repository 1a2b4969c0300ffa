//! A value that threads use while another thread replaces it. No thread waits.
//!
//! # When a replaced value is freed
//!
//! A thread counts itself as a user before it loads the pointer, and until it is done. A replaced value goes into a
//! list first. It is freed when its list was taken and the number of users is found to be 0 afterwards. A thread that
//! used the value then is done, because it would be counted. A thread that begins later loads a newer pointer. Both
//! follow from the single order of these operations, which are all `SeqCst`.

#![allow(unsafe_code)]

use std::ptr;

use super::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The value, and those before it that a thread may still use.
pub(crate) struct Present<T> {
    current: AtomicPtr<Node<T>>,
    /// How many threads use a value now.
    users: AtomicU64,
    /// The replaced values, linked.
    replaced: AtomicPtr<Node<T>>,
}

struct Node<T> {
    value: T,
    /// The next one in the list of replaced values.
    next: *mut Self,
}

// SAFETY: threads share the values by reference, and the last one to drop a value may be any of them.
unsafe impl<T: Send + Sync> Send for Present<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Present<T> {}

/// A thread that is counted as a user.
struct User<'users>(&'users AtomicU64);

impl<'users> User<'users> {
    fn new(users: &'users AtomicU64) -> Self {
        users.fetch_add(1, Ordering::SeqCst);
        Self(users)
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<T> Present<T> {
    pub(crate) fn new(value: T) -> Self {
        let current = AtomicPtr::new(node(value));
        Self { current, users: AtomicU64::new(0), replaced: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Calls `work` with the value.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&T) -> R) -> R {
        let _user = User::new(&self.users);
        let current = self.current.load(Ordering::SeqCst);
        // SAFETY: `current` is never null, and is not freed while this thread is counted: see the top.
        work(unsafe { &(*current).value })
    }

    /// Replaces the value by what `make` returns, if `is_over` says so. If another thread is faster, its value stays.
    pub(crate) fn replace_if(&self, is_over: impl FnOnce(&T) -> bool, make: impl FnOnce() -> T) {
        let user = User::new(&self.users);
        let before = self.current.load(Ordering::SeqCst);
        // SAFETY: as in `with`.
        if !is_over(unsafe { &(*before).value }) {
            return;
        }
        let made = node(make());
        match self.current.compare_exchange(before, made, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => self.put_away(before),
            // SAFETY: `made` comes from `node`, and no other thread has seen it.
            Err(_) => drop(unsafe { Box::from_raw(made) }),
        }
        drop(user);
        self.free_unused();
    }

    /// Adds a replaced value to the list.
    fn put_away(&self, node: *mut Node<T>) {
        let mut first = self.replaced.load(Ordering::SeqCst);
        loop {
            // SAFETY: only the thread that has replaced the value, or has taken its list, touches `next`.
            unsafe { (*node).next = first };
            match self.replaced.compare_exchange(first, node, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(seen) => first = seen,
            }
        }
    }

    fn free_unused(&self) {
        let mut taken = self.replaced.swap(ptr::null_mut(), Ordering::SeqCst);
        let is_unused = self.users.load(Ordering::SeqCst) == 0;
        while !taken.is_null() {
            // SAFETY: this thread has taken the list.
            let next = unsafe { (*taken).next };
            if is_unused {
                // SAFETY: from `node`, and no thread uses it: see the top.
                drop(unsafe { Box::from_raw(taken) });
            } else {
                self.put_away(taken);
            }
            taken = next;
        }
    }

    /// Forgets the threads that a forked child does not have. Call it there only, while it has one thread.
    pub(crate) fn forked(&self) {
        self.users.store(0, Ordering::SeqCst);
    }
}

fn node<T>(value: T) -> *mut Node<T> {
    Box::into_raw(Box::new(Node { value, next: ptr::null_mut() }))
}

impl<T> Drop for Present<T> {
    fn drop(&mut self) {
        self.free_unused();
        // SAFETY: from `node`, and no thread has `self` any more.
        drop(unsafe { Box::from_raw(self.current.load(Ordering::SeqCst)) });
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Present<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.with(|value| value.fmt(formatter))
    }
}
