//! What stands for a key where there are too many to keep.

use std::hash::{DefaultHasher, Hash, Hasher};

/// 128 bits: even among billions of keys no two practically ever share one. Only of use within this process.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, bytes).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    (half(1) << 64) | half(2)
}
