//! The user ID that the kernel reports for every peer whose user has no ID in this process's user namespace
//! (user_namespaces(7), "Unmapped user and group IDs"). It identifies no user.

use std::fs;

const UID_MAP: &str = "/proc/self/uid_map";
const OVERFLOW_UID: &str = "/proc/sys/kernel/overflowuid";

/// The kernel's default for [`OVERFLOW_UID`].
const DEFAULT: u32 = 65534;

/// The number of user IDs, all mapped in the initial namespace. 4294967295 is not an ID.
const ALL: u64 = 4_294_967_295;

/// The overflow user ID, if a user may have no ID in this process's namespace.
pub(super) fn overflow_uid() -> Option<u32> {
    // Without /proc, no user is known to have an ID.
    let map = fs::read_to_string(UID_MAP).unwrap_or_default();
    if maps_all(&map) {
        return None;
    }
    let uid = fs::read_to_string(OVERFLOW_UID).ok().and_then(|uid| uid.trim().parse().ok());
    Some(uid.unwrap_or(DEFAULT))
}

/// Whether `map`, a content of [`UID_MAP`], maps every user ID. The ranges do not overlap. The third number of a line
/// is the length of its range.
fn maps_all(map: &str) -> bool {
    let lengths = map.lines().map(|line| line.split_whitespace().nth(2)?.parse::<u32>().ok());
    lengths.map(|length| length.map_or(0, u64::from)).sum::<u64>() == ALL
}

#[cfg(test)]
mod tests {
    use super::maps_all;

    #[test]
    fn only_the_maps_of_all_users_are_complete() {
        for map in [
            "         0          0 4294967295\n",
            "0 0 1000\n1000 1001 1\n1001 1000 1\n1002 1002 4294966293\n",
        ] {
            assert!(maps_all(map), "{map}");
        }
        // Without a map, with the map of a rootless container, and with one user missing.
        for map in ["", "0 1000 1\n1 100000 65536\n", "0 0 4294967294\n", "x"] {
            assert!(!maps_all(map), "{map}");
        }
    }
}
