//! The admin listener over a real socket and a real database.

mod desk;
mod guide;
mod process;
mod shell;
