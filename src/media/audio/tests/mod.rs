//! CallAudio on a virtual clock: a bench that drives it and checks every packet of each line.

mod bench;
mod line;
mod keys;
mod latch;
mod relay;
mod restored;
mod mix;
