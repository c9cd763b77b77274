//! The admin listener over a real socket and a real database.

pub mod desk;
mod guide;
mod money;
mod process;
mod shell;
