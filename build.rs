//! Writes the C header from `src/`, and gives the shared library its SONAME.
//!
//! The header is generated in `OUT_DIR` and copied to `include/` if it differs. It differs only after a change of
//! the interface, so building an installed or packaged source tree never writes to it.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// The number of the binary interface, with which the SONAME ends. Raise it when a program that was compiled
/// with an older header could break.
const ABI_VERSION: u32 = 1;

const HEADER: &str = "pytheus_backend_rs.h";
/// The same declarations for cffi, which reads neither comments nor preprocessor directives.
const CFFI_HEADER: &str = "pytheus_backend_rs.cffi.h";

/// The widest line of a header.
const HEADER_COLUMNS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    // The header also quotes the documentation of types outside src/ffi.
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=include");
    println!("cargo:rustc-env=BACKEND_ABI_VERSION={ABI_VERSION}");
    if env::var("CARGO_CFG_TARGET_OS")? == "linux" {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpytheus_backend_rs.so.{ABI_VERSION}");
        // The library has threads, thread-local values and fork handlers, which would outlive their code.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    write_header(&root, &out, HEADER, header_config(&root)?)?;
    write_header(&root, &out, CFFI_HEADER, cffi_config(&root)?)
}

fn header_config(root: &Path) -> Result<cbindgen::Config, Box<dyn Error>> {
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml"))?;
    config.after_includes = Some(format!(
        "\n/** The version of this header. backend_version() returns that of the library. */\n\
         #define BACKEND_VERSION \"{}\"\n\
         /** The major part of the version. */\n#define BACKEND_VERSION_MAJOR {}\n\
         /** The minor part of the version. */\n#define BACKEND_VERSION_MINOR {}\n\
         /** The last part of the version. */\n#define BACKEND_VERSION_PATCH {}\n\
         /**\n * The number of the binary interface, with which the SONAME ends. backend_abi_version() returns\n\
         \x20* that of the library, which must be the same.\n */\n#define BACKEND_ABI_VERSION {ABI_VERSION}",
        env::var("CARGO_PKG_VERSION")?,
        env::var("CARGO_PKG_VERSION_MAJOR")?,
        env::var("CARGO_PKG_VERSION_MINOR")?,
        env::var("CARGO_PKG_VERSION_PATCH")?,
    ));
    Ok(config)
}

fn cffi_config(root: &Path) -> Result<cbindgen::Config, Box<dyn Error>> {
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml"))?;
    config.header =
        Some("/* The declarations of pytheus_backend_rs.h as cffi reads them: do not edit. */".to_owned());
    config.cpp_compat = false;
    config.documentation = false;
    config.include_guard = None;
    config.sys_includes = Vec::new();
    config.after_includes = Some(format!(
        "\n#define BACKEND_VERSION_MAJOR {}\n#define BACKEND_VERSION_MINOR {}\n\
         #define BACKEND_VERSION_PATCH {}\n#define BACKEND_ABI_VERSION {ABI_VERSION}",
        env::var("CARGO_PKG_VERSION_MAJOR")?,
        env::var("CARGO_PKG_VERSION_MINOR")?,
        env::var("CARGO_PKG_VERSION_PATCH")?,
    ));
    Ok(config)
}

fn write_header(root: &Path, out: &Path, name: &str, config: cbindgen::Config) -> Result<(), Box<dyn Error>> {
    let generated = out.join(name);
    cbindgen::generate_with_config(root, config)?.write_to_file(&generated);
    let mut text = fs::read_to_string(&generated)?;
    if name == CFFI_HEADER {
        text = without_conditionals(&text);
        fs::write(&generated, &text)?;
    }
    if let Some(line) = text.lines().find(|line| line.chars().count() > HEADER_COLUMNS) {
        return Err(format!("{name} has a line of more than {HEADER_COLUMNS} columns: {line}").into());
    }
    let checked_in = root.join("include").join(name);
    if fs::read_to_string(&checked_in).ok().as_deref() != Some(text.as_str()) {
        fs::write(checked_in, text)?;
    }
    Ok(())
}

/// Evaluates the conditionals of the header for cffi, which has no preprocessor. All conditions ask for C23,
/// so the declarations for older C stand in `#else`.
fn without_conditionals(text: &str) -> String {
    let mut is_skipping = false;
    let mut plain = String::new();
    for line in text.lines() {
        match line.split(' ').next() {
            Some("#if") => is_skipping = true,
            Some("#else") | Some("#endif") => is_skipping = false,
            _ if is_skipping => {}
            _ => plain += &format!("{line}\n"),
        }
    }
    plain
}
