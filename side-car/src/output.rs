//! A file that a command replaces as a whole. A reader finds the old content or the new one, and a failure leaves the
//! old one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::Failure;

/// Who reads the file is another user, such as that of node_exporter, whatever the umask says.
const MODE: u32 = 0o644;

/// Replaces the file, and makes it if it is not there.
pub(crate) fn replace(path: &Path, content: &str) -> Result<(), Failure> {
    write_beside(path, content)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

fn write_beside(path: &Path, content: &str) -> io::Result<()> {
    // To rename over `/dev/stdout` or a folder would replace it, or fail late.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(io::Error::other("it is no regular file"));
    }
    path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // To rename over a symbolic link would replace the link, and leave the file behind it.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // It does not end in .prom, so node_exporter does not read it.
    let draft = path.with_file_name(format!(".pytheus-backend-rs.{}.{:x}", process::id(), time.as_nanos()));
    let written = write(&draft, content).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
        return written;
    }
    // The new name should survive a crash of the machine, too. The file is replaced, so it is no failure if this cannot be
    // had: the user may not read the folder, or the file system does not know it.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn write(draft: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(draft)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}
