//! Chance that is the same in each run (xorshift).

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Not zero, which it would never leave.
        Self(0x9e37_79b9_7f4a_7c15 ^ (seed << 8))
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as u32 % bound
    }
}
