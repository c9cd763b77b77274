//! The network between the phones and the switch: loses, doubles, delays, damages, falls apart.

use cardline::now::IdSource;

use super::phone::{MS, Nanos, SECOND};

/// How bad it is while faults are on.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Per cent.
    pub loss: u64,
    pub doubles: u64,
    /// Usual delay at most.
    pub delay: Nanos,
    /// Per mille that take up to 4 s.
    pub stray: u64,
    /// Per mille of the datagrams to the switch that arrive damaged.
    pub damage: u64,
}

/// A time in which one direction does not work, for one phone in `of`.
#[derive(Clone, Copy, Debug)]
struct Partition {
    from: Nanos,
    to: Nanos,
    to_switch: bool,
    to_phone: bool,
    modulus: u64,
}

pub struct Link {
    pub weather: Weather,
    partitions: Vec<Partition>,
    rng: IdSource,
    pub clean: bool,
}

/// One arrival.
pub struct Arrival {
    pub at: Nanos,
    pub bytes: Vec<u8>,
    pub damaged: bool,
}

impl Link {
    pub fn new(seed: u64) -> Link {
        let mut rng = IdSource::from_number(seed ^ 0x11_4b);
        let loss = match rng.below(10) {
            0..=3 => 0,
            4..=7 => 1 + rng.below(10),
            _ => 10 + rng.below(21),
        };
        let weather = Weather {
            loss,
            doubles: rng.below(6),
            delay: MS + rng.below(200 * MS),
            stray: rng.below(30),
            damage: if rng.below(3) == 0 { rng.below(50) } else { 0 },
        };
        let count = rng.below(3);
        let partitions = (0..count)
            .map(|_| {
                let from = rng.below(240 * SECOND);
                let kind = rng.below(3);
                Partition {
                    from,
                    to: from + rng.below(40 * SECOND),
                    to_switch: kind != 0,
                    to_phone: kind != 1,
                    modulus: 1 + rng.below(3),
                }
            })
            .collect();
        Link {
            weather,
            partitions,
            rng,
            clean: false,
        }
    }

    /// What arrives of one datagram; nothing, one or two.
    pub fn carry(&mut self, now: Nanos, phone: usize, to_switch: bool, bytes: Vec<u8>) -> Vec<Arrival> {
        if self.clean {
            let at = now + MS + self.rng.below(5 * MS);
            return vec![Arrival {
                at,
                bytes,
                damaged: false,
            }];
        }
        let cut = self.partitions.iter().any(|p| {
            let here = if to_switch { p.to_switch } else { p.to_phone };
            here && (p.from..p.to).contains(&now) && (phone as u64).is_multiple_of(p.modulus)
        });
        if cut || self.rng.below(100) < self.weather.loss {
            return Vec::new();
        }
        let mut arrivals = Vec::new();
        if self.rng.below(100) < self.weather.doubles {
            let at = now + self.delay();
            arrivals.push(Arrival {
                at,
                bytes: bytes.clone(),
                damaged: false,
            });
        }
        let at = now + self.delay();
        let damaged = to_switch && self.rng.below(1000) < self.weather.damage;
        let bytes = if damaged { self.damage(bytes) } else { bytes };
        arrivals.push(Arrival { at, bytes, damaged });
        arrivals
    }

    /// Whether even repetition may not get through.
    pub fn is_bad(&self) -> bool {
        self.weather.loss > 10 || !self.partitions.is_empty()
    }

    fn delay(&mut self) -> Nanos {
        if self.rng.below(1000) < self.weather.stray {
            MS + self.rng.below(4 * SECOND)
        } else {
            MS + self.rng.below(self.weather.delay)
        }
    }

    fn damage(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let len = bytes.len() as u64;
        let place = |rng: &mut IdSource| usize::try_from(rng.below(len)).unwrap_or(0);
        match self.rng.below(4) {
            0 => {
                let at = place(&mut self.rng);
                bytes.truncate(at);
            }
            1 => {
                let (from, to) = (place(&mut self.rng), place(&mut self.rng));
                bytes.drain(from.min(to)..from.max(to));
            }
            2 => {
                let from = place(&mut self.rng);
                let again = bytes[from..].to_vec();
                bytes.extend(again);
            }
            _ => {
                for _ in 0..=self.rng.below(4) {
                    let at = place(&mut self.rng);
                    bytes[at] = u8::try_from(self.rng.below(256)).unwrap_or(0);
                }
            }
        }
        bytes
    }
}
