//! Which file it is, whatever it is called: a store that finds itself in another file than the one it was made
//! in is a copy, and must not go on in the name of the original.
//!
//! It sees what is copied by the usual tools. It does not see an image of a whole disk, nor bytes that were
//! written over the original's: these are found out by peers, who remember more than the copy does.

/// The identity of a file.
///
/// Bytes in a store: device, inode, nanoseconds since 1970 when the file was born; u64 each, big endian, the
/// last 0 when it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// The number of the file system's device.
    pub device: u64,
    /// The number of the file in it.
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970, where the file system remembers.
    pub born_ns: Option<u64>,
}

impl FileIdentity {
    /// Whether both are one file. Where its birth is known, number and birth tell it from every other file, and
    /// the device is not looked at: its number is given anew when a disk is moved or a machine restarted, and a
    /// disk that was moved is no copy.
    pub fn is_same_file(&self, other: &Self) -> bool {
        let is_same_birth = match (self.born_ns, other.born_ns) {
            (Some(own), Some(other)) => own == other,
            _ => self.device == other.device,
        };
        self.inode == other.inode && is_same_birth
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.device, self.inode, self.born_ns.unwrap_or(0)];
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks(8).map(|number| Some(u64::from_be_bytes(number.try_into().ok()?)));
        let (device, inode, born_ns) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let identity = Self { device, inode, born_ns: (born_ns != 0).then_some(born_ns) };
        numbers.next().is_none().then_some(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileIdentity = FileIdentity { device: 1, inode: 2, born_ns: Some(3) };

    #[test]
    fn file_on_a_moved_disk_is_the_same_and_one_that_was_born_later_is_not() {
        assert!(FILE.is_same_file(&FileIdentity { device: 9, ..FILE }));
        assert!(!FILE.is_same_file(&FileIdentity { inode: 9, ..FILE }));
        assert!(!FILE.is_same_file(&FileIdentity { born_ns: Some(9), ..FILE }));
    }

    #[test]
    fn without_a_birth_the_device_counts() {
        let unknown = FileIdentity { born_ns: None, ..FILE };
        assert!(unknown.is_same_file(&unknown) && FILE.is_same_file(&unknown));
        assert!(!unknown.is_same_file(&FileIdentity { device: 9, ..unknown }));
    }

    #[test]
    fn identity_has_golden_bytes() {
        let golden = [[0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0, 0, 3]];
        assert_eq!(FILE.to_bytes(), golden.concat());
        for identity in [FILE, FileIdentity { born_ns: None, ..FILE }] {
            let bytes = identity.to_bytes();
            assert_eq!(FileIdentity::from_bytes(&bytes), Some(identity));
            assert_eq!(FileIdentity::from_bytes(&bytes[1..]), None);
            assert_eq!(FileIdentity::from_bytes(&[&bytes[..], &[0; 8]].concat()), None);
        }
    }
}
