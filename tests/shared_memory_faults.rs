//! The shared-memory store with unusable files and full disks: an error names the file and the reason, and
//! there is no crash, hang or signal. Damaged contents are in `shared_memory_damage.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use log::Level;
use pytheus_backend_rs::{Backend, ErrorKind, MetricType};

use support::process::{SharedNumbers, as_nobody, fork, is_root};
use support::shared_file::{COMMITTED_AT, HEADER, SEGMENT, TestFile, filled, fnv};
use support::*;

/// Asserts that the file cannot be opened, with an error that names it and has all of `parts`.
fn assert_refused(file: &TestFile, parts: &[&str]) {
    let error = Backend::open(&file.url("")).expect_err("the file is bad");
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    for part in [file.path.to_str().unwrap()].iter().chain(parts) {
        assert!(error.message().contains(part), "{error}: expected {part:?}");
    }
}

// Foreign files.

#[test]
fn a_file_that_is_no_metrics_file_is_refused() {
    let file = TestFile::new();
    for (bytes, reason) in [
        (&b""[..], "it is empty"),
        (b"PYTH", "no metrics file"),
        (b"#!/bin/sh\n", "no metrics file"),
        (&[0; 5_000], "no metrics file"),
        (&[0xff; 2 << 20], "no metrics file"),
        (b"PYTHEUSM", "cut off: 8 bytes"),
    ] {
        fs::write(&file.path, bytes).unwrap();
        assert_refused(&file, &[reason]);
        assert_eq!(file.bytes(), bytes, "the file is unchanged");
    }
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let file = filled();
    file.handle().write_all_at(&7_u32.to_le_bytes(), 8).unwrap();
    assert_refused(&file, &["version 7", "expected 2"]);
}

#[test]
fn the_other_byte_order_is_refused() {
    let file = filled();
    // A machine with the other byte order writes each number of the header reversed.
    for at in [8, 12, 16, 20] {
        let mut bytes = [0; 4];
        file.handle().read_exact_at(&mut bytes, at).unwrap();
        bytes.reverse();
        file.handle().write_all_at(&bytes, at).unwrap();
    }
    assert_refused(&file, &["byte order"]);
}

#[test]
fn each_changed_byte_of_the_constant_header_is_detected() {
    let file = filled();
    let good = file.bytes();
    for at in 0..64 {
        file.handle().write_all_at(&[good[at] ^ 0x40], at as u64).unwrap();
        assert_refused(&file, &[]);
        file.handle().write_all_at(&good[at..=at], at as u64).unwrap();
    }
    file.open();
}

#[test]
fn unknown_sizes_with_a_correct_checksum_are_refused() {
    for (at, value) in [(16, 8192 | SEGMENT << 32), (16, HEADER | 4096 << 32), (24, 0), (24, 1 << 60)] {
        let file = filled();
        file.set_word(at, value);
        file.set_word(56, fnv(&[], &file.bytes()[..56]));
        assert_refused(&file, &["size"]);
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let file = filled();
    let backend = file.open();
    let family = declare(&backend, "many", MetricType::Counter, &["a"]);
    for index in 0..9_000 {
        family.metric(&[&index.to_string()]).unwrap();
    }
    assert_eq!(file.size(), 2 * SEGMENT);
    drop((family, backend));
    let good = file.bytes();
    let committed = file.committed();
    let lengths = (0..64).chain((64..2 * SEGMENT).step_by(50_021));
    let lengths = lengths.chain([HEADER - 1, HEADER, SEGMENT - 1, SEGMENT, SEGMENT + 1]);
    for length in lengths.chain([committed - 1, committed, committed + 1, 2 * SEGMENT - 1]) {
        fs::write(&file.path, &good[..length as usize]).unwrap();
        let reason = match length {
            0 => "it is empty",
            1..8 => "no metrics file",
            _ => "cut off",
        };
        assert_refused(&file, &[reason]);
        assert_eq!(file.size(), length, "the file is unchanged");
    }
    fs::write(&file.path, &good).unwrap();
    assert_eq!(file.open().collect(None).unwrap().families.len(), 6);
}

#[test]
fn a_damaged_committed_end_is_an_error() {
    for end in [0, 64, 4095, 4097, u64::MAX, u64::MAX - 63, SEGMENT + 64, 1 << 50] {
        let file = filled();
        file.set_word(COMMITTED_AT, end);
        assert_refused(&file, &[]);
    }
}

#[test]
fn a_file_that_is_not_regular_is_refused() {
    let directory = TestFile::new();
    fs::create_dir(&directory.path).unwrap();
    assert_refused(&directory, &["directory"]);
    let pipe = TestFile::new();
    let name = std::ffi::CString::new(pipe.path.to_str().unwrap()).unwrap();
    // SAFETY: a plain system call with a string that ends in NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    assert_refused(&pipe, &["no regular file"]);
    let socket = TestFile::new();
    let _listener = std::os::unix::net::UnixListener::bind(&socket.path).unwrap();
    assert_refused(&socket, &[]);
    let error = Backend::open("shm:///dev/null").unwrap_err();
    assert!(error.message().contains("/dev/null") && error.message().contains("no regular file"), "{error}");
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let (target, link) = (filled(), TestFile::new());
    symlink(&target.path, &link.path).unwrap();
    assert_refused(&link, &["symbolic link"]);
    let nowhere = TestFile::new();
    symlink(nowhere.folder().join("target"), &nowhere.path).unwrap();
    assert_refused(&nowhere, &["symbolic link"]);
    assert!(!nowhere.folder().join("target").exists());
    target.open();
}

#[test]
fn a_missing_folder_is_named() {
    let file = TestFile::new();
    let path = file.folder().join("missing/metrics");
    let error = Backend::open(&format!("shm://{}", path.display())).unwrap_err();
    assert!(error.message().contains(path.to_str().unwrap()), "{error}");
    assert!(error.message().contains("No such file or directory"), "{error}");
    let below_a_file = filled();
    let path = below_a_file.path.join("metrics");
    let error = Backend::open(&format!("shm://{}", path.display())).unwrap_err();
    assert!(error.message().contains("Not a directory"), "{error}");
    let long = file.folder().join("x".repeat(300));
    let error = Backend::open(&format!("shm://{}", long.display())).unwrap_err();
    assert!(error.message().contains("name too long"), "{error}");
}

#[test]
fn a_file_without_permission_or_a_read_only_one_is_refused() {
    let file = filled();
    if is_root() {
        std::os::unix::fs::chown(&file.path, Some(65534), Some(65534)).unwrap();
    }
    let (url, path) = (file.url(""), file.path.to_str().unwrap());
    for mode in [0o400, 0o000] {
        fs::set_permissions(&file.path, fs::Permissions::from_mode(mode)).unwrap();
        as_nobody(|| {
            let error = Backend::open(&url).unwrap_err();
            error.message().contains(path) && error.message().contains("Permission denied")
        });
    }
    // No file can be created in this folder.
    let empty = TestFile::new();
    fs::set_permissions(empty.folder(), fs::Permissions::from_mode(0o555)).unwrap();
    let url = empty.url("");
    as_nobody(|| Backend::open(&url).unwrap_err().message().contains("cannot be made: Permission denied"));
    let error = Backend::open("shm:///proc/pytheus-metrics").unwrap_err();
    assert!(error.message().contains("/proc/pytheus-metrics cannot be made"), "{error}");
}

// Full disks.

/// Runs `body` in a child with a private file system of two megabytes at `folder`, mounted with `options`.
/// The file system ends with the child.
fn with_small_disk(folder: &Path, options: &str, body: impl FnOnce(&Path) -> bool) {
    let text = |text: &str| std::ffi::CString::new(text).unwrap();
    let (target, tmpfs, root) = (text(folder.to_str().unwrap()), text("tmpfs"), text("/"));
    let options = text(options);
    // Two results distinguish a body that cannot run from a body that fails.
    let ran = SharedNumbers::new(1);
    fork(|| {
        let null = std::ptr::null::<libc::c_void>();
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: plain system calls with strings that end in NUL.
        let is_mounted = unsafe {
            (is_root() || libc::unshare(libc::CLONE_NEWUSER) == 0)
                && libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(root.as_ptr(), root.as_ptr(), std::ptr::null(), private, null) == 0
                && libc::mount(tmpfs.as_ptr(), target.as_ptr(), tmpfs.as_ptr(), 0, options.as_ptr().cast())
                    == 0
        };
        if !is_mounted {
            return true;
        }
        ran.add(0, 1);
        body(folder)
    })
    .join();
    if ran.get(0) == 0 {
        eprintln!("not tested: no file system can be mounted here");
    }
}

fn fill_disk(path: PathBuf) {
    use std::io::Write;
    let mut file = File::create(&path).unwrap();
    // The file system counts free blocks per processor, so it may refuse a write before the last one is used.
    while file.write_all(&[1; 4096]).is_ok() || rustix::fs::statvfs(&path).unwrap().f_bfree > 0 {}
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_behind() {
    let file = TestFile::new();
    with_small_disk(file.folder(), "size=2m", |folder| {
        fill_disk(folder.join("other"));
        let refusal = file.refusal("");
        assert!(refusal.contains("cannot be made: No space left on device"), "{refusal}");
        assert!(refusal.contains(file.path.to_str().unwrap()), "{refusal}");
        fs::read_dir(folder).unwrap().count() == 1
    });
}

#[test]
fn when_the_disk_fills_up_only_new_metrics_are_held_back() {
    let file = TestFile::new();
    with_small_disk(file.folder(), "size=2m", |folder| {
        remember_log();
        let backend = file.open();
        fill_disk(folder.join("other"));
        let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
        let first = family.metric(&["0"]).unwrap();
        let mut made = 0;
        let reason = ["cannot grow: No space left on device", file.path.to_str().unwrap()];
        while log_records(Level::Error, &reason).is_empty() {
            made += 1;
            family.metric(&[&made.to_string()]).unwrap().inc(1.0).unwrap();
        }
        assert!(made > 6_000, "the first segment existed before: {made}");
        assert_eq!(log_records(Level::Error, &reason).len(), 1);
        let faults = backend.check().unwrap().faults().to_vec();
        assert!(
            matches!(&faults[..], [fault] if fault.contains("file system has no space left")),
            "{faults:?}"
        );
        first.inc(1.0).unwrap();
        assert_eq!(first.get().unwrap(), 1.0);
        assert_eq!(backend.collect(None).unwrap().families[0].series().len(), made);
        assert_eq!(file.open().collect(None).unwrap().families[0].series().len(), made);
        fs::remove_file(folder.join("other")).unwrap();
        backend.collect(None).unwrap();
        assert_eq!(backend.statistics().metrics_held_back, 0);
        let late = family.metric(&[&made.to_string()]).unwrap();
        late.get().unwrap() == 1.0 && file.open().collect(None).unwrap().families[0].series().len() > made
    });
}

#[test]
fn a_sparse_copy_on_a_full_disk_is_an_error_and_no_signal() {
    let file = TestFile::new();
    let bytes = filled().bytes();
    with_small_disk(file.folder(), "size=2m", |folder| {
        let copy = File::create(&file.path).unwrap();
        copy.write_all_at(&bytes[..12_288], 0).unwrap();
        copy.set_len(SEGMENT).unwrap();
        fill_disk(folder.join("other"));
        let refusal = file.refusal("");
        assert!(refusal.contains("holes") && refusal.contains("No space left"), "{refusal}");
        fs::remove_file(folder.join("other")).unwrap();
        let backend = file.open();
        let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
        fill_disk(folder.join("other"));
        (0..1_000).all(|index| family.metric(&[&index.to_string()]).is_ok())
    });
}

#[test]
fn a_read_only_file_system_is_an_error() {
    let file = TestFile::new();
    with_small_disk(file.folder(), "size=2m", |folder| {
        file.open();
        let target = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
        let flags = libc::MS_REMOUNT | libc::MS_RDONLY;
        let null = std::ptr::null();
        // SAFETY: a plain system call with a string that ends in NUL.
        let result = unsafe { libc::mount(null, target.as_ptr(), null, flags, null.cast()) };
        assert_eq!(result, 0);
        file.refusal("").contains("Read-only file system")
    });
}

#[test]
fn the_file_size_limit_of_the_process_is_an_error() {
    let file = TestFile::new();
    fork(|| {
        let backend = file.open();
        let limit = libc::rlimit { rlim_cur: SEGMENT, rlim_max: SEGMENT };
        // SAFETY: a plain system call. SIGXFSZ keeps its default action, which ends the process.
        unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
        let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
        remember_log();
        (0..10_000).for_each(|index| family.metric(&[&index.to_string()]).unwrap().inc(1.0).unwrap());
        log_records(Level::Error, &["cannot grow: File too large", file.path.to_str().unwrap()]).len() == 1
    })
    .join();
    assert!(file.open().collect(None).unwrap().families[0].series().len() > 6_000);
}

#[test]
fn a_limit_below_the_size_of_a_new_file_is_an_error_and_leaves_no_draft() {
    let file = TestFile::new();
    fork(|| {
        let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
        // SAFETY: a plain system call.
        unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
        file.refusal("").contains("cannot be made: File too large")
    })
    .join();
    assert_eq!(fs::read_dir(file.folder()).unwrap().count(), 0);
}

#[test]
fn a_sparse_file_of_gibibytes_does_not_fill_the_disk() {
    const LENGTH: u64 = 4 << 30;
    let file = TestFile::new();
    with_small_disk(file.folder(), "size=8m", |folder| {
        let used = || {
            let disk = rustix::fs::statvfs(folder).unwrap();
            (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        };
        let family = declare(
            &Backend::open(&file.url("size_limit=4294967296")).unwrap(),
            "hits",
            MetricType::Counter,
            &["a"],
        );
        family.metric(&["one"]).unwrap().inc(1.0).unwrap();
        file.handle().set_len(LENGTH).unwrap();
        let backend = file.open();
        let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
        family.metric(&["two"]).unwrap().inc(1.0).unwrap();
        assert_eq!(backend.collect(None).unwrap().families[0].series().len(), 2);
        assert!(used() < 2 * SEGMENT, "{} bytes are used", used());
        // A committed end that leads through the hole: each segment of it would be filled.
        file.set_word(COMMITTED_AT, LENGTH);
        for options in ["", "start=attach"] {
            let error =
                Backend::open(&file.url(options)).and_then(|backend| backend.collect(None)).unwrap_err();
            assert!(error.message().contains("are a hole"), "{error}");
        }
        used() < 2 * SEGMENT
    });
}

#[test]
fn odd_and_long_names_are_names() {
    let folder = TestFile::new();
    for name in ["x".repeat(255).as_str(), "a b%20#?&=\\:@\"'", "line\nfeed", "%ff%fe", "..."] {
        let name = name.replace('%', "%25").replace('#', "%23").replace('?', "%3F").replace('@', "%40");
        let name = name.replace("%25ff", "%ff").replace("%25fe", "%fe").replace('\n', "%0A");
        let url = format!("shm://{}/{name}", folder.folder().display());
        for value in [1.0, 2.0] {
            let backend = Backend::open(&url).unwrap();
            let counter = counter(&backend, "hits");
            counter.inc(1.0).unwrap();
            assert_eq!(counter.get().unwrap(), value, "{url}");
        }
    }
    assert_eq!(fs::read_dir(folder.folder()).unwrap().count(), 5, "one file for each, and no draft");
}

/// Makes system calls fail in this process, a forked child, as a file system that lacks them does.
fn without_system_calls(calls: &[(i64, i32)]) {
    let statement = |code: u32, jump_false: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump_false,
        k: value,
    };
    // Loads the number of the call; for each of `calls`, compares it and returns the error.
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (call, error) in calls {
        filter.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, *call as u32));
        filter.push(statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | *error as u32));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain system calls; the kernel copies the program.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// FAT, and some file systems of FUSE and of network servers.
#[test]
fn a_volume_without_hard_links_permissions_and_fallocate_holds_a_file() {
    for error in [libc::EPERM, libc::EOPNOTSUPP] {
        let file = TestFile::new();
        fork(|| {
            without_system_calls(&[
                (libc::SYS_linkat, error),
                (libc::SYS_fchmod, error),
                (libc::SYS_fallocate, libc::EOPNOTSUPP),
            ]);
            let (backend, other) = (file.open(), file.open());
            let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
            let is_made = (0..10_000).all(|index| family.metric(&[&index.to_string()]).is_ok());
            is_made && other.collect(None).unwrap().families[0].series().len() == 10_000
        })
        .join();
        assert_eq!(fs::read_dir(file.folder()).unwrap().count(), 1);
        assert!(file.size() > SEGMENT);
    }
}
