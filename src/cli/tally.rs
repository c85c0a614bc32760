//! The counts of a run over several pictures, and its exit code.

use crate::error::ErrorKind;

/// Counts of a run over several pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Restored and written.
    pub done: usize,
    /// Skipped because the result exists.
    pub skipped: usize,
    /// Failed, each reported.
    pub failed: usize,
    /// Failed ones that did not fit the memory or the disk.
    pub too_large: usize,
    /// Failed ones due to a defect of the program.
    pub defects: usize,
}

impl Tally {
    /// The program's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Tally { failed: 0, .. } => 0,
            Tally { defects: 1.., .. } => ErrorKind::Internal.exit_code(),
            Tally {
                done: 0,
                failed,
                too_large,
                ..
            } if failed == too_large => ErrorKind::Resources.exit_code(),
            _ => ErrorKind::Input.exit_code(),
        }
    }
}
