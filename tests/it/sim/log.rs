//! The event log: always hashed, written out only when somebody wants to read it.

use super::phone::Nanos;

#[derive(Debug)]
pub struct Log {
    pub hash: u64,
    pub lines: Option<Vec<String>>,
}

impl Log {
    pub fn new(readable: bool) -> Log {
        Log {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: readable.then(Vec::new),
        }
    }

    pub fn note(&mut self, now: Nanos, kind: u64, bytes: &[u8], line: impl FnOnce() -> String) {
        self.mix(now);
        self.mix(kind);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        if let Some(lines) = &mut self.lines {
            let text = line();
            lines.push(format!(
                "{:>9}.{:03} {text}",
                now / 1_000_000_000,
                now / 1_000_000 % 1000
            ));
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
}
