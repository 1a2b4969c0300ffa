//! The options of a shared-memory store, as its URL gives them.

use std::path::PathBuf;

use crate::store::option::{StoreOption, boolean};

/// What a process does with a file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Start {
    /// Continues with the values that the file holds.
    #[default]
    Continue,
    /// Replaces the file by an empty one. Processes that have the old file open go on counting in it, and
    /// scrapes of the new file do not show their values.
    Reset,
    /// Only reads the file, and never makes one: see [`super::attached`].
    Attach,
}

/// What a store URL can say about a shared-memory store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SharedMemoryOptions {
    /// The file. `None` stands for the file of this process's service: see [`super::service_file`].
    pub(crate) path: Option<PathBuf>,
    /// A process that is known to belong to the service. Only without a path.
    pub(crate) parent: Option<i32>,
    /// The most bytes that a new file may grow to.
    pub(crate) size_limit: u64,
    pub(crate) start: Start,
    /// The permissions of a new file.
    pub(crate) mode: u32,
    /// Whether a file that cannot be read is an error when the store is opened. Only with [`Start::Attach`],
    /// where `None` means that it is.
    pub(crate) required: Option<bool>,
}

/// Declares the options of a `shm:` URL.
pub(crate) const OPTIONS: &[StoreOption<SharedMemoryOptions>] = &[
    StoreOption {
        name: "size_limit",
        alias: None,
        expected: "a number of bytes from 1048576 to 1099511627776",
        // Room for some 400,000 counters.
        default: Some("67108864"),
        help: "how large a new file may grow",
        set: |options, value| {
            let size = value.parse().ok().filter(|size| (1 << 20..=1 << 40).contains(size))?;
            options.size_limit = size;
            Some(())
        },
    },
    StoreOption {
        name: "start",
        alias: None,
        expected: "continue, reset or attach",
        default: Some("continue"),
        help: "continue with what the file holds, reset it to an empty one, or attach to a file that others \
               have made and only read it",
        set: |options, value| {
            options.start = match value {
                "continue" => Start::Continue,
                "reset" => Start::Reset,
                "attach" => Start::Attach,
                _ => return None,
            };
            Some(())
        },
    },
    StoreOption {
        name: "mode",
        alias: None,
        expected: "octal permissions that let the owner read and write, as in 0600 or 660",
        default: Some("0600"),
        help: "the permissions of a new file, in octal",
        set: |options, value| {
            let mode = u32::from_str_radix(value.strip_prefix("0o").unwrap_or(value), 8).ok()?;
            options.mode = (mode & !0o777 == 0 && mode & 0o600 == 0o600).then_some(mode)?;
            Some(())
        },
    },
    StoreOption {
        name: "parent",
        alias: None,
        expected: "a process id",
        default: None,
        help: "without a path: an ancestor of this process that belongs to the same service, though it has \
               started this process by exec",
        set: |options, value| {
            options.parent = Some(value.parse().ok().filter(|pid| *pid > 0)?);
            Some(())
        },
    },
    StoreOption {
        name: "required",
        alias: None,
        expected: "true or false",
        default: None,
        help: "with start=attach: whether a file that cannot be read is an error when the store is opened \
               (true), or an error of each scrape until the file is there (false)",
        set: |options, value| {
            options.required = Some(boolean(value)?);
            Some(())
        },
    },
];
