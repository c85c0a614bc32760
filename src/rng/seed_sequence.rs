//! numpy's `SeedSequence`: derives the seeds of many generators from one.
//!
//! Source: `numpy/random/bit_generator.pyx`, numpy 2.4, after M. O'Neill, "Developing a seed_seq Alternative" (2015).

/// Hashes words, each with another constant; the state is that constant.
struct Hash {
    constant: u32,
    factor: u32,
}

impl Hash {
    fn of(&mut self, word: u32) -> u32 {
        let word = word ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.factor);
        fold(word.wrapping_mul(self.constant))
    }
}

fn fold(word: u32) -> u32 {
    word ^ word >> 16
}

fn mix(a: u32, b: u32) -> u32 {
    let (a, b) = (a.wrapping_mul(0xca01_f9dd), b.wrapping_mul(0x4973_f715));
    fold(a.wrapping_sub(b))
}

/// The words of a number, the low one first; one word for 0.
fn words(number: u64) -> impl Iterator<Item = u32> {
    let (low, high) = (number as u32, (number >> 32) as u32);
    [low, high].into_iter().take(1 + usize::from(high != 0))
}

/// `numpy.random.SeedSequence(entropy, spawn_key=spawn_key, pool_size=POOL)`.
pub(super) struct SeedSequence<const POOL: usize> {
    pool: [u32; POOL],
}

impl<const POOL: usize> SeedSequence<POOL> {
    pub(super) fn new(entropy: u64, spawn_key: &[u64]) -> Self {
        let mut input: Vec<u32> = words(entropy).collect();
        // The zero padding distinguishes a spawned sequence from an unspawned one with longer entropy.
        input.resize(input.len().max(POOL), 0);
        input.extend(spawn_key.iter().flat_map(|&number| words(number)));

        let mut hash = Hash {
            constant: 0x43b0_d7e5,
            factor: 0x931e_8875,
        };
        let mut pool = std::array::from_fn(|i| hash.of(input[i]));
        for source in 0..POOL {
            for target in (0..POOL).filter(|&target| target != source) {
                pool[target] = mix(pool[target], hash.of(pool[source]));
            }
        }
        for &word in &input[POOL..] {
            pool.iter_mut()
                .for_each(|target| *target = mix(*target, hash.of(word)));
        }
        SeedSequence { pool }
    }

    /// `generate_state(n)`: the first `n` seeds of a sequence that does not depend on `n`.
    pub(super) fn seeds(&self, n: usize) -> impl Iterator<Item = u32> {
        let mut hash = Hash {
            constant: 0x8b51_f9dd,
            factor: 0x58f3_8ded,
        };
        let pool = self.pool.iter().cycle().take(n);
        pool.map(move |&word| hash.of(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with numpy 2.4.6.
    #[test]
    fn seeds_are_numpys() {
        let cases: [(u64, &[u64], [u32; 4]); 5] = [
            (0, &[], [0xeff4_1bd6, 0xa030_bacb, 0x8ab2_f371, 0x5df8_813d]),
            (
                12345,
                &[],
                [0xac24_c395, 0xf76d_c38e, 0x4520_0ba6, 0xa6bc_bf1f],
            ),
            (
                (1 << 63) - 2,
                &[],
                [0xbc2b_8350, 0x8dd8_1f80, 0xe8f6_cf16, 0x09f9_8ce4],
            ),
            (
                12345,
                &[0, 0],
                [0xe9e7_7b74, 0x819b_9115, 0x8022_5eb9, 0xc1a5_647f],
            ),
            (
                (1 << 40) + 7,
                &[(1 << 33) + 5, 34],
                [0x4715_e45d, 0x1268_1764, 0xfbfd_d63c, 0x3843_39fe],
            ),
        ];
        for (entropy, spawn_key, seeds) in cases {
            let sequence = SeedSequence::<24>::new(entropy, spawn_key);
            assert!(sequence.seeds(4).eq(seeds), "{entropy} {spawn_key:?}");
        }
        let small = SeedSequence::<4>::new(7, &[1, 2]);
        let seeds = [0x7922_3093, 0x9266_8aac, 0x5f5d_43d0, 0xe771_1a0b];
        assert!(small.seeds(4).eq(seeds));
    }
}
