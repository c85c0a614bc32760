//! How a clip is turned for display: its display matrix, and the filters that turn frames and turn them back.

/// ffmpeg's filters for a quarter turn, a mirror image or both, and those for the way back.
const TURNS: [([i32; 4], &str, &str); 7] = [
    ([0, 1, -1, 0], "transpose=clock", "transpose=cclock"),
    ([0, -1, 1, 0], "transpose=cclock", "transpose=clock"),
    ([-1, 0, 0, -1], "hflip,vflip", "hflip,vflip"),
    ([-1, 0, 0, 1], "hflip", "hflip"),
    ([1, 0, 0, -1], "vflip", "vflip"),
    (
        [0, 1, 1, 0],
        "transpose=cclock_flip",
        "transpose=cclock_flip",
    ),
    (
        [0, -1, -1, 0],
        "transpose=clock_flip",
        "transpose=clock_flip",
    ),
];

/// A display matrix, `a b u, c d v, x y w` in MP4's fixed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn(pub [i32; 9]);

impl Turn {
    /// The matrix that ffprobe prints as three lines `00000000: a b u`; `None` without one, and for one that turns
    /// nothing.
    pub fn of(text: &str) -> Option<Self> {
        let rows = text.lines().filter_map(|line| line.split_once(':'));
        let numbers = rows.flat_map(|(_, row)| row.split_whitespace());
        let numbers: Vec<i32> = numbers.filter_map(|x| x.parse().ok()).collect();
        let turn = Turn(numbers.try_into().ok()?);
        (turn.signs() != Some([1, 0, 0, 1])).then_some(turn)
    }

    /// The matrix without its scale; `None` for other angles than quarter turns.
    fn signs(self) -> Option<[i32; 4]> {
        let [a, b, _, c, d, ..] = self.0;
        let whole = [a, b, c, d]
            .iter()
            .all(|x| x.unsigned_abs() == 1 << 16 || *x == 0);
        whole.then(|| [a, b, c, d].map(i32::signum))
    }

    fn filters(self) -> Option<(&'static str, &'static str)> {
        let signs = self.signs()?;
        let found = TURNS.iter().find(|(matrix, ..)| *matrix == signs);
        found.map(|(_, there, back)| (*there, *back))
    }

    /// The filters that turn a frame upright; `None` for other angles than quarter turns.
    pub fn upright(self) -> Option<&'static str> {
        self.filters().map(|(there, _)| there)
    }

    /// The filters of the way back.
    pub fn back(self) -> Option<&'static str> {
        self.filters().map(|(_, back)| back)
    }

    /// Whether it makes rows columns.
    pub fn swaps_sides(self) -> bool {
        self.signs().is_some_and(|[a, ..]| a == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_read_as_ffprobe_prints_it() {
        let print = |[a, b, c, d]: [i32; 4]| {
            format!("\n00000000: {a} {b} 0\n00000001: {c} {d} 0\n00000002: 0 0 1073741824\n")
        };
        let turn = Turn::of(&print([0, -65536, 65536, 0])).unwrap();
        assert_eq!(turn.upright(), Some("transpose=cclock"));
        assert!(turn.swaps_sides() && turn.0[8] == 1 << 30);
        assert_eq!(Turn::of(&print([65536, 0, 0, 65536])), None);
        let oblique = Turn::of(&print([46341, 46341, -46341, 46341])).unwrap();
        assert_eq!((oblique.upright(), oblique.swaps_sides()), (None, false));
        assert_eq!(Turn::of("garbage: 1 2"), None);
    }
}
