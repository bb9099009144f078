//! Where files may lie: on a local disk, in a directory that survives a power loss.

use std::{fs, io, path::Path};

use super::OpenError;

/// Makes `dir` and refuses it on a network file system.
pub(crate) fn prepare(dir: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Directory { path: dir.to_path_buf(), source };
    let existing = dir.ancestors().find(|path| path.is_dir()).unwrap_or_else(|| Path::new("."));
    if let Some(kind) = network(existing).map_err(failed)? {
        return Err(OpenError::Network { path: dir.to_path_buf(), kind });
    }
    fs::create_dir_all(dir).map_err(failed)
}

/// Makes the directory's entries survive a power loss.
pub(crate) fn sync(dir: &Path) -> Result<(), OpenError> {
    let flush = |path: &Path| fs::File::open(path)?.sync_all();
    flush(dir)
        .and_then(|()| dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), flush))
        .map_err(|source| OpenError::Directory { path: dir.to_path_buf(), source })
}

#[cfg(target_os = "linux")]
fn network(dir: &Path) -> io::Result<Option<&'static str>> {
    #[expect(clippy::useless_conversion, reason = "its width differs between architectures")]
    let found = i64::from(rustix::fs::statfs(dir)?.f_type);
    Ok(network_kind(found))
}

#[cfg(not(target_os = "linux"))]
fn network(_: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// The name of a file system on which SQLite's shared memory and locks do not work between hosts.
fn network_kind(magic: i64) -> Option<&'static str> {
    // The header's numbers are 32 bits wide, and some architectures sign-extend them.
    let magic = magic & 0xFFFF_FFFF;
    NETWORK.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

const NETWORK: [(i64, &str); 12] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x5346_414F, "AFS"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x6573_5546, "FUSE"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x7461_636F, "OCFS2"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_number() {
        assert_eq!(network_kind(0x6969), Some("NFS"));
        assert_eq!(network_kind(i64::from(0xFF53_4D42_u32.cast_signed())), Some("CIFS"));
        assert_eq!(network_kind(0xEF53), None, "ext4 is local");
    }

    #[test]
    fn a_directory_is_made_with_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        prepare(&deep).unwrap();
        sync(&deep).unwrap();
        assert!(deep.is_dir());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("taken");
        fs::write(&file, "x").unwrap();
        let error = prepare(&file.join("below")).unwrap_err().to_string();
        assert!(error.contains("taken/below"), "{error}");
    }
}
